package coord_test

import (
	"testing"
	"testing/synctest"
	"time"

	"github.com/atolldb/atoll/crdt"
	"github.com/atolldb/atoll/node/cas"
	"github.com/atolldb/atoll/node/coord"
	"github.com/atolldb/atoll/node/peer/memnet"
	"github.com/atolldb/atoll/node/replica"
)

// step takes a step of a key's consensus at a node, as one that another node asks for.
func (m *member) step(t *testing.T, bucket, k string, msg cas.Message) cas.Answer {
	t.Helper()
	full := coord.FullKey(bucket, []byte(k))
	type result struct {
		a   replica.SerialAnswer
		err error
	}
	done := make(chan result, 1)
	m.replica.Serial(replica.SerialStep{
		Key: full, KeyHash: keyHash(full), Message: msg,
		Done: func(a replica.SerialAnswer, err error) { done <- result{a, err} },
	})
	r := <-done
	if r.err != nil || r.a.Verdict != cas.OK {
		t.Fatalf("%s: verb %d: verdict %d, %v", m.id, msg.Verb, r.a.Verdict, r.err)
	}
	return r.a.Answer
}

// A proposer whose own acceptor has gone on to another ballot when its proposal is
// decided has no event of it. It must not tell the others that it was decided: they
// would have the write, and nothing undecided, and no clock would have an event; so
// whoever goes by clocks, as a move of the home does, would go on without it.
func TestDecidedBehindItsBack(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRegion(t, 3)
		const k = "k"
		time.Sleep(time.Second) // until new acceptors take the ballots of now
		owners := r.owners("default", k)
		proposer := owners[0]
		for _, o := range owners[1:] { // so that it is decided when something else was accepted here
			r.fabric.SetLink(o.id, proposer.id, memnet.Faults{MinDelay: 100 * time.Millisecond, MaxDelay: 100 * time.Millisecond})
		}
		put := proposer.startPut(t, serialPut(k, "1", crdt.Condition{Kind: crdt.IfAbsent}))
		events := func() (n uint64) {
			for _, o := range owners {
				c := o.replica.Clock(r.partition("default", k))
				for _, a := range c.Actors() {
					n += c.Base(a)
				}
			}
			return n
		}
		undecided := func() (n int) {
			for _, o := range owners {
				n += o.replica.SerialPendingCount()
			}
			return n
		}
		time.Sleep(150 * time.Millisecond) // promised after 101 ms, accepted, and not known yet to be
		if n := undecided(); n != len(owners) {
			t.Fatalf("%d of %d owners have accepted it", n, len(owners))
		}
		// Somebody finds it there, and begins to finish it.
		ballot := cas.At(time.Now().Add(10*time.Millisecond).UnixMilli()) | 5
		found := proposer.step(t, "default", k, cas.Message{Verb: cas.Prepare, Ballot: ballot}).Accepted
		found.Ballot = ballot
		proposer.step(t, "default", k, cas.Message{Verb: cas.Accept, Proposal: found})
		if _, err := put.wait(); err == nil || err.Outcome != coord.Unknown {
			t.Errorf("the write: %v", err)
		}
		time.Sleep(time.Second) // what is told to the others has arrived
		if n := undecided(); n != len(owners) && events() == 0 {
			t.Errorf("%d of %d owners hold it undecided, and no clock has an event", n, len(owners))
		}
		r.fabric.HealAll()
		for _, o := range owners[1:] {
			r.fabric.SetLink(o.id, proposer.id, memnet.Faults{MinDelay: time.Millisecond, MaxDelay: time.Millisecond})
		}
		time.Sleep(time.Second)
		if res := owners[1].mustGet(t, serialGet(k)); len(res.View.Live) != 1 || string(res.View.Live[0].Value) != "1" {
			t.Errorf("read %q", live(res.View))
		}
		r.settle()
		if events() == 0 {
			t.Error("it has no event")
		}
	})
}
