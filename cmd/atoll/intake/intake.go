// Package intake writes the lines of an import through a client. It reads in
// order, writes many lines at a time, and knows at any moment which lines are
// done; it neither connects nor prints.
//
// Invariants:
//
//	N1  Every line that was read is counted once, as ok, failed or unknown, or
//	    it is after Result.Resume: nothing is lost by an interruption.
//	N2  What failed or is unknown was given to Config.Reject.
//	N3  Only what is known not to have been applied is written again.
//	N4  Lines of the same key are written one after another, in their order.
//	N5  At most Lines lines and about 64 MiB of them are in memory.
//
// Goroutines: Run has one for each writer and one that rejects, and ends them.
package intake

import (
	"context"
	"errors"
	"hash/maphash"
	"io"
	"math/rand/v2"
	"sync"
	"time"

	"github.com/atolldb/atoll/client"
	"github.com/atolldb/atoll/cmd/atoll/bulk"
	"github.com/atolldb/atoll/cmd/atoll/dump"
	"github.com/atolldb/atoll/internal/pause"
)

const writers = 8

// Config of one import.
type Config struct {
	// Put writes items and returns their results in the same order, as
	// client.PutMany does. The context that it gets is never canceled.
	Put func(context.Context, []client.Item) []client.PutResult
	// Reject is told of every line that was not written, or perhaps not, and
	// why. All calls come from one goroutine.
	Reject func(line int, raw []byte, err error)
	// Skip so many lines at the beginning.
	Skip int
	// Lines under way at a time, at least 8.
	Lines int
	// Rate in lines per second, 0 for as fast as it goes.
	Rate float64
	// Patience is how long what was not applied is tried again before the
	// import stops.
	Patience time.Duration
}

// Result of an import, or the state of one that runs.
type Result struct {
	// Read is the number of the last line that was read, from 1.
	Read int
	// OK, Failed and Unknown lines, each in its own right; blank ones are OK.
	OK, Failed, Unknown int
	// Resume is how many lines from the start are done with; --skip of the
	// next attempt.
	Resume int
}

// Intake is one import.
type Intake struct {
	config Config
	seed   maphash.Seed
	stop   context.CancelCauseFunc
	// lanes are buffered with half of the lines that may be under way.
	lanes   [writers]chan line
	rejects chan rejected

	window *bulk.Window
	result Result // changed and read in calls of window
}

type line struct {
	n     int // from 1
	raw   []byte
	key   string
	value []byte
}

type rejected struct {
	line
	err error
}

// New prepares an import.
func New(cfg Config) *Intake {
	in := &Intake{config: cfg, seed: maphash.MakeSeed(), window: bulk.NewWindow(max(cfg.Lines, writers)), rejects: make(chan rejected)}
	for i := range in.lanes {
		in.lanes[i] = make(chan line, max(cfg.Lines/writers/2, 1))
	}
	return in
}

// Run reads r to its end, to an error of reading, or until ctx ends; then it
// waits for what is under way. It returns why it stopped early, and nil
// otherwise, however many lines failed.
func (in *Intake) Run(ctx context.Context, r io.Reader) error {
	ctx, in.stop = context.WithCancelCause(ctx)
	defer in.stop(nil)
	var wg, rejecting sync.WaitGroup
	rejecting.Go(func() {
		for r := range in.rejects {
			in.config.Reject(r.n, r.raw, r.err)
		}
	})
	for _, lane := range in.lanes {
		wg.Go(func() { in.writeAll(ctx, lane) })
	}
	err := in.readAll(ctx, r)
	for _, lane := range in.lanes {
		close(lane)
	}
	wg.Wait()
	close(in.rejects)
	rejecting.Wait()
	if cause := context.Cause(ctx); cause != nil {
		return cause
	}
	return err
}

// Result may be asked at any time.
func (in *Intake) Result() (res Result) {
	in.window.See(func(read, resume int) {
		res = in.result
		res.Read, res.Resume = read, resume
	})
	return res
}

func (in *Intake) readAll(ctx context.Context, r io.Reader) error {
	lines := dump.NewLines(r)
	pace := bulk.NewPacer(in.config.Rate)
	for n := 1; ; n++ {
		raw, err := lines.Next()
		switch {
		case errors.Is(err, io.EOF):
			return nil
		case err != nil && !errors.Is(err, dump.ErrLongLine):
			return err
		}
		if n <= in.config.Skip {
			in.window.Pass(n, nil)
			continue
		}
		if !pace.Wait(ctx) || !in.window.Begin(ctx, n, len(raw), nil) {
			return nil
		}
		if err == nil && dump.Blank(raw) {
			in.window.Done(n, func() { in.result.OK++ })
			continue
		}
		l := line{n: n, raw: raw}
		if err == nil {
			l.key, l.value, err = dump.Parse(raw)
		}
		if err != nil {
			in.done(l, err)
			continue
		}
		select {
		case in.lanes[maphash.String(in.seed, l.key)%writers] <- l:
		case <-ctx.Done():
			return nil
		}
	}
}

// done is the end of a line, whatever became of it.
func (in *Intake) done(l line, err error) {
	if err != nil {
		in.rejects <- rejected{l, err}
	}
	in.window.Done(l.n, func() {
		switch {
		case err == nil:
			in.result.OK++
		case errors.Is(err, client.ErrUnknownOutcome):
			in.result.Unknown++
		default:
			in.result.Failed++
		}
	})
}

// writeAll writes the lines of a lane, batch by batch.
func (in *Intake) writeAll(ctx context.Context, lane <-chan line) {
	var batch []line
	var next line
	for {
		batch, next = in.gather(lane, next, batch[:0])
		if len(batch) == 0 || !in.write(ctx, batch) {
			return // what is left in the lane stays open
		}
	}
}

// gather waits for a line and adds to it all that have come, but no key twice:
// what does not fit comes back as the first of the next batch. The zero line
// is none.
func (in *Intake) gather(lane <-chan line, next line, batch []line) ([]line, line) {
	if next.n == 0 {
		next = <-lane // or closed
	}
	most := max(in.config.Lines/writers/2, 1)
	keys := make(map[string]bool, most)
	for next.n != 0 && !keys[next.key] && len(batch) < most {
		batch, keys[next.key] = append(batch, next), true
		select {
		case next = <-lane:
		default:
			next = line{}
		}
	}
	return batch, next
}

// write ends the lines of a batch, or reports false and leaves those that were
// not applied open.
func (in *Intake) write(ctx context.Context, batch []line) bool {
	began := time.Now()
	for backoff := bulk.MinPause; ; backoff = min(2*backoff, bulk.MaxPause) {
		if ctx.Err() != nil {
			return false
		}
		items := make([]client.Item, len(batch))
		for i, l := range batch {
			items[i] = client.Item{Key: l.key, Value: l.value}
		}
		var last error
		rest := batch[:0]
		for i, res := range in.config.Put(context.WithoutCancel(ctx), items) {
			if bulk.Hopeless(res.Err) {
				in.stop(res.Err)
			}
			if bulk.Hopeless(res.Err) || bulk.Transient(res.Err) {
				last = res.Err
				rest = append(rest, batch[i])
				continue
			}
			in.done(batch[i], res.Err)
		}
		if batch = rest; len(batch) == 0 {
			return true
		}
		if time.Since(began) >= in.config.Patience {
			in.stop(last)
			return false
		}
		pause.For(ctx, backoff/2+rand.N(backoff/2))
	}
}
