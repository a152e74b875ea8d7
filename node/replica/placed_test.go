package replica_test

import (
	"errors"
	"slices"
	"strings"
	"testing"
	"testing/synctest"

	"github.com/google/go-cmp/cmp"

	"github.com/atolldb/atoll/crdt"
	"github.com/atolldb/atoll/hashring"
	"github.com/atolldb/atoll/node/bucket"
	"github.com/atolldb/atoll/node/replica"
	"github.com/atolldb/atoll/node/topology"
	"github.com/atolldb/atoll/node/wire"
)

// placement is a replica.Placement of definitions.
type placement struct{ *bucket.Place }

func (p placement) Has(region topology.Region, name []byte) (bool, bool) {
	return p.Place.Has(string(region), name)
}

func (p placement) Apart(a, b topology.Region) uint64 {
	return p.Place.Apart(string(a), string(b))
}

func (p placement) Hidden(a, b, from topology.Region) bool {
	return p.Place.Hidden(string(a), string(b), string(from))
}

// placed has p, which is in east, go by buckets that east alone, west alone, and
// east and north have.
func placed(p *place) {
	p.SetPlacement(placement{bucket.View{Stored: bucket.Table{
		{Name: "both", Regions: []string{"east", "north"}},
		{Name: "here", Regions: []string{"east"}},
		{Name: "there", Regions: []string{"west"}},
	}}.Place()}, func() []topology.Region { return []topology.Region{"west", "north"} })
}

func asks(p *place, region topology.Region) wire.Afar {
	a := p.Afar(region)
	a.Region = string(region)
	return a
}

// What another region is shown: records of what both have, of the rest dots.
func TestShowsWhatBothRegionsHave(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := owner(t)
		defer func() { p.stop() }()
		placed(p)
		part := hashring.Partition(2)
		names := []string{"default", "here", "both"}
		for _, name := range names {
			for i, n := 0, 0; n < 3; i++ {
				if key := name + "\x00k" + string(rune('a'+i)); partOf(key) == part {
					p.put(key, "v")
					n++
				}
			}
		}
		// A write elsewhere, of a bucket that is not here.
		there := crdt.Dot{Actor: crdt.Actor(1<<crdt.RegionBits | 2), N: 1}
		skip := wire.Entry{Key: []byte("there\x00"), Skip: part, Dots: []crdt.Dot{there}}
		p.mustApply(skip)
		p.mustApply(skip)
		if !p.Clock(part).Contains(there) {
			t.Fatal("a skip does not count as delivered")
		}

		check := func() {
			t.Helper()
			for region, want := range map[topology.Region][]string{"west": {"default"}, "north": {"both", "default"}, "": {"both", "default", "here"}} {
				by := asks(p, region)
				if region == "" {
					by = wire.Afar{}
				}
				seen := map[string]int{}
				pulled, err := p.Pull(wire.Pull{Partition: part, Clock: &crdt.Clock{}, MaxBytes: 1 << 20, Afar: by})
				if err != nil || pulled.Full || pulled.More {
					t.Fatalf("pull by %q: %v, %+v", region, err, pulled)
				}
				clock := &crdt.Clock{}
				for _, e := range pulled.Entries {
					for _, d := range e.Dots {
						clock.Add(d)
					}
					name, _, _ := strings.Cut(string(e.Key), "\x00")
					if !e.Skips() {
						seen[name]++
					} else if e.Skip != part || len(e.IDs) > 0 {
						t.Errorf("a skip of %q: %+v", name, e)
					}
				}
				if !clock.Equal(p.Clock(part)) {
					t.Errorf("%q gets the dots %v of %v", region, clock.All(), p.Clock(part).All())
				}
				page, err := p.Scan(wire.Scan{Partition: part, Last: 1<<64 - 1, MaxBytes: 1 << 20, Afar: by})
				if err != nil {
					t.Fatal(err)
				}
				scanned := map[string]int{}
				for _, e := range page.Entries {
					name, _, _ := strings.Cut(string(e.Key), "\x00")
					scanned[name]++
				}
				shown := map[string]int{}
				for _, name := range want {
					shown[name] = 3
				}
				if d := cmp.Diff(shown, seen); d != "" {
					t.Errorf("%q pulls:\n%s", region, d)
				}
				if d := cmp.Diff(shown, scanned); d != "" {
					t.Errorf("%q scans:\n%s", region, d)
				}
				sum, known := p.SumFor(part, by)
				buckets, err := p.Buckets(wire.Buckets{Bits: 2, Prefix: uint64(part), Afar: by})
				digest, keys := uint64(0), uint64(0)
				for _, b := range buckets {
					digest, keys = digest^b.Digest, keys+b.Keys
				}
				if err != nil || !known || digest != sum.Digest || keys != uint64(3*len(want)) {
					t.Errorf("%q: sum %+v (%v), the parts have %d keys with %x, %v", region, sum, known, keys, digest, err)
				}
				if d := p.Differing(wire.Compare{Sums: []wire.Sum{sum.Under(p.Floors(part), 0)}, Afar: by}); len(d) != 0 {
					t.Errorf("%q: %+v", region, d)
				}
			}
		}
		check()
		p.restart() // from snapshot and index
		placed(p)
		check()
		p.crash(true)
		p.start()
		placed(p)
		check()

		// Who knows of other buckets compares clocks, and nothing else.
		other := asks(p, "west")
		other.Apart++
		sum := p.Sum(part)
		if d := p.Differing(wire.Compare{Sums: []wire.Sum{sum}, Afar: other}); len(d) != 1 || d[0].Digest != wire.Untold {
			t.Errorf("%+v", d)
		}
		_, err := p.Buckets(wire.Buckets{Bits: 2, Prefix: uint64(part), Afar: other})
		wantError(t, err, replica.ErrUnplaced)
		// A bucket that nobody has heard of is shown to nobody.
		for i := 0; ; i++ {
			if key := "unheard\x00k" + string(rune('a'+i)); partOf(key) == part {
				p.put(key, "v")
				break
			}
		}
		_, err = p.Pull(wire.Pull{Partition: part, Clock: &crdt.Clock{}, MaxBytes: 1 << 20, Afar: asks(p, "west")})
		wantError(t, err, replica.ErrUnplaced)
		_, err = p.Scan(wire.Scan{Partition: part, Last: 1<<64 - 1, MaxBytes: 1 << 20, Afar: asks(p, "west")})
		wantError(t, err, replica.ErrUnplaced)
		if _, known := p.SumFor(part, asks(p, "west")); known {
			t.Error("a digest is told that cannot be")
		}
	})
}

// Which skips are believed.
func TestTakes(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := owner(t)
		defer func() { p.stop() }()
		placed(p)
		regionOf := func(a crdt.Actor) topology.Region {
			return map[uint8]topology.Region{1: "east", 2: "west", 3: "north"}[a.Region()]
		}
		dot := func(region crdt.Actor) crdt.Dot { return crdt.Dot{Actor: 1<<crdt.RegionBits | region, N: 1} }
		east, west, north, nobody := dot(1), dot(2), dot(3), dot(9)
		all := []crdt.Dot{east, west, north, nobody}
		for _, c := range []struct {
			bucket    string
			from      topology.Region
			take, ask []crdt.Dot
		}{
			{"there", "west", all, nil},
			{"there", "north", all, nil},
			{"both", "north", []crdt.Dot{north}, []crdt.Dot{east}},
			{"both", "west", []crdt.Dot{west}, []crdt.Dot{east}},
			{"unheard", "west", []crdt.Dot{west}, []crdt.Dot{east}},
		} {
			take, ask := p.Takes(&wire.Entry{Key: []byte(c.bucket + "\x00"), Dots: all}, c.from, regionOf)
			if !slices.Equal(take, c.take) || !slices.Equal(ask, c.ask) {
				t.Errorf("a skip of %s from %s: takes %v, asks about %v", c.bucket, c.from, take, ask)
			}
		}
		if !p.Hidden("north", "west") || p.Hidden("west", "north") {
			t.Error("west cannot speak for what north and east have, and north can for west's")
		}
		for name, e := range map[string]wire.Entry{
			"no dots":       {Key: []byte("there\x00")},
			"a whole key":   {Key: []byte("there\x00k"), Dots: all[:1]},
			"no bucket":     {Key: []byte("there"), Dots: all[:1]},
			"a request":     {Key: []byte("there\x00"), Dots: all[:1], IDs: []crdt.EventID{{Dot: all[0]}}},
			"no partition":  {Key: []byte("there\x00"), Dots: all[:1], Skip: 4},
			"no such actor": {Key: []byte("there\x00"), Dots: []crdt.Dot{{N: 1}}},
		} {
			if _, err := p.apply(e); !errors.Is(err, wire.ErrMalformed) {
				t.Errorf("%s: %v", name, err)
			}
		}
	})
}

// A region that has no record of a bucket has no word about its keys, though it has
// their dots.
func TestNoWordAboutSkips(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := owner(t)
		defer func() { p.stop() }()
		placed(p)
		d := crdt.Dot{Actor: 1<<crdt.RegionBits | 2, N: 1}
		key := []byte("there\x00key")
		part := partOf(string(key))
		p.mustApply(wire.Entry{Key: []byte("there\x00"), Skip: part, Dots: []crdt.Dot{d}})
		words, err := p.Testify(part, []replica.Doubt{{Key: key, Dots: []crdt.Dot{d}}})
		if err != nil || words[0][0].Holds || words[0][0].Lack != 0 || words[0][0].Covered != nil {
			t.Errorf("%+v, %v", words, err)
		}
	})
}
