package nodetest

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"sync"
	"time"

	"github.com/atolldb/atoll/crdt"
	"github.com/atolldb/atoll/crdt/session"
	"github.com/atolldb/atoll/crdt/session/sessiontest"
	"github.com/atolldb/atoll/internal/pause"
	"github.com/atolldb/atoll/node/coord"
	"github.com/atolldb/atoll/node/quorum"
)

// sessionKeys are those that roamers use, with tokens or without. A write without
// one may follow what the owner that takes it does not know yet, and so hide from
// others what a session's write had followed: nothing is promised where both write.
func sessionKeys(tokens bool) (keys []string) {
	name := "loose"
	if tokens {
		name = "session"
	}
	for i := range 4 {
		keys = append(keys, fmt.Sprint(name, i))
	}
	return keys
}

// patience is how often in a row a roamer is told that nobody knows what it knows
// before it begins anew: what one disk alone had may be gone.
const patience = 5

// roamer is a client that reads and writes at LOCAL_ONE, asks another node each
// time, and moves between regions as it likes. With a token it is promised what
// sessions are promised; without one it counts how often that does not hold.
type roamer struct {
	*client
	tokens bool
	book   *sessionBook
	n      int // sessions so far
	token  []byte
	behind int // in a row
}

// sessionBook is what all roamers did, in order.
type sessionBook struct {
	mu  sync.Mutex
	ops []sessiontest.Op
	// Behind counts operations that were told that nobody knows enough.
	behind int
}

func (b *sessionBook) note(op sessiontest.Op) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.ops = append(b.ops, op)
}

func (w *World) roamer(i int, tokens bool, book *sessionBook) *roamer {
	c := w.client(i, 0, sessionKeys(tokens))
	c.rng = rand.New(rand.NewPCG(w.seed, uint64(1000+i)))
	r := &roamer{client: c, tokens: tokens, book: book}
	r.anew()
	return r
}

func (r *roamer) anew() {
	r.n++
	r.behind, r.held = 0, map[string]token{}
	if r.tokens {
		r.token = session.Begin()
	}
}

func (r *roamer) session() string { return fmt.Sprint(r.name, ".", r.n) }

// run works until ctx ends.
func (r *roamer) run(ctx context.Context) {
	for pause.For(ctx, time.Duration(1+r.rng.IntN(100))*time.Millisecond) {
		r.region = r.rng.IntN(len(r.w.tops))
		node := r.coordinator()
		if node == nil {
			continue
		}
		key := r.keys[r.rng.IntN(len(r.keys))]
		switch n := r.rng.IntN(10); {
		case n < 5:
			r.look(node, key)
		case n < 6:
			r.change(node, key, token{})
		default:
			r.change(node, key, r.held[key])
		}
	}
}

func (r *roamer) look(node *coord.Coordinator, key string) {
	type outcome struct {
		res coord.GetResult
		err error
	}
	done := make(chan outcome, 1)
	node.Get(coord.Get{Key: []byte(key), Level: quorum.LocalOne, Session: r.token, Deadline: time.Now().Add(2 * time.Second)},
		func(res coord.GetResult, err error) { done <- outcome{res, err} })
	select {
	case o := <-done:
		if o.err != nil {
			r.refused(o.err)
			return
		}
		r.took(key, o.res.Session)
		ctx, err := crdt.DecodeContext(crdt.Keys{secret}, fullKey(key), o.res.Context)
		if err != nil {
			r.w.t.Errorf("context for %s: %v", key, err)
		}
		op := sessiontest.Op{Session: r.session(), Key: key, Seen: ctx.Seen}
		for _, vs := range [][]crdt.Version{o.res.View.Live, o.res.View.Dead} {
			for i := range vs {
				op.Shown = append(op.Shown, vs[i].Dot)
			}
		}
		r.book.note(op)
		r.held[key] = token{bytes: o.res.Context, seen: r.w.hist.saw(key, o.res.View.Live)}
	case <-time.After(30 * time.Second):
		r.w.t.Errorf("get of %s by %s never answered", key, r.name)
	}
}

func (r *roamer) change(node *coord.Coordinator, key string, t token) {
	p := coord.Put{Key: []byte(key), Context: t.bytes, Level: quorum.LocalOne, Session: r.token, Deadline: time.Now().Add(2 * time.Second)}
	p.Delete = len(t.bytes) > 0 && r.rng.IntN(5) == 0
	wr := r.w.hist.begin(key, p.Delete, maps.Clone(t.seen), fmt.Sprintf("%s at %v", r.name, time.Since(r.w.start)))
	wr.single = true
	p.Value = []byte(wr.value)
	type outcome struct {
		res coord.PutResult
		err error
	}
	done := make(chan outcome, 1)
	node.Put(p, func(res coord.PutResult, err error) { done <- outcome{res, err} })
	select {
	case o := <-done:
		var e *coord.Error
		switch {
		case o.err == nil:
			r.w.hist.end(wr, acked, o.res.Version)
			r.took(key, o.res.Session)
			r.book.note(sessiontest.Op{Session: r.session(), Key: key, Wrote: o.res.Version})
			seen := maps.Clone(wr.seen)
			if seen == nil {
				seen = map[crdt.Dot]bool{}
			}
			seen[o.res.Version] = true
			r.held[key] = token{bytes: o.res.Context, seen: seen}
		case errors.As(o.err, &e) && e.Outcome == coord.NotApplied:
			r.w.hist.end(wr, refused, crdt.Dot{})
			r.refused(o.err)
		default:
			r.w.hist.end(wr, unknown, crdt.Dot{})
		}
	case <-time.After(30 * time.Second):
		r.w.t.Errorf("put of %s by %s never answered", key, r.name)
		r.w.hist.end(wr, unknown, crdt.Dot{})
	}
}

// took takes the token of an answer.
func (r *roamer) took(key string, token []byte) {
	r.behind = 0
	if !r.tokens {
		return
	}
	if len(token) == 0 {
		r.w.t.Errorf("an answer for %s lost the token", key)
		return
	}
	r.token = token
}

func (r *roamer) refused(err error) {
	var e *coord.Error
	if !errors.As(err, &e) || e.Code != coord.CodeSessionBehind && e.Code != coord.CodeSessionLost {
		return
	}
	r.book.mu.Lock()
	r.book.behind++
	r.book.mu.Unlock()
	if r.behind++; r.behind == patience || e.Code == coord.CodeSessionLost {
		r.anew()
	}
}

// judgeSessions returns what sessions with tokens were promised in vain, unless a
// disk has lied of the key, or what is missing was deleted and may be collected: then
// nothing covers it any more, and it is as absent as if something did. Without tokens
// it is only counted.
func (w *World) judgeSessions(with, without *sessionBook) (problems []string, broken int) {
	for _, b := range sessiontest.Check(with.ops) {
		if !w.lied(b.Key) && !w.hist.wasLost(b.Key, b.Missing) && !w.hist.mayBeForgotten(b.Key, b.Missing) {
			problems = append(problems, "S1: "+b.String())
		}
	}
	return problems, len(sessiontest.Check(without.ops))
}
