package crdt

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"testing"

	"github.com/atolldb/atoll/crdt/hlc"
	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	"pgregory.net/rapid"
)

func TestRecordRoundTrip(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		r := histories.Draw(t, "history").state(t, "state").rec
		keyHash := rapid.Uint64().Draw(t, "key hash")
		b := AppendRecord([]byte("head"), keyHash, r)
		if string(b[:4]) != "head" {
			t.Fatal("append overwrote what was there")
		}
		b = b[4:]
		got, err := DecodeRecord(keyHash, b)
		if err != nil {
			t.Fatal(err)
		}
		if d := cmp.Diff(r, got, cmpopts.EquateEmpty()); d != "" {
			t.Fatal(d)
		}
		if again := AppendRecord(nil, keyHash, got); !bytes.Equal(again, b) {
			t.Fatalf("not canonical: %x, then %x", b, again)
		}
	})
}

// Equal records have equal bytes, whichever way they came to be.
func TestEqualRecordsHaveEqualBytes(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		h := histories.Draw(t, "history")
		a, b := h.state(t, "a").rec, h.state(t, "b").rec
		x, y := AppendRecord(nil, 7, Join(a, b)), AppendRecord(nil, 7, Join(b, a))
		if !bytes.Equal(x, y) {
			t.Fatalf("%x, %x", x, y)
		}
	})
}

func TestRecordIsBoundToItsKey(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		r := histories.Draw(t, "history").state(t, "state").rec
		k, other := rapid.Uint64().Draw(t, "k"), rapid.Uint64().Draw(t, "other")
		b := AppendRecord(nil, k, r)
		if _, err := DecodeRecord(other, b); k != other && !errors.Is(err, ErrCorrupt) {
			t.Fatalf("read under another key: %v", err)
		}
		// Every single flipped bit, and every cut, is noticed.
		bit := rapid.IntRange(0, len(b)*8-1).Draw(t, "bit")
		bad := bytes.Clone(b)
		bad[bit/8] ^= 1 << (bit % 8)
		if _, err := DecodeRecord(k, bad); !errors.Is(err, ErrCorrupt) {
			t.Fatalf("bit %d flipped: %v", bit, err)
		}
		if _, err := DecodeRecord(k, b[:bit/8]); !errors.Is(err, ErrCorrupt) {
			t.Fatalf("cut to %d: %v", bit/8, err)
		}
	})
}

// forge signs a hand-made body, so that only its structure can be wrong.
func forge(keyHash uint64, body []byte) []byte {
	return binary.BigEndian.AppendUint32(body, checksum(keyHash, body))
}

func TestRecordStructureIsStrict(t *testing.T) {
	stamp := []byte{0, 0, 0, 0, 0, 0, 0, 9}
	cat := func(parts ...[]byte) []byte { return bytes.Join(parts, nil) }
	// One actor 65, one version: index 0, n 5.
	head := []byte{1, 1, 65, 1, 0, 5}
	good := cat(head, stamp, []byte{0, 0, 1, 'x'})
	if _, err := DecodeRecord(1, forge(1, good)); err != nil {
		t.Fatal(err)
	}
	holes := cat(head, stamp, []byte{16, 1, 0, 1, 1, 2, 1, 1, 'x'})
	if r, err := DecodeRecord(1, forge(1, holes)); err != nil || !r.Versions[0].Past.Equal(VV{{65, 4, []Span{{2, 3}}}}) {
		t.Fatal(r, err)
	}
	for name, body := range map[string][]byte{
		"unknown format":           cat([]byte{2}, good[1:]),
		"trailing byte":            cat(good, []byte{0}),
		"unused actor":             cat([]byte{1, 2, 65, 1, 1, 0, 5}, stamp, []byte{0, 0, 1, 'x'}),
		"actor zero":               cat([]byte{1, 1, 0, 1, 0, 5}, stamp, []byte{0, 0, 1, 'x'}),
		"actor too large":          cat([]byte{1, 1, 0x80, 0x80, 0x80, 0x80, 0x10, 1, 0, 5}, stamp, []byte{0, 0, 1, 'x'}),
		"actor index out of range": cat([]byte{1, 1, 65, 1, 1, 5}, stamp, []byte{0, 0, 1, 'x'}),
		"counter zero":             cat([]byte{1, 1, 65, 1, 0, 0}, stamp, []byte{0, 0, 1, 'x'}),
		"counter beyond MaxN":      cat([]byte{1, 1, 65, 1, 0}, binary.AppendUvarint(nil, MaxN+1), stamp, []byte{0, 0, 1, 'x'}),
		"counter not minimal":      cat([]byte{1, 1, 65, 1, 0, 0x85, 0}, stamp, []byte{0, 0, 1, 'x'}),
		"flagged without holes":    cat(head, stamp, []byte{16, 1, 0, 1, 0, 1, 'x'}),
		"hole at zero":             cat(head, stamp, []byte{16, 1, 0, 1, 1, 0, 0, 1, 'x'}),
		"hole reaches the counter": cat(head, stamp, []byte{16, 1, 0, 1, 1, 1, 3, 1, 'x'}),
		"holes touch":              cat(head, stamp, []byte{16, 1, 0, 1, 2, 1, 0, 1, 0, 1, 'x'}),
		"holes overlap":            cat(head, stamp, []byte{16, 1, 0, 1, 2, 1, 0, 0, 0, 1, 'x'}),
		"hole wraps around":        cat(head, stamp, []byte{16, 1, 0, 1, 1, 1}, binary.AppendUvarint(nil, 1<<64-1), []byte{1, 'x'}),
		"huge number of holes":     cat(head, stamp, []byte{16, 1, 0, 1, 0xff, 0xff, 0x7f, 1, 0, 1, 'x'}),
		"holes of old":             cat(head, stamp, []byte{8, 1, 0, 1, 1, 1, 1, 'x'}),
		"unknown flag":             cat(head, stamp, []byte{32, 0, 1, 'x'}),
		"flagged expiry of zero":   cat(head, stamp, []byte{2, 0, 0, 1, 'x'}),
		"flagged meta is empty":    cat(head, stamp, []byte{4, 0, 0, 1, 'x'}),
		"dead with a value":        cat(head, stamp, []byte{1, 0, 1, 'x'}),
		"past has its own dot":     cat(head, stamp, []byte{0, 1, 0, 0, 1, 'x'}),
		"past has all before zero": cat(head, stamp, []byte{0, 1, 0, 5, 1, 'x'}),
		"past beyond its dot":      cat(head, stamp, []byte{0, 1, 0, 6, 1, 'x'}),
		"actor twice in a past":    cat(head, stamp, []byte{0, 2, 0, 1, 0, 2, 1, 'x'}),
		"value longer than bytes":  cat(head, stamp, []byte{0, 0, 2, 'x'}),
		"huge number of versions":  {1, 0, 0xff, 0xff, 0xff, 0x7f},
		"huge number of actors":    {1, 0xff, 0xff, 0xff, 0x7f, 1},
		"same dot twice":           cat([]byte{1, 1, 65, 2, 0, 5}, stamp, []byte{1, 0, 0, 5}, stamp, []byte{1, 0}),
		"dots descend":             cat([]byte{1, 1, 65, 2, 0, 5}, stamp, []byte{1, 0, 0, 4}, stamp, []byte{1, 0}),
		"one covers the other":     cat([]byte{1, 1, 65, 2, 0, 5}, stamp, []byte{1, 0, 0, 6}, stamp, []byte{1, 1, 0, 1}),
	} {
		if r, err := DecodeRecord(1, forge(1, body)); !errors.Is(err, ErrCorrupt) {
			t.Errorf("%s: %+v, %v", name, r, err)
		}
	}
}

func TestClockStructureIsStrict(t *testing.T) {
	for name, b := range map[string][]byte{
		"empty":                 {},
		"unknown format":        {2, 0},
		"actor zero":            {1, 1, 0, 5, 0},
		"actor without a dot":   {1, 1, 65, 0, 0},
		"actor twice":           {1, 2, 65, 5, 0, 0, 5, 0},
		"base beyond MaxN":      append([]byte{1, 1, 65}, append(binary.AppendUvarint(nil, MaxN+1), 0)...),
		"span beyond MaxN":      append([]byte{1, 1, 65, 1, 1, 0}, binary.AppendUvarint(nil, MaxN-2)...),
		"gap wraps around":      append([]byte{1, 1, 65, 9, 1}, append(binary.AppendUvarint(nil, 1<<64-5), 0)...),
		"huge number of spans":  {1, 1, 65, 1, 0xff, 0xff, 0x7f},
		"huge number of actors": {1, 0xff, 0xff, 0x7f},
		"base is not minimal":   {1, 1, 65, 0x85, 0, 0},
	} {
		if c, _, err := DecodeClock(b); !errors.Is(err, ErrCorrupt) {
			t.Errorf("%s: %+v, %v", name, c, err)
		}
	}
	edge := append([]byte{1, 1, 65, 1, 1, 0}, binary.AppendUvarint(nil, MaxN-3)...)
	c, _, err := DecodeClock(edge)
	if err != nil || c.Max(65) != MaxN {
		t.Fatalf("the last counter: %+v, %v", c, err)
	}
	c.AddSpan(Dots{65, Span{1, MaxN}})
	if c.Base(65) != MaxN || c.Gaps() != 0 {
		t.Fatalf("%+v", c)
	}
}

// The size that a version costs beside its key and value.
func TestRecordSize(t *testing.T) {
	const value = 100
	size := func(r Record) int { return len(AppendRecord(nil, 1, r)) }
	one := func(a Actor, n, ago uint64, valueLen int) Record {
		v := Version{Dot: Dot{a, n}, Stamp: 1 << 60, Value: make([]byte, valueLen)}
		if ago > 0 {
			v.Past = VV{{Actor: a, N: n - ago}}
		}
		return Record{[]Version{v}}
	}
	for _, c := range []struct {
		name string
		r    Record
		want int
	}{
		{"first write, small partition", one(MakeActor(1, 1), 100, 0, value), 21},
		{"overwrite, small partition", one(MakeActor(1, 1), 100, 1, value), 23},
		{"realistic: 33-bit counter, 14-bit incarnation", one(MakeActor(1<<13, 1), 1<<33, 1<<20, value), 31},
		{"the bound", one(1<<21-1, 1<<35-1, 1<<21-1, 1<<14-1), 32},
		{"beyond the bound by actor", one(1<<21, 1<<35-1, 1<<21-1, 1<<14-1), 33},
		{"beyond the bound by counter", one(1<<21-1, 1<<35, 1<<21-1, 1<<14-1), 33},
		{"beyond the bound by age", one(1<<21-1, 1<<35-1, 1<<21, 1<<14-1), 33},
		{"beyond the bound by value", one(1<<21-1, 1<<35-1, 1<<21-1, 1<<14), 33},
		{"three actors", func() Record {
			r := one(MakeActor(1<<13, 1), 1<<33, 1<<20, value)
			for region := range uint8(2) {
				r.Versions[0].Past = append(r.Versions[0].Past, Entry{Actor: MakeActor(1<<13, 2+region), N: 1 << 33})
			}
			return r
		}(), 45},
	} {
		if got := size(c.r) - len(c.r.Versions[0].Value); got != c.want {
			t.Errorf("%s: %d bytes, want %d", c.name, got, c.want)
		}
	}
	tomb := Record{[]Version{{Dot: Dot{MakeActor(1<<13, 1), 1 << 33}, Stamp: 1 << 60, Dead: true, Past: VV{{Actor: MakeActor(1<<13, 1), N: 1<<33 - 1<<20}}}}}
	if got := size(tomb); got != 30 {
		t.Errorf("a tombstone takes %d bytes, want 30", got)
	}
	if got := size(Record{}); got != 7 {
		t.Errorf("an absent key takes %d bytes", got)
	}
}

func TestSizeBoundHolds(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		a := Actor(rapid.Uint32Range(1, 1<<21-1).Draw(t, "actor"))
		n := rapid.Uint64Range(2, 1<<35-1).Draw(t, "n")
		ago := rapid.Uint64Range(1, min(n-1, 1<<21-1)).Draw(t, "ago")
		v := Version{
			Dot: Dot{a, n}, Stamp: hlc.Stamp(rapid.Uint64().Draw(t, "stamp")), Past: VV{{Actor: a, N: n - ago}},
			Value: make([]byte, rapid.IntRange(0, 1<<14-1).Draw(t, "value")),
		}
		if got := len(AppendRecord(nil, 1, Record{[]Version{v}})) - len(v.Value); got > 32 {
			t.Fatalf("%d bytes", got)
		}
	})
}

func TestDigest(t *testing.T) {
	seen := map[uint64]string{}
	rapid.Check(t, func(t *rapid.T) {
		h := histories.Draw(t, "history")
		a, b := h.state(t, "a").rec, h.state(t, "b").rec
		if Digest(1, 2, Record{}) != 0 {
			t.Fatal("an absent key counts nothing")
		}
		if a.SameDots(b) != (Digest(1, 2, a) == Digest(1, 2, b)) {
			t.Fatalf("digests of %v and %v", dotsOf(a), dotsOf(b))
		}
		if len(a.Versions) == 0 {
			return
		}
		for _, d := range []uint64{Digest(1, 2, a), Digest(1, 3, a), Digest(2, 2, a), Digest(2, 1, a)} {
			if d == 0 {
				t.Fatal("a digest of 0 hides a record")
			}
		}
		for seed := range uint64(2) {
			for key := range uint64(2) {
				name, d := fmt.Sprint(seed, key, dotsOf(a)), Digest(seed, key, a)
				if was, ok := seen[d]; ok && was != name {
					t.Fatalf("%s and %s have one digest", was, name)
				}
				seen[d] = name
			}
		}
	})
}
