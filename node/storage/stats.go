package storage

import (
	"math/bits"
	"sync/atomic"
	"time"
)

// CommitterStats counts since NewCommitter.
type CommitterStats struct {
	// Groups and Ops committed; Bytes by Op.Size; Syncs is the groups that
	// wrote something.
	Groups, Ops, Bytes, Syncs uint64
	// Rejected ops had an error of their own (Decide, or a full disk).
	Rejected uint64
	// RefusedOverload and RefusedFull are calls of Submit.
	RefusedOverload, RefusedFull uint64
	// SyncTime is the time spent in Commit, all together.
	SyncTime time.Duration
	// GroupSizes[i] counts the groups of at most 1<<i ops, and of more than
	// 1<<(i-1); the last one is open.
	GroupSizes [12]uint64
	// LastGroup is the number of ops of the last group.
	LastGroup uint64
	// QueueOps and QueueBytes wait now.
	QueueOps, QueueBytes int
	// GroupOps and GroupBytes are the most that one group takes.
	GroupOps, GroupBytes int
	// Group is the number of the last durable group.
	Group uint64
	// Disk is the state at the last look.
	Disk DiskState
	// DiskNeeds is how many bytes have to be free for writes to be taken, as of that look.
	DiskNeeds int64
}

// Backlog is how many groups it takes to commit what waits, as a fraction: 0
// when nothing does, about 1 when the next group is full already.
func (s *CommitterStats) Backlog() float64 {
	if s.GroupOps <= 0 || s.GroupBytes <= 0 {
		return 0
	}
	return max(float64(s.QueueOps)/float64(s.GroupOps), float64(s.QueueBytes)/float64(s.GroupBytes))
}

type counters struct {
	groups, ops, bytes, syncs, rejected, last atomic.Uint64
	refusedOverload, refusedFull              atomic.Uint64
	syncNanos                                 atomic.Int64
	sizes                                     [12]atomic.Uint64
}

func (c *counters) group(ops, bytes, writes int) {
	c.groups.Add(1)
	c.ops.Add(uint64(ops))
	c.bytes.Add(uint64(bytes))
	if writes > 0 {
		c.syncs.Add(1)
	}
	c.last.Store(uint64(ops))
	c.sizes[min(bits.Len(uint(ops-1)), len(c.sizes)-1)].Add(1)
}

// Stats can be called at any time. The counters are read one by one.
func (c *Committer) Stats() CommitterStats {
	s := CommitterStats{
		Groups: c.stats.groups.Load(), Ops: c.stats.ops.Load(), Bytes: c.stats.bytes.Load(),
		Syncs: c.stats.syncs.Load(), Rejected: c.stats.rejected.Load(),
		RefusedOverload: c.stats.refusedOverload.Load(), RefusedFull: c.stats.refusedFull.Load(),
		SyncTime:  time.Duration(c.stats.syncNanos.Load()),
		LastGroup: c.stats.last.Load(),
		Group:     c.keeper.synced.Load(), Disk: c.keeper.disk(), DiskNeeds: c.keeper.needs.Load(),
	}
	for i := range s.GroupSizes {
		s.GroupSizes[i] = c.stats.sizes[i].Load()
	}
	s.QueueOps, s.QueueBytes = c.queue.depth()
	s.GroupOps, s.GroupBytes = c.cfg.GroupOps, c.cfg.GroupBytes
	return s
}
