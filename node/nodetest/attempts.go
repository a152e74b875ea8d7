package nodetest

import (
	"context"
	"errors"
	"time"

	"github.com/atolldb/atoll/crdt"
	"github.com/atolldb/atoll/node/coord"
)

// Clients give their writes request ids, and repeat those that fail, or that they
// hedge, at whatever node of the region: one request may then never show as two
// versions, unless an answer said that it might.

// answer to one attempt of a write.
type answer struct {
	res coord.PutResult
	err error
}

// attempts carries out a write and returns the last answer; ok is false if a node
// never answered. What a later attempt says counts: it has asked the owners.
func (c *client) attempts(ctx context.Context, node *coord.Coordinator, p coord.Put, wr *write) (last answer, ok bool) {
	if c.rng.IntN(4) > 0 {
		p.RequestID = c.request()
	}
	hedged := !p.RequestID.IsZero() && c.rng.IntN(10) == 0
	var first chan answer
	if hedged {
		first = c.attempt(node, p)
		p.Retry = true
		if other := c.coordinator(); other != nil {
			node = other
		}
	}
	for n := 0; ; n++ {
		p.Deadline = time.Now().Add(2 * time.Second)
		if last, ok = c.wait(c.attempt(node, p), wr.key); !ok {
			return last, false
		}
		var e *coord.Error
		failed := errors.As(last.err, &e)
		if failed && e.MaybeDuplicate {
			c.w.hist.heard(wr, coord.PutResult{MaybeDuplicate: true})
		}
		if last.err == nil || failed && e.Outcome != coord.Unknown || p.RequestID.IsZero() || n == 2 || ctx.Err() != nil {
			break
		}
		p.Retry = true
		if node = c.coordinator(); node == nil {
			break
		}
	}
	c.w.hist.heard(wr, last.res)
	if hedged {
		a, ok := c.wait(first, wr.key)
		if !ok {
			return a, false
		}
		c.w.hist.heard(wr, a.res)
		if a.err == nil && last.err != nil {
			last = a
		}
	}
	if last.err != nil && !p.RequestID.IsZero() && c.rng.IntN(3) == 0 {
		last = c.outcome(p, last)
	}
	return last, true
}

// request makes an id.
func (c *client) request() coord.RequestID {
	var chance [10]byte
	for i := range chance {
		chance[i] = byte(c.rng.Uint32())
	}
	return crdt.MakeRequestID(time.Now().UnixMilli(), chance)
}

func (c *client) attempt(node *coord.Coordinator, p coord.Put) chan answer {
	done := make(chan answer, 1)
	node.Put(p, func(r coord.PutResult, err error) { done <- answer{r, err} })
	return done
}

func (c *client) wait(done chan answer, key string) (answer, bool) {
	select {
	case a := <-done:
		return a, true
	case <-time.After(30 * time.Second):
		c.w.t.Errorf("put of %s by %s never answered", key, c.name)
		return answer{}, false
	}
}

// outcome asks what became of a write. That it was not applied is then certain,
// and so is that it was; how durable it is, is not said.
func (c *client) outcome(p coord.Put, last answer) answer {
	node := c.coordinator()
	if node == nil {
		return last
	}
	done := make(chan coord.OutcomeResult, 1)
	node.Outcome(coord.OutcomeQuery{Key: p.Key, RequestID: p.RequestID, Deadline: time.Now().Add(2 * time.Second)},
		func(r coord.OutcomeResult, err error) {
			if err != nil {
				r.Outcome = coord.Unknown
			}
			done <- r
		})
	outcome := coord.Unknown
	if (<-done).Outcome == coord.NotApplied {
		outcome = coord.NotApplied
	}
	return answer{err: &coord.Error{Code: coord.CodeUnavailable, Outcome: outcome, Detail: last.err.Error()}}
}

// heard takes what an answer to a write says of its request.
func (h *history) heard(w *write, r coord.PutResult) {
	h.mu.Lock()
	defer h.mu.Unlock()
	w.maybe = w.maybe || r.MaybeDuplicate
	if r.Replayed {
		h.replays++
	}
	if r.MaybeDuplicate {
		h.doubtful++
	}
}

// once checks that a write shows under one dot. Called with the lock held.
func (h *history) once(w *write, d crdt.Dot) {
	switch {
	case w.shown.IsZero():
		w.shown = d
	case w.shown != d && !w.maybe:
		h.problem("R1: write %q shows as %v and as %v, and no answer said that it may", w.value, w.shown, d)
	}
}
