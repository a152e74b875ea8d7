package wire_test

import (
	"encoding/binary"
	"errors"
	"math"
	"runtime"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	"pgregory.net/rapid"

	"github.com/atolldb/atoll/crdt"
	"github.com/atolldb/atoll/crdt/session"
	"github.com/atolldb/atoll/hashring"
	"github.com/atolldb/atoll/node/wire"
)

// codec is one message: an example drawn, packed and unpacked.
type codec struct {
	name   string
	draw   func(*rapid.T) any
	pack   func(any) []byte
	unpack func([]byte) (any, error)
}

// of makes a codec of a message's own functions.
func of[M any](name string, draw func(*rapid.T) M, pack func([]byte, M) []byte, unpack func([]byte) (M, error)) codec {
	return codec{
		name:   name,
		draw:   func(t *rapid.T) any { return draw(t) },
		pack:   func(m any) []byte { return pack([]byte("before"), m.(M))[len("before"):] },
		unpack: func(b []byte) (any, error) { return unpack(b) },
	}
}

var (
	apply       = of("apply", func(t *rapid.T) wire.Apply { return wire.Apply{Entries: drawEntries(t)} }, wire.AppendApply, wire.DecodeApply)
	compare     = of("compare", drawCompare, wire.AppendCompare, wire.DecodeCompare)
	differences = of("differences", drawDifferences, wire.AppendDifferences, wire.DecodeDifferences)
	pull        = of("pull", drawPull, wire.AppendPull, wire.DecodePull)
	pulled      = of("pulled", drawPulled, wire.AppendPulled, wire.DecodePulled)
	buckets     = of("buckets", drawBuckets, wire.AppendBuckets, wire.DecodeBuckets)
	bucketList  = of("bucket list", drawBucketList, wire.AppendBucketList, wire.DecodeBucketList)
	scan        = of("scan", drawScan, wire.AppendScan, wire.DecodeScan)
	page        = of("page", drawPage, wire.AppendPage, wire.DecodePage)

	codecs = []codec{apply, compare, differences, pull, pulled, buckets, bucketList, scan, page, forward, forwarded, hint, regionApply, regionRead, regionReply, homePut, ask, known}
)

var (
	drawBytes = rapid.SliceOfN(rapid.Byte(), 0, 20)
	drawPart  = rapid.Map(rapid.Uint16(), func(n uint16) hashring.Partition { return hashring.Partition(n) })
)

func drawDot(t *rapid.T) crdt.Dot {
	return crdt.Dot{
		Actor: crdt.Actor(rapid.Uint32Range(1, math.MaxUint32).Draw(t, "actor")),
		N:     rapid.Uint64Range(1, crdt.MaxN).Draw(t, "n"),
	}
}

func drawEventID(t *rapid.T) crdt.EventID {
	return crdt.EventID{Dot: drawDot(t), ID: crdt.RequestID(rapid.SliceOfN(rapid.Byte(), 16, 16).Draw(t, "id"))}
}

func drawEntries(t *rapid.T) []wire.Entry {
	return rapid.SliceOfN(rapid.Custom(func(t *rapid.T) wire.Entry {
		e := wire.Entry{
			Key:    rapid.SliceOfN(rapid.Byte(), 1, 20).Draw(t, "key"),
			Record: drawBytes.Draw(t, "record"),
			Dots:   rapid.SliceOfN(rapid.Custom(drawDot), 0, 4).Draw(t, "dots"),
			IDs:    rapid.SliceOfN(rapid.Custom(drawEventID), 0, 3).Draw(t, "ids"),
		}
		if e.Skips() {
			e.Skip = drawPart.Draw(t, "skipped in")
		}
		return e
	}), 0, 4).Draw(t, "entries")
}

func drawClock(t *rapid.T) *crdt.Clock {
	c := &crdt.Clock{}
	for range rapid.IntRange(0, 6).Draw(t, "dots of clock") {
		c.Add(crdt.Dot{
			Actor: crdt.Actor(rapid.Uint32Range(1, 3).Draw(t, "actor")),
			N:     rapid.Uint64Range(1, 9).Draw(t, "n"),
		})
	}
	return c
}

func drawLosses(t *rapid.T) *session.Losses {
	l := &session.Losses{Void: *drawClock(t)}
	if rapid.Bool().Draw(t, "ended") {
		l.Ends = []crdt.Dot{{Actor: 70, N: rapid.Uint64Range(0, 9).Draw(t, "end")}}
	}
	if rapid.Bool().Draw(t, "cut") {
		l.Cuts = []session.Cut{{Region: 3, Fence: rapid.Uint64().Draw(t, "fence"), Open: rapid.Bool().Draw(t, "open"), Survives: *drawClock(t)}}
	}
	if l.Empty() {
		return nil
	}
	return l
}

func drawSum(t *rapid.T) wire.Sum {
	return wire.Sum{Partition: drawPart.Draw(t, "partition"), Clock: rapid.Uint64().Draw(t, "clock"), Digest: rapid.Uint64().Draw(t, "digest")}
}

func drawAfar(t *rapid.T) wire.Afar {
	return rapid.SampledFrom([]wire.Afar{{}, {Region: "eu"}, {Region: "us-east", Apart: 1 << 63}}).Draw(t, "afar")
}

func drawCompare(t *rapid.T) wire.Compare {
	return wire.Compare{Afar: drawAfar(t), Sums: rapid.SliceOfN(rapid.Custom(drawSum), 0, 5).Draw(t, "sums")}
}

func drawDifferences(t *rapid.T) []wire.Difference {
	return rapid.SliceOfN(rapid.Custom(func(t *rapid.T) wire.Difference {
		return wire.Difference{Sum: drawSum(t), Clock: drawClock(t), Losses: drawLosses(t)}
	}), 0, 4).Draw(t, "differences")
}

func drawPull(t *rapid.T) wire.Pull {
	return wire.Pull{Afar: drawAfar(t), Partition: drawPart.Draw(t, "partition"), Clock: drawClock(t), MaxBytes: rapid.IntRange(0, 16<<20).Draw(t, "max")}
}

func drawPulled(t *rapid.T) wire.Pulled {
	return wire.Pulled{Entries: drawEntries(t), More: rapid.Bool().Draw(t, "more"), Full: rapid.Bool().Draw(t, "full")}
}

func drawBuckets(t *rapid.T) wire.Buckets {
	bits := rapid.Uint8Range(0, 60).Draw(t, "bits")
	return wire.Buckets{Afar: drawAfar(t), Bits: bits, Prefix: rapid.Uint64Range(0, 1<<bits-1).Draw(t, "prefix")}
}

func drawBucketList(t *rapid.T) []wire.Bucket {
	return rapid.SliceOfN(rapid.Custom(func(t *rapid.T) wire.Bucket {
		return wire.Bucket{Digest: rapid.Uint64().Draw(t, "digest"), Keys: rapid.Uint64().Draw(t, "keys")}
	}), 0, 300).Draw(t, "buckets")
}

func drawScan(t *rapid.T) wire.Scan {
	return wire.Scan{
		Afar:      drawAfar(t),
		Partition: drawPart.Draw(t, "partition"), First: rapid.Uint64().Draw(t, "first"), Last: rapid.Uint64().Draw(t, "last"),
		After: drawBytes.Draw(t, "after"), MaxBytes: rapid.IntRange(0, 16<<20).Draw(t, "max"),
	}
}

func drawPage(t *rapid.T) wire.Page {
	return wire.Page{Entries: drawEntries(t), More: rapid.Bool().Draw(t, "more"), Clock: drawClock(t), Losses: drawLosses(t)}
}

// same compares messages; an empty list and none are one.
func same(a, b any) string {
	return cmp.Diff(a, b, cmpopts.EquateEmpty(), cmp.Comparer(func(x, y *crdt.Clock) bool {
		return x == y || x != nil && y != nil && x.Equal(y)
	}))
}

func TestRoundTrip(t *testing.T) {
	for _, c := range codecs {
		t.Run(c.name, rapid.MakeCheck(func(t *rapid.T) {
			m := c.draw(t)
			b := c.pack(m)
			got, err := c.unpack(b)
			if err != nil {
				t.Fatalf("%x: %v", b, err)
			}
			if diff := same(m, got); diff != "" {
				t.Fatal(diff)
			}
			// Nothing shorter and nothing longer is the same message.
			cut := rapid.IntRange(0, len(b)-1).Draw(t, "cut")
			if _, err := c.unpack(b[:cut]); err == nil && cut > 0 {
				t.Fatalf("accepted %d of %d bytes", cut, len(b))
			} else if err != nil && !errors.Is(err, wire.ErrMalformed) {
				t.Fatalf("cut: %v", err)
			}
			if _, err := c.unpack(append(b, 0)); !errors.Is(err, wire.ErrMalformed) {
				t.Fatalf("one byte too many: %v", err)
			}
		}))
	}
}

func uvarints(ns ...uint64) (b []byte) {
	for _, n := range ns {
		b = binary.AppendUvarint(b, n)
	}
	return b
}

// What is out of range is refused: counters that no clock could hold, actors
// and counters of nobody, flags that are none, ranges that are none.
func TestRefuses(t *testing.T) {
	oneDot := func(actor, n uint64) []byte {
		return append([]byte{1, 1, 'k', 1, 'r', 1 << 1}, uvarints(actor, n)...)
	}
	for _, c := range []struct {
		name string
		codec
		body []byte
	}{
		{"empty", apply, nil},
		{"empty key", apply, []byte{1, 0, 0, 0}},
		{"actor 0", apply, oneDot(0, 1)},
		{"actor above 32 bits", apply, oneDot(1<<32, 1)},
		{"counter 0", apply, oneDot(1, 0)},
		{"counter that no clock holds", apply, oneDot(1, crdt.MaxN+1)},
		{"number of 11 bytes", apply, []byte{0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 1}},
		{"partition above 16 bits", scan, append(uvarints(1<<16), make([]byte, 18)...)},
		{"flag 2", pulled, []byte{2, 0, 0}},
		{"61 bits", buckets, uvarints(61, 0)},
		{"ids told and none there", apply, []byte{1, 1, 'k', 0, 1, 0}},
		{"question of no ballot", ask, append([]byte{1, 'k', 1, 15: 1}, make([]byte, 10)...)},
		{"question of no id", ask, append(append([]byte{1, 'k'}, make([]byte, 16)...), 0, 0, 0, 0, 0, 0, 0, 1)},
		{"256 bits", buckets, uvarints(256, 0)},
		{"prefix beyond its bits", buckets, uvarints(8, 256)},
		{"no clock", pull, uvarints(1, 1)},
	} {
		t.Run(c.name, func(t *testing.T) {
			if m, err := c.unpack(c.body); !errors.Is(err, wire.ErrMalformed) {
				t.Errorf("%x: %+v, %v", c.body, m, err)
			}
		})
	}
	if m, err := wire.DecodeApply(oneDot(1, crdt.MaxN)); err != nil || m.Entries[0].Dots[0].N != crdt.MaxN {
		t.Errorf("the highest counter: %+v, %v", m, err)
	}
}

// An asker who wants more than fits gets what fits.
func TestMaxBytesIsBounded(t *testing.T) {
	p, err := wire.DecodePull(wire.AppendPull(nil, wire.Pull{Clock: &crdt.Clock{}, MaxBytes: math.MaxInt}))
	if err != nil || p.MaxBytes != 16<<20 {
		t.Errorf("pull: %d, %v", p.MaxBytes, err)
	}
	s, err := wire.DecodeScan(wire.AppendScan(nil, wire.Scan{MaxBytes: math.MaxInt}))
	if err != nil || s.MaxBytes != 16<<20 {
		t.Errorf("scan: %d, %v", s.MaxBytes, err)
	}
}

// A count reserves no memory that the bytes behind it do not pay for: at most
// some ten times the body.
func TestHostileCounts(t *testing.T) {
	zeros := make([]byte, 1<<20)
	for _, c := range codecs {
		for _, count := range []uint64{1 << 62, 1 << 40, 1 << 20, 1<<20/2 - 8, 1<<20/3 - 8, 1<<20/9 - 8, 1<<20/17 - 8} {
			for _, head := range [][]byte{nil, {0}, {0, 0}, {1, 1, 'k', 0}, {0, 1, 0}} {
				body := append(append(append([]byte(nil), head...), uvarints(count)...), zeros...)
				if took := allocated(func() { _, _ = c.unpack(body) }); took > 10*uint64(len(body)) {
					t.Errorf("%s: count %d behind %x takes %d bytes for a body of %d", c.name, count, head, took, len(body))
				}
			}
		}
	}
}

func allocated(f func()) uint64 {
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	f()
	runtime.ReadMemStats(&after)
	return after.TotalAlloc - before.TotalAlloc
}

// fuzz: whatever is accepted means the same when it is written again.
func fuzz(f *testing.F, c codec) {
	for i := range 20 {
		f.Add(c.pack(rapid.Custom(c.draw).Example(i)))
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		m, err := c.unpack(b)
		if err != nil {
			if !errors.Is(err, wire.ErrMalformed) {
				t.Fatal(err)
			}
			return
		}
		again, err := c.unpack(c.pack(m))
		if err != nil {
			t.Fatalf("%+v: %v", m, err)
		}
		if diff := same(m, again); diff != "" {
			t.Fatal(diff)
		}
	})
}

func FuzzDecodeApply(f *testing.F)       { fuzz(f, apply) }
func FuzzDecodeCompare(f *testing.F)     { fuzz(f, compare) }
func FuzzDecodeDifferences(f *testing.F) { fuzz(f, differences) }
func FuzzDecodePull(f *testing.F)        { fuzz(f, pull) }
func FuzzDecodePulled(f *testing.F)      { fuzz(f, pulled) }
func FuzzDecodeBuckets(f *testing.F)     { fuzz(f, buckets) }
func FuzzDecodeBucketList(f *testing.F)  { fuzz(f, bucketList) }
func FuzzDecodeScan(f *testing.F)        { fuzz(f, scan) }
func FuzzDecodePage(f *testing.F)        { fuzz(f, page) }
