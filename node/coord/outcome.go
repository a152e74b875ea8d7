package coord

import (
	"time"

	"github.com/atolldb/atoll/crdt"
	"github.com/atolldb/atoll/crdt/hlc"
	"github.com/atolldb/atoll/node/replica"
	"github.com/atolldb/atoll/node/topology"
)

// OutcomeQuery asks what became of a write.
type OutcomeQuery struct {
	Bucket    string
	Key       []byte
	RequestID RequestID
	Deadline  time.Time
}

// OutcomeResult is the answer to an OutcomeQuery.
type OutcomeResult struct {
	// Outcome: NotApplied only if no owner of any region has the write and none
	// will take it any more; Unknown if that is not certain.
	Outcome Outcome
	// Version and Stamp of the write if it was applied (the stamp is 0 if that is
	// not known any more), and Replicas that have had it, of those who answered.
	Version  crdt.Dot
	Stamp    hlc.Stamp
	Replicas []topology.NodeID
	// Asked and Answered count owners.
	Asked, Answered int
	// Forgotten: the request is older than the owners remember, or does not say
	// how old it is.
	Forgotten bool
}

// outcomePatience is how long the answer waits for more owners after one had
// the write.
const outcomePatience = 200 * time.Millisecond

// Outcome asks all owners of the key, in all regions. Whoever has not carried
// the request out never will, from then on: asking ends it.
func (c *Coordinator) Outcome(o OutcomeQuery, done func(OutcomeResult, error)) {
	c.stats.Outcomes.Add(1)
	k, err := c.key(o.Bucket, o.Key, false)
	if err == nil && o.RequestID.IsZero() {
		err = invalid("request_id", "16 bytes that are not all zero", "none", "no request id")
	}
	if err != nil {
		c.stats.Failures.Add(1)
		done(OutcomeResult{}, err)
		return
	}
	c.outcome(&k, o, 0, done)
}

func (c *Coordinator) outcome(k *key, o OutcomeQuery, turn int, done func(OutcomeResult, error)) {
	targets := c.owners(k)
	if c.Regions != nil {
		for _, t := range c.Regions() {
			targets = append(targets, afar(k, t)...)
		}
	}
	q := &inquiry{c: c, k: k, ask: replica.Ask{ID: o.RequestID, Ballot: replica.Forbid}}
	q.enough = func(q *inquiry) bool {
		if len(q.has) == 1 { // the first one who has it
			q.timer.Reset(max(min(time.Until(o.Deadline), outcomePatience), 1))
		}
		return false
	}
	q.done = func(q *inquiry) {
		if q.stale != "" && !q.happened() && turn < maxTurns {
			used := k.top.Epoch
			c.learn(q.stale, used, func(newer bool) {
				if newer {
					k.resolve(c.Topology())
					c.outcome(k, o, turn+1, done)
					return
				}
				done(q.became(o.RequestID), nil)
			})
			return
		}
		done(q.became(o.RequestID), nil)
	}
	q.begin(targets, early(o.Deadline))
}

func (q *inquiry) became(id RequestID) OutcomeResult {
	r := OutcomeResult{Outcome: Unknown, Asked: q.asked, Answered: q.answered, Replicas: q.has}
	switch {
	case q.happened():
		r.Outcome, r.Version, r.Stamp = Applied, q.event.Dot, q.event.Stamp
	case q.none():
		r.Outcome = NotApplied
	default:
		made, ok := id.MadeAt()
		r.Forgotten = !ok || time.Since(time.UnixMilli(made)) > replica.RequestWindow
	}
	return r
}
