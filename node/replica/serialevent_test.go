package replica_test

import (
	"testing"
	"testing/synctest"
	"time"

	"github.com/atolldb/atoll/crdt"
	"github.com/atolldb/atoll/hashring"
	"github.com/atolldb/atoll/node/cas"
	"github.com/atolldb/atoll/node/replica"
	"github.com/atolldb/atoll/node/storage/memstore"
	"github.com/atolldb/atoll/node/topology/memtopo"
	"github.com/atolldb/atoll/node/wire"
)

// commitOwn commits what this node's own proposer found to be decided.
func (p *place) commitOwn(key string, decided cas.Proposal) replica.SerialAnswer {
	p.t.Helper()
	m := commit(decided.Ballot)
	m.Proposal = cas.Proposal{Dot: decided.Dot, ID: decided.ID}
	out, err := p.serial(key, true, m)
	if err != nil || out[0].Verdict != cas.OK {
		p.t.Fatalf("commit: %+v, %v", out, err)
	}
	return out[0]
}

// A write that another node has finished, and of whose event this one knows, gets no
// second event; where none is known it gets one.
func TestSerialWriteHasOneEvent(t *testing.T) {
	const k = "default\x00k"
	own, theirs := crdt.MakeActor(7, 1), crdt.MakeActor(7, 2)
	for name, c := range map[string]struct {
		by    crdt.Actor // that has delivered it
		of    byte       // which request
		known bool
	}{
		"by a node of the region":            {own, 1, true},
		"of another request":                 {own, 2, false},
		"by a node of another region beside": {theirs, 1, false},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				p := newPlace(t, "n1", memtopo.New(1), memstore.Config{})
				p.cfg.Ship = true
				p.start()
				b := cas.At(time.Now().UnixMilli())
				write := proposal(b, "1", nil)
				write.ID = request(1)
				found := write // and is finished, at a higher ballot
				found.Ballot = b + 1<<16
				if out, err := p.serial(k, true, accept(write), accept(found)); err != nil || out[1].Verdict != cas.OK {
					t.Fatalf("%+v, %v", out, err)
				}
				event := crdt.Dot{Actor: c.by, N: 1}
				p.mustApply(wire.Entry{
					Key: []byte(k), Record: crdt.AppendRecord(nil, hashring.KeyHash([]byte(k)), write.Record),
					Dots: []crdt.Dot{event}, IDs: []crdt.EventID{{Dot: event, ID: request(c.of)}},
				})
				a := p.commitOwn(k, found)
				minted := p.Clock(partOf(k)).Max(p.Actor())
				if c.known && (a.Event != event || minted != 0) {
					t.Errorf("event %v, known was %v; %d minted", a.Event, event, minted)
				}
				if !c.known && (a.Event != crdt.Dot{Actor: p.Actor(), N: 1} || minted != 1) {
					t.Errorf("event %v; %d minted", a.Event, minted)
				}
				if k := p.mustAsk(k, write.ID, replica.Forbid); k.Dot != write.Dot {
					t.Errorf("of the request is known %+v", k)
				}
				p.stop()
			})
		})
	}
}

// A no-op that was passed over before its proposer commits it has no event: it brings
// nothing. One that brings a record has.
func TestPassedNoOpHasNoEvent(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := newPlace(t, "n1", memtopo.New(1), memstore.Config{})
		p.start()
		const k = "default\x00k"
		b := cas.At(time.Now().UnixMilli())
		noOp, next := cas.Proposal{Ballot: b}, proposal(b+1<<16, "1", nil)
		if out, err := p.serial(k, false, accept(noOp), accept(next), commit(next.Ballot)); err != nil || out[2].Verdict != cas.OK {
			t.Fatalf("%+v, %v", out, err)
		}
		if a := p.commitOwn(k, noOp); !a.Event.IsZero() || p.Clock(partOf(k)).Max(p.Actor()) != 0 {
			t.Errorf("event %v", a.Event)
		}
		brings := cas.Proposal{Ballot: b + 2<<16, Record: proposal(b+1<<15, "2", nil).Record}
		if out, err := p.serial(k, false, accept(brings)); err != nil || out[0].Verdict != cas.OK {
			t.Fatalf("%+v, %v", out, err)
		}
		if a := p.commitOwn(k, brings); a.Event != (crdt.Dot{Actor: p.Actor(), N: 1}) {
			t.Errorf("event %v", a.Event)
		}
		p.stop()
	})
}
