package repair

import (
	"maps"
	"slices"
	"testing"

	"github.com/atolldb/atoll/hashring"
	"github.com/atolldb/atoll/node/topology"
)

// moving is a topology of two partitions of which the first is a's, b's and c's,
// with one move under way there, and the second a's, b's and d's.
func moving(m ...topology.Move) *topology.Topology {
	return &topology.Topology{Epoch: 2, Table: hashring.MakeTable([][]string{{"a", "b", "c"}, {"a", "b", "d"}}), Moves: m}
}

func TestPeersOf(t *testing.T) {
	copying, switched := topology.Copying, topology.Switched
	for _, c := range []struct {
		name string
		top  *topology.Topology
		self topology.NodeID
		want map[topology.NodeID][]hashring.Partition
	}{
		{"stable", moving(), "a", map[topology.NodeID][]hashring.Partition{"b": {0, 1}, "c": {0}, "d": {1}}},
		{"stable, fewer shared", moving(), "d", map[topology.NodeID][]hashring.Partition{"a": {1}, "b": {1}}},
		{"planned is nothing", moving(topology.Move{From: "c", To: "d", Slot: 2}), "d", map[topology.NodeID][]hashring.Partition{"a": {1}, "b": {1}}},
		{"an owner to be is compared with", moving(topology.Move{From: "c", To: "d", Slot: 2, Stage: copying}), "a",
			map[topology.NodeID][]hashring.Partition{"b": {0, 1}, "c": {0}, "d": {0, 1}}},
		{"an owner to be does not compare itself", moving(topology.Move{From: "c", To: "d", Slot: 2, Stage: copying}), "d",
			map[topology.NodeID][]hashring.Partition{"a": {1}, "b": {1}}},
		{"after the switch it does", moving(topology.Move{From: "c", To: "d", Slot: 2, Stage: switched}), "d",
			map[topology.NodeID][]hashring.Partition{"a": {0, 1}, "b": {0, 1}, "c": {0}}},
		{"and so does who leaves", moving(topology.Move{From: "c", To: "d", Slot: 2, Stage: switched}), "c",
			map[topology.NodeID][]hashring.Partition{"a": {0}, "b": {0}, "d": {0}}},
		{"a new slot", moving(topology.Move{To: "e", Slot: 3, Stage: copying}), "a",
			map[topology.NodeID][]hashring.Partition{"b": {0, 1}, "c": {0}, "d": {1}, "e": {0}}},
		{"a slot that goes away", moving(topology.Move{From: "c", Slot: 2, Stage: switched}), "b",
			map[topology.NodeID][]hashring.Partition{"a": {0, 1}, "c": {0}, "d": {1}}},
		{"a stranger", moving(), "x", map[topology.NodeID][]hashring.Partition{}},
	} {
		if got := peersOf(c.top, c.self); !maps.EqualFunc(got, c.want, slices.Equal) {
			t.Errorf("%s: %v, want %v", c.name, got, c.want)
		}
	}
}

func TestServers(t *testing.T) {
	for _, c := range []struct {
		stage topology.Stage
		want  []topology.NodeID
	}{
		{topology.Planned, []topology.NodeID{"a", "b", "c"}},
		{topology.Copying, []topology.NodeID{"a", "b", "c"}},
		{topology.Switched, []topology.NodeID{"a", "b", "d"}},
	} {
		if got := servers(moving(topology.Move{From: "c", To: "d", Slot: 2, Stage: c.stage}), 0); !slices.Equal(got, c.want) {
			t.Errorf("%v: %v, want %v", c.stage, got, c.want)
		}
	}
}

func TestSharesOf(t *testing.T) {
	top := moving(topology.Move{From: "c", To: "d", Slot: 2, Stage: topology.Copying})
	west := &topology.Topology{Table: hashring.MakeTable([][]string{{"w"}, {"v"}})}
	got, ok := sharesOf(top, []Region{{Name: "west", Topology: west}}, []hashring.Partition{0, 1}, "a")
	if !ok {
		t.Fatal("all owners are known")
	}
	want := shares{
		{id: "b"}:                 {0: true, 1: true},
		{id: "c"}:                 {0: true},
		{id: "d"}:                 {0: true, 1: true},
		{id: "w", region: "west"}: {0: true},
		{id: "v", region: "west"}: {1: true},
	}
	if !maps.EqualFunc(got, want, maps.Equal) {
		t.Errorf("%v, want %v", got, want)
	}
	if _, ok := sharesOf(top, []Region{{Name: "west", Topology: west}, {Name: "north"}}, []hashring.Partition{0}, "a"); ok {
		t.Error("a region whose topology is not known has owners that nobody names")
	}
}

func TestMet(t *testing.T) {
	var m met
	all := []topology.NodeID{"a", "b", "self"}
	now := meeting{since: 5, mark: 2}
	m.note("a", 1, now)
	if m.all(all, "self", 1, now) {
		t.Error("b was not met")
	}
	m.note("b", 1, meeting{since: 4, mark: 2})
	if m.all(all, "self", 1, now) {
		t.Error("b was met before the partition changed")
	}
	m.note("b", 1, meeting{since: 5, mark: 1})
	if m.all(all, "self", 1, now) {
		t.Error("b was met before this node fell behind again")
	}
	m.note("b", 1, now)
	if !m.all(all, "self", 1, now) || m.all(all, "self", 2, now) {
		t.Error("all of partition 1 were met, none of 2")
	}
	m.forget("b")
	if m.all(all, "self", 1, now) {
		t.Error("b was forgotten")
	}
}

func TestAfter(t *testing.T) {
	parts := []hashring.Partition{2, 5, 9}
	for last, want := range map[hashring.Partition]hashring.Partition{0: 2, 2: 5, 3: 5, 5: 9, 9: 2, 1<<16 - 1: 2} {
		if got := after(parts, last); got != want {
			t.Errorf("after %d: %d, want %d", last, got, want)
		}
	}
}
