package storage

import (
	"context"
	"errors"
	"fmt"
	"sync/atomic"
	"time"

	"github.com/hashicorp/go-hclog"
)

// Op is one write intent in the committer's queue. The committer calls, in
// this order and from its own goroutine:
//
//	Decide   inside the group's transaction: read, then write. On an error the
//	         op has no part in the group, so Decide must do all that can fail
//	         on its own account before its first write. An error after a write
//	         stops the committer for good: it cannot tell what was meant.
//	Decided  once every op of the group is decided and before the sync: the
//	         place from which replication overlaps the local sync. Not called
//	         when Decide failed. Must not block.
//	Done     once, whatever happens: with nil when the group is durable; with
//	         Decide's error, also after the sync (what made it fail may have
//	         been written by another op of the group); with ErrFull when the
//	         disk became full in the queue; or with an error that wraps
//	         ErrFailed when the sync failed (the outcome is unknown); or with
//	         the error of a Run that could not start. Must not block.
//
// A panic in any of them is not recovered: half a decision must not go on.
// Keys that begin with MarkerPrefix belong to the committer.
type Op interface {
	// Size is a rough byte count of what Decide will write; 0 for an op that
	// only makes room, which is accepted also on a full disk.
	Size() int
	Decide(tx Txn) error
	Decided()
	Done(err error)
}

var (
	// ErrOverloaded says that the committer's queue is full. Nothing was
	// queued; try again later.
	ErrOverloaded = errors.New("write queue is full")
	// ErrLost says that CheckMarkers found a loss that nobody acknowledged.
	ErrLost = errors.New("the store lost committed groups")
)

// CommitterConfig bounds a Committer. Zero fields take the defaults named.
type CommitterConfig struct {
	// GroupOps and GroupBytes (by Op.Size) bound one transaction: 512 and
	// 4 MiB. An op larger than GroupBytes gets a group of its own. Larger
	// groups amortise the sync further but delay everybody in them. Besides, a
	// group ends when its ops have really written what MaxOp leaves room for.
	GroupOps   int
	GroupBytes int
	// BulkBytes bounds the bulk ops in one group: 512 KiB. A group has one of them
	// at least, if any waits. Where a sync takes longer than briefSync it is as many
	// times more, so that a slow disk syncs no more often; at most GroupBytes.
	BulkBytes int
	// OpBytes is the largest Op.Size accepted: MaxOp, at most that.
	OpBytes int
	// QueueOps and QueueBytes bound what waits: 16384 and 64 MiB, half of it for bulk
	// ops. Beyond that Submit refuses. At 50 k ops/s a full queue of small ops is 0.3 s.
	QueueOps   int
	QueueBytes int
	// Interval is how often at most the disk is looked at and the side file
	// of the group markers written: 1 s. It is also how much of a silently
	// lost tail stays unnoticed.
	Interval time.Duration
	// Watermark decides when the disk is too full; see there.
	Watermark Watermark
	// Markers, if not nil, is the report of CheckMarkers that the caller has
	// seen and, if it tells of a loss, acted upon (with a new actor). When nil
	// Run makes its own and refuses to start after a loss.
	Markers *MarkerReport
	// Gathered, if not nil, is what the ops of a group leave to be written for
	// all of them.
	Gathered Gathered
	// Logger gets the state transitions of the disk; nil for none.
	Logger hclog.Logger
}

func (c CommitterConfig) withDefaults(e Engine) CommitterConfig {
	def := func(p *int, v int) {
		if *p == 0 {
			*p = v
		}
	}
	def(&c.GroupOps, 512)
	def(&c.GroupBytes, 4<<20)
	def(&c.BulkBytes, 512<<10)
	def(&c.OpBytes, MaxOp(e))
	c.OpBytes = min(c.OpBytes, MaxOp(e))
	def(&c.QueueOps, 16384)
	def(&c.QueueBytes, 64<<20)
	if c.Interval == 0 {
		c.Interval = time.Second
	}
	if c.Watermark == (Watermark{}) {
		c.Watermark = DefaultWatermark
	}
	if c.Logger == nil {
		c.Logger = hclog.NewNullLogger()
	}
	return c
}

// Committer gathers the ops that wait into groups, and commits each group in
// one transaction with one sync. There is no artificial wait, but for groups of
// which nobody waits (Patient): while one group syncs the next one gathers.
//
// Bulk ops stand back for others: an op that is not one waits, from its Submit to its
// Done, at most for the group that is being committed, for one bulk op that is being
// decided, and for the bulk that shares its own group (see BulkBytes), however many
// wait. Bulk ops go on as well, by one op in each group at least.
//
//	C1  Ops are decided in the order of their Submit, one at a time; bulk ops
//	    among each other, and the others among each other.
//	C2  A group is one transaction: all of it is durable or none.
//	C3  Done(nil) comes after the sync of everything that the op wrote or read.
//	C4  Every op that Submit accepted gets exactly one Done.
//	C5  Every group that wrote leaves its number in the store; see marker.go.
//
// Run owns two goroutines: its own, and the keeper's (disk and side file).
type Committer struct {
	engine Engine
	cfg    CommitterConfig
	room   int // how much a group may have written before its last op
	queue  queue
	keeper keeper
	stats  counters
	ran    atomic.Bool

	// Of Run's goroutine.
	ring    ring
	errs    []error
	company time.Time     // when an op was last here that is not patient
	sync    time.Duration // of the last group
}

// NewCommitter returns the one writer of engine. Nothing happens before Run,
// except that Submit queues.
func NewCommitter(engine Engine, cfg CommitterConfig) *Committer {
	cfg = cfg.withDefaults(engine)
	c := &Committer{engine: engine, cfg: cfg, room: maxTxn(engine) / 100 * 12}
	c.queue.init(cfg.QueueOps, cfg.QueueBytes)
	c.keeper.init(engine, cfg)
	return c
}

// Submit queues ops, next to each other and in order (as bulk if all of them are), or
// refuses all of them at once and without a Done: with ErrOverloaded when the queue is
// full, with ErrFull when the disk is (unless all their sizes are 0), with ErrTooLarge,
// or with ErrClosed or ErrFailed when Run has ended. It never blocks.
func (c *Committer) Submit(ops ...Op) error {
	full := c.keeper.disk() == DiskFull
	var few [16]queued
	batch := few[:0]
	for _, op := range ops {
		size := max(op.Size(), 0)
		if full && size > 0 {
			c.stats.refusedFull.Add(1)
			return ErrFull
		}
		if size > c.cfg.OpBytes {
			return fmt.Errorf("op of %d bytes, more than %d: %w", size, c.cfg.OpBytes, ErrTooLarge)
		}
		b, ok := op.(Bulk)
		batch = append(batch, queued{op, size, ok && b.Bulk()})
	}
	err := c.queue.put(batch)
	if errors.Is(err, ErrOverloaded) {
		c.stats.refusedOverload.Add(1)
	}
	return err
}

// Run commits until ctx ends; then it refuses new ops, commits those that
// wait, writes the side file, and returns nil. It returns an error that wraps
// ErrFailed when the engine failed (also while nothing is committed, if the
// engine has Failed() <-chan struct{} and Err() error), and ErrLost when
// CheckMarkers found a loss that Config.Markers does not acknowledge. After an
// error the process is expected to end. Run can be called once.
func (c *Committer) Run(ctx context.Context) error {
	if c.ran.Swap(true) {
		return errors.New("committer was run before")
	}
	if err := c.start(); err != nil {
		c.abandon(err)
		return err
	}
	keeperCtx, stopKeeper := context.WithCancel(context.WithoutCancel(ctx))
	keeperEnd := make(chan error, 1)
	go func() { keeperEnd <- c.keeper.run(keeperCtx) }()

	err := c.loop(ctx)
	stopKeeper()
	if keeperErr := <-keeperEnd; err == nil && keeperErr != nil {
		err = fmt.Errorf("%w: %w", ErrFailed, keeperErr)
	}
	if err == nil {
		return nil // the loop closed the queue and emptied it
	}
	c.abandon(err)
	return err
}

// start finds the number of the next group and writes the side file, so that
// from the first group on a store without one is a store that lost it.
func (c *Committer) start() error {
	report := c.cfg.Markers
	if report == nil {
		r, err := CheckMarkers(c.engine)
		if err != nil {
			return fmt.Errorf("check group markers: %w", err)
		}
		if r.Lost() {
			return fmt.Errorf("%w: %v", ErrLost, r)
		}
		report = &r
	}
	if report.Corrupt > 0 {
		if err := dropCorruptMarkers(c.engine); err != nil {
			return fmt.Errorf("drop corrupt group markers: %w", err)
		}
	}
	c.ring = report.ring()
	return c.keeper.start(c.ring.last)
}

// failer is an engine that can fail on its own account, between commits.
type failer interface {
	Failed() <-chan struct{}
	Err() error
}

func (c *Committer) loop(ctx context.Context) error {
	var failed <-chan struct{}
	engine, canFail := c.engine.(failer)
	if canFail {
		failed = engine.Failed()
	}
	for {
		stopping := ctx.Err() != nil
		if stopping {
			c.queue.close(ErrClosed)
		}
		if group := c.queue.take(c.cfg.GroupOps, c.cfg.GroupBytes, c.bulkBytes()); len(group) > 0 {
			if err := c.commit(group); err != nil {
				return err
			}
			continue
		}
		if stopping {
			return nil
		}
		select {
		case <-c.queue.wake:
		case <-ctx.Done():
		case <-failed:
			return engine.Err()
		case <-c.keeper.ended: // by itself: Run tells its error
			return nil
		}
	}
}

// briefSync is a sync for which BulkBytes are meant: about what deciding them takes.
const briefSync = 5 * time.Millisecond

// bulkBytes bounds the bulk ops of the next group: who waits for it waits for the sync
// anyway, so what is decided in as much time does not show.
func (c *Committer) bulkBytes() int {
	return int(min(int64(c.cfg.BulkBytes)*max(int64(c.sync/briefSync), 1), int64(c.cfg.GroupBytes)))
}

// abandon refuses further ops and ends those that still wait with err.
func (c *Committer) abandon(err error) {
	c.queue.close(err)
	for {
		group := c.queue.take(c.cfg.GroupOps, c.cfg.GroupBytes, c.cfg.BulkBytes)
		if len(group) == 0 {
			return
		}
		for _, q := range group {
			q.op.Done(err)
		}
	}
}
