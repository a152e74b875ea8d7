package jetstream

import (
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
)

// Position is how far a region has come in another one's log, as far as it
// knew when it last looked. What the log has lost since is found by comparing
// with it, so it outlives the process that pulls.
type Position struct {
	// Stream is the id in the stream's metadata; "" where nothing is known.
	Stream string
	// Floor is the sequence up to which everything was acknowledged, Last that
	// of the newest message.
	Floor, Last uint64
	// Holes counts the messages missing between the first and the last one.
	// Nobody deletes single messages: whatever is missing there was lost.
	Holes uint64
}

// Positions keep them over restarts, one for each origin region. A position
// that is lost or old costs a comparison of clocks too many, or one too late.
type Positions interface {
	// Load returns the zero Position where there is none.
	Load(origin string) (Position, error)
	Save(origin string, at Position) error
}

// lost says what a stream that is now at now has lost since it was at p, ""
// for nothing. first is the sequence of its first message.
func (p Position) lost(now Position, first uint64) string {
	switch {
	case p.Stream == "":
		return ""
	case p.Stream != now.Stream:
		return "stream was made anew"
	case first > p.Floor+1:
		return fmt.Sprintf("fell off the stream: it begins at %d, acknowledged was %d", first, p.Floor)
	case now.Last < p.Last:
		return fmt.Sprintf("the end of the stream is gone: it ends at %d, and ended at %d", now.Last, p.Last)
	case now.Holes > p.Holes:
		return fmt.Sprintf("%d messages inside the stream are gone", now.Holes-p.Holes)
	}
	return ""
}

// A position on disk: one byte of format (1), length of the stream's id as one
// byte, the id, then floor, last and holes as 8 bytes each, big endian, and a
// CRC-32C of all that, 4 bytes, big endian.
const (
	positionFormat = 1
	positionFixed  = 2 + 3*8 + 4
)

var (
	castagnoli  = crc32.MakeTable(crc32.Castagnoli)
	errPosition = errors.New("position does not decode")
)

// EncodePosition returns p as bytes.
func EncodePosition(p Position) []byte {
	id := p.Stream[:min(len(p.Stream), 255)]
	b := append([]byte{positionFormat, byte(len(id))}, id...)
	for _, n := range []uint64{p.Floor, p.Last, p.Holes} {
		b = binary.BigEndian.AppendUint64(b, n)
	}
	return binary.BigEndian.AppendUint32(b, crc32.Checksum(b, castagnoli))
}

// DecodePosition returns what EncodePosition was given.
func DecodePosition(b []byte) (Position, error) {
	if len(b) < positionFixed || b[0] != positionFormat || len(b) != positionFixed+int(b[1]) {
		return Position{}, errPosition
	}
	body := b[:len(b)-4]
	if crc32.Checksum(body, castagnoli) != binary.BigEndian.Uint32(b[len(b)-4:]) {
		return Position{}, errPosition
	}
	id, rest := body[2:2+int(b[1])], body[2+int(b[1]):]
	return Position{
		Stream: string(id), Floor: binary.BigEndian.Uint64(rest), Last: binary.BigEndian.Uint64(rest[8:]),
		Holes: binary.BigEndian.Uint64(rest[16:]),
	}, nil
}
