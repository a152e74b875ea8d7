package traffic

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"sync"
	"time"

	"github.com/HdrHistogram/hdrhistogram-go"

	"github.com/atolldb/atoll/client"
	"github.com/atolldb/atoll/e2e/chaos/history"
)

// SteadyConfig of a load that asks at fixed moments, whatever becomes of what
// it asked before (an open loop): a region that slows down is not asked less.
type SteadyConfig struct {
	Client *client.Client
	// Rate of operations per second, half of them reads of the Ballast, half
	// puts of values of Size bytes to one of so many Keys.
	Rate    float64
	Keys    int
	Size    int
	Ballast *Ballast
	// As is its number as a client in the history: from it on, one for each
	// of steadyWorkers.
	As      int
	Seed    uint64
	History *history.History
}

const (
	// steadyWorkers bound the operations under way, steadyQueue those that
	// are due and wait for a worker. One more is a failure (SHED).
	steadyWorkers = 128
	steadyQueue   = 4096
)

// Steady is such a load.
type Steady struct {
	cfg SteadyConfig
	// idle are the registers that nobody writes at the moment.
	idle chan *register

	mu     sync.Mutex
	phases []*Phase
}

// Phase is a part of a run.
type Phase struct {
	Name    string
	Began   time.Time
	Ended   time.Time // zero for the current one
	OK      int64
	Failed  int64
	Reasons map[string]int
	// latency in microseconds of what succeeded, from the moment an operation
	// was due.
	latency *hdrhistogram.Histogram
}

// NewSteady returns a load that has not begun.
func NewSteady(cfg SteadyConfig) *Steady {
	s := &Steady{cfg: cfg, idle: make(chan *register, cfg.Keys)}
	for i := range cfg.Keys {
		s.idle <- &register{reg: cfg.History.Register(fmt.Sprintf("steady/%d/%d", cfg.As, i))}
	}
	return s
}

// Begin begins a phase: what is due from now on belongs to it.
func (s *Steady) Begin(name string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	now := time.Now()
	if n := len(s.phases); n > 0 {
		s.phases[n-1].Ended = now
	}
	s.phases = append(s.phases, &Phase{
		Name: name, Began: now, Reasons: map[string]int{},
		latency: hdrhistogram.New(1, int64(time.Minute/time.Microsecond), 3),
	})
}

// Run asks until ctx ends; Begin was called. It waits for what is under way.
func (s *Steady) Run(ctx context.Context) {
	due := make(chan time.Time, steadyQueue)
	var wg sync.WaitGroup
	for i := range steadyWorkers {
		w := &steadyWorker{
			s: s, id: uint16(s.cfg.As + i), rng: rand.New(rand.NewPCG(s.cfg.Seed, uint64(i))),
		}
		wg.Go(func() {
			for at := range due {
				w.step(context.WithoutCancel(ctx), at)
			}
		})
	}
	defer wg.Wait()
	defer close(due)
	interval := time.Duration(float64(time.Second) / s.cfg.Rate)
	next := time.Now()
	timer := time.NewTimer(0)
	defer timer.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-timer.C:
		}
		for now := time.Now(); !next.After(now); next = next.Add(interval) {
			select {
			case due <- next:
			default:
				s.done(next, "SHED")
			}
		}
		timer.Reset(time.Until(next))
	}
}

// done records an operation that was due at a moment; reason is "" for success.
func (s *Steady) done(due time.Time, reason string) {
	took := time.Since(due)
	s.mu.Lock()
	defer s.mu.Unlock()
	p := s.phases[0]
	for _, q := range s.phases {
		if !q.Began.After(due) {
			p = q
		}
	}
	if reason != "" {
		p.Failed++
		p.Reasons[reason]++
		return
	}
	p.OK++
	// Beyond a minute it is cut to that.
	_ = p.latency.RecordValue(min(took.Microseconds(), p.latency.HighestTrackableValue()))
}

// Phases returns what was measured so far; the last one may still be going on.
func (s *Steady) Phases() []Phase {
	s.mu.Lock()
	defer s.mu.Unlock()
	var out []Phase
	for _, p := range s.phases {
		c := *p
		c.latency = hdrhistogram.Import(p.latency.Export())
		c.Reasons = map[string]int{}
		for k, n := range p.Reasons {
			c.Reasons[k] = n
		}
		out = append(out, c)
	}
	return out
}

// Latency is the quantile (0..100) of what succeeded.
func (p Phase) Latency(quantile float64) time.Duration {
	return time.Duration(p.latency.ValueAtQuantile(quantile)) * time.Microsecond
}

func (p Phase) String() string {
	return fmt.Sprintf("%s: %d operations, %d failed, p50 %v, p99 %v, p99.9 %v, max %v", p.Name, p.OK+p.Failed, p.Failed,
		p.Latency(50), p.Latency(99), p.Latency(99.9), time.Duration(p.latency.Max())*time.Microsecond)
}

type steadyWorker struct {
	s   *Steady
	id  uint16
	n   uint64
	rng *rand.Rand
}

func (w *steadyWorker) step(ctx context.Context, due time.Time) {
	var err error
	if w.rng.IntN(2) == 0 && w.s.cfg.Ballast.Len() > 0 {
		err = w.read(ctx)
	} else {
		err = w.write(ctx)
	}
	w.s.done(due, reasonOf(err))
}

func (w *steadyWorker) read(ctx context.Context) error {
	b := w.s.cfg.Ballast
	r := b.regs[w.rng.IntN(len(b.regs))]
	obj, err := w.s.cfg.Client.Get(ctx, r.Key(), client.LocalQuorum)
	if err == nil || there(err) {
		r.Read("steady", Values(obj))
		return nil
	}
	return err
}

func (w *steadyWorker) write(ctx context.Context) error {
	r := <-w.s.idle // there are more keys than workers
	w.n++
	e := history.NewElement(w.id, w.n)
	r.reg.BeginPut(e)
	var info client.Info
	v, err := w.s.cfg.Client.Put(ctx, r.reg.Key(), history.Encode(history.Value{Key: r.reg.Key(), By: e}, w.s.cfg.Size),
		client.After(r.version), client.LocalQuorum, client.Explain(&info))
	w.s.cfg.History.Remark(e, remark(v, &info, err))
	o := OutcomeOf(err)
	if r.reg.EndPut(e, o); mayBeTwice(&info, err) {
		r.reg.Twice()
	}
	if o == history.Acked {
		r.version = v
	}
	if r.reg.Retired() {
		// Not a name that NewSteady gave: two would write one register.
		r = &register{reg: w.s.cfg.History.Register(fmt.Sprintf("steady/%d/again/%d", w.id, w.n))}
	}
	w.s.idle <- r
	return err
}

// reasonOf is the SDK's name for an error, "" for none.
func reasonOf(err error) string {
	if err == nil {
		return ""
	}
	var e *client.Error
	if errors.As(err, &e) {
		return e.Reason
	}
	return "UNTYPED"
}
