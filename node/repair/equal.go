package repair

import (
	"sync"
	"time"

	"github.com/atolldb/atoll/hashring"
	"github.com/atolldb/atoll/node/topology"
	"github.com/atolldb/atoll/node/wire"
)

// equal remembers when partitions were last found equal, clocks and digests, to
// those of an owner in another region.
type equal struct {
	mu sync.Mutex
	at map[topology.Region]map[hashring.Partition]time.Time
}

// note a comparison with a region that began at a time, "" for the own one.
func (e *equal) note(at time.Time, region topology.Region, sums []wire.Sum, differences []wire.Difference) {
	if region == "" {
		return
	}
	differs := make(map[hashring.Partition]bool, len(differences))
	for _, d := range differences {
		differs[d.Partition] = true
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.at == nil {
		e.at = map[topology.Region]map[hashring.Partition]time.Time{}
	}
	if e.at[region] == nil {
		e.at[region] = map[hashring.Partition]time.Time{}
	}
	for _, s := range sums {
		if !differs[s.Partition] {
			e.at[region][s.Partition] = at
		}
	}
}

// EqualAsOf is since when each of the partitions was found equal at least once to
// that of an owner in a region: the oldest of the last times. It is zero when one
// never was since the start.
func (r *Repairer) EqualAsOf(region topology.Region, parts []hashring.Partition) time.Time {
	r.equal.mu.Lock()
	defer r.equal.mu.Unlock()
	var oldest time.Time
	for i, p := range parts {
		at, ok := r.equal.at[region][p]
		if !ok {
			return time.Time{}
		}
		if i == 0 || at.Before(oldest) {
			oldest = at
		}
	}
	return oldest
}
