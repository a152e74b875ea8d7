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
//	N5  At most Lines lines and about maxBytes bytes are in memory.
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
	"github.com/atolldb/atoll/cmd/atoll/dump"
	"github.com/atolldb/atoll/internal/pause"
)

const (
	writers = 8
	// maxBytes of lines are in memory, and one line more.
	maxBytes = 64 << 20
	// The pause between attempts doubles from one to the other.
	minPause, maxPause = 50 * time.Millisecond, 2 * time.Second
)

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

	mu     sync.Mutex
	room   sync.Cond // there is less under way
	open   map[int]int
	bytes  int
	result Result
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
	in := &Intake{config: cfg, seed: maphash.MakeSeed(), open: make(map[int]int), rejects: make(chan rejected)}
	in.room.L = &in.mu
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
	defer context.AfterFunc(ctx, in.wake)()
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

func (in *Intake) wake() {
	in.mu.Lock()
	defer in.mu.Unlock()
	in.room.Broadcast()
}

// Result may be asked at any time.
func (in *Intake) Result() Result {
	in.mu.Lock()
	defer in.mu.Unlock()
	res := in.result
	res.Resume = res.Read
	for n := range in.open {
		res.Resume = min(res.Resume, n-1)
	}
	return res
}

func (in *Intake) readAll(ctx context.Context, r io.Reader) error {
	lines := dump.NewLines(r)
	pace := NewPacer(in.config.Rate)
	for n := 1; ; n++ {
		raw, err := lines.Next()
		switch {
		case errors.Is(err, io.EOF):
			return nil
		case err != nil && !errors.Is(err, dump.ErrLongLine):
			return err
		}
		if n > in.config.Skip && (!pace.Wait(ctx) || !in.begin(ctx, n, len(raw))) {
			return nil
		}
		if n <= in.config.Skip || err == nil && dump.Blank(raw) {
			in.pass(n, n > in.config.Skip)
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

// begin counts a line as under way as soon as there is room for it.
func (in *Intake) begin(ctx context.Context, n, size int) bool {
	in.mu.Lock()
	defer in.mu.Unlock()
	for ctx.Err() == nil && (in.bytes > maxBytes || len(in.open) >= max(in.config.Lines, writers)) {
		in.room.Wait()
	}
	if ctx.Err() != nil {
		return false
	}
	in.open[n], in.result.Read = size, n
	in.bytes += size
	return true
}

// pass is the end of a line that needs no writing; skipped ones do not count.
func (in *Intake) pass(n int, counts bool) {
	in.mu.Lock()
	defer in.mu.Unlock()
	if counts {
		in.result.OK++
		in.forget(n)
	}
	in.result.Read = n
}

func (in *Intake) forget(n int) {
	in.bytes -= in.open[n]
	delete(in.open, n)
	in.room.Signal()
}

// done is the end of a line, whatever became of it.
func (in *Intake) done(l line, err error) {
	if err != nil {
		in.rejects <- rejected{l, err}
	}
	in.mu.Lock()
	defer in.mu.Unlock()
	switch {
	case err == nil:
		in.result.OK++
	case errors.Is(err, client.ErrUnknownOutcome):
		in.result.Unknown++
	default:
		in.result.Failed++
	}
	in.forget(l.n)
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
	for backoff := minPause; ; backoff = min(2*backoff, maxPause) {
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
			if hopeless(res.Err) {
				in.stop(res.Err)
			}
			if hopeless(res.Err) || transient(res.Err) {
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

// hopeless errors are those of the import, not of a line.
func hopeless(err error) bool {
	if errors.Is(err, client.ErrNoBucket) || errors.Is(err, client.ErrRefused) || errors.Is(err, client.ErrClosed) {
		return !errors.Is(err, client.ErrUnknownOutcome)
	}
	var e *client.Error
	return errors.As(err, &e) && errors.Is(err, client.ErrInvalid) && e.Field != "key" && e.Field != "value"
}

// transient errors of a write that was not applied may be gone the next time.
func transient(err error) bool {
	if errors.Is(err, client.ErrUnknownOutcome) {
		return false
	}
	for _, t := range []error{client.ErrUnavailable, client.ErrThrottled, client.ErrDeadline, client.ErrDiskFull} {
		if errors.Is(err, t) {
			return true
		}
	}
	return false
}
