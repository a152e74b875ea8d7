package repair

import "sync/atomic"

// Counts of what was fetched and found.
type Counts struct {
	// PulledKeys are records received by clocks, RepairedKeys those that were
	// received in any way and changed something here.
	PulledKeys, RepairedKeys atomic.Uint64
	// FullSyncs of a partition, because the peer's index was too short.
	FullSyncs atomic.Uint64
	// Mismatches are partitions with equal clocks and other digests, and
	// MismatchedKeys the records that differed in them,
	// whoever lacked something.
	Mismatches, MismatchedKeys atomic.Uint64
	// Recounts of a partition from the store, those that found that the kept
	// digest was wrong (a record was lost, changed or unreadable), and those that
	// could not be finished.
	Recounts, RecountsWrong, RecountsFailed atomic.Uint64
	// Healed are unreadable records that were fetched from other owners.
	Healed atomic.Uint64
	// Bytes of replies with records in them.
	Bytes atomic.Uint64
}

// Stats count since start.
type Stats struct {
	Counts
	// Rounds of comparison, and those that failed.
	Rounds, Failed atomic.Uint64
	// Wanted counts partitions of which something was fetched since somebody waited
	// for it.
	Wanted atomic.Uint64
	// Orphans are writes that were lost here with their node before any other owner
	// had them: another region told of them, and has no record of their bucket.
	Orphans atomic.Uint64
	// IndexBytes is how large the dot index was when it was last measured, and
	// Unwaited counts the times that a region was not waited for any more.
	IndexBytes, Unwaited atomic.Uint64
	// Prunings of a partition's index.
	Prunings atomic.Uint64
}

// count adds n to a counter of the node, and of the task if it is one's doing.
func (r *Repairer) count(task *Counts, n int, which func(*Counts) *atomic.Uint64) {
	which(&r.stats.Counts).Add(uint64(n))
	if task != nil {
		which(task).Add(uint64(n))
	}
}

func pulledKeys(c *Counts) *atomic.Uint64     { return &c.PulledKeys }
func repairedKeys(c *Counts) *atomic.Uint64   { return &c.RepairedKeys }
func fullSyncs(c *Counts) *atomic.Uint64      { return &c.FullSyncs }
func mismatches(c *Counts) *atomic.Uint64     { return &c.Mismatches }
func mismatchedKeys(c *Counts) *atomic.Uint64 { return &c.MismatchedKeys }
func recounts(c *Counts) *atomic.Uint64       { return &c.Recounts }
func recountsWrong(c *Counts) *atomic.Uint64  { return &c.RecountsWrong }
func recountsFailed(c *Counts) *atomic.Uint64 { return &c.RecountsFailed }
func healedRecords(c *Counts) *atomic.Uint64  { return &c.Healed }
func fetchedBytes(c *Counts) *atomic.Uint64   { return &c.Bytes }
