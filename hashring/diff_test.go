package hashring

import (
	"math/bits"
	"slices"
	"strings"
	"testing"
)

func TestDiff(t *testing.T) {
	old := MakeTable([][]string{{"a", "b", "c"}, {"a", "b", "c"}, {"a", "b"}, {"a", "b", "c"}})
	next := MakeTable([][]string{{"c", "a", "b"}, {"d", "b", "c"}, {"b", "a", "c"}, {"b", "e"}})
	want := []Move{
		{Partition: 1, Slot: 0, From: "a", To: "d"},
		{Partition: 2, Slot: 2, To: "c"},
		{Partition: 3, Slot: 0, From: "a", To: "e"},
		{Partition: 3, Slot: 2, From: "c"},
	}
	got := Diff(old, next)
	if !slices.Equal(got, want) {
		t.Fatalf("got %v, want %v", got, want)
	}
	if n := Copies(got); n != 3 {
		t.Errorf("%d copies, want 3", n)
	}
	if s := MovedShare(next, got); s != 3.0/11 {
		t.Errorf("share %v, want 3/11", s)
	}
	traffic := EstimateTraffic(got, func(p Partition) uint64 { return 100 * uint64(p) })
	if traffic.Total != 600 || traffic.In["d"] != 100 || traffic.In["c"] != 200 || traffic.In["e"] != 300 || traffic.Out["a"] != 400 || traffic.Out["c"] != 0 {
		t.Errorf("traffic %+v", traffic)
	}
	if all := Diff(Table{}, old); Copies(all) != 11 || len(all) != 11 {
		t.Errorf("from nothing: %v", all)
	}
}

func TestMovesStayInTheirRack(t *testing.T) {
	rack := map[string]int32{"a": 1, "b": 2, "c": 3, "d": 2, "e": 1}
	moves := appendMoves(nil, 5, []string{"a", "b", "c"}, []string{"c", "d", "e"}, func(id string) (int32, bool) { z, ok := rack[id]; return z, ok })
	want := []Move{{Partition: 5, Slot: 0, From: "a", To: "e"}, {Partition: 5, Slot: 1, From: "b", To: "d"}}
	if !slices.Equal(moves, want) {
		t.Fatalf("got %v, want %v", moves, want)
	}
}

func TestApplyRefuses(t *testing.T) {
	table := MakeTable([][]string{{"a", "b"}, {"b", "c"}})
	for _, m := range []Move{
		{Partition: 2, From: "a", To: "c"},
		{Partition: 0, Slot: 1, From: "a", To: "c"},
		{Partition: 0, Slot: -1, From: "a", To: "c"},
		{Partition: 0, Slot: 1 << 30, To: "c"},
		{Partition: 0, Slot: 0, From: "a", To: "b"},
	} {
		if _, err := Apply(table, []Move{m}); err == nil || !strings.Contains(err.Error(), "apply move") {
			t.Errorf("%v: got %v", m, err)
		}
	}
	if _, err := Apply(table, []Move{{Partition: 0, From: "a", To: "d"}}); err != nil {
		t.Error(err)
	}
	if got := table.Owners(0)[0]; got != "a" {
		t.Errorf("the table given was changed: %s", got)
	}
}

func TestFingerprint(t *testing.T) {
	tables := []Table{
		{},
		MakeTable([][]string{{}}),
		MakeTable([][]string{{"a", "b"}}),
		MakeTable([][]string{{"b", "a"}}),
		MakeTable([][]string{{"ab"}}),
		MakeTable([][]string{{"a"}, {"b"}}),
		MakeTable([][]string{{"a", "b"}, {}}),
	}
	seen := make(map[uint64]int)
	for i, table := range tables {
		if j, ok := seen[table.Fingerprint()]; ok {
			t.Errorf("tables %d and %d have one fingerprint", i, j)
		}
		seen[table.Fingerprint()] = i
	}
	// Nodes compare it with each other: it must not drift.
	if got, want := tables[6].Fingerprint(), uint64(0x4409a38e64cce5ad); got != want {
		t.Errorf("fingerprint %#x, was %#x", got, want)
	}
}

func TestPartitionRanges(t *testing.T) {
	for shift := range 17 {
		count := 1 << shift
		next := uint64(0)
		for p := range count {
			first, last := Range(Partition(p), count)
			if first != next || PartitionOf(first, count) != Partition(p) || PartitionOf(last, count) != Partition(p) {
				t.Fatalf("partition %d of %d: %#x..%#x", p, count, first, last)
			}
			next = last + 1
		}
		if next != 0 {
			t.Fatalf("%d partitions end at %#x", count, next-1)
		}
	}
	if h := KeyHash([]byte("users\x00alice")); PartitionOf(h, 256) != Partition(bits.RotateLeft64(h, 8)&255) {
		t.Error("the partition is not the top bits of the hash")
	}
}
