package coord

import (
	"slices"
	"time"

	"github.com/atolldb/atoll/crdt"
	"github.com/atolldb/atoll/internal/planted"
	"github.com/atolldb/atoll/node/cas"
	"github.com/atolldb/atoll/node/peer"
	"github.com/atolldb/atoll/node/replica"
	"github.com/atolldb/atoll/node/topology"
	"github.com/atolldb/atoll/node/wire"
)

// What was decided is committed here first, which mints its event, and then
// told to the others: along with the next operation's Accept, or by itself if
// none follows soon. Who did not accept it gets the record, as with any write.

// voted notes whether a node has accepted the round's proposal. One that has
// may have had the decision of the round before with it.
func (sk *serialKey) voted(round, before *serialRound, id topology.NodeID, a cas.Answer, err error) {
	sk.mu.Lock()
	if err == nil && a.Verdict == cas.OK {
		round.oks = append(round.oks, id)
		sk.mu.Unlock()
		return
	}
	round.failed = append(round.failed, id)
	told := round.told
	// Who refused may have had the decision of the round before; who did not
	// answer may not.
	missed := err != nil && before != nil && before.committed && before.told && !slices.Contains(before.failed, id)
	if missed {
		before.failed = append(before.failed, id) // it did not hear of that either
	}
	sk.mu.Unlock()
	if told {
		sk.give(round, id)
	}
	if missed {
		sk.give(before, id)
	}
}

// commit commits what was decided; if an operation ended with that, it is
// answered when its event is known.
func (sk *serialKey) commit(p *cas.Proposal, out *cas.Outcome) {
	sk.mu.Lock()
	round, run := sk.round, sk.run
	sk.mu.Unlock()
	var res serialResult
	answered := false
	answer := func() {
		if out == nil || answered {
			return
		}
		answered = true
		sk.mu.Lock()
		if sk.run == run && run != nil {
			res.Achieved = sk.achieved(round.oks)
			sk.ends(res)
		}
		sk.mu.Unlock()
		sk.act()
	}
	if out != nil {
		res.Outcome = *out
	}
	// leave has whoever comes next find and commit what was decided: this node could
	// not, or has accepted a later ballot since, of somebody who has found it before. It
	// has no event then. Told without, the others would have the write and nothing
	// undecided, and whoever goes by clocks (other regions, a move of the home) would
	// miss it.
	leave := func() {
		if out != nil && !answered && out.Result == cas.Done && !out.Version.IsZero() {
			res.Outcome.Result = cas.Unknown
		}
		answer()
	}
	sk.c.Replica.Serial(replica.SerialStep{
		Key: round.k.full, KeyHash: round.k.hash, Mint: true,
		Message: cas.Message{Verb: cas.Commit, Decided: p.Ballot, Proposal: cas.Proposal{Dot: p.Dot, ID: p.ID}},
		Decided: func(a replica.SerialAnswer) {
			if a.Verdict == cas.Missed && !planted.Bug(planted.TellMissed) {
				leave()
				return
			}
			record := a.Record
			if record == nil {
				record = crdt.AppendRecord(nil, round.k.hash, p.Record)
			}
			sk.mu.Lock()
			round.committed, round.event, round.record = true, a.Event, record
			if !p.NoOp() {
				round.id = p.ID
			}
			time.AfterFunc(tellAfter, func() { sk.tellNow(round) })
			sk.mu.Unlock()
			if res.Event = a.Event; a.Event.IsZero() && out != nil && !out.Version.IsZero() {
				res.Outcome.Result = cas.Unknown // committed by another event, see take
			}
			answer()
		},
		Done: func(_ replica.SerialAnswer, err error) {
			if err != nil {
				leave()
			}
		},
	})
}

// tellNow tells of a commit that no operation took along.
func (sk *serialKey) tellNow(round *serialRound) {
	sk.mu.Lock()
	if round.told {
		sk.mu.Unlock()
		return
	}
	round.told = true
	m := &cas.Message{Verb: cas.Commit, Decided: round.ballot}
	if !round.event.IsZero() {
		m.Events = []crdt.Dot{round.event}
	}
	failed := slices.Clone(round.failed)
	sk.mu.Unlock()
	deadline := time.Now().Add(DefaultTimeout)
	sk.each(&round.k, func(_ int, _ bool, id topology.NodeID) {
		if slices.Contains(failed, id) {
			return
		}
		sk.ask(&round.k, 0, id, m, deadline, func(a cas.Answer, err error) {
			if err != nil || a.Verdict != cas.OK {
				sk.give(round, id)
			}
		})
	})
	sk.makeUp(round)
}

// makeUp gives the record to those who have not accepted it, and to who takes
// writes without being asked to accept.
func (sk *serialKey) makeUp(round *serialRound) {
	sk.mu.Lock()
	failed := slices.Clone(round.failed)
	sk.mu.Unlock()
	if extra := round.k.row.Extra; extra != "" && extra != sk.c.cfg.Self {
		failed = append(failed, extra)
	}
	for _, id := range failed {
		sk.give(round, id)
	}
}

// give has a node apply the record that was decided, with its event. If it does
// not, repair will find it.
func (sk *serialKey) give(round *serialRound, id topology.NodeID) {
	c := sk.c
	if !c.Alive(id) {
		c.stats.Missed.Add(1)
		return
	}
	e := wire.Entry{Key: round.k.full, Record: round.record}
	if !round.event.IsZero() {
		e.Dots = []crdt.Dot{round.event}
		if !round.id.IsZero() {
			e.IDs = []crdt.EventID{{Dot: round.event, ID: round.id}}
		}
	}
	body := wire.AppendApply(nil, wire.Apply{Entries: []wire.Entry{e}})
	c.send(id, round.k.top.Epoch, peer.VerbApply, body, time.Now().Add(DefaultTimeout), func(_ []byte, err error) {
		if err != nil {
			c.stats.Missed.Add(1)
		}
	})
}

// achieved says who accepted. Called with the lock held.
func (sk *serialKey) achieved(oks []topology.NodeID) Achieved {
	a := Achieved{Needed: len(sk.k.row.Slots)/2 + 1, Coordinator: sk.c.cfg.Self}
	if oks != nil {
		a.Replicas = append([]topology.NodeID{sk.c.cfg.Self}, oks...)
	}
	for i := range sk.k.row.Slots {
		a.Degraded = a.Degraded || !sk.c.alive(sk.k.server(i))
	}
	return a
}
