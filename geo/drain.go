package geo

import (
	"context"
	"errors"
	"fmt"
	"math"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/hashicorp/go-hclog"
	"golang.org/x/sync/semaphore"

	"github.com/atolldb/atoll/internal/planted"
)

const (
	// applyTimeout bounds one ApplyRemote. It is below the time after which a
	// log hands a batch to somebody else.
	applyTimeout = 10 * time.Second
	// maxApplying bounds the batches being applied at once, and maxApplyingBytes
	// what is in them: enough for the groups of an owner whose syncs are slow, and
	// little of its queue.
	maxApplying      = 32
	maxApplyingBytes = 2 << 20
	holeBeat         = time.Second
)

// DrainConfig says what is drained where.
type DrainConfig struct {
	// Region is the own region, Origin the one whose log is drained.
	Region, Origin string
	// Sole says that no other node of the region drains this origin. Only
	// then do missing batch numbers mean anything here.
	Sole bool
	// Fetcher gets what is claimed, and ClaimRate bounds how fast, in bytes a
	// second; 0 does not.
	Fetcher   Fetcher
	ClaimRate uint64
	// Pay waits until so many bytes that come late, since they were written while the
	// regions were cut off from each other, may be applied: by what clients feel, but
	// at the rate of least, in bytes a second, in any case. Nil does not wait.
	Pay func(ctx context.Context, bytes int, least func() float64) error
	// Owed tells how many bytes are known to be missing that this node is to pull, and
	// in what time they came to be. With Pay.
	Owed func() (bytes uint64, span time.Duration)
}

// DrainEvents are what a drain tells; nil means nobody listens. They are
// called from the drain's goroutines, concurrently, and must not block.
type DrainEvents struct {
	// Gap says that the log lost or skipped something: compare clocks.
	Gap func(reason string)
	// Announced gets what the origin announced.
	Announced func(data []byte)
	// Link says whether the link to the origin is up.
	Link func(up bool)
}

// Drain applies what another region's log carries (G3) and mints nothing (G2).
type Drain struct {
	cfg    DrainConfig
	feed   Feed
	sink   Sink
	events DrainEvents
	logger hclog.Logger
	slots  chan struct{}       // one for each batch being applied
	room   *semaphore.Weighted // and its bytes
	claims claims
	stats  drainCounters

	mu    sync.Mutex
	holes holes

	debtMu sync.Mutex
	debt   debt
}

// DrainStats are counters since the drain was made.
type DrainStats struct {
	// Batches and Entries applied, and bytes of their data.
	Batches, Entries, Bytes uint64
	// Failures are batches that will be delivered again, Poisoned those given
	// up, Own those of the own region, which must never come.
	Failures, Poisoned, Own uint64
	// Claims are large records that were fetched, and their bytes; ClaimFailures
	// the tries that failed.
	Claims, ClaimBytes, ClaimFailures uint64
	// Gaps are the log's own reports, Lost the batch numbers that never came.
	Gaps, Lost uint64
}

type drainCounters struct {
	batches, entries, bytes, failures, poisoned, own, gaps, lost, claims, claimBytes, claimFailures atomic.Uint64
}

// NewDrain returns a drain; Run makes it work.
func NewDrain(cfg DrainConfig, feed Feed, sink Sink, events DrainEvents, logger hclog.Logger) *Drain {
	return &Drain{
		cfg: cfg, feed: feed, sink: sink, events: events, logger: logger,
		slots:  make(chan struct{}, maxApplying),
		room:   semaphore.NewWeighted(maxApplyingBytes),
		claims: claims{queue: make(chan *claim, maxClaims)},
	}
}

// Origin is the region whose log is drained.
func (d *Drain) Origin() string { return d.cfg.Origin }

// Stats may be called at any time.
func (d *Drain) Stats() DrainStats {
	return DrainStats{
		Batches: d.stats.batches.Load(), Entries: d.stats.entries.Load(), Bytes: d.stats.bytes.Load(),
		Failures: d.stats.failures.Load(), Poisoned: d.stats.poisoned.Load(), Own: d.stats.own.Load(),
		Gaps: d.stats.gaps.Load(), Lost: d.stats.lost.Load(),
		Claims: d.stats.claims.Load(), ClaimBytes: d.stats.claimBytes.Load(), ClaimFailures: d.stats.claimFailures.Load(),
	}
}

// Run drains until ctx ends or the feed gives up, and returns when nothing is
// being applied any more.
func (d *Drain) Run(ctx context.Context) error {
	var wg sync.WaitGroup
	inner, stop := context.WithCancel(ctx)
	if d.cfg.Sole {
		wg.Go(func() { d.watchHoles(inner) })
	}
	// The feed waits for the answers that it was promised: so the lane goes on
	// until the feed has ended, though what it does ends with ctx.
	fed := make(chan struct{})
	wg.Go(func() { d.fetchClaims(ctx, fed) })
	err := d.feed.Run(ctx, handler{d})
	close(fed)
	stop()
	wg.Wait()
	if err != nil && ctx.Err() == nil {
		return fmt.Errorf("drain %s: %w", d.cfg.Origin, err)
	}
	return nil
}

func (d *Drain) watchHoles(ctx context.Context) {
	beat := time.NewTicker(holeBeat)
	defer beat.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case now := <-beat.C:
			d.mu.Lock()
			lost := d.holes.overdue(now)
			d.mu.Unlock()
			if lost > 0 {
				d.stats.lost.Add(lost)
				d.gap(fmt.Sprintf("%d batch numbers never came", lost))
			}
		}
	}
}

func (d *Drain) gap(reason string) {
	if d.events.Gap == nil { // told, or logged: not both
		d.logger.Warn("gap in the log", "origin", d.cfg.Origin, "reason", reason)
		return
	}
	d.events.Gap(reason)
}

// handler shows a drain to its feed without adding to the drain's own methods.
type handler struct{ *Drain }

// Batch applies one delivery; see FeedHandler.
func (d handler) Batch(ctx context.Context, b Batch) error {
	err := d.apply(ctx, b)
	var later *Later
	switch {
	case err == nil, errors.As(err, &later):
	case errors.Is(err, ErrPoison):
		d.stats.poisoned.Add(1)
		d.gap("batch " + b.Header.ID() + " cannot be applied")
	default:
		d.stats.failures.Add(1)
	}
	return err
}

func (d handler) apply(ctx context.Context, b Batch) error {
	if b.Header.Origin == d.cfg.Region {
		// A loop in the wiring. Applying would be harmless, but hides it.
		d.stats.own.Add(1)
		d.logger.Error("own batch came back", "origin", d.cfg.Origin)
		return nil
	}
	if b.Header.Origin != d.cfg.Origin {
		return fmt.Errorf("batch of %q in the log of %s: %w", b.Header.Origin, d.cfg.Origin, ErrPoison)
	}
	if d.cfg.Sole {
		d.mu.Lock()
		d.holes.saw(time.Now(), b.Header)
		d.mu.Unlock()
	}
	entries, err := DecodeBatch(b.Data, b.Header.Codec)
	if err != nil {
		return err
	}
	if len(entries) != b.Header.Count {
		return fmt.Errorf("batch of %d entries says %d: %w", len(entries), b.Header.Count, ErrPoison)
	}
	if slices.ContainsFunc(entries, func(e Entry) bool { return e.Size > 0 }) {
		return d.later(entries, len(b.Data))
	}
	pieces := [][]Entry{entries}
	late := d.late(entries) && !math.IsInf(d.least(), 1)
	if late {
		pieces = inPieces(entries)
	}
	for _, piece := range pieces {
		if late {
			if err := d.cfg.Pay(ctx, charged(sizeOf(piece)), d.least); err != nil {
				return err
			}
		}
		if err := d.put(ctx, piece); err != nil {
			return err
		}
	}
	d.stats.batches.Add(1)
	d.stats.entries.Add(uint64(len(entries)))
	d.stats.bytes.Add(uint64(len(b.Data)))
	return nil
}

// put applies entries, when there is room for them.
func (d *Drain) put(ctx context.Context, entries []Entry) error {
	select {
	case d.slots <- struct{}{}:
	case <-ctx.Done():
		return ctx.Err()
	}
	defer func() { <-d.slots }()
	size := int64(min(sizeOf(entries), maxApplyingBytes)) // what is larger is applied alone
	if err := d.room.Acquire(ctx, size); err != nil {
		return err
	}
	defer d.room.Release(size)
	ctx, cancel := context.WithTimeout(ctx, applyTimeout)
	defer cancel()
	if planted.Bug(planted.AckBeforeApply) {
		go func() { _ = d.sink.ApplyRemote(context.WithoutCancel(ctx), d.cfg.Origin, entries) }()
		return nil
	}
	if err := d.sink.ApplyRemote(ctx, d.cfg.Origin, entries); err != nil {
		return fmt.Errorf("apply %d entries of %s: %w", len(entries), d.cfg.Origin, err)
	}
	return nil
}

// late reports whether entries are caught up with: then others go first.
func (d *Drain) late(entries []Entry) bool {
	if d.cfg.Pay == nil {
		return false
	}
	at := written(entries)
	d.debtMu.Lock()
	defer d.debtMu.Unlock()
	return !at.IsZero() && d.debt.isLate(time.Now(), at)
}

// least is the rate at which what is late has to be taken in now.
func (d *Drain) least() float64 {
	d.debtMu.Lock()
	defer d.debtMu.Unlock()
	now := time.Now()
	if now.Sub(d.debt.looked) >= debtBeat {
		d.debt.looked = now // by one at a time
		// What is fresh does not wait for the clocks of all partitions.
		d.debtMu.Unlock()
		bytes, span := d.cfg.Owed()
		d.debtMu.Lock()
		d.debt.look(now, bytes, span)
	}
	return d.debt.least(now)
}

func (d handler) Announced(data []byte) {
	if d.events.Announced != nil {
		d.events.Announced(data)
	}
}

func (d handler) Gap(reason string) {
	d.stats.gaps.Add(1)
	d.gap(reason)
}

func (d handler) Link(up bool) {
	d.logger.Info("link changed", "origin", d.cfg.Origin, "up", up)
	if d.events.Link != nil {
		d.events.Link(up)
	}
}
