package traffic

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"time"

	"github.com/atolldb/atoll/client"
	"github.com/atolldb/atoll/e2e/chaos/history"
)

// Config of the clients.
type Config struct {
	// Clients by region; workers are spread over them.
	Clients map[string]*client.Client
	Regions []string
	// Workers, each a client of its own in the history. First is the number
	// of the first: unique in a history.
	Workers int
	First   int
	// Rate of operations per second, of all workers together.
	Rate float64
	// Sets that are added to at a time, and Registers of each worker.
	Sets, Registers int
	// Pad is how many bytes values have beside their elements: 0..Pad.
	Pad     int
	Seed    uint64
	History *history.History
	// Acked is told of each write as soon as it is acknowledged, by several goroutines; nil
	// for nobody.
	Acked func(region, key string, version client.Version)
}

// setLimit is how many elements a set may have before another one takes its
// place, so that values stay small.
const setLimit = 150

// Traffic is running clients.
type Traffic struct {
	cfg     Config
	sets    []slot
	workers []*worker
	Tally   Tally
}

type slot struct {
	mu         sync.Mutex
	generation int
	attempted  int
}

// New returns clients that do nothing yet.
func New(cfg Config) *Traffic {
	t := &Traffic{cfg: cfg, sets: make([]slot, cfg.Sets)}
	for i := range cfg.Workers {
		id, region := cfg.First+i, cfg.Regions[i%len(cfg.Regions)]
		t.workers = append(t.workers, &worker{
			t: t, region: region, c: cfg.Clients[region], id: uint16(id),
			rng: rand.New(rand.NewPCG(cfg.Seed, uint64(id))), regs: make([]register, cfg.Registers),
		})
	}
	return t
}

// Run works until ctx ends. It may be called again after it has returned.
func (t *Traffic) Run(ctx context.Context) {
	var wg sync.WaitGroup
	for _, w := range t.workers {
		wg.Go(func() { w.run(ctx) })
	}
	wg.Wait()
}

// worker is one client. Operations under way when ctx ends are finished, so
// that no outcome is unknown for the test's own reasons.
type worker struct {
	t      *Traffic
	region string
	c      *client.Client
	id     uint16
	n      uint64
	rng    *rand.Rand
	regs   []register
	next   int // number of the next register
}

type register struct {
	reg     *history.Register
	version client.Version
}

func (w *worker) run(ctx context.Context) {
	tick := time.NewTicker(time.Duration(float64(time.Second) * float64(w.t.cfg.Workers) / w.t.cfg.Rate))
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
			w.step(context.WithoutCancel(ctx))
		}
	}
}

func (w *worker) step(ctx context.Context) {
	switch p := w.rng.IntN(100); {
	case p < 40:
		w.add(ctx)
	case p < 50:
		w.addBlind(ctx)
	case p < 92:
		w.register(ctx)
	default:
		w.glance(ctx)
	}
}

func (w *worker) element() history.Element {
	w.n++
	return history.NewElement(w.id, w.n)
}

func (w *worker) pad() int {
	if w.t.cfg.Pad == 0 {
		return 0
	}
	return w.rng.IntN(w.t.cfg.Pad)
}

// set returns the key of a set to add to.
func (w *worker) set(adding bool) string {
	i := w.rng.IntN(len(w.t.sets))
	s := &w.t.sets[i]
	s.mu.Lock()
	defer s.mu.Unlock()
	if adding {
		s.attempted++
		if s.attempted > setLimit {
			s.generation, s.attempted = s.generation+1, 1
		}
	}
	return fmt.Sprintf("set/%d/%d/%d", w.t.cfg.First, i, s.generation)
}

// add reads a set, and writes it with one element more.
func (w *worker) add(ctx context.Context) {
	key := w.set(true)
	began := time.Now()
	obj, err := w.c.Get(ctx, key)
	if w.t.Tally.read(began, err); err != nil && !there(err) {
		return
	}
	union := Elements(w.t.cfg.History.Saw(key, Values(obj)))
	e := w.element()
	w.put(ctx, key, e, history.Value{Key: key, By: e, Elements: history.Union(union, []history.Element{e})}, true, obj.Version())
}

func (w *worker) addBlind(ctx context.Context) {
	key, e := w.set(true), w.element()
	w.put(ctx, key, e, history.Value{Key: key, By: e, Elements: []history.Element{e}}, true, client.Version{})
}

func (w *worker) put(
	ctx context.Context, key string, e history.Element, v history.Value, isSet bool, after client.Version,
) (version client.Version, o history.Outcome, twice bool) {
	if isSet {
		w.t.cfg.History.Begin(key, e, true)
	}
	began := time.Now()
	var info client.Info
	version, err := w.c.Put(ctx, key, history.Encode(v, w.pad()), client.After(after), client.Explain(&info))
	o = w.acknowledged(key, version, err)
	w.t.Tally.write(began, o, err)
	w.t.cfg.History.Remark(e, remark(version, &info, err))
	if isSet {
		w.t.cfg.History.End(e, o)
	}
	return version, o, mayBeTwice(&info, err)
}

// acknowledged is what a write came to; who wants to know is told.
func (w *worker) acknowledged(key string, version client.Version, err error) history.Outcome {
	o := OutcomeOf(err)
	if told := w.t.cfg.Acked; told != nil && o == history.Acked {
		told(w.region, key, version)
	}
	return o
}

// register does something to one of the worker's own keys.
func (w *worker) register(ctx context.Context) {
	r := &w.regs[w.rng.IntN(len(w.regs))]
	if r.reg == nil || r.reg.Retired() {
		*r = register{reg: w.t.cfg.History.Register(fmt.Sprintf("reg/%d/%d", w.id, w.next))}
		w.next++
	}
	switch p := w.rng.IntN(10); {
	case p < 4:
		e := w.element()
		r.reg.BeginPut(e)
		v, o, twice := w.put(ctx, r.reg.Key(), e, history.Value{Key: r.reg.Key(), By: e}, false, r.version)
		if r.reg.EndPut(e, o); twice {
			r.reg.Twice()
		}
		if o == history.Acked {
			r.version = v
		}
	case p < 6:
		if r.version.IsZero() {
			return // a delete without a version deletes what it happens to see
		}
		r.reg.BeginDelete()
		began := time.Now()
		v, err := w.c.Delete(ctx, r.reg.Key(), client.After(r.version))
		o := w.acknowledged(r.reg.Key(), v, err)
		w.t.Tally.write(began, o, err)
		r.reg.EndDelete(o)
		if o == history.Acked {
			r.version = v
		}
	default:
		began := time.Now()
		obj, err := w.c.Get(ctx, r.reg.Key(), client.LocalQuorum)
		if w.t.Tally.read(began, err); err == nil || there(err) {
			r.reg.Read(w.region, Values(obj))
		}
	}
}

// glance reads a set at the weakest level: what it sees may be old, but not
// wrong.
func (w *worker) glance(ctx context.Context) {
	key := w.set(false)
	began := time.Now()
	obj, err := w.c.Get(ctx, key, client.LocalOne)
	if w.t.Tally.read(began, err); err == nil || there(err) {
		w.t.cfg.History.Saw(key, Values(obj))
	}
}

// there says that an error of a read comes with an answer.
func there(err error) bool {
	return errors.Is(err, client.ErrNotFound) || errors.Is(err, client.ErrSiblings)
}

// Values are the values of all siblings that are not deletes.
func Values(obj client.Object) [][]byte {
	var out [][]byte
	for _, s := range obj.Siblings() {
		if !s.Deleted {
			out = append(out, s.Value)
		}
	}
	return out
}

// Elements is the union of what values hold.
func Elements(vs []history.Value) []history.Element {
	var all [][]history.Element
	for _, v := range vs {
		all = append(all, v.Elements)
	}
	return history.Union(all...)
}

// OutcomeOf is what an error of a write says.
func OutcomeOf(err error) history.Outcome {
	var e *client.Error
	switch {
	case err == nil:
		return history.Acked
	case errors.As(err, &e) && e.Outcome == client.NotApplied:
		return history.Refused
	default:
		return history.Unknown
	}
}

// Tally counts what clients were told, and remembers when operations began that
// failed.
type Tally struct {
	ok, failed atomic.Int64
	mu         sync.Mutex
	reasons    map[string]int
	failures   []failure
}

type failure struct {
	began  time.Time
	reason string
	err    error // of the first failures of each reason, for who looks into them
}

// toldErrors is of how many failures of each reason the errors are kept.
const toldErrors = 100

func (t *Tally) write(began time.Time, o history.Outcome, err error) {
	if o == history.Acked {
		t.ok.Add(1)
		return
	}
	t.fail(began, err)
}

func (t *Tally) read(began time.Time, err error) {
	if err == nil || there(err) {
		t.ok.Add(1)
		return
	}
	t.fail(began, err)
}

func (t *Tally) fail(began time.Time, err error) { t.note(began, reasonOf(err), err) }

func (t *Tally) note(began time.Time, reason string, err error) {
	t.failed.Add(1)
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.reasons == nil {
		t.reasons = map[string]int{}
	}
	t.reasons[reason]++
	if t.reasons[reason] > toldErrors {
		err = nil
	}
	t.failures = append(t.failures, failure{began, reason, err})
}

// OK counts the operations that succeeded, Failed the others.
func (t *Tally) OK() int64     { return t.ok.Load() }
func (t *Tally) Failed() int64 { return t.failed.Load() }

// Reasons counts failures by the SDK's names for them.
func (t *Tally) Reasons() map[string]int {
	t.mu.Lock()
	defer t.mu.Unlock()
	out := map[string]int{}
	for r, n := range t.reasons {
		out[r] = n
	}
	return out
}

// FailedBetween counts, by reason, the operations that began in a span of time
// and failed, whenever that was.
func (t *Tally) FailedBetween(from, to time.Time) map[string]int {
	t.mu.Lock()
	defer t.mu.Unlock()
	out := map[string]int{}
	for _, f := range t.failures {
		if f.began.After(from) && f.began.Before(to) {
			out[f.reason]++
		}
	}
	return out
}

// Told is when the first few operations of a span of time began that failed, and what
// their clients were told.
func (t *Tally) Told(from, to time.Time) (out []string) {
	t.mu.Lock()
	defer t.mu.Unlock()
	told := map[string]int{}
	for _, f := range t.failures {
		if f.err != nil && f.began.After(from) && f.began.Before(to) && told[f.reason] < 3 {
			told[f.reason]++
			out = append(out, fmt.Sprintf("%s: %v", f.began.UTC().Format("15:04:05.000"), f.err))
		}
	}
	return out
}

// mayBeTwice reports whether a client was told that its write may be there twice: by
// the answer, or by the error of one whose outcome is unknown.
func mayBeTwice(info *client.Info, err error) bool {
	var e *client.Error
	if errors.As(err, &e) {
		return e.MaybeDuplicate
	}
	return info.MaybeDuplicate
}

// remark tells how a write went, for who looks into a violation.
func remark(v client.Version, info *client.Info, err error) string {
	at := time.Now().UTC().Format("15:04:05.000")
	if err != nil {
		return fmt.Sprintf("failed at %s: %v, may be there twice: %v", at, err, mayBeTwice(info, err))
	}
	return fmt.Sprintf("at %s by %s, attempts: %d, replicas %v, version %s, replayed: %v, may be there twice: %v",
		at, info.Coordinator, info.Attempts, info.Replicas, v, info.Replayed, info.MaybeDuplicate)
}
