package jetstream

import (
	"errors"
	"fmt"
	"strconv"
	"strings"

	"github.com/atolldb/atoll/crdt"
	"github.com/atolldb/atoll/geo"
)

// A batch's header is one NATS header, so that it costs little in a small
// message: eight fields apart by single spaces,
//
//	1 <origin> <node> <incarnation> <session> <number> <count> <codec>
//
// the first is the format, numbers are decimal without leading zeros, names
// are 1..63 bytes of [a-z0-9-], the codec 1..8 such bytes.
const (
	headerName   = "Atoll-Batch"
	headerFields = 8
)

var errHeader = errors.New("batch header is malformed")

func encodeHeader(h geo.Header) string {
	return fmt.Sprintf("%s %s %s %d %d %d %d %s", format, h.Origin, h.Node, uint32(h.Incarnation), h.Session, h.Number, h.Count, h.Codec)
}

func decodeHeader(text string) (geo.Header, error) {
	f := strings.Split(text, " ")
	if len(f) != headerFields || f[0] != format || !isName(f[1], 63) || !isName(f[2], 63) || !isName(f[7], 8) {
		return geo.Header{}, errHeader
	}
	var n [4]uint64
	for i, bits := range []int{32, 64, 64, 31} {
		v, err := strconv.ParseUint(f[3+i], 10, bits)
		if err != nil || strconv.FormatUint(v, 10) != f[3+i] {
			return geo.Header{}, errHeader
		}
		n[i] = v
	}
	return geo.Header{
		Origin: f[1], Node: f[2], Incarnation: crdt.Actor(n[0]), Session: n[1], Number: n[2], Count: int(n[3]), Codec: f[7],
	}, nil
}

func isName(s string, max int) bool {
	for i := range len(s) {
		c := s[i]
		if (c < 'a' || c > 'z') && (c < '0' || c > '9') && c != '-' {
			return false
		}
	}
	return len(s) > 0 && len(s) <= max
}
