package coord_test

import (
	"testing"
	"testing/synctest"
	"time"

	"github.com/atolldb/atoll/crdt"
	"github.com/atolldb/atoll/node/coord"
	"github.com/atolldb/atoll/node/quorum"
)

// A bucket's policy holds for whoever asks, also where the write is forwarded,
// and says which field was wrong; the operator's word is above it, and told.
func TestPolicies(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRegion(t, 4)
		r.buckets["strict"] = coord.Bucket{
			Reads:  quorum.Policy{Min: quorum.LocalTwo, Max: quorum.LocalQuorum},
			Writes: quorum.Policy{Default: quorum.LocalAll, Min: quorum.LocalQuorum, Max: quorum.LocalAll},
		}
		r.buckets["forced"] = coord.Bucket{Reads: quorum.Policy{Override: quorum.LocalAll}, Writes: quorum.Policy{Override: quorum.LocalTwo}}
		for _, m := range []*member{r.owners("strict", "k")[0], r.outsider("strict", "k")} {
			for name, change := range map[string]func(*coord.Put){
				"too few":          func(p *coord.Put) { p.Level = quorum.LocalOne },
				"too few by count": func(p *coord.Put) { p.W = 1 },
			} {
				p := put("k", "v")
				p.Bucket = "strict"
				change(&p)
				if _, err := m.put(t, p); err == nil || err.Code != coord.CodeLevelNotAllowed || err.Outcome != coord.NotApplied || err.Field != "level" {
					t.Errorf("%s through %s: %+v", name, m.id, err)
				}
			}
			p := put("k", "v")
			p.Bucket = "strict"
			if res := m.mustPut(t, p); res.Achieved.Level != quorum.LocalAll || len(res.Achieved.Replicas) != 3 {
				t.Errorf("the default: %+v", res.Achieved)
			}
			g := get("k")
			g.Bucket = "strict"
			for l, ok := range map[quorum.Level]bool{quorum.LocalOne: false, quorum.LocalTwo: true, quorum.LocalQuorum: true, quorum.LocalAll: false, quorum.Default: true} {
				g.Level = l
				if _, err := m.get(t, g); (err == nil) != ok || err != nil && err.Code != coord.CodeLevelNotAllowed {
					t.Errorf("a read at %v: %v", l, err)
				}
			}
			p.Bucket, p.Level, p.W = "forced", quorum.LocalOne, 0
			if res := m.mustPut(t, p); res.Achieved.Level != quorum.LocalTwo || res.Achieved.Needed != 2 {
				t.Errorf("forced: %+v", res.Achieved)
			}
			g.Bucket, g.Level, g.R = "forced", quorum.Default, 1
			if res := m.mustGet(t, g); res.Achieved.Level != quorum.LocalAll || len(res.Achieved.Replicas) != 3 {
				t.Errorf("forced read: %+v", res.Achieved)
			}
		}
	})
}

// Where two acknowledgements are the rule, a write at one is refused unless the
// bucket allows it, or there is one owner only; reads do as they like.
func TestTwoAcks(t *testing.T) {
	for _, n := range []int{1, 3} {
		synctest.Test(t, func(t *testing.T) {
			r := newRegion(t, n)
			r.buckets["lone"] = coord.Bucket{Writes: quorum.Policy{Min: quorum.LocalOne}}
			m := r.nodes["n1"]
			strict := coord.New(coord.Config{Self: m.id, Keys: crdt.Keys{secret}, TwoAcks: true}, m.deps)
			for _, w := range []coord.Put{{Level: quorum.LocalOne}, {W: 1}} {
				for bucket, ok := range map[string]bool{"default": n == 1, "lone": true} {
					p := put("k", "v")
					p.Bucket, p.Level, p.W, p.Deadline = bucket, w.Level, w.W, time.Now().Add(patience)
					o := newOnce[coord.PutResult](t)
					strict.Put(p, o.done)
					if _, err := o.wait(); (err == nil) != ok || err != nil && err.Code != coord.CodeLevelNotAllowed {
						t.Errorf("%d nodes, %s: %v", n, bucket, err)
					}
				}
			}
			g := get("k")
			g.Level = quorum.LocalOne
			o := newOnce[coord.GetResult](t)
			g.Deadline = time.Now().Add(patience)
			strict.Get(g, o.done)
			if _, err := o.wait(); err != nil {
				t.Error(err)
			}
		})
	}
}
