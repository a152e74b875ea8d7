package regionmap

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
)

// The changes of a map. Each works on a copy that nobody else sees, and leaves the
// version to whoever makes the change.

// allowed are the states that may follow one. FENCED follows all but REMOVED: a
// region can be lost at any time. Nothing follows REMOVED (R5).
var allowed = map[State][]State{
	Active:     {Draining, Fenced, Removed},
	Draining:   {Active, Fenced, Removed},
	Fenced:     {Rejoining, Rebuilding, Removed},
	Rejoining:  {Draining, Active, Fenced, Removed},
	Rebuilding: {Draining, Rejoining, Fenced, Removed},
}

// Set brings a region into a state. A region that is fenced rises its fence number.
// It is an error if the state cannot follow the one before.
func (m *Map) Set(name string, s State) error {
	r := m.Get(name)
	switch {
	case r == nil:
		return fmt.Errorf("there is no region %q in the map", name)
	case r.State == s:
		return nil
	case !slices.Contains(allowed[r.State], s):
		return fmt.Errorf("region %s is %s, and cannot become %s", name, r.State, s)
	}
	if s.Counts() && !r.State.Counts() {
		m.Lease.Among = 0 // nodes that do not know yet count fewer
	}
	r.State = s
	if s == Fenced {
		r.Fence++
	}
	return nil
}

// Add puts a region in, REJOINING; one that is there already is left as it is. A
// name that only removed regions have had makes a new one, of another number.
func (m *Map) Add(name string, id uint8, at Contact) error {
	if r := m.Get(name); r != nil && r.State != Removed {
		return nil
	}
	if r := m.ByID(id); r != nil {
		if r.State == Removed {
			return fmt.Errorf("number %d is that of region %s, which was removed: a new region needs a number that none ever had", id, r.Name)
		}
		return fmt.Errorf("number %d is that of region %s", id, r.Name)
	}
	m.Regions = append(m.Regions, Region{Name: name, ID: id, State: Rejoining, Contact: at})
	slices.SortFunc(m.Regions, func(a, b Region) int { return cmp.Compare(a.ID, b.ID) })
	return m.Check()
}

// SetHome moves the home of a bucket, by a higher epoch than any that it had.
func (m *Map) SetHome(bucket, region string) {
	now, _ := m.Home(bucket)
	now.Epoch = max(now.Epoch, 1) // that of the definition
	i, found := slices.BinarySearchFunc(m.Homes, bucket, func(h Home, b string) int { return strings.Compare(h.Bucket, b) })
	next := Home{Bucket: bucket, Region: region, Epoch: now.Epoch + 1}
	if found {
		m.Homes[i] = next
		return
	}
	m.Homes = slices.Insert(m.Homes, i, next)
}
