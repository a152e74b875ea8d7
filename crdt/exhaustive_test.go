package crdt

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/atolldb/atoll/crdt/hlc"
)

// Every history of a few steps, of a few owners that mint and a few clients that
// write what they like where they like, on one key: blindly, with what they have
// read at one owner, or with the context of their last answer, or of another's, which
// nobody else needs to have. Owners of one region and of two are the same here: a step is a
// write at one, a read at one, or a record that gets from one to another. Beside it
// is the twin: for each event which events its writer had truly seen.

type smallEvent struct {
	dot  Dot
	seen uint32 // events, closed
}

type smallOwner struct {
	rec      Record
	set      uint32 // events that went into rec, closed
	counters uint64
}

type smallClient struct {
	ctx  Context
	seen uint32
	// last is what the client wrote last, before the context that it gave, and then
	// what it had truly seen with that.
	last   Dot
	before Context
	then   uint32
}

type smallWorld struct {
	owners  []smallOwner
	clients []smallClient
	events  []smallEvent
	steps   []string
}

// smallSearch is a search of all histories.
type smallSearch struct {
	t       testing.TB
	after   func(c Context, local Record, v *Version) Context
	settles bool   // contexts are settled before they are used
	apart   uint64 // 2 where each owner writes another key between any two writes
	known   map[string]int
	visited int
	broken  string // how the first history that broke something went
}

func (w *smallWorld) clone() *smallWorld {
	return &smallWorld{slices.Clone(w.owners), slices.Clone(w.clients), slices.Clone(w.events), slices.Clone(w.steps)}
}

func (w *smallWorld) key() string {
	var b strings.Builder
	for _, o := range w.owners {
		b.Write(AppendRecord(nil, 0, o.rec))
		fmt.Fprint(&b, o.set, o.counters)
	}
	for _, c := range w.clients {
		fmt.Fprint(&b, c)
	}
	fmt.Fprint(&b, w.events)
	return b.String()
}

func (s *smallSearch) fail(w *smallWorld, format string, args ...any) {
	if s.broken == "" {
		s.broken = fmt.Sprintf("%s\n%s", strings.Join(w.steps, "\n"), fmt.Sprintf(format, args...))
	}
}

// search goes on from w for so many steps.
func (s *smallSearch) search(w *smallWorld, steps int) {
	if s.broken != "" {
		return
	}
	s.visited++
	s.check(w)
	if steps == 0 {
		return
	}
	k := w.key()
	if s.known[k] >= steps {
		return
	}
	s.known[k] = steps
	for c := range w.clients {
		if d := (c + 1) % len(w.clients); w.clients[c].seen != w.clients[d].seen {
			next := w.clone()
			next.steps = append(next.steps, fmt.Sprintf("client %d goes on with what %d has", d, c))
			next.clients[d].ctx, next.clients[d].seen = w.clients[c].ctx, w.clients[c].seen
			s.search(next, steps-1)
		}
	}
	for o := range w.owners {
		for c := range w.clients {
			next := w.clone()
			next.steps = append(next.steps, fmt.Sprintf("client %d reads at %d", c, o))
			next.clients[c].ctx, next.clients[c].seen = w.owners[o].rec.Context(), w.owners[o].set
			s.search(next, steps-1)
			s.search(s.write(w, c, o, w.clients[c]), steps-1)
			if w.clients[c].seen != 0 {
				s.search(s.write(w, c, o, smallClient{}), steps-1)
			}
		}
		for p := range w.owners {
			if p == o || w.owners[o].set == 0 || w.owners[o].set == w.owners[p].set {
				continue
			}
			next := w.clone()
			next.steps = append(next.steps, fmt.Sprintf("%d sends to %d", o, p))
			s.put(next, p, Join(w.owners[p].rec, w.owners[o].rec), w.owners[p].set|w.owners[o].set)
			s.search(next, steps-1)
		}
	}
}

func (s *smallSearch) write(w *smallWorld, c, o int, from smallClient) *smallWorld {
	next := w.clone()
	own := &next.owners[o]
	own.counters += s.apart
	e := smallEvent{Dot{MakeActor(uint32(o+1), uint8(o+1)), own.counters}, from.seen}
	next.events = append(next.events, e)
	all := from.seen | 1<<(len(next.events)-1)
	next.steps = append(next.steps, fmt.Sprintf("client %d writes %v at %d, having seen %b (%v)", c, e.dot, o, from.seen, from.ctx.Seen))
	local, before := own.rec, from.ctx
	if s.settles {
		from.ctx = from.ctx.Settled(local, func(d Dot) bool {
			i := slices.IndexFunc(w.events, func(e smallEvent) bool { return e.dot == d })
			return !slices.ContainsFunc(w.owners, func(o smallOwner) bool { return o.set>>i&1 == 0 })
		})
	}
	v := Version{Dot: e.dot, Stamp: hlc.Stamp(len(next.events)), Past: from.ctx.Seen}
	s.put(next, o, Write(local, from.ctx.Seen, v), own.set|all)
	next.clients[c] = smallClient{s.after(from.ctx, local, &v), all, v.Dot, before, all}
	next.steps[len(next.steps)-1] += fmt.Sprintf(", and gets %v", next.clients[c].ctx.Seen)
	return next
}

// put checks that an owner gives up only what somebody had seen who is there now.
func (s *smallSearch) put(w *smallWorld, o int, rec Record, set uint32) {
	own := &w.owners[o]
	for _, v := range own.rec.Versions {
		if rec.Find(v.Dot) == nil && !w.sawIt(rec, v.Dot) {
			s.fail(w, "%d gives up %v for %v", o, v.Dot, rec)
		}
	}
	own.rec, own.set = rec, set
}

// sawIt reports whether the writer of a version of rec had seen d.
func (w *smallWorld) sawIt(rec Record, d Dot) bool {
	at := slices.IndexFunc(w.events, func(e smallEvent) bool { return e.dot == d })
	return slices.ContainsFunc(w.events, func(e smallEvent) bool { return rec.Find(e.dot) != nil && e.seen>>at&1 == 1 })
}

func (s *smallSearch) check(w *smallWorld) {
	for i, e := range w.events {
		for c := range w.clients {
			if got := w.clients[c].ctx.Seen; got.Covers(e.dot) != (w.clients[c].seen>>i&1 == 1) && !s.settles {
				s.fail(w, "client %d has seen %b, its context covers %v", c, w.clients[c].seen, got)
			} else if s.apart > 1 && got.Covers(Dot{e.dot.Actor, e.dot.N - 1}) != got.Covers(e.dot) && !s.settles {
				s.fail(w, "client %d has %v, where another key's write has holes or none of its own", c, got)
			}
		}
	}
	for c := range w.clients {
		s.checkAgain(w, &w.clients[c])
		for o := range w.owners {
			// What is said of a condition on a context: vectors compare as sets.
			own, has := &w.owners[o], w.clients[c].seen
			if ahead := !own.rec.Context().Seen.CoversAll(w.clients[c].ctx.Seen); ahead != (has&^own.set != 0) && !s.settles {
				s.fail(w, "client %d has seen %b (%v), owner %d has %b (%v), ahead: %t", c, has, w.clients[c].ctx.Seen, o, own.set, own.rec.Context().Seen, ahead)
			}
		}
	}
	// Whatever the order, when all is everywhere there is what nobody has replaced.
	var there, back Record
	set := uint32(0)
	for i := range w.owners {
		there = Join(there, w.owners[i].rec)
		back = Join(w.owners[len(w.owners)-1-i].rec, back)
		set |= w.owners[i].set
	}
	h := twinHistory{}
	for _, e := range w.events {
		h.events = append(h.events, twinEvent{e.dot, uint64(e.seen)})
	}
	if live := h.live(uint64(set)); !slices.Equal(dotsOf(there), live) || !there.SameDots(back) {
		s.fail(w, "in the end there is %v, the other way round %v, want %v", dotsOf(there), dotsOf(back), live)
	}
}

// checkAgain checks what a client would be told of its last write, at any owner, if it
// had not got the answer and asked again.
func (s *smallSearch) checkAgain(w *smallWorld, c *smallClient) {
	if c.last.IsZero() || s.settles {
		return
	}
	for o := range w.owners {
		again := c.before.Again(w.owners[o].rec, c.last, 1)
		if w.owners[o].rec.Find(c.last) == nil && again.Seen.Equal(c.before.Seen) {
			continue // it was replaced, or has not come
		}
		for i, e := range w.events {
			if again.Seen.Covers(e.dot) != (c.then>>i&1 == 1) {
				s.fail(w, "%v, asked for again at %d, is told as %v to who has seen %b", c.last, o, again.Seen, c.then)
			}
		}
	}
}

func searchSmall(t testing.TB, owners, clients, steps int, apart uint64, settles bool, after func(Context, Record, *Version) Context) *smallSearch {
	s := &smallSearch{t: t, after: after, settles: settles, apart: apart, known: map[string]int{}}
	first := s.write(&smallWorld{owners: make([]smallOwner, owners), clients: make([]smallClient, clients)}, 0, 0, smallClient{})
	s.search(first, steps-1)
	t.Logf("%d owners, %d clients, %d steps: %d states", owners, clients, steps, s.visited)
	return s
}

func TestEverySmallHistory(t *testing.T) {
	for _, c := range []struct {
		owners, clients, steps int
		apart                  uint64
		settles                bool
	}{{2, 2, 6, 1, false}, {2, 2, 6, 2, false}, {2, 2, 6, 1, true}, {3, 2, 5, 1, false}, {2, 3, 5, 1, false}} {
		if s := searchSmall(t, c.owners, c.clients, c.steps, c.apart, c.settles, Context.After); s.broken != "" {
			t.Errorf("%+v\n%s", c, s.broken)
		}
	}
}

// The search finds what it is there for: an answer that covers all that its minter
// knew to be replaced.
func TestEverySmallHistoryFindsPresumption(t *testing.T) {
	s := searchSmall(t, 2, 2, 5, 2, true, func(c Context, local Record, v *Version) Context {
		seen, low := c.Seen, uint64(0)
		for _, u := range local.Versions { // they ascend
			if d := u.Dot; d.Actor == v.Dot.Actor && !c.Seen.Covers(d) {
				if d.N > low+1 {
					seen = seen.WithAbove(Dot{d.Actor, d.N - 1}, low)
				}
				low = d.N
			}
		}
		return Context{Seen: seen.WithAbove(v.Dot, low), Stamp: v.Stamp}
	})
	if !strings.Contains(s.broken, "gives up") {
		t.Fatalf("not found: %s", s.broken)
	}
	t.Log(s.broken)
}
