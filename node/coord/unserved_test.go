package coord_test

import (
	"testing"
	"testing/synctest"

	"github.com/atolldb/atoll/node/coord"
	"github.com/atolldb/atoll/node/quorum"
)

// What is not served is refused, and nothing is stored.
func TestUnservedIsRefused(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRegion(t, 3)
		a := r.owners("default", "k")[0]
		code := func(e *coord.Error) coord.Code {
			if e != nil && e.Outcome == coord.NotApplied {
				return e.Code
			}
			return 0
		}
		for name, change := range map[string]func(*coord.Get){
			"serial":           func(g *coord.Get) { g.Level = quorum.Serial }, // of a bucket without a home
			"wait for nothing": func(g *coord.Get) { g.WaitFresh = true },
		} {
			g := get("k")
			change(&g)
			if _, err := a.get(t, g); code(err) != coord.CodeInvalid {
				t.Errorf("get, %s: %v", name, err)
			}
		}
		for name, change := range map[string]func(*coord.Put){
			"serial": func(p *coord.Put) { p.Level = quorum.Serial }, // of a bucket without a home
		} {
			p := put("k", "v")
			change(&p)
			if _, err := a.put(t, p); code(err) != coord.CodeInvalid {
				t.Errorf("put, %s: %v", name, err)
			}
		}
		if got := a.mustGet(t, get("k")); len(got.View.Live) != 0 {
			t.Errorf("stored: %+v", got.View)
		}
	})
}
