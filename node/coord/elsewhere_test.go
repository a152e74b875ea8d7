package coord_test

import (
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"github.com/atolldb/atoll/node/coord"
	"github.com/atolldb/atoll/node/peer"
	"github.com/atolldb/atoll/node/topology"
)

// A retry in another region is the event that there is where it was tried; where
// those cannot be asked it may be there twice, and that is said.
func TestRetryElsewhere(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		all := newRegions(t, 3, 3)
		time.Sleep(time.Minute)
		a, b := all[0], all[1]
		at := func(r *region) *member { return r.owners("default", "k")[0] }
		in := func(k string, id coord.RequestID, regions ...topology.Region) coord.Put {
			p := again(k, "v", id)
			p.TriedIn = regions
			return p
		}

		// It was applied there, and the answer was lost.
		for n, where := range [][]topology.Region{{"a"}, nil, {"a", "b"}} {
			k, id := string(rune('f'+n)), request(byte(n+1))
			first, err := at(a).put(t, named(k, "v", id))
			if err != nil {
				t.Fatal(err)
			}
			res, err := at(b).put(t, in(k, id, where...))
			if err != nil || !res.Replayed || res.MaybeDuplicate || res.Version != first.Version || len(res.Achieved.Replicas) < 2 {
				t.Errorf("tried in %v: %+v, %v", where, res, err)
			}
			a.holds(k, "v")
			b.holds(k, "v")
		}

		// It was not, and never will be.
		id := request(20)
		if res, err := at(b).put(t, in("k", id, "a")); err != nil || res.Replayed || res.MaybeDuplicate {
			t.Errorf("nobody has it: %+v, %v", res, err)
		}
		if _, err := at(a).put(t, named("k", "v", id)); err == nil || err.Outcome != coord.Unknown {
			t.Errorf("the first attempt comes late: %+v", err)
		}
		a.holds("k")
		b.holds("k", "v")

		// Who says that it was not tried there is told nothing of there.
		id = request(21)
		if _, err := at(a).put(t, named("l", "v", id)); err != nil {
			t.Fatal(err)
		}
		if res, err := at(b).put(t, in("l", id, "b")); err != nil || res.Replayed || res.MaybeDuplicate {
			t.Errorf("tried here: %+v, %v", res, err)
		}

		// They cannot be asked.
		for name, arrange := range map[string]func() (undo func()){
			"cut off, and nobody has noticed": func() func() {
				cut(a, b)
				return a.fabric.HealAll
			},
			"one of them refuses": func() func() {
				for _, m := range b.nodes {
					m.wire.answers(peer.VerbOutcome, a.owners("default", "k")[1].id, time.Millisecond, &peer.Refusal{Code: peer.CodeBehind})
				}
				return func() {
					for _, m := range b.nodes {
						m.wire.clear()
					}
				}
			},
		} {
			undo := arrange()
			for i, c := range []struct {
				in    []topology.Region
				maybe bool
			}{{[]topology.Region{"a"}, true}, {nil, true}, {[]topology.Region{"b"}, false}, {[]topology.Region{"c"}, false}} {
				p := in("m", request(byte(30+len(name)+i)), c.in...)
				p.Deadline = time.Now().Add(patience)
				if res, err := at(b).put(t, p); err != nil || res.Replayed || res.MaybeDuplicate != c.maybe {
					t.Errorf("%s, tried in %v: %+v, %v", name, c.in, res, err)
				}
			}
			undo()
		}
		if res, err := at(b).put(t, in("n", request(22), "nowhere")); err != nil || !res.MaybeDuplicate {
			t.Errorf("a region that is not known: %+v, %v", res, err)
		}

		// Bad input.
		p := named("n", "v", request(23))
		p.TriedIn = []topology.Region{"a"}
		if _, err := at(b).put(t, p); err == nil || err.Field != "tried_in" || err.Outcome != coord.NotApplied {
			t.Errorf("no retry: %+v", err)
		}
		p = in("n", request(24), slices.Repeat([]topology.Region{"a"}, 17)...)
		if _, err := at(b).put(t, p); err == nil || err.Field != "tried_in" || err.Limit != "0..16" || err.Seen != "17" {
			t.Errorf("too many: %+v", err)
		}
		time.Sleep(time.Hour)
	})
}
