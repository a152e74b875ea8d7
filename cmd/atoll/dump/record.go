package dump

import (
	"bytes"
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"github.com/atolldb/atoll/crdt"
	"github.com/atolldb/atoll/crdt/hlc"
	"github.com/atolldb/atoll/hashring"
	adminv1 "github.com/atolldb/atoll/proto/atoll/admin/v1"
)

// maxBucket is the length of the longest name of a bucket, in bytes.
const maxBucket = 63

// recordJSON is a line of an export as encoding/json reads it. That is lenient:
// whoever uses it writes the record again, and compares.
type recordJSON struct {
	Bucket   string        `json:"bucket"`
	Key      *string       `json:"key"`
	KeyB64   []byte        `json:"key_b64"`
	Versions []versionJSON `json:"versions"`
}

type versionJSON struct {
	Version   string   `json:"version"`
	Stamp     string   `json:"stamp"`
	Deleted   bool     `json:"deleted"`
	ExpiresAt int64    `json:"expires_at"`
	Value     *string  `json:"value"`
	ValueB64  []byte   `json:"value_b64"`
	Past      []string `json:"past"`
}

var errNotCanonical = errors.New("not as an export writes it")

// ParseRecord is the inverse of Append: it takes exactly the lines that Append
// writes, without their newline. An error says what is wrong, and never what the
// line holds.
func ParseRecord(line []byte) (*adminv1.ExportRecord, error) {
	var in recordJSON
	if err := json.Unmarshal(line, &in); err != nil {
		return nil, notJSON(err)
	}
	out := &adminv1.ExportRecord{Bucket: in.Bucket, Key: either(in.Key, in.KeyB64)}
	if n := len(out.Bucket); n < 1 || n > maxBucket || strings.ContainsRune(out.Bucket, 0) {
		return nil, fmt.Errorf("no name of a bucket (field bucket: limit 1..%d bytes, seen %d bytes)", maxBucket, n)
	}
	if n := len(out.Key); n < 1 || n > MaxKey {
		return nil, fmt.Errorf("key is out of bounds (field key: limit 1..%d bytes, seen %d bytes)", MaxKey, n)
	}
	if len(in.Versions) == 0 {
		return nil, errors.New("no versions (field versions: limit 1 or more, seen 0)")
	}
	for i := range in.Versions {
		v, err := in.Versions[i].version()
		if err != nil {
			return nil, fmt.Errorf("version %d: %w", i+1, err)
		}
		out.Versions = append(out.Versions, v)
		if i > 0 && compareDots(out.Versions[i-1], v) >= 0 {
			return nil, fmt.Errorf("version %d is out of order", i+1)
		}
	}
	if again := Append(nil, out); !bytes.Equal(again[:len(again)-1], line) {
		return nil, errNotCanonical
	}
	return out, nil
}

// notJSON drops what encoding/json quotes of the line.
func notJSON(err error) error {
	var syntax *json.SyntaxError
	if errors.As(err, &syntax) {
		return fmt.Errorf("not JSON, at byte %d", syntax.Offset)
	}
	var kind *json.UnmarshalTypeError
	if errors.As(err, &kind) {
		return fmt.Errorf("field %s is of a wrong type", cmp.Or(kind.Field, "of the line"))
	}
	return errNotCanonical
}

func either(text *string, encoded []byte) []byte {
	if text != nil {
		return []byte(*text)
	}
	return encoded
}

func compareDots(a, b *adminv1.ExportVersion) int {
	return cmp.Or(cmp.Compare(a.Actor, b.Actor), cmp.Compare(a.N, b.N))
}

func (v *versionJSON) version() (*adminv1.ExportVersion, error) {
	out := &adminv1.ExportVersion{Deleted: v.Deleted, ExpiresAt: v.ExpiresAt, Value: either(v.Value, v.ValueB64)}
	var ok bool
	if out.Actor, out.N, ok = readDot(v.Version); !ok {
		return nil, errors.New("field version is no version")
	}
	if out.Stamp, ok = readStamp(v.Stamp); !ok {
		return nil, errors.New("field stamp is no stamp")
	}
	if v.ExpiresAt < 0 {
		return nil, errors.New("field expires_at is negative")
	}
	for _, p := range v.Past {
		parts := strings.Split(p, "-")
		e := &adminv1.PastEntry{}
		if e.Actor, e.N, ok = readDot(parts[0]); !ok {
			return nil, errors.New("field past has what is no version")
		}
		for _, h := range parts[1:] {
			first, last, long := strings.Cut(h, "..")
			if !long {
				last = first
			}
			from, err1 := strconv.ParseUint(first, 10, 64)
			to, err2 := strconv.ParseUint(last, 10, 64)
			if err1 != nil || err2 != nil {
				return nil, errors.New("field past has what is no number")
			}
			e.Holes = append(e.Holes, &adminv1.PastHole{First: from, Last: to})
		}
		out.Past = append(out.Past, e)
	}
	return out, nil
}

// readDot reads S@R.N.
func readDot(s string) (actor uint32, n uint64, ok bool) {
	left, num, ok1 := strings.Cut(s, ".")
	seq, region, ok2 := strings.Cut(left, "@")
	if !ok1 || !ok2 {
		return 0, 0, false
	}
	a, err1 := strconv.ParseUint(seq, 10, 26)
	r, err2 := strconv.ParseUint(region, 10, 6)
	n, err3 := strconv.ParseUint(num, 10, 64)
	if err1 != nil || err2 != nil || err3 != nil || n == 0 || n > crdt.MaxN {
		return 0, 0, false
	}
	return uint32(crdt.MakeActor(uint32(a), uint8(r))), n, true
}

// readStamp reads milliseconds.counter.
func readStamp(s string) (uint64, bool) {
	ms, count, ok := strings.Cut(s, ".")
	m, err1 := strconv.ParseUint(ms, 10, 48)
	c, err2 := strconv.ParseUint(count, 10, 16)
	return m<<16 | c, ok && err1 == nil && err2 == nil
}

// StampMillis is the Unix time in milliseconds of a version's stamp.
func StampMillis(stamp uint64) int64 { return hlc.Stamp(stamp).Millis() }

// place of a record in the order of an export.
type place struct {
	hash uint64
	full []byte
}

func placeOf(r *adminv1.ExportRecord) place {
	full := slices.Concat([]byte(r.Bucket), []byte{0}, r.Key)
	return place{hashring.KeyHash(full), full}
}

func (p place) after(o place) bool {
	return cmp.Or(cmp.Compare(p.hash, o.hash), bytes.Compare(p.full, o.full)) > 0
}
