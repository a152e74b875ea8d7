package hashring

import (
	"cmp"
	"errors"
	"fmt"
	"slices"
)

// roster is the members in the order the planner counts in: sorted by id, so
// that nothing depends on how they were listed. Racks are numbered by name.
type roster struct {
	ids    []string
	weight []int64
	rack   []int32 // of each node
	racks  [][]int32
	index  map[string]int32
}

func makeRoster(members []Member) (*roster, error) {
	if len(members) == 0 {
		return nil, errors.New("no members: a ring needs at least one node")
	}
	if len(members) > MaxMembers {
		return nil, fmt.Errorf("%d members: want at most %d", len(members), MaxMembers)
	}
	sorted := slices.SortedFunc(slices.Values(members), func(a, b Member) int { return cmp.Compare(a.ID, b.ID) })
	r := &roster{index: make(map[string]int32, len(sorted))}
	var names []string
	var errs []error
	for i, m := range sorted {
		if m.ID == "" {
			errs = append(errs, fmt.Errorf("a member in rack %q has no id", m.Rack))
		}
		if _, twice := r.index[m.ID]; twice {
			errs = append(errs, fmt.Errorf("member %s is listed twice", m.ID))
		}
		if m.Weight < 0 || m.Weight > MaxWeight {
			errs = append(errs, fmt.Errorf("member %s has weight %d: want 0..%d (0 means 1)", m.ID, m.Weight, MaxWeight))
		}
		r.index[m.ID] = int32(i)
		r.ids = append(r.ids, m.ID)
		r.weight = append(r.weight, int64(max(m.Weight, 1)))
		names = append(names, m.Rack)
	}
	if err := errors.Join(errs...); err != nil {
		return nil, err
	}
	distinct := slices.Compact(slices.Sorted(slices.Values(names)))
	r.racks = make([][]int32, len(distinct))
	for i, name := range names {
		z, _ := slices.BinarySearch(distinct, name)
		r.rack = append(r.rack, int32(z))
		r.racks[z] = append(r.racks[z], int32(i))
	}
	return r, nil
}

func (r *roster) size() int { return len(r.ids) }

// copies is how many owners each partition gets.
func (r *roster) copies(replicas int) int { return min(r.size(), replicas) }

// narrowest is the smallest number of a partition's owners per rack with
// which all its copies find a node.
func (r *roster) narrowest(copies int) int {
	for limit := 1; ; limit++ {
		room := 0
		for _, nodes := range r.racks {
			room += min(limit, len(nodes))
		}
		if room >= copies {
			return limit
		}
	}
}
