package workload

import (
	"context"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"time"

	"github.com/HdrHistogram/hdrhistogram-go"

	"github.com/atolldb/atoll/internal/pause"
)

// Config of a run.
type Config struct {
	// Do carries out one operation for one of the clients; it must return
	// within a bounded time. value is for Put and Update.
	Do func(ctx context.Context, client int, kind Kind, key string, value []byte) Outcome
	// Clients is how many operations may be under way.
	Clients int
	// Rate in operations per second makes an open loop; 0 is a closed one.
	Rate float64

	Mix       Mix
	Chooser   Chooser
	Prefix    string // of all keys
	ValueSize int    // bytes
	Seed      uint64

	// Warmup comes before what is measured.
	Warmup time.Duration
	// Duration and Ops end the run, whichever is first; 0 is no bound. Ops
	// counts what is measured.
	Duration time.Duration
	Ops      int64

	// Every is how often Tell is told, from one goroutine; 0 for never.
	Every time.Duration
	Tell  func(Report)
}

// A client whose operations fail waits a little longer with each, so that a
// closed loop does not spin on a dead target.
const maxFailPause = 100 * time.Millisecond

// state of a run.
type state struct {
	Config
	measure time.Time // end of the warm-up
	begin   time.Time
	end     time.Time // zero without Duration
	warm    int64     // operations of an open loop that are due before measure

	tickets atomic.Int64 // operations of an open loop, measured ones of a closed one
	missed  atomic.Int64
	rec     *recorder

	mu     sync.Mutex
	pacing *hdrhistogram.Histogram
}

// Run makes the load and returns what it met. When ctx ends it starts no more
// operations, waits for those under way, and returns the report so far.
func Run(ctx context.Context, cfg Config) Total {
	s := &state{Config: cfg, begin: time.Now(), rec: newRecorder()}
	s.measure = s.begin.Add(cfg.Warmup)
	if cfg.Duration > 0 {
		s.end = s.measure.Add(cfg.Duration)
	}
	if cfg.Rate > 0 {
		for s.warm = int64(cfg.Warmup.Seconds() * cfg.Rate); s.due(s.warm).Before(s.measure); s.warm++ {
		}
	}
	var clients sync.WaitGroup
	for i := range cfg.Clients {
		clients.Go(func() { s.client(ctx, i) })
	}
	ended := make(chan struct{})
	go func() {
		clients.Wait()
		close(ended)
	}()
	total := s.tellUntil(ended)
	last := time.Now()
	t := Total{
		Report: total.report(s.measure, s.measure, later(last, s.measure)), NotStarted: s.missed.Load(),
		Interrupted: ctx.Err() != nil,
	}
	if s.pacing != nil {
		p := latencyOf(s.pacing)
		t.Pacing = &p
	}
	return t
}

func later(a, b time.Time) time.Time {
	if a.After(b) {
		return a
	}
	return b
}

// tellUntil adds up what is recorded, and tells it from time to time.
func (s *state) tellUntil(ended <-chan struct{}) *counts {
	total := newCounts()
	var tick <-chan time.Time
	if s.Every > 0 && s.Tell != nil {
		ticker := time.NewTicker(s.Every)
		defer ticker.Stop()
		tick = ticker.C
	}
	from := s.measure
	for {
		select {
		case <-ended:
			total.take(s.rec.take())
			return total
		case <-tick:
			now := time.Now()
			if !now.After(from) {
				continue // the warm-up
			}
			part := s.rec.take()
			s.Tell(part.report(s.measure, from, now))
			total.take(part)
			from = now
		}
	}
}

// due is when the n-th operation of an open loop should begin, from 0.
func (s *state) due(n int64) time.Time {
	return s.begin.Add(time.Duration(float64(n) / s.Rate * float64(time.Second)))
}

func (s *state) client(ctx context.Context, id int) {
	rng := rand.New(rand.NewPCG(s.Seed, uint64(id)))
	values := NewValues(rng, s.ValueSize)
	var key []byte
	failed := 0
	for {
		began, ok := s.next(ctx)
		if !ok {
			return
		}
		kind := s.Mix.choose(rng)
		key = AppendKey(key[:0], s.Prefix, s.Chooser.Choose(rng, kind != Get))
		var value []byte
		if kind != Get {
			value = values.Next(rng)
		}
		o := s.Do(ctx, id, kind, string(key), value)
		if ended := time.Now(); !began.Before(s.measure) {
			s.rec.add(id, kind, began, ended, o)
		}
		if o.Failure == "" {
			failed = 0
			continue
		}
		if failed++; s.Rate == 0 {
			pause.For(ctx, min(time.Millisecond<<min(failed, 10), maxFailPause))
		}
	}
}

// next waits until an operation shall begin, and returns when that was due.
func (s *state) next(ctx context.Context) (began time.Time, ok bool) {
	if ctx.Err() != nil {
		return began, false
	}
	if s.Rate > 0 {
		return s.nextDue(ctx)
	}
	now := time.Now()
	if !s.end.IsZero() && !now.Before(s.end) {
		return now, false
	}
	if !now.Before(s.measure) && s.tickets.Add(1) > s.Ops && s.Ops > 0 {
		return now, false
	}
	return now, true
}

func (s *state) nextDue(ctx context.Context) (time.Time, bool) {
	n := s.tickets.Add(1) - 1
	due := s.due(n)
	if !s.end.IsZero() && !due.Before(s.end) || s.Ops > 0 && n >= s.warm+s.Ops {
		return due, false
	}
	wait := time.Until(due)
	if wait > 0 {
		if !pause.For(ctx, wait) {
			return due, false
		}
		if n >= s.warm {
			s.late(time.Since(due))
		}
		return due, true
	}
	if !s.end.IsZero() && !time.Now().Before(s.end) {
		s.drop(n)
		return due, false
	}
	return due, true
}

// drop counts what was due from the n-th operation on and cannot be started
// any more.
func (s *state) drop(n int64) {
	for s.due(n).Before(s.end) && (s.Ops == 0 || n < s.warm+s.Ops) {
		if n >= s.warm {
			s.missed.Add(1)
		}
		n = s.tickets.Add(1) - 1
	}
}

func (s *state) late(d time.Duration) {
	s.mu.Lock()
	record(&s.pacing, d)
	s.mu.Unlock()
}
