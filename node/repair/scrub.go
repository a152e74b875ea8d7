package repair

import (
	"context"
	"math"
	"slices"
	"time"

	"github.com/atolldb/atoll/hashring"
	"github.com/atolldb/atoll/internal/pause"
)

// scrubLoop recounts one partition after the other, evenly over ScrubPass.
func (r *Repairer) scrubLoop(ctx context.Context) {
	last := hashring.Partition(math.MaxUint16)
	for {
		parts := r.parts(r.Topology())
		if !pause.For(ctx, max(r.cfg.ScrubPass/time.Duration(max(len(parts), 1)), time.Millisecond)) {
			return
		}
		if len(parts) > 0 {
			last = after(parts, last)
			r.recount(ctx, last, nil)
		}
	}
}

// after returns the first of the ascending parts above last, or else the first.
func after(parts []hashring.Partition, last hashring.Partition) hashring.Partition {
	i, found := slices.BinarySearch(parts, last)
	if found {
		i++
	}
	return parts[i%len(parts)]
}

// recount checks a partition's kept digest against its records, and the records
// themselves. There is one at a time: it reads all of them.
func (r *Repairer) recount(ctx context.Context, p hashring.Partition, task *Counts) {
	select {
	case r.counting <- struct{}{}:
		defer func() { <-r.counting }()
	case <-ctx.Done():
		return
	}
	r.count(task, 1, recounts)
	differed, err := r.Replica.Recount(p)
	switch {
	case err != nil:
		r.count(task, 1, recountsFailed)
		r.Log.Error("recount of a partition failed", "partition", int(p), "error", err)
	case differed:
		r.count(task, 1, recountsWrong)
		r.Log.Warn("records of a partition were not what was written: peers will show what is missing", "partition", int(p))
	}
}
