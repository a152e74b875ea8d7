package failover

import (
	"errors"
	"slices"
	"testing"

	"github.com/atolldb/atoll/geo/regionmap"
)

// A region is removed when it is out of service, by a majority that has what any of
// them has of it; afterwards nothing can be done with it.
func TestRemove(t *testing.T) {
	m := three()
	remove := Operation{Kind: Remove, Region: "ap", To: "eu", By: "eu", Since: 5}
	if err := Begin(m.Clone(), remove); !errors.Is(err, ErrRefused) {
		t.Errorf("a region in service: %v", err)
	}
	if err := m.Set("ap", regionmap.Fenced); err != nil {
		t.Fatal(err)
	}
	if err := Begin(m, remove); err != nil {
		t.Fatal(err)
	}
	aborted := m.Clone()
	if err := Abort(aborted, 9); err != nil || aborted.State("ap") != regionmap.Fenced || !current(t, aborted).Ended {
		t.Errorf("abort: %v, %s", err, aborted.State("ap"))
	}
	o := current(t, m)
	lacking := enough(o)
	lacking.Lacks[0].Writes = 1
	if went, err := Advance(m.Clone(), o, lacking); went || err != nil {
		t.Errorf("removed before survivors have the same: %v", err)
	}
	for want := regionmap.Removed; !current(t, m).Ended; m.N++ {
		o := current(t, m)
		if went, err := Advance(m, o, enough(o)); !went || err != nil {
			t.Fatalf("stays %s: %v", o.At().Name, err)
		}
		if got := m.State("ap"); got != want {
			t.Errorf("%s: %s", current(t, m).At().Name, got)
		}
		if err := Abort(m.Clone(), 9); !errors.Is(err, ErrRefused) {
			t.Errorf("there is a way back from %s: %v", current(t, m).At().Name, err)
		}
	}
	if n := len(m.Voters()); n != 2 {
		t.Errorf("%d voters", n)
	}
	for _, k := range []Kind{Switchover, Failover, Failback, Rebuild, Remove} {
		if err := Begin(m.Clone(), Operation{Kind: k, Region: "ap", To: "eu", By: "eu", Forced: true}); !errors.Is(err, ErrRefused) {
			t.Errorf("%s of a removed region: %v", k, err)
		}
	}
	if err := Begin(m.Clone(), Operation{Kind: Switchover, Region: "eu", To: "ap", By: "us"}); !errors.Is(err, ErrRefused) {
		t.Errorf("homes to a removed region: %v", err)
	}
}

// A new region comes in as one that returns does; until it is ACTIVE it can be sent
// away again, for good.
func TestAdd(t *testing.T) {
	m := three()
	add := Operation{Kind: Add, Region: "sa", By: "eu", Since: 5}
	if err := Begin(m.Clone(), add); !errors.Is(err, ErrRefused) {
		t.Errorf("a region that the map does not have: %v", err)
	}
	if err := Begin(m.Clone(), Operation{Kind: Add, Region: "ap", By: "eu"}); !errors.Is(err, ErrRefused) {
		t.Errorf("a region that is in service: %v", err)
	}
	if err := m.Add("sa", 4, regionmap.Contact{}); err != nil {
		t.Fatal(err)
	}
	if err := Begin(m, add); err != nil {
		t.Fatal(err)
	}
	var states []regionmap.State
	for ; ; m.N++ {
		o := current(t, m)
		states = append(states, m.State("sa"))
		aborted := m.Clone()
		if err := Abort(aborted, 9); (err == nil) == o.Ended || err == nil && aborted.State("sa") != regionmap.Removed {
			t.Errorf("abort at %s: %v, %s", o.At().Name, err, aborted.State("sa"))
		}
		if o.Ended {
			break
		}
		silent := enough(o)
		silent.Silent = map[string][]string{"sa": {"sa-1"}}
		if o.At().Strict && o.Waits(silent) == "" {
			t.Errorf("%s does not wait for its nodes", o.At().Name)
		}
		if went, err := Advance(m, o, enough(o)); !went || err != nil {
			t.Fatalf("stays %s: %v", o.At().Name, err)
		}
	}
	want := []regionmap.State{regionmap.Rejoining, regionmap.Rejoining, regionmap.Draining, regionmap.Active}
	if !slices.Equal(states, want) {
		t.Errorf("%v", states)
	}
}
