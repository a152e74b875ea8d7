package handoff

import (
	"context"
	"errors"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/hashicorp/go-hclog"

	"github.com/atolldb/atoll/crdt"
	"github.com/atolldb/atoll/crdt/session"
	"github.com/atolldb/atoll/hashring"
	"github.com/atolldb/atoll/node/peer"
	"github.com/atolldb/atoll/node/replica"
	"github.com/atolldb/atoll/node/topology"
	"github.com/atolldb/atoll/node/wire"
)

// What a copier said is no fact any more when its node answers no longer: it may
// come back empty.
func TestReportsAreOfNow(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		report := Report{Copies: []Progress{{Move: 1, Began: 5, With: []topology.NodeID{"n1"}}}}
		s := &scripted{verbs: map[peer.Verb]func([]byte) ([]byte, error){
			peer.VerbMoves: func([]byte) ([]byte, error) { return encodeReport(report), nil },
		}}
		var down error
		a := newAsker(Config{Self: "n1"}.filled(), Deps{
			Transport: s, Log: hclog.NewNullLogger(),
			Exchange: func(context.Context, topology.NodeID, *topology.Topology) (topology.Epoch, error) { return 5, down },
		}, nil)
		round := func() []topology.Synced {
			a.round(t.Context(), nil, map[topology.NodeID]bool{"n4": true}, askWait)
			return a.facts().Synced[1]
		}
		if got := round(); len(got) != 1 || len(got[0].With) != 1 {
			t.Fatalf("synced %+v", got)
		}
		// It answers, but not how far it is: for a while its last word counts.
		s.verbs[peer.VerbMoves] = func([]byte) ([]byte, error) { return nil, errors.New("busy") }
		if got := round(); len(got) != 1 {
			t.Errorf("synced %+v", got)
		}
		for range 10 {
			time.Sleep(time.Second)
			round()
		}
		if got := round(); len(got) != 0 {
			t.Errorf("after 10 s without a report: synced %+v", got)
		}
		s.verbs[peer.VerbMoves] = func([]byte) ([]byte, error) { return encodeReport(report), nil }
		if got := round(); len(got) != 1 {
			t.Fatalf("synced %+v", got)
		}
		down = errors.New("no answer")
		if got := round(); len(got) != 0 {
			t.Errorf("of one who does not answer: synced %+v", got)
		}
	})
}

// A node that finds after a copy that it lacks something fetches that, too.
func TestACopyStaysComplete(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := &scripted{verbs: map[peer.Verb]func([]byte) ([]byte, error){
			peer.VerbScan: func([]byte) ([]byte, error) { return wire.AppendPage(nil, wire.Page{Clock: &crdt.Clock{}}), nil },
		}}
		k := s.copying()
		ctx, stop := context.WithCancel(t.Context())
		var run sync.WaitGroup
		run.Go(func() { k.run(ctx) })
		time.Sleep(time.Second + k.c.cfg.Beat/2) // between two rounds
		if len(k.progress().With) != 1 {
			t.Errorf("%+v", k.progress())
		}
		s.set(7)
		if len(k.progress().With) != 0 {
			t.Errorf("claims what is lost: %+v", k.progress())
		}
		time.Sleep(time.Second)
		if s.BehindMark(0) != 0 || len(k.progress().With) != 1 {
			t.Errorf("behind with mark %d: %+v", s.BehindMark(0), k.progress())
		}
		stop()
		run.Wait()
	})
}

// A source that was wiped in the middle of a pass, and got from others what they
// had, no longer has what its clock said at the start: that is not joined.
func TestAPassThroughAWipedSource(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		part, full := &crdt.Clock{}, &crdt.Clock{}
		part.Add(crdt.Dot{Actor: 65, N: 1})
		full.Add(crdt.Dot{Actor: 65, N: 1})
		full.Add(crdt.Dot{Actor: 65, N: 2})
		wiped := false
		s := &scripted{verbs: map[peer.Verb]func([]byte) ([]byte, error){}}
		s.verbs[peer.VerbScan] = func(body []byte) ([]byte, error) {
			q, err := wire.DecodeScan(body)
			switch {
			case err != nil:
				return nil, err
			case wiped:
				return wire.AppendPage(nil, wire.Page{Clock: part}), nil
			case q.First == q.Last:
				return wire.AppendPage(nil, wire.Page{Clock: full}), nil
			case len(q.After) > 0:
				return nil, errors.New("connection lost")
			}
			return wire.AppendPage(nil, wire.Page{Clock: full, More: true, Entries: []wire.Entry{{Key: []byte("b\x00k"), Record: []byte{1}}}}), nil
		}
		k := s.copying()
		if done, _ := k.round(t.Context()); done {
			t.Fatal("a broken pass is done")
		}
		wiped = true
		for range 3 {
			k.round(t.Context())
		}
		if s.joined.Contains(crdt.Dot{Actor: 65, N: 2}) {
			t.Error("the clock speaks for a write that nobody gave")
		}
		if len(k.progress().With) != 1 {
			t.Errorf("no copy of what is there: %+v", k.progress())
		}
	})
}

// scripted is a replica that is behind at times, and a transport that answers
// as it is told.
type scripted struct {
	Replica
	top    *topology.Topology
	verbs  map[peer.Verb]func([]byte) ([]byte, error)
	joined crdt.Clock

	mu   sync.Mutex
	mark uint64
}

func (s *scripted) TakeSerial(context.Context, hashring.Partition, func(context.Context, []byte) ([]byte, error)) error {
	return nil
}

func (s *scripted) copying() *copying {
	s.top = &topology.Topology{
		Region: "a", RegionID: 1, Epoch: 5, Table: hashring.MakeTable([][]string{{"n1", "n2", "n3"}}),
		Tasks: []topology.Task{{ID: 1}}, Since: []topology.Epoch{5},
		Moves: []topology.Move{{ID: 1, Task: 1, From: "n1", To: "n4", Stage: topology.Copying, Began: 5}},
	}
	c := NewCopier(Config{Self: "n4"}, Deps{
		Replica: s, Transport: s, Log: hclog.NewNullLogger(),
		Exchange: func(context.Context, topology.NodeID, *topology.Topology) (topology.Epoch, error) { return 5, nil },
	})
	for _, k := range c.wanted(s.top) {
		return k
	}
	return nil
}

func (s *scripted) set(mark uint64) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.mark = mark
}

func (s *scripted) BehindMark(hashring.Partition) uint64 {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.mark
}

func (s *scripted) CaughtUp(_ hashring.Partition, mark uint64) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.mark == mark {
		s.mark = 0
	}
}

func (s *scripted) Topology() *topology.Topology         { return s.top }
func (s *scripted) Clock(hashring.Partition) *crdt.Clock { return s.joined.Clone() }
func (s *scripted) MeetFloors(context.Context, hashring.Partition, wire.Floors) error {
	return nil
}

func (s *scripted) MeetLosses(hashring.Partition, *session.Losses) error { return nil }

func (s *scripted) ApplyFrom(_ replica.Source, _ topology.Epoch, e []wire.Entry, done func(int, error)) {
	done(len(e), nil)
}

func (s *scripted) JoinClock(_ hashring.Partition, c *crdt.Clock, done func(error)) {
	s.joined.Join(c)
	done(nil)
}

func (s *scripted) Send(_ topology.NodeID, r peer.Request, done peer.Done) {
	b, err := s.verbs[r.Verb](r.Body)
	go done(b, err)
}
