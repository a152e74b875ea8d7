package collect

import (
	"time"

	"github.com/atolldb/atoll/hashring"
	"github.com/atolldb/atoll/node/topology"
)

// Report is what a collector tells people of itself. Nodes tell each other in
// JSON.
type Report struct {
	// Every is the time between the rounds that this node begins, 0 when it begins
	// none by itself, and Grace how old a delete has to be.
	Every, Grace time.Duration
	// Oldest completed floor of the partitions that the node owns, zero if none
	// has one; Never are those that have none.
	Oldest       time.Time
	Owned, Never int
	// Since the start: rounds, and dead records dropped here.
	Begun, Done, Off, Dropped uint64
	LastDone                  time.Time // zero for never
	// Aside are entries of the side log.
	Aside  int
	Demand *Demand  `json:",omitempty"`
	Now    *Current `json:",omitempty"`
	Stalls []Group  `json:",omitempty"`
}

// Group is partitions whose last rounds came to nothing for one reason, because
// of one node.
type Group struct {
	Partitions int
	First      hashring.Partition
	Since      time.Time // of the one that waits longest
	Why        Cause     // of First
}

// Report of this node.
func (c *Collector) Report() Report {
	r := Report{
		Grace: c.cfg.Grace,
		Owned: len(c.deps.Replica.Owned()),
		Begun: c.stats.Begun.Load(), Done: c.stats.Done.Load(), Off: c.stats.OffAll(),
		Dropped: c.deps.Replica.Stats().Collected.Load(), Aside: c.deps.Replica.AsideCount(),
		Demand: c.Demanded(), Now: c.current.Load(), Stalls: group(c.Stalls()),
	}
	if c.rounds.Load() {
		r.Every = c.cfg.Every
	}
	r.Oldest, r.Never = c.Oldest()
	if ms := c.lastDone.Load(); ms != 0 {
		r.LastDone = time.UnixMilli(ms)
	}
	return r
}

// group puts together what waits for the same, in the order of the first ones.
func group(stalls []Stall) (out []Group) {
	type what struct {
		reason Reason
		node   topology.NodeID
	}
	at := map[what]int{}
	for _, s := range stalls {
		w := what{s.Why.Reason, s.Why.Node}
		i, known := at[w]
		if !known {
			i = len(out)
			at[w] = i
			out = append(out, Group{First: s.Partition, Since: s.Since, Why: s.Why})
		}
		out[i].Partitions++
		if s.Since.Before(out[i].Since) {
			out[i].Since = s.Since
		}
	}
	return out
}
