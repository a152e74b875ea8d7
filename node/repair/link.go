package repair

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/atolldb/atoll/crdt"
	"github.com/atolldb/atoll/hashring"
	"github.com/atolldb/atoll/node/peer"
	"github.com/atolldb/atoll/node/replica"
	"github.com/atolldb/atoll/node/topology"
	"github.com/atolldb/atoll/node/wire"
)

// callTimeout bounds one question to another owner.
const callTimeout = 5 * time.Second

// link is another owner to fetch from.
type link struct {
	id topology.NodeID
	// region of it, "" for the own one.
	region topology.Region
	// task is counted in, too; nil outside of one.
	task *Counts
}

// call asks l. Other regions' topologies have epochs of their own: questions to
// them carry none.
func (r *Repairer) call(ctx context.Context, l link, verb peer.Verb, body []byte) ([]byte, error) {
	req := peer.Request{Verb: verb, Timeout: callTimeout, Body: body}
	if l.region == "" {
		req.Epoch = r.Topology().Epoch
	}
	return peer.Call(ctx, r.Transport, l.id, req)
}

// fetch is call for replies with records in them: they are paid for before the
// next one is asked for.
func (r *Repairer) fetch(ctx context.Context, l link, verb peer.Verb, body []byte) ([]byte, error) {
	b, err := r.call(ctx, l, verb, body)
	if err != nil {
		return nil, err
	}
	r.count(l.task, len(b), fetchedBytes)
	return b, r.pay(ctx, len(b))
}

// unanswered reports whether err is that of a peer that did not answer.
func unanswered(err error) bool {
	return errors.Is(err, peer.ErrNotSent) || errors.Is(err, peer.ErrTimeout) || errors.Is(err, peer.ErrLinkLost) ||
		errors.Is(err, context.Canceled) || errors.Is(err, context.DeadlineExceeded)
}

// from says that l read something from its store, at these floors.
func (l link) from(f wire.Floors) replica.Source {
	return replica.Source{From: l.id, Vouches: true, Floor: f.Raised}
}

// apply applies what l sent. What came from another region is then spread over
// this one's owners, of which a quorum is enough. Here first: the clock of this
// node says what is still to be fetched, and after a full sync it speaks for
// what was (A2). The others learn the rest by comparing themselves with it.
func (r *Repairer) apply(ctx context.Context, l link, src replica.Source, entries []wire.Entry) (changed int, err error) {
	if len(entries) == 0 {
		return 0, nil
	}
	if changed, err = r.applyHere(src, entries); err != nil {
		return 0, err
	}
	r.count(l.task, changed, repairedKeys)
	if l.region != "" {
		err = r.ApplyRemote(ctx, string(l.region), entries)
	}
	return changed, err
}

func (r *Repairer) applyHere(src replica.Source, entries []wire.Entry) (int, error) {
	type outcome struct {
		changed int
		err     error
	}
	done := make(chan outcome, 1)
	r.Replica.ApplyFrom(src, 0, entries, func(changed int, err error) { done <- outcome{changed, err} })
	o := <-done
	return o.changed, o.err
}

func (r *Repairer) joinClock(p hashring.Partition, c *crdt.Clock) error {
	done := make(chan error, 1)
	r.Replica.JoinClock(p, c, func(err error) { done <- err })
	if err := <-done; err != nil {
		return fmt.Errorf("join clock of partition %d: %w", p, err)
	}
	return nil
}

// claims keep two rounds from fetching the same records at once. Who comes
// second finds less to fetch, or nothing.
type claims struct {
	mu   sync.Mutex
	held map[hashring.Partition]chan struct{}
}

// claimsOf are those that l fetches under: what comes slowly from another region
// does not hold up what a peer has.
func (r *Repairer) claimsOf(l link) *claims {
	if l.region != "" {
		return &r.far
	}
	return &r.near
}

// take waits until nobody has p, or ctx ends. The caller calls release, once,
// when the error is nil.
func (c *claims) take(ctx context.Context, p hashring.Partition) (release func(), err error) {
	for {
		c.mu.Lock()
		wait, taken := c.held[p]
		if !taken {
			mine := make(chan struct{})
			if c.held == nil {
				c.held = map[hashring.Partition]chan struct{}{}
			}
			c.held[p] = mine
			c.mu.Unlock()
			return func() {
				c.mu.Lock()
				delete(c.held, p)
				c.mu.Unlock()
				close(mine)
			}, nil
		}
		c.mu.Unlock()
		select {
		case <-wait:
		case <-ctx.Done():
			return nil, ctx.Err()
		}
	}
}
