package coord

import (
	"errors"
	"time"

	"github.com/atolldb/atoll/crdt"
	"github.com/atolldb/atoll/node/peer"
	"github.com/atolldb/atoll/node/storage"
	"github.com/atolldb/atoll/node/wire"
)

// sessionRead is what a read for a session does beyond counting answers: one of
// those that count has to have what the session knows. The read's lock is over it.
type sessionRead struct {
	known bool
	// waiting are the slots whose servers answer, for a second time, when they
	// have it; one bit each.
	waiting uint64
	// crowded are those of them where too many wait.
	crowded uint64
	// settled: the key's consensus was asked, and did not tell.
	settled bool
}

// knows reports whether an answer has what the session knows. Of two answers of
// one server the second one counts. Called with the lock held, after an answer.
func (r *read) knows() bool {
	last := len(r.replies) - 1
	for i := range last {
		if r.replies[i].slot == r.replies[last].slot {
			r.replies[i] = r.replies[last]
			r.replies = r.replies[:last]
			last = i
			break
		}
	}
	if rep := &r.replies[last]; !r.session.known && rep.missing == nil {
		rec, _ := decode(&r.k, rep.record) // checked by answer
		if r.session.known = r.k.shown(rec); r.session.known {
			r.replies[0], r.replies[last] = r.replies[last], r.replies[0] // the first of those named
		}
	}
	return r.session.known
}

// seek asks one more server, or when all have answered, has those wait that lack
// something. Called with the lock held.
func (r *read) seek() {
	switch {
	case r.finished || r.session.known:
	case len(r.queue) > 0:
		r.askNext()
	case r.tally.Complete():
		r.await(0)
	}
}

// refusedToWait takes note of a server where too many wait already, and gives up
// when they all are. Called with the lock held.
func (r *read) refusedToWait(i int, err error) {
	if bit := uint64(1) << i; r.session.waiting&bit != 0 && (refusal(err) == peer.CodeOverloaded || errors.Is(err, storage.ErrOverloaded)) {
		r.session.crowded |= bit
	}
	if !r.finished && r.session.crowded != 0 && r.session.crowded == r.session.waiting {
		r.finish(func() { r.tell(CodeOverloaded) })
	}
}

// await has those who lack something answer again when they have it. left is the
// time that is left, or 0 when this is not the timer's turn: what the session
// knows by consensus only nobody is woken for, and is asked for at every turn, the
// next of which await returns. Called with the lock held.
func (r *read) await(left time.Duration) time.Duration {
	if r.session.known {
		return left
	}
	next := left
	for _, rep := range r.replies {
		bit := uint64(1) << rep.slot
		switch {
		case rep.missing == nil && left == 0:
			continue
		case rep.missing == nil:
			next = min(next, r.c.cfg.HedgeAfter)
		case r.session.waiting&bit != 0:
			continue
		default:
			r.session.waiting |= bit
		}
		r.outbound = append(r.outbound, rep.slot)
	}
	return next
}

// undecided is what an answer lacks that lacks nothing but events of writes that were
// decided by consensus, nil if there is none: their minter may be gone, and the event
// with it, and the key's consensus may tell what was decided. Called with the lock
// held, when all were asked a while ago.
func (r *read) undecided() *crdt.Clock {
	if r.session.known || r.session.settled {
		return nil
	}
	soft := &crdt.Clock{}
	for _, s := range r.k.soft() {
		soft.Add(s.Event)
	}
	for _, rep := range r.replies {
		if rep.missing != nil && soft.Covers(rep.missing) {
			return rep.missing
		}
	}
	return nil
}

// decides asks the key's consensus for what is undecided here. If it does not tell,
// as that of another region than the one which has decided, the read waits as ever.
func (r *read) decides(missing *crdt.Clock) {
	half := time.Now().Add(time.Until(r.deadline) / 2)
	r.c.settle(r.k, r.want, half, r.withKnown(func(rec crdt.Record, who Achieved, err *Error) {
		if err == nil {
			if missing, _ = r.k.excuse(rec, missing, nil); missing == nil {
				r.done(rec, who, nil)
				return
			}
		}
		next := &read{
			c: r.c, k: r.k, want: r.want, deadline: r.deadline, done: r.done, strict: r.strict, turns: r.turns, waits: r.waits,
			session: sessionRead{settled: true},
		}
		next.k.resolve(r.c.Topology())
		next.begin()
	}))
}

// askKnowing asks slot i's server if it is this node; else it returns what to
// send.
func (r *read) askKnowing(i int) (body []byte, asked bool) {
	r.mu.Lock()
	wait := r.session.waiting>>i&1 != 0
	r.mu.Unlock()
	m := wire.Read{Key: r.k.full, Needs: r.k.needs(), Wait: wait && r.k.needs() != nil, Fresh: r.k.fresh, Home: r.want.home}
	if i == r.self {
		deadline := time.Time{}
		if m.Wait {
			deadline = r.deadline
		}
		r.c.Replica.ReadKnowing(r.k.top.Epoch, m, deadline, func(held wire.Held, err error) {
			r.answer(i, held, err)
			r.flush()
		})
		return nil, true
	}
	if !m.Wait {
		return r.body, false
	}
	return wire.AppendRead(nil, m), false
}

// missing is the least that an answer lacked; nil if none lacked any dots. Nobody
// changes the replies any more.
func (r *read) missing() *crdt.Clock {
	var least *crdt.Clock
	for _, rep := range r.replies {
		if rep.missing != nil && (least == nil || least.Covers(rep.missing)) {
			least = rep.missing
		}
	}
	return least
}

// withKnown adds what the answers hold to what consensus tells, which asks other
// owners perhaps than the one that has what the session knows. The read has ended.
func (r *read) withKnown(done readDone) readDone {
	if !r.k.asks() {
		return done
	}
	var known crdt.Record
	for _, rep := range r.replies {
		rec, _ := decode(&r.k, rep.record) // checked by answer
		known = crdt.Join(known, rec)
	}
	return func(rec crdt.Record, a Achieved, err *Error) {
		if err == nil {
			rec = crdt.Join(rec, known)
		}
		done(rec, a, err)
	}
}
