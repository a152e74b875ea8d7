package failover

import (
	"errors"
	"testing"

	"github.com/atolldb/atoll/geo/regionmap"
)

// Only a region that was given up begins anew, and what was missing then is lost for
// good; if its disks turn up it comes back by a failback, or is given up again.
func TestRebuild(t *testing.T) {
	m := three()
	rebuild := Operation{Kind: Rebuild, Region: "ap", To: "eu", By: "eu", Since: 5}
	for _, s := range []regionmap.State{regionmap.Active, regionmap.Draining, regionmap.Rejoining, regionmap.Removed} {
		if m.Get("ap").State = s; !errors.Is(Begin(m.Clone(), rebuild), ErrRefused) {
			t.Errorf("one that is %s begins anew", s)
		}
	}
	m.Get("ap").State = regionmap.Active
	lost := Missing{Counted: true, Writes: 3}
	if err := Begin(m, Operation{Kind: Failover, Region: "ap", To: "eu", By: "eu", Since: 1, Missing: lost}); err != nil {
		t.Fatal(err)
	}
	if err := Begin(m.Clone(), rebuild); !errors.Is(err, ErrRefused) {
		t.Errorf("before the failover has ended: %v", err)
	}
	for m.N++; !current(t, m).Ended; m.N++ {
		o := current(t, m)
		o.Missing = lost
		if went, err := Advance(m, o, enough(o)); !went || err != nil {
			t.Fatal(err)
		}
	}
	alone := m.Clone()
	for _, name := range []string{"eu", "us"} {
		alone.Get(name).State = regionmap.Fenced
	}
	if err := Begin(alone, rebuild); !errors.Is(err, ErrRefused) {
		t.Errorf("with nobody to get data from: %v", err)
	}
	if err := Begin(m, rebuild); err != nil {
		t.Fatal(err)
	}
	o := current(t, m)
	if m.State("ap") != regionmap.Rebuilding || m.Counts("ap") || o.Missing.Writes != 3 {
		t.Errorf("it is %s, counted: %v, lost %+v", m.State("ap"), m.Counts("ap"), o.Missing)
	}
	if err := Abort(m.Clone(), 9); !errors.Is(err, ErrRefused) {
		t.Errorf("aborted: %v", err)
	}
	for _, k := range []Kind{Failback, Remove} {
		if err := Begin(m.Clone(), Operation{Kind: k, Region: "ap", To: "eu", By: "eu", Forced: true}); err != nil {
			t.Errorf("%s while it is rebuilt: %v", k, err)
		}
	}
	if o.Waits(&Facts{Silent: map[string][]string{"ap": {"ap-1"}}}) == "" {
		t.Error("it goes on although a node of it does not answer")
	}
}
