package regionmap

import (
	"bytes"
	"fmt"
	"math/bits"
	"testing"
)

func some(n int, set uint64) *Map {
	m := &Map{Version: Version{N: 1}, Lease: Lease{Ms: 6000}}
	for id := 1; id <= n; id++ {
		s := Fenced
		if set&(1<<id) != 0 {
			s = Active
		}
		m.Regions = append(m.Regions, Region{Name: fmt.Sprint("r", id), ID: uint8(id), State: s})
	}
	return m
}

// All maps of up to five regions, all sets that the lease may bind, all sets of those
// that refuse: a region is shut just when it gets a majority by no map that its nodes
// may have.
func TestShut(t *testing.T) {
	shut := 0
	for n := 2; n <= 5; n++ {
		all := uint64(1)<<(n+1) - 2
		for among := uint64(0); among <= all; among += 2 {
			for now := uint64(0); now <= all; now += 2 {
				if now&^among != 0 {
					continue // counts one that is not bound: Among is 0 then
				}
				for no := uint64(0); no <= all; no += 2 {
					m := some(n, now)
					m.Lease.Among = among
					var refuse []uint8
					for id := 2; id <= n; id++ {
						if no&(1<<id) != 0 {
							refuse = append(refuse, uint8(id))
						}
					}
					want := among&2 != 0
					for old := uint64(0); old <= all; old += 2 {
						if old&2 == 0 || old&^among != 0 || now&^old != 0 {
							continue
						}
						if some(n, old).Holds("r1", func(name string) bool { return no&(1<<int(name[1]-'0')) == 0 }) {
							want = false
						}
					}
					if got := m.Shut("r1", refuse); got != want {
						t.Fatalf("%d regions, counted %b, bound %b, refuse %b: shut %v", n, now, among, no, got)
					}
					if want {
						shut++
					}
				}
			}
		}
	}
	if shut == 0 {
		t.Error("nobody was ever shut")
	}
}

// Two regions never both hold, when who grants one refuses the other.
func TestHoldsAlone(t *testing.T) {
	for n := 2; n <= 6; n++ {
		all := uint64(1)<<(n+1) - 2
		m := some(n, all)
		for yes := uint64(0); yes <= all; yes += 2 {
			one := m.Holds("r1", func(name string) bool { return yes&(1<<int(name[1]-'0')) != 0 })
			two := m.Holds("r2", func(name string) bool { return yes&(1<<int(name[1]-'0')) == 0 })
			if one && two && yes&2 != 0 && yes&4 == 0 {
				t.Fatalf("%d regions: both hold, with %b", n, yes)
			}
			if want := bits.OnesCount64(yes|2) > n/2; one != want {
				t.Fatalf("%d regions: %b grant, holds %v", n, yes, one)
			}
		}
	}
	m := some(2, 6)
	m.Lease = Lease{}
	if !m.Holds("r1", func(string) bool { return false }) {
		t.Error("without leases nobody is asked")
	}
}

func TestLease(t *testing.T) {
	m := three()
	before := AppendMap(nil, m)
	for _, d := range []uint64{1, MinLease - 1, MaxLease + 1} {
		if m.SetLease(d) == nil {
			t.Errorf("a lease of %d ms is taken", d)
		}
	}
	if !bytes.Equal(before, AppendMap(nil, m)) || !m.Bound() {
		t.Error("what was refused has changed the map")
	}
	if err := m.SetLease(15_000); err != nil || m.Bound() || m.Binds("eu") {
		t.Errorf("a new lease binds at once: %v", err)
	}
	m.Bind()
	if !m.Bound() || !m.Binds("eu") || m.Lease.Wait() <= 15_000+15_000/clockBound {
		t.Errorf("%+v", m.Lease)
	}
	if err := m.Set("us", Fenced); err != nil || m.Bound() || !m.Binds("us") {
		t.Errorf("a region that is fenced is not bound any more: %v", err)
	}
	for _, s := range []State{Rejoining, Draining} {
		if err := m.Set("us", s); err != nil {
			t.Fatal(err)
		}
	}
	if m.Lease.Among != 0 {
		t.Error("a region that is counted again is bound by what nodes knew before")
	}
	m.Bind()
	k, err := DecodeKnown(EncodeKnown(Known{Map: m}))
	if err != nil || k.Map.Lease != m.Lease || !k.Map.Equal(m) {
		t.Errorf("%+v came back as %+v, %v", m.Lease, k.Map, err)
	}
	if err := m.SetLease(0); err != nil || m.Lease != (Lease{}) || !m.Bound() {
		t.Errorf("%+v, %v", m.Lease, err)
	}
}

// For every number of regions, all sets that are counted and many sets of grants: what
// is left of a lease is just as long as it holds.
func TestLeft(t *testing.T) {
	for n := 1; n <= 5; n++ {
		all := uint64(1)<<(n+1) - 2
		for now := uint64(0); now <= all; now += 2 {
			m := some(n, now)
			for seed := range uint64(125) {
				left := func(name string) uint64 { // 0 to 4, in all combinations of three regions
					x := seed
					for range name[1] - '0' {
						x /= 5
					}
					return (seed + x) % 5 * 1000
				}
				got := m.Left("r1", left)
				for at := uint64(0); at < m.Lease.Ms; at += 500 {
					if holds := m.Holds("r1", func(name string) bool { return left(name) > at }); holds != (got > at) {
						t.Fatalf("%d regions, counted %b, grants %d: %d ms are left, and after %d it holds: %v", n, now, seed, got, at, holds)
					}
				}
			}
		}
	}
}
