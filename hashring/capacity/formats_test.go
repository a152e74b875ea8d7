package capacity

import (
	"math"
	"testing"

	"pgregory.net/rapid"

	"github.com/atolldb/atoll/crdt"
	"github.com/atolldb/atoll/crdt/hlc"
	"github.com/atolldb/atoll/hashring"
	"github.com/atolldb/atoll/node/peer"
	"github.com/atolldb/atoll/node/wire"
)

// near fails unless got is within a part of want.
func near(t *testing.T, what string, got, want, tolerance float64) {
	t.Helper()
	if math.Abs(got-want) > tolerance*math.Abs(want) {
		t.Errorf("%s: formula %.1f, the code %.1f", what, got, want)
	}
}

func TestUvarint(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		// Above 2^53 a float is no exact number.
		n := rapid.Uint64Range(0, 1<<53-1).Draw(t, "n")
		if got, want := uvarint(float64(n)), len(appendUvarint(n)); got != float64(want) {
			t.Fatalf("%d takes %d bytes, formula %g", n, want, got)
		}
	})
}

func appendUvarint(n uint64) []byte {
	var b []byte
	for ; n >= 128; n >>= 7 {
		b = append(b, byte(n)|128)
	}
	return append(b, byte(n))
}

// A record of one version after another is as large as the formula says, at
// most: the distance to the write before is taken to be as long as n.
func TestRecord(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		actor := crdt.MakeActor(uint32(rapid.IntRange(1, 1<<25).Draw(t, "seq")), uint8(rapid.IntRange(1, 63).Draw(t, "region")))
		n := uint64(rapid.Int64Range(2, 1<<50).Draw(t, "n"))
		before := uint64(rapid.Int64Range(1, int64(n)-1).Draw(t, "before"))
		value := make([]byte, rapid.IntRange(0, 20_000).Draw(t, "value"))
		r := crdt.Record{Versions: []crdt.Version{{
			Dot: crdt.Dot{Actor: actor, N: n}, Stamp: hlc.Stamp(1 << 60), Value: value,
			Past: crdt.VV{{Actor: actor, N: before}},
		}}}
		size := float64(len(crdt.AppendRecord(nil, 1, r)))
		slack := uvarint(float64(n)) - uvarint(float64(n-before))
		if got := recordBytes(float64(actor), float64(n), len(value)); got != size+slack {
			t.Fatalf("%g bytes and %g of slack, formula %g", size, slack, got)
		}
	})
}

// An entry with its key, as Apply, Pull and Scan carry it.
func TestEntry(t *testing.T) {
	in := Default()
	in.Keys, in.Partitions = 1e9, 256
	key := make([]byte, in.KeySize)
	record := make([]byte, int(in.record()))
	const many = 100
	var m wire.Apply
	for range many {
		m.Entries = append(m.Entries, wire.Entry{Key: key, Record: record})
	}
	var named wire.Apply
	for i := range m.Entries {
		e := m.Entries[i]
		e.IDs = []crdt.EventID{{Dot: crdt.Dot{Actor: crdt.Actor(maxActor(in.Nodes, in.Incarnations)), N: uint64(in.counter())}}}
		named.Entries = append(named.Entries, e)
	}
	near(t, "entry with a request", in.entryBytes()+in.requestOnWire(), float64(len(wire.AppendApply(nil, named)))/many, 0.001)
	near(t, "entry", in.entryBytes(), float64(len(wire.AppendApply(nil, m)))/many, 0.001)
	if overhead := in.record() - float64(in.ValueSize); overhead < 20 || overhead > 32 {
		t.Errorf("a record of one version and one actor has %g bytes beside its value, not about 30", overhead)
	}
}

func TestCompare(t *testing.T) {
	for _, partitions := range []int{1, 64, 128, 256, 1024, 4096, 65536} {
		var m wire.Compare
		for p := range partitions {
			m.Sums = append(m.Sums, wire.Sum{Partition: hashring.Partition(p), Clock: 1 << 63, Digest: 1})
		}
		near(t, "compare", compareBytes(float64(partitions), partitions), float64(len(wire.AppendCompare(nil, m))), 1e-9)
	}
	// What is asked and what is answered when nothing differs, with heads.
	request := peer.Request{Verb: peer.VerbCompare, Epoch: 100, Timeout: 5e9, Body: make([]byte, 600)}
	near(t, "request head", requestHead, float64(len(peer.AppendRequestHead(nil, 1<<20, request))), 0)
	idle := wire.AppendDifferences(nil, nil)
	near(t, "reply head", replyHead, float64(len(peer.AppendReplyHead(nil, 1<<20, len(idle)))), 0)
	near(t, "idle compare", compared(2, 200, 0, 7, 256),
		2*float64(len(peer.AppendRequestHead(nil, 1<<20, request))+1+100*17+50+len(idle)+2*frameFixed+replyHead), 0.02)
}

func TestDifferences(t *testing.T) {
	const partitions, actors = 4096, 24
	var all []wire.Difference
	clock := clockOf(actors, 1000, 5_000_000)
	for p := range partitions {
		all = append(all, wire.Difference{Sum: wire.Sum{Partition: hashring.Partition(p)}, Clock: clock})
	}
	size := float64(len(wire.AppendDifferences(nil, all)))
	wireBytes := float64(len(crdt.AppendClock(nil, clock)))
	// The replies in which everything differs, less those in which nothing does.
	got := compared(1, partitions, 1, wireBytes, partitions) - compared(1, partitions, 0, wireBytes, partitions)
	near(t, "differences", got, size, 0.01)
}

// clockOf is a clock in which so many actors of a region of nodes have minted
// n dots each.
func clockOf(actors, nodes int, n uint64) *crdt.Clock {
	c := new(crdt.Clock)
	for i := range actors {
		seq := uint32(1 + i*nodes/actors)
		c.AddSpan(crdt.Dots{Actor: crdt.MakeActor(seq, 1), Span: crdt.Span{Lo: 1, Hi: n}})
	}
	return c
}

func TestClock(t *testing.T) {
	for _, actors := range []int{1, 3, 12, 24, 150} {
		for _, nodes := range []int{150, 1000, 4000} {
			for _, n := range []uint64{100, 1_000_000, 1 << 40} {
				c := clockOf(actors, nodes, n)
				got, size := clockBytes(actors, maxActor(nodes, 1), float64(n)), float64(len(crdt.AppendClock(nil, c)))
				// Actors may be lower than evenly spread ones.
				if got < size || got > 1.1*size+2 {
					t.Errorf("%d actors of %d nodes, %d dots each: formula %g, the code %g", actors, nodes, n, got, size)
				}
			}
		}
	}
	near(t, "clock of nobody", clockBytes(0, 0, 0), float64(len(crdt.AppendClock(nil, new(crdt.Clock)))), 0)
}
