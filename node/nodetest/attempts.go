package nodetest

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/atolldb/atoll/crdt"
	"github.com/atolldb/atoll/node/coord"
	"github.com/atolldb/atoll/node/topology"
)

// Clients give their writes request ids, and repeat those that fail, or that they
// hedge, at whatever node of the region, and now and then of another: one request may
// then never show as two versions, unless an answer said that it might.

// answer to one attempt of a write.
type answer struct {
	res    coord.PutResult
	err    error
	region int // that was asked
}

// attempts carries out a write and returns the last answer; ok is false if a node
// never answered. What a later attempt says counts: it has asked the owners.
func (c *client) attempts(ctx context.Context, node *coord.Coordinator, p coord.Put, wr *write) (last answer, ok bool) {
	if c.rng.IntN(4) > 0 {
		p.RequestID = c.request()
	}
	wr.named = !p.RequestID.IsZero()
	tried := []topology.Region{c.w.tops[c.region].Region}
	region := c.region
	hedged := !p.RequestID.IsZero() && c.rng.IntN(10) == 0
	var first chan answer
	if hedged {
		first = c.attempt(node, p)
		p.Retry, p.TriedIn = true, tried
		if other := c.coordinator(); other != nil {
			node = other
		}
	}
	for n := 0; ; n++ {
		p.Deadline = time.Now().Add(2 * time.Second)
		if last, ok = c.wait(c.attempt(node, p), wr.key); !ok {
			return last, false
		}
		last.region = region
		var e *coord.Error
		failed := errors.As(last.err, &e)
		c.w.hist.tried(wr, c.story(&p, last))
		if failed && (e.MaybeDuplicate || e.Applied != nil && e.Applied.MaybeDuplicate) {
			c.w.hist.heard(wr, coord.PutResult{MaybeDuplicate: true})
		}
		if last.err == nil || failed && e.Outcome != coord.Unknown || p.RequestID.IsZero() || n == 2 || ctx.Err() != nil {
			break
		}
		if region = c.region; c.rng.IntN(6) == 0 {
			region = c.rng.IntN(len(c.w.tops))
		}
		if node = c.coordinatorIn(region); node == nil {
			break
		}
		p.Retry, p.TriedIn = true, slices.Clone(tried)
		if region != c.region && c.rng.IntN(3) == 0 {
			p.TriedIn = nil // anywhere
		}
		tried = append(tried, c.w.tops[region].Region)
	}
	c.w.hist.heard(wr, last.res)
	if hedged {
		a, ok := c.wait(first, wr.key)
		if !ok {
			return a, false
		}
		c.w.hist.heard(wr, a.res)
		c.w.hist.tried(wr, "hedged: "+c.story(&p, a))
		if a.err == nil && last.err != nil {
			last = a
			last.region = c.region
		}
	}
	if last.err != nil && !p.RequestID.IsZero() && c.rng.IntN(3) == 0 {
		last = c.outcome(p, last)
		c.w.hist.tried(wr, fmt.Sprintf("%v asked: %v", time.Since(c.w.start), last.err))
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
	node.Put(p, func(r coord.PutResult, err error) { done <- answer{res: r, err: err} })
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
	r := <-done
	if r.Outcome == coord.NotApplied {
		outcome = coord.NotApplied
	}
	return answer{err: &coord.Error{Code: coord.CodeUnavailable, Outcome: outcome, Detail: last.err.Error()}}
}

// story tells one attempt, for who looks into a problem.
func (c *client) story(p *coord.Put, a answer) string {
	s := fmt.Sprintf("%v level %v", time.Since(c.w.start), p.Level)
	if p.Retry {
		s += fmt.Sprintf(" retry of %v", p.TriedIn)
	}
	if a.err != nil {
		return s + ": " + a.err.Error()
	}
	return fmt.Sprintf("%s: answered with %v by %s, at %v, hinted %v, replayed %v, doubtful %v", s, a.res.Version, a.res.Achieved.Coordinator, a.res.Achieved.Replicas, a.res.Achieved.Hinted, a.res.Replayed, a.res.MaybeDuplicate)
}

func (h *history) tried(w *write, story string) {
	h.mu.Lock()
	defer h.mu.Unlock()
	w.tries = append(w.tries, story)
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

// shows takes note of a dot under which a write is seen. Called with the lock
// held.
func (w *write) shows(d crdt.Dot) {
	if !slices.Contains(w.shown, d) {
		w.shown = append(w.shown, d)
	}
}

// once checks R1 of all writes, when all of them have ended: until then the answer
// that says so may be on its way. Without an id the network may deliver a write
// twice.
func (h *history) once() {
	h.mu.Lock()
	defer h.mu.Unlock()
	for _, w := range h.writes {
		if w.named && !w.maybe && len(w.shown) > 1 {
			h.problem("R1: write %q shows as %v, and no answer said that it may (%s; %s)", w.value, w.shown, w.at, strings.Join(w.tries, "; "))
		}
	}
}
