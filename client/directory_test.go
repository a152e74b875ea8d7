package client

import (
	"fmt"
	"slices"
	"testing"
	"time"

	"pgregory.net/rapid"

	adminv1 "github.com/atolldb/atoll/proto/atoll/admin/v1"
)

var anyState = rapid.SampledFrom([]string{"ACTIVE", "DRAINING", "FENCED", "REJOINING", "REMOVED", "NEW"})

func drawDirectory(t *rapid.T) *directory {
	d := &directory{
		version: rapid.Uint64Range(0, 3).Draw(t, "version"), forced: rapid.Bool().Draw(t, "forced"),
		by: rapid.Uint32Range(1, 3).Draw(t, "by"),
	}
	for _, name := range []string{"eu", "us", "ap", "sa"} {
		if rapid.Bool().Draw(t, name) {
			p := place{name: name, state: anyState.Draw(t, "state")}
			for range rapid.IntRange(0, 2).Draw(t, "addrs") {
				p.addrs = append(p.addrs, fmt.Sprint(name, rapid.IntRange(1, 9).Draw(t, "addr")))
			}
			d.places = append(d.places, p)
		}
	}
	return d
}

// TestBetter compares with what is promised: every region of the order that is better
// than here, by a twin that gives each region a rank.
func TestBetter(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		d := drawDirectory(t)
		names := []string{"eu", "us", "ap", "sa", "nowhere"}
		order := rapid.Permutation(names).Draw(t, "order")[:rapid.IntRange(1, 5).Draw(t, "length")]
		here := rapid.SampledFrom(names).Draw(t, "here")
		rank := func(name string) int { // less is better
			i := slices.Index(order, name)
			switch {
			case i < 0:
				return 1000
			case d.state(name) == "ACTIVE":
				return i
			case d.state(name) == "DRAINING":
				return 100 + i
			}
			return 1000
		}
		var want []string
		for r := range rank(here) {
			for _, name := range order {
				if rank(name) == r {
					want = append(want, name)
				}
			}
		}
		if got := d.better(order, here); !slices.Equal(got, want) {
			t.Fatalf("from %s by %v: %v, want %v", here, order, got, want)
		}
	})
}

// TestHighestVersionHolds: whoever tells what in which order, the states are those of
// the highest version, and what is known of addresses is not forgotten.
func TestHighestVersionHolds(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		told := rapid.SliceOfN(rapid.Custom(drawDirectory), 1, 5).Draw(t, "told")
		var d *directory
		for _, one := range told {
			d = d.join(one)
		}
		highest := told[0]
		for _, one := range told {
			if one.compare(highest) > 0 {
				highest = one // of equal ones the first
			}
		}
		if d.compare(highest) != 0 || len(d.places) != len(highest.places) {
			t.Fatalf("%+v, want the states of %+v", d, highest)
		}
		for _, p := range highest.places {
			if d.state(p.name) != p.state {
				t.Errorf("%s is %s, want %s", p.name, d.state(p.name), p.state)
			}
		}
		last := told[len(told)-1]
		for _, p := range d.places {
			if l := last.place(p.name); l != nil && len(l.addrs) > 0 && !slices.Equal(p.addrs, l.addrs) {
				t.Errorf("addresses of %s are %v, told last were %v", p.name, p.addrs, l.addrs)
			}
			if h := highest.place(p.name); len(p.addrs) == 0 && len(h.addrs) > 0 {
				t.Errorf("addresses of %s are forgotten", p.name)
			}
		}
	})
}

func TestDirectoryIsChecked(t *testing.T) {
	for name, m := range map[string]*adminv1.RegionDirectory{
		"no name":  {Regions: []*adminv1.RegionPlace{{State: "ACTIVE"}}},
		"long":     {Regions: []*adminv1.RegionPlace{{Name: string(make([]byte, 33))}}},
		"twice":    {Regions: []*adminv1.RegionPlace{{Name: "eu"}, {Name: "eu"}}},
		"too many": {Regions: make([]*adminv1.RegionPlace, 64)},
	} {
		if d, err := directoryOf(m); err == nil {
			t.Errorf("%s: %+v", name, d)
		}
	}
	if d, err := directoryOf(nil); d != nil || err != nil {
		t.Error(d, err)
	}
	var none *directory
	if none.number() != 0 || none.state("eu") != "" || none.better([]string{"eu"}, "us") != nil || none.join(nil) != nil {
		t.Error("a client without a map")
	}
}

// TestReturnWaits: a client that is served well goes to a better region only when that
// has been ACTIVE for some time without a break; one that is not served goes at once.
func TestReturnWaits(t *testing.T) {
	cfg := newConfig([]Option{Region("eu"), Fallback("us")})
	f := newFollower(&cfg)
	f.opened = true
	version := uint64(0)
	set := func(eu, us string) {
		version++
		f.known.Store(f.known.Load().join(&directory{version: version, places: []place{{name: "eu", state: eu}, {name: "us", state: us}}}))
	}
	now := time.Unix(0, 0)
	after := func(d time.Duration) string {
		now = now.Add(d)
		return fmt.Sprint(f.goals("us", now))
	}
	set("FENCED", "ACTIVE")
	if g := after(0); g != "[]" {
		t.Fatal(g)
	}
	set("ACTIVE", "ACTIVE")
	if g := after(time.Second); g != "[]" {
		t.Fatal("at once:", g)
	}
	if rest := f.rest("us", now); rest < mapBeat || rest > refreshEvery {
		t.Error(rest)
	}
	if g := after(returnAfter - time.Millisecond); g != "[]" {
		t.Fatal("too soon:", g)
	}
	set("FENCED", "ACTIVE")
	after(0)
	set("ACTIVE", "ACTIVE")
	if g := after(0); g != "[]" {
		t.Fatal("it was out of service in between:", g)
	}
	if g := after(returnAfter * 3 / 2); g != "[eu]" {
		t.Fatal("never:", g)
	}
	set("ACTIVE", "DRAINING")
	if g := after(0); g != "[eu]" {
		t.Fatal(g)
	}
	clear(f.better)
	if g := after(0); g != "[eu]" {
		t.Fatal("it is served no more, and waits:", g)
	}
	if rest := f.rest("us", now); rest != refreshEvery {
		t.Error(rest)
	}
	set("ACTIVE", "FENCED")
	for range mapPatience {
		if rest := f.rest("us", now); rest != mapBeat {
			t.Fatal(rest)
		}
	}
	if rest := f.rest("us", now); rest != refreshEvery {
		t.Error("it asks for ever:", rest)
	}
}

// TestEachRegionWaits: how long a region has been there does not depend on those that
// come before it in the order, and one that did not answer waits anew.
func TestEachRegionWaits(t *testing.T) {
	cfg := newConfig([]Option{Region("eu"), Fallback("us", "ap")})
	f := newFollower(&cfg)
	f.opened = true
	set := func(version uint64, eu, us string) {
		f.known.Store(f.known.Load().join(&directory{version: version, places: []place{{name: "eu", state: eu}, {name: "us", state: us}, {name: "ap", state: "ACTIVE"}}}))
	}
	now := time.Unix(0, 0)
	after := func(d time.Duration) string {
		now = now.Add(d)
		return fmt.Sprint(f.goals("ap", now))
	}
	set(1, "ACTIVE", "FENCED")
	after(0)
	if g := after(returnAfter * 3 / 2); g != "[eu]" {
		t.Fatal(g)
	}
	set(2, "ACTIVE", "ACTIVE")
	if g := after(0); g != "[eu]" {
		t.Fatal("us is there since a moment ago:", g)
	}
	if g := after(returnAfter * 3 / 2); g != "[eu us]" {
		t.Fatal(g)
	}
	delete(f.better, "eu") // it does not answer
	if g := after(0); g != "[us]" {
		t.Fatal("the best, which does not answer, keeps it from the second best:", g)
	}
	if g := after(returnAfter - time.Millisecond); g != "[us]" {
		t.Fatal(g)
	}
	if g := after(returnAfter/2 + time.Millisecond); g != "[eu us]" {
		t.Fatal(g)
	}
}
