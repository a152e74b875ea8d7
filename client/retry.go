package client

import (
	"context"
	"math/rand/v2"
	"sync/atomic"
	"time"

	atollv1 "github.com/atolldb/atoll/proto/atoll/v1"
)

const (
	// maxAttempts that may have reached a node, maxTries of any kind but those
	// that waited for a connection, and maxWaits of those.
	maxAttempts, maxTries, maxWaits = 3, 6, 24
	// backoffBase doubles with each attempt up to backoffMax; the pause is
	// anything from 0 to that (full jitter: Brooker, "Exponential backoff and
	// jitter", 2015).
	backoffBase, backoffMax = 10 * time.Millisecond, 200 * time.Millisecond
	// largeCall is from where on a call is sent by itself rather than on the
	// stream, where it would delay the others.
	largeCall = 64 << 10
)

// budget bounds retries to a tenth of the calls in the long run, and to 100 in
// a burst, so that a client does not multiply the load of nodes in trouble.
// Attempts that reached no node, and those that a node took down with it, cost
// nothing: another node has not seen them. But those cost that were kept from a node
// because it refuses calls: its neighbours have as much to do.
type budget struct{ tenths atomic.Int64 }

const budgetMax = 1000

func newBudget() *budget {
	b := &budget{}
	b.tenths.Store(budgetMax)
	return b
}

func (b *budget) earn() {
	if b.tenths.Load() < budgetMax {
		b.tenths.Add(1)
	}
}

func (b *budget) spend() bool {
	if b.tenths.Add(-10) >= 0 {
		return true
	}
	b.tenths.Add(10)
	return false
}

// op is one operation, whatever it takes to carry it out.
type op struct {
	name  string
	call  atollv1.StreamCall // its Op; never changed once made
	hash  uint64
	write bool
	// keyless: hash says where to begin to ask, and is no key's.
	keyless bool
	alone   bool // by a call of its own, not on the stream
	size    int
	level   Level
	// carried is what it takes along of its session.
	carried carried
	rpc     *rpc // in place of call; alone
	id      RequestID
	repeats bool // a write that may be sent again after an unknown outcome
	flagged bool // a retry
	waits   bool // it is the node that waits: one attempt gets all the time
}

// run is the state of carrying out an op.
type run struct {
	op       *op
	deadline time.Time
	attempts int // that may have reached a node
	tries    int
	waits    int  // of those, for a connection
	doubt    bool // the outcome of an attempt is not known
	again    bool // the op says that it was tried, in region againIn
	againIn  string
	twice    bool // a retry may have been a second event
	hedge    time.Duration
	lacks    *Error // the last answer that said what was waited for in vain
	tried    []*node
	tries3   [maxTries]*node // backing of tried

	view *view // of the attempt
	node *node
	call *call
	err  *Error // of submitting
}

// run is the state before the first attempt. Of a write that was tried before it
// began the outcome is in doubt from the start.
func (o *op) run(deadline time.Time, hedge time.Duration) run {
	return run{op: o, deadline: deadline, hedge: hedge, doubt: o.flagged}
}

// refused gives the error of an op that was not begun the outcome of the request.
func (o *op) refused(err *Error) *Error {
	r := o.run(time.Time{}, 0)
	return r.settle(err)
}

// start begins one attempt.
func (r *run) start(ctx context.Context, c *cluster) (*atollv1.StreamReply, *Error) {
	if r.tried == nil {
		r.tried = r.tries3[:0]
	}
	v := c.view.Load()
	if r.view != nil && r.view.region != v.region {
		r.tried = r.tried[:0] // nobody there
	}
	r.view = v
	if err := r.away(c); err != nil {
		r.tries++
		return nil, err
	}
	var live bool
	r.node, live = v.pick(r.op.hash, r.op.write, r.tried)
	r.tries++
	at := r.attemptDeadline(v, time.Now())
	if r.op.alone {
		return r.node.unary(ctx, c, r.op, at)
	}
	r.call = c.calls.take(r.op, at)
	// Where no node is live, wait for one to be rather than fail at once: it
	// may be a matter of milliseconds.
	if !live {
		r.waits++
	}
	return nil, c.submit(r.node, r.call, !live)
}

// attemptDeadline leaves time to ask another node if this one does not answer.
// Writes that cannot be repeated, and what waits for other regions, get all the
// time there is.
func (r *run) attemptDeadline(v *view, now time.Time) time.Time {
	if r.op.write && !r.op.repeats || r.op.waits || len(v.nodes) == 1 || r.attempts >= maxAttempts-1 {
		return r.deadline
	}
	half := now.Add(r.deadline.Sub(now) / 2)
	if soon := now.Add(r.hedge); r.hedge > 0 && r.op.write && r.attempts == 0 && soon.Before(half) {
		return soon
	}
	return half
}

// wait returns the reply to the call that start has submitted.
func (r *run) wait(ctx context.Context, c *cluster) (*atollv1.StreamReply, *Error) {
	k := r.call
	r.call = nil
	defer c.ended(r.node)
	select {
	case <-k.done:
	default:
		select {
		case <-k.done:
		case <-ctx.Done():
			if sent, finished := r.node.link.abandon(k); !finished {
				return nil, overdue(k.write, sent, ctx.Err())
			}
		}
	}
	if k.err != nil {
		return nil, k.err // not given back: the sender may hold it still
	}
	reply := k.reply
	c.calls.give(k)
	if e := reply.GetError(); e != nil {
		return nil, fromWire(e)
	}
	return reply, nil
}

// next decides whether to try again after err, and after which pause.
func (r *run) next(ctx context.Context, c *cluster, b *budget, err *Error) (pause time.Duration, again bool) {
	if c.ctx.Err() != nil || ctx.Err() != nil {
		return 0, false
	}
	if err.Reason == reasonFenced {
		return r.fenced(c, b, err)
	}
	if err.sent {
		r.attempts++
	}
	if err.Outcome == UnknownOutcome {
		if !r.op.repeats {
			return 0, false
		}
		// A retry of which nothing was heard may have been anything.
		r.twice = r.twice || err.MaybeDuplicate || r.op.flagged && !err.said
		if !r.doubt || !r.again || r.againIn != r.view.region {
			r.op, r.doubt, r.again, r.againIn = r.op.again(r.view.region), true, true, r.view.region
		}
		return r.another(c, b, err)
	}
	if err.Reason == "INVALID" && err.Field == "reply" && !r.op.alone {
		r.op.alone = true // it does not fit on the stream
		return 0, r.tries < maxTries
	}
	switch err.Reason {
	case "UNAVAILABLE", "STOPPING", "CLOCK_SKEW", "OVERLOADED":
	case "SESSION_BEHIND", "CONTEXT_AHEAD", "STALE":
		r.lacks = err
	case "DEADLINE":
		if r.op.write && !r.op.repeats {
			return 0, false
		}
	default:
		return 0, false
	}
	return r.another(c, b, err)
}

// another decides whether there are time and budget for one more attempt.
func (r *run) another(c *cluster, b *budget, err *Error) (pause time.Duration, again bool) {
	left := time.Until(r.deadline)
	if r.attempts >= maxAttempts || r.tries-r.waits >= maxTries || r.waits >= maxWaits || left <= 0 {
		return 0, false
	}
	if (err.sent && !err.lost || err.Reason == "OVERLOADED") && !b.spend() {
		return 0, false
	}
	r.tried = append(r.tried, r.node)
	if (err.lost || err.Reason == "DEADLINE" || err.Outcome == UnknownOutcome) && c.hasFresh(r.tried) {
		return 0, true // another node knows nothing of this one's trouble
	}
	pause = err.RetryAfter + rand.N(min(backoffBase<<min(r.tries, maxTries), backoffMax))
	return pause, pause < left
}

// hasFresh reports whether there is a live node that was not tried.
func (c *cluster) hasFresh(tried []*node) bool {
	for _, n := range c.view.Load().nodes {
		if fresh(n, tried) && n.link.live() {
			return true
		}
	}
	return false
}

// do carries out o: attempts on one node after another, within ctx and the
// deadline. It also returns how many attempts it took.
func (c *Client) do(ctx context.Context, o *op) (*atollv1.StreamReply, int, *Error) {
	if err := c.open(ctx, o); err != nil {
		return nil, 0, c.complete(o.refused(err), o, nil)
	}
	if err := c.enter(ctx, o); err != nil {
		return nil, 0, c.complete(o.refused(err), o, nil)
	}
	reply, tries, err := c.try(ctx, o)
	c.leave(o, reply, err)
	return reply, tries, err
}

// try is do for an op that was let in.
func (c *Client) try(ctx context.Context, o *op) (*atollv1.StreamReply, int, *Error) {
	r := o.run(c.config.deadline(ctx, time.Now()), c.config.hedge)
	for {
		reply, err := r.start(ctx, c.cluster)
		if err == nil && !r.op.alone {
			reply, err = r.wait(ctx, c.cluster)
		}
		if err == nil {
			c.budget.earn()
			return r.tell(reply), r.tries, nil
		}
		pause, again := r.next(ctx, c.cluster, c.budget, err)
		if !again {
			return nil, r.tries, c.complete(r.settle(err), o, &r)
		}
		if !c.cluster.sleep(ctx, pause, r.view) {
			return nil, r.tries, c.complete(r.settle(overdue(o.write, false, ctx.Err())), o, &r)
		}
	}
}

// open refuses calls that are over before they begin.
func (c *Client) open(ctx context.Context, o *op) *Error {
	if c.cluster.ctx.Err() != nil {
		return closed(o.write, false)
	}
	if err := ctx.Err(); err != nil {
		return overdue(o.write, false, err)
	}
	return nil
}

// complete adds to an error what its maker did not know.
func (c *Client) complete(err *Error, o *op, r *run) *Error {
	if c.cluster.ctx.Err() != nil {
		switch {
		case err.Outcome == UnknownOutcome:
			err.cause = ErrClosed
		case err.Reason == "UNAVAILABLE", err.Reason == reasonCanceled, err.Reason == "DEADLINE":
			err = closed(o.write, false)
		}
	}
	err.Op, err.KeyHash, err.Level = o.name, o.hash, o.level
	if o.keyless {
		err.KeyHash = 0
	}
	if v := c.cluster.view.Load(); v != nil {
		err.Region = v.region
	}
	if r != nil && r.view != nil {
		err.Region = r.view.region
	}
	if r != nil {
		err.Attempts = r.tries
		if r.node != nil {
			err.Node = r.node.addr
		}
	}
	return err
}

// sleep reports false when ctx ended it. It ends when the client has left the region
// of v, nil for any.
func (c *cluster) sleep(ctx context.Context, d time.Duration, v *view) bool {
	if d <= 0 {
		return ctx.Err() == nil
	}
	var moved <-chan struct{}
	if v != nil {
		if moved = c.follow.movedFrom(); c.region() != v.region {
			return ctx.Err() == nil
		}
	}
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return true
	case <-moved:
		return true
	case <-ctx.Done():
		return false
	case <-c.ctx.Done():
		return true // the next attempt finds out
	}
}
