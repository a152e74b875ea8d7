package geo

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/atolldb/atoll/internal/pause"
)

// A large record does not travel by the log. Its message carries a *claim*: the key,
// the dots and the size. The region that gets it fetches the record from an owner in
// the region of origin, on a lane of its own: one after the other, no faster than
// its rate. So large records never hold up small ones, and the log does not hold
// their bytes. What is fetched is the current record, which may be a later one.
//
// A claim is acknowledged like any batch, when the record is durable at a quorum.
// Until then its message is kept from being delivered anew, and does not take the
// place of others. What cannot be fetched is asked for again later; what no owner
// has any more is left to the clocks.

const (
	// ClaimBytes is above which size a record is claimed.
	ClaimBytes = 64 << 10
	// maxClaims bounds the messages with claims that a drain holds: more are
	// delivered again later. claimsPerMessage bounds the claims of one.
	maxClaims        = 256
	claimsPerMessage = 8
	// fetchTimeout bounds the fetch of one record, tries of it are fetchTries.
	fetchTimeout = 30 * time.Second
	fetchTries   = 4
	fetchPause   = 250 * time.Millisecond
)

// Fetcher gets the current record behind a claim from an owner of the region of
// origin, one that has all of the claim's dots. It returns an error that wraps
// ErrGone when all owners answered and none has it.
type Fetcher interface {
	Fetch(ctx context.Context, origin string, claim Entry) (record []byte, err error)
}

// ErrGone says that no owner has what a claim speaks of.
var ErrGone = errors.New("no owner has the record")

// Later is the error of a FeedHandler that goes on with a batch: what Done gives
// once is its answer.
type Later struct{ Done <-chan error }

func (*Later) Error() string { return "the batch is still being handled" }

// claimed is e as a claim.
func claimed(e Entry) Entry {
	e.Size, e.Record = len(e.Record), nil
	return e
}

// claim is a message with claims that waits for its turn.
type claim struct {
	entries []Entry
	bytes   int
	done    chan error // capacity 1
}

// claims are those that wait, and when the next one is fetched.
type claims struct {
	queue chan *claim
	// free is when the next fetch may begin; only the lane's goroutine uses it.
	free time.Time
}

// later queues a message with claims, or refuses it when too many wait.
func (d *Drain) later(entries []Entry, bytes int) error {
	if d.cfg.Fetcher == nil {
		return fmt.Errorf("claim of a record without a way to fetch it: %w", ErrPoison)
	}
	c := &claim{entries: entries, bytes: bytes, done: make(chan error, 1)}
	select {
	case d.claims.queue <- c:
		return &Later{c.done}
	default:
		return ErrCrowded
	}
}

// fetchClaims works on claims until the feed has ended; after ctx has, it gives
// them back.
func (d *Drain) fetchClaims(ctx context.Context, fed <-chan struct{}) {
	for {
		select {
		case <-fed:
			return
		case c := <-d.claims.queue:
			err := d.redeem(ctx, c)
			d.settled(err)
			c.done <- err
		}
	}
}

// settled counts how a message with claims ended.
func (d *Drain) settled(err error) {
	switch {
	case err == nil:
	case errors.Is(err, ErrPoison):
		d.stats.poisoned.Add(1)
		d.gap("a large record is with no owner of its region")
	default:
		d.stats.failures.Add(1)
	}
}

// redeem fetches and applies all of a message.
func (d *Drain) redeem(ctx context.Context, c *claim) error {
	for _, e := range c.entries {
		if ctx.Err() != nil {
			return ctx.Err()
		}
		if e.Size > 0 {
			record, err := d.fetch(ctx, e)
			if err != nil {
				return err
			}
			e.Record = record
		}
		applying, cancel := context.WithTimeout(ctx, applyTimeout)
		err := d.sink.ApplyRemote(applying, d.cfg.Origin, []Entry{e})
		cancel()
		if err != nil {
			return fmt.Errorf("apply a large record of %s: %w", d.cfg.Origin, err)
		}
	}
	d.stats.batches.Add(1)
	d.stats.entries.Add(uint64(len(c.entries)))
	d.stats.bytes.Add(uint64(c.bytes))
	return nil
}

// fetch gets one record, at the lane's rate.
func (d *Drain) fetch(ctx context.Context, e Entry) ([]byte, error) {
	var last error
	for try := range fetchTries {
		if !pause.For(ctx, max(time.Until(d.claims.free), time.Duration(try)*fetchPause)) {
			return nil, ctx.Err()
		}
		fetching, cancel := context.WithTimeout(ctx, fetchTimeout)
		record, err := d.cfg.Fetcher.Fetch(fetching, d.cfg.Origin, e)
		cancel()
		if err == nil {
			d.stats.claims.Add(1)
			d.stats.claimBytes.Add(uint64(len(record)))
			if d.cfg.ClaimRate > 0 {
				d.claims.free = time.Now().Add(time.Duration(float64(len(record)) / float64(d.cfg.ClaimRate) * float64(time.Second)))
			}
			return record, nil
		}
		d.stats.claimFailures.Add(1)
		if last = err; ctx.Err() != nil {
			break
		}
	}
	if errors.Is(last, ErrGone) {
		return nil, fmt.Errorf("fetch a large record of %s: %w: %w", d.cfg.Origin, ErrPoison, last)
	}
	return nil, fmt.Errorf("fetch a large record of %s: %w", d.cfg.Origin, last)
}
