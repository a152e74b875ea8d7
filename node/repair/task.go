package repair

import (
	"context"
	"errors"
	"sync"
	"time"

	"github.com/atolldb/atoll/hashring"
)

var (
	// ErrRepairing says that a repair runs already.
	ErrRepairing = errors.New("a repair is running on this node already")
	// ErrNotRunning says that the node is starting or stopping.
	ErrNotRunning = errors.New("repair is not running on this node")
	// ErrIncomplete says that some owners of some partitions could not be
	// compared with; what could be is repaired.
	ErrIncomplete = errors.New("some owners could not be compared with")
)

// Progress of the repair that runs, or of the last one. The zero value says
// that there was none since the node started.
type Progress struct {
	Running, Deep bool
	// Partitions in all, those that are through, and those of them that another
	// owner could not be compared about.
	Partitions, Done, Skipped int
	// Unreadable records of the partitions that are through, which could not be
	// fetched from other owners either.
	Unreadable uint64
	// Repaired are records that changed here, Healed those that were unreadable
	// and were fetched again; Found are those that differed at equal clocks.
	Repaired, Healed, Found uint64
	// FullSyncs of partitions, and Bytes fetched.
	FullSyncs, Bytes uint64
	// Began and Ended; Ended is zero while it runs.
	Began, Ended time.Time
	// Err of the end.
	Err error
}

// Share of the work that is done, 0 to 1.
func (p Progress) Share() float64 {
	if p.Partitions == 0 {
		if p.Running {
			return 0
		}
		return 1
	}
	return float64(p.Done) / float64(p.Partitions)
}

// tasks admit one repair at a time, while Run runs.
type tasks struct {
	mu      sync.Mutex
	base    context.Context // of Run; nil before and after it
	stop    context.CancelFunc
	ended   chan struct{} // closed when the last one has ended
	running sync.WaitGroup
	last    Progress
	counts  *Counts // of the last one
}

// open admits repairs from now on.
func (t *tasks) open(ctx context.Context) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.base = ctx
}

// close admits none any more, and waits for the one that runs, which ends with
// Run's ctx.
func (t *tasks) close() {
	t.mu.Lock()
	t.base = nil
	t.mu.Unlock()
	t.running.Wait()
}

func (t *tasks) begin(partitions int, deep bool) (context.Context, *Counts, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.base == nil || t.base.Err() != nil {
		return nil, nil, ErrNotRunning
	}
	if t.last.Running {
		return nil, nil, ErrRepairing
	}
	ctx, stop := context.WithCancel(t.base)
	t.stop, t.ended, t.counts = stop, make(chan struct{}), &Counts{}
	t.last = Progress{Running: true, Deep: deep, Partitions: partitions, Began: time.Now()}
	t.running.Add(1)
	return ctx, t.counts, nil
}

// through says that partitions are done, some of them not with every owner, and
// how many of their records remain unreadable.
func (t *tasks) through(done, skipped, unreadable int) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.last.Done += done
	t.last.Skipped += skipped
	t.last.Unreadable += uint64(unreadable)
}

func (t *tasks) end(err error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.stop()
	t.last.Running, t.last.Ended, t.last.Err = false, time.Now(), err
	close(t.ended)
	t.running.Done()
}

// Progress of the repair that runs, or of the last one.
func (r *Repairer) Progress() Progress {
	t := &r.task
	t.mu.Lock()
	defer t.mu.Unlock()
	p, c := t.last, t.counts
	if c != nil {
		p.Repaired, p.Healed = c.RepairedKeys.Load(), c.Healed.Load()
		p.Found, p.FullSyncs, p.Bytes = c.MismatchedKeys.Load(), c.FullSyncs.Load(), c.Bytes.Load()
	}
	return p
}

// StartRepair begins what Repair does, and returns. Run owns it.
func (r *Repairer) StartRepair(parts []hashring.Partition, deep bool) error {
	a, err := r.newAudit(parts, deep)
	if err != nil {
		return err
	}
	go func() { _ = a.run(a.ctx) }() // Progress tells
	return nil
}

// CancelRepair ends the repair that runs, if one does, and returns when it has
// ended: at once, or when the partition that is being recounted is through.
// What was repaired stays.
func (r *Repairer) CancelRepair() {
	r.task.mu.Lock()
	stop, ended := r.task.stop, r.task.ended
	r.task.mu.Unlock()
	if stop != nil {
		stop()
		<-ended
	}
}

// Repair compares partitions (nil: all) with every owner in all regions, now
// and not only when something was missing twice, and fetches what is missing
// here. What this node does not answer for is left out. Deep also recounts
// them from the store, which checks every record's envelope, and compares the
// stores themselves with every owner, whatever the digests say.
//
// It returns when it is through, with ErrIncomplete if an owner could not be
// compared with; ErrRepairing at once if another one runs; or when ctx or Run
// has ended.
func (r *Repairer) Repair(ctx context.Context, parts []hashring.Partition, deep bool) error {
	a, err := r.newAudit(parts, deep)
	if err != nil {
		return err
	}
	both, stop := context.WithCancel(a.ctx)
	defer stop()
	defer context.AfterFunc(ctx, stop)()
	return a.run(both)
}
