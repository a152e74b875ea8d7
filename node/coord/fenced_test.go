package coord_test

import (
	"errors"
	"testing"
	"testing/synctest"
	"time"

	"github.com/atolldb/atoll/geo/regionmap"
	"github.com/atolldb/atoll/node/coord"
	"github.com/atolldb/atoll/node/quorum"
)

// mapped gives all nodes of all regions a map in which one has a state.
func mapped(all []*region, name string, s regionmap.State) {
	m := regionmap.First([]regionmap.Region{{Name: "a", ID: 1}, {Name: "b", ID: 2}, {Name: "c", ID: 3}})
	m.N = 1
	m.Get(name).State = s
	for _, r := range all {
		for _, n := range r.nodes {
			n.Map = func() regionmap.Known { return regionmap.Known{Map: m} }
		}
	}
}

// A region that is not counted is not waited for, and takes no writes; local reads go
// on, but where the region is REMOVED or REBUILDING. One that is only DRAINING does all.
func TestFenced(t *testing.T) {
	for state, counts := range map[regionmap.State]bool{
		regionmap.Active: true, regionmap.Draining: true,
		regionmap.Fenced: false, regionmap.Rejoining: false, regionmap.Removed: false,
		regionmap.Rebuilding: false,
	} {
		t.Run(state.String(), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				all := newRegions(t, 3, 3)
				all[2].nodes["cn1"].mustPut(t, put("k", "v0"))
				mapped(all, "c", state)

				_, err := all[2].nodes["cn1"].put(t, put("k", "v1"))
				if refused := err != nil && err.Code == coord.CodeRegionFenced && err.Outcome == coord.NotApplied; refused == counts {
					t.Errorf("a write there: %v", err)
				}
				if state == regionmap.Removed || state == regionmap.Rebuilding {
					nothing := all[2].nodes["cn2"].Export(t.Context(), "", func(coord.Exported) error { return nil })
					if e := (*coord.Error)(nil); !errors.As(nothing, &e) || e.Code != coord.CodeRegionFenced {
						t.Errorf("an export there: %v", nothing)
					}
					if _, err := all[2].nodes["cn2"].get(t, get("k")); err == nil || err.Code != coord.CodeRegionFenced {
						t.Errorf("a local read there: %v", err)
					}
				} else if got := all[2].nodes["cn2"].mustGet(t, get("k")); len(got.View.Live) == 0 {
					t.Error("a local read there found nothing")
				}

				all[2].lose(true)
				for _, level := range []quorum.Level{quorum.Quorum, quorum.EachQuorum, quorum.All} {
					p := leveled("far", level.String(), level)
					p.Deadline = time.Now().Add(time.Second)
					res, err := all[0].nodes["an1"].put(t, p)
					want := !counts || level == quorum.Quorum
					if (err == nil) != want {
						t.Errorf("%s without it: %v, %+v", level, err, res.Achieved)
					}
				}
				time.Sleep(time.Hour)
			})
		})
	}
}

// What a region that is not counted wrote and did not send makes no answer too old.
func TestFencedIsNotStale(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		all := newRegions(t, 2, 3)
		all[0].nodes["an1"].mustPut(t, put("k", "v"))
		g := get("k")
		g.MaxStaleness = time.Second
		if _, e := all[0].nodes["an1"].get(t, g); e == nil || e.Code != coord.CodeStale {
			t.Fatal("nothing was heard of the other region, and the answer was given")
		}
		mapped(all, "b", regionmap.Fenced)
		if _, err := all[0].nodes["an1"].get(t, g); err != nil {
			t.Errorf("with the other region fenced: %v", err)
		}
		time.Sleep(time.Hour)
	})
}
