package coord

import (
	"fmt"

	"github.com/atolldb/atoll/geo/regionmap"
	"github.com/atolldb/atoll/node/topology"
)

// uncountedHere refuses writes in a region that the map of regions does not count: others do
// not wait for it, and what it took could be missing everywhere else. What it minted
// before goes on its way. Local reads are served, as old as they may be, unless it was
// removed (goneHere); who cannot take that asks for a level that leaves the region, or for fresh answers.
func (c *Coordinator) uncountedHere(top *topology.Topology) *Error {
	own := top.Region
	if !c.uncounted(own) {
		return nil
	}
	m := c.Map().Map
	return &Error{
		Code: CodeRegionFenced, Outcome: NotApplied, RetryAfterMs: 1000, RegionMap: m.N,
		Detail: fmt.Sprintf("region %s is %s by version %s of the map of regions: write in another one", own, m.State(string(own)), m.Version),
	}
}

// uncounted reports whether a region is left out by the map of regions.
func (c *Coordinator) uncounted(region topology.Region) bool {
	if c.Map == nil {
		return false
	}
	m := c.Map().Map
	return m != nil && m.N > 0 && !m.Counts(string(region))
}

// goneHere refuses everything that clients ask of a region that was removed: nobody
// gives it anything any more, so what it has is older by the hour. A region of its
// name may have come in since, of another number.
//
// One that has lost its disks (REBUILDING) does not say "absent" of what it has not
// got yet, either.
func (c *Coordinator) goneHere(top *topology.Topology) *Error {
	if c.Map == nil {
		return nil
	}
	m := c.Map().Map
	switch {
	case m == nil || m.N == 0:
		return nil
	case m.State(string(top.Region)) == regionmap.Rebuilding && !m.Gone(uint8(top.RegionID)):
		return &Error{
			Code: CodeRegionFenced, Outcome: NotApplied, RetryAfterMs: 1000,
			Detail: fmt.Sprintf("region %s is REBUILDING by version %s of the map of regions: it gets its data from the others, ask one of them", top.Region, m.Version),
		}
	case !m.Gone(uint8(top.RegionID)):
		return nil
	}
	return &Error{
		Code: CodeRegionFenced, Outcome: NotApplied, RetryAfterMs: 1000,
		Detail: fmt.Sprintf("region %s (number %d) was removed by version %s of the map of regions: ask another one", top.Region, top.RegionID, m.Version),
	}
}
