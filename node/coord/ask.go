package coord

import (
	"sync"
	"time"

	"github.com/atolldb/atoll/crdt"
	"github.com/atolldb/atoll/crdt/hlc"
	"github.com/atolldb/atoll/hashring"
	"github.com/atolldb/atoll/node/peer"
	"github.com/atolldb/atoll/node/replica"
	"github.com/atolldb/atoll/node/topology"
	"github.com/atolldb/atoll/node/wire"
)

// inquiry asks owners what became of a request, and has each that knows of no
// event leave a fence; see replica.Ask.
type inquiry struct {
	c   *Coordinator
	k   *key
	ask replica.Ask
	// enough ends the inquiry when it says so; it is called with the lock held.
	enough func(*inquiry) bool
	done   func(*inquiry) // once, without the lock

	mu    sync.Mutex
	timer *time.Timer
	open  int
	ended bool

	// What came of it: who was asked, and how many have answered; of those, who
	// has an event, how many have a higher fence, and how many cannot be sure.
	// Stale is who goes by another topology.
	asked, answered int
	has             []topology.NodeID
	event           replica.Known
	higher, unsure  int
	stale           topology.NodeID
}

// target is an owner to be asked; the epoch is 0 in another region.
type target struct {
	id    topology.NodeID
	epoch topology.Epoch
}

// minters are those whom a retry asks.
func minters(t *topology.Topology, p hashring.Partition) (ids []topology.NodeID) {
	for _, id := range t.Takers(p) {
		if t.Role(p, id).Mints() {
			ids = append(ids, id)
		}
	}
	return ids
}

// owners are the minters of a key in this region.
func (c *Coordinator) owners(k *key) (out []target) {
	for _, id := range minters(k.top, k.part) {
		out = append(out, target{id, k.top.Epoch})
	}
	return out
}

// begin asks all targets, and ends no later than until.
func (q *inquiry) begin(targets []target, until time.Time) {
	q.ask.Key, q.ask.KeyHash = q.k.full, q.k.hash
	q.asked, q.open = len(targets), len(targets)
	q.mu.Lock()
	q.timer = time.AfterFunc(max(time.Until(until), 1), q.end)
	q.mu.Unlock()
	body := wire.AppendAsk(nil, wire.Ask{Key: q.k.full, ID: q.ask.ID, Ballot: q.ask.Ballot})
	for _, t := range targets {
		switch {
		case t.id == q.c.cfg.Self:
			a := q.ask
			a.Epoch = t.epoch
			q.c.Replica.Ask(a, func(k replica.Known, err error) { q.answer(t, k, err) })
		case t.id == "" || !q.c.Alive(t.id):
			q.answer(t, replica.Known{}, peer.ErrNotSent)
		default:
			q.c.send(t.id, t.epoch, peer.VerbOutcome, body, until, func(b []byte, err error) {
				var m wire.Known
				if err == nil {
					m, err = wire.DecodeKnown(b)
				}
				if err == nil && len(m.Record) > 0 {
					_, err = decode(q.k, m.Record)
				}
				q.answer(t, replica.Known{Dot: m.Dot, Stamp: hlc.Stamp(m.Stamp), Record: m.Record, Sure: m.Sure, Higher: m.Higher}, err)
			})
		}
	}
}

func (q *inquiry) answer(t target, k replica.Known, err error) {
	q.mu.Lock()
	q.open--
	switch {
	case q.ended:
		q.mu.Unlock()
		return
	case err != nil:
		if stale(err) {
			q.stale = t.id
		}
	default:
		q.answered++
		if !k.Dot.IsZero() {
			q.has = append(q.has, t.id)
			if q.event.Dot.IsZero() || q.event.Stamp == 0 {
				q.event = k
			}
		} else {
			if k.Higher {
				q.higher++
			}
			if !k.Sure {
				q.unsure++
			}
		}
	}
	over := q.open == 0 || q.enough(q)
	q.mu.Unlock()
	if over {
		q.end()
	}
}

// end takes no more answers. What came of the inquiry does not change any more.
func (q *inquiry) end() {
	q.mu.Lock()
	if q.ended {
		q.mu.Unlock()
		return
	}
	q.ended = true
	q.timer.Stop()
	q.mu.Unlock()
	q.done(q)
}

// happened reports whether an owner has an event.
func (q *inquiry) happened() bool { return len(q.has) > 0 }

// none reports whether it is certain that there is none, and will be none of an
// attempt with a lower ballot.
func (q *inquiry) none() bool {
	return q.asked > 0 && q.answered == q.asked && !q.happened() && q.higher == 0 && q.unsure == 0
}

// record of the event's key, as one who has the event holds it.
func (q *inquiry) record() crdt.Record {
	rec, _ := decode(q.k, q.event.Record) // checked when it came
	return rec
}
