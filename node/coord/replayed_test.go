package coord

import (
	"testing"

	"github.com/atolldb/atoll/crdt"
	"github.com/atolldb/atoll/node/cas"
	"github.com/atolldb/atoll/node/topology"
)

// What a replayed write at a serial level says of its version: the ballot that names
// it, or the dot of a plain write; nothing where only the event is known, which no
// record shows.
func TestReplayedNamesNoEvent(t *testing.T) {
	const region, node = 1, crdt.Actor(1<<crdt.RegionBits | 1)
	ballot := crdt.Dot{Actor: crdt.BallotActor(region, 1), N: 7}
	event, plain := crdt.Dot{Actor: node, N: 3}, crdt.Dot{Actor: node, N: 2}
	record := crdt.Record{Versions: []crdt.Version{{Dot: ballot, Past: crdt.VV(nil).With(plain), Stamp: 9}}}
	for _, x := range []struct {
		name string
		by   cas.Carried
		want crdt.Dot
	}{
		{"by its ballot", cas.Carried{Version: ballot, Event: event}, ballot},
		{"a plain write, replaced since", cas.Carried{Event: plain}, plain},
		{"its event only", cas.Carried{Event: event}, crdt.Dot{}},
	} {
		c := &Coordinator{}
		c.SetKeys(crdt.Keys{[]byte("secret of sixteen")})
		w := &write{c: c, k: key{full: []byte("default\x00k"), top: &topology.Topology{}}}
		got := w.replayed(&serialResult{Outcome: cas.Outcome{Record: record, Carried: &x.by}})
		if got.Version != x.want || got.Event != x.by.Event || !got.Replayed {
			t.Errorf("%s: version %v, event %v, replayed %t", x.name, got.Version, got.Event, got.Replayed)
		}
	}
}
