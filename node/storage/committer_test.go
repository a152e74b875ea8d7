package storage_test

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/atolldb/atoll/node/storage"
	"github.com/atolldb/atoll/node/storage/memstore"
)

// op is an Op made of functions; what is nil does nothing.
type op struct {
	size    int
	decide  func(storage.Txn) error
	decided func()
	done    func(error)
}

func (o *op) Size() int { return o.size }
func (o *op) Decide(tx storage.Txn) error {
	if o.decide == nil {
		return nil
	}
	return o.decide(tx)
}
func (o *op) Decided() {
	if o.decided != nil {
		o.decided()
	}
}
func (o *op) Done(err error) {
	if o.done != nil {
		o.done(err)
	}
}

// result keeps what Done said and fails the test on a second one.
type result struct {
	t     *testing.T
	calls atomic.Int32
	err   error
	c     chan struct{}
}

func newResult(t *testing.T) *result { return &result{t: t, c: make(chan struct{})} }

func (r *result) done(err error) {
	if r.calls.Add(1) > 1 {
		r.t.Error("two calls of Done")
		return
	}
	r.err = err
	close(r.c)
}

func (r *result) wait() error { <-r.c; return r.err }

func putOp(t *testing.T, key, value string) (*op, *result) {
	r := newResult(t)
	return &op{size: len(key) + len(value), done: r.done, decide: func(tx storage.Txn) error {
		return tx.Put([]byte(key), []byte(value))
	}}, r
}

type running struct {
	*storage.Committer
	disk   *memstore.Disk
	engine *memstore.Engine
	cancel context.CancelFunc
	end    chan error
}

func (r *running) stop(t *testing.T) {
	t.Helper()
	r.cancel()
	if err := <-r.end; err != nil {
		t.Fatalf("run: %v", err)
	}
	r.engine.Close()
}

func start(t *testing.T, d *memstore.Disk, cfg storage.CommitterConfig) *running {
	t.Helper()
	e, err := d.Open()
	if err != nil {
		t.Fatal(err)
	}
	r := &running{storage.NewCommitter(e, cfg), d, e, nil, make(chan error, 1)}
	run(t, r)
	return r
}

func run(t *testing.T, r *running) {
	var ctx context.Context
	ctx, r.cancel = context.WithCancel(t.Context())
	go func() { r.end <- r.Run(ctx) }()
}

func submit(t *testing.T, c *running, ops ...storage.Op) {
	t.Helper()
	if err := c.Submit(ops...); err != nil {
		t.Fatalf("submit: %v", err)
	}
}

func value(t *testing.T, e storage.Engine, key string) string {
	t.Helper()
	v, err := e.Get([]byte(key))
	if err != nil && !errors.Is(err, storage.ErrNotFound) {
		t.Fatalf("get %q: %v", key, err)
	}
	return string(v)
}

func bubble(t *testing.T, f func(*testing.T)) { t.Helper(); synctest.Test(t, f) }

// slow is a disk on which ops gather while a sync is under way.
func slow() *memstore.Disk {
	return memstore.NewDisk(memstore.Config{SyncMin: 10 * time.Millisecond})
}

func TestGroupIsOneSyncInOrder(t *testing.T) {
	bubble(t, func(t *testing.T) {
		c := start(t, slow(), storage.CommitterConfig{})
		first, r := putOp(t, "first", "x")
		submit(t, c, first)
		synctest.Wait() // it syncs; what comes now is one group
		var log []string
		var results []*result
		for i := range 5 {
			r := newResult(t)
			results = append(results, r)
			submit(t, c, &op{
				size: 10,
				decide: func(tx storage.Txn) error {
					log = append(log, fmt.Sprint("decide", i))
					old, err := tx.Get([]byte("k"))
					if err != nil && !errors.Is(err, storage.ErrNotFound) {
						return err
					}
					return tx.Put([]byte("k"), append(old, byte('0'+i)))
				},
				decided: func() {
					if value(t, c.engine, "k") != "" {
						t.Error("visible before the sync")
					}
					log = append(log, fmt.Sprint("decided", i))
				},
				done: func(err error) { log = append(log, fmt.Sprint("done", i)); r.done(err) },
			})
		}
		for _, r := range append(results, r) {
			if err := r.wait(); err != nil {
				t.Fatal(err)
			}
		}
		want := "decide0 decide1 decide2 decide3 decide4 decided0 decided1 decided2 decided3 decided4 done0 done1 done2 done3 done4"
		if got := strings.Join(log, " "); got != want {
			t.Errorf("order: %s", got)
		}
		if v := value(t, c.engine, "k"); v != "01234" {
			t.Errorf("value %q", v)
		}
		s := c.Stats()
		if c.disk.Syncs() != 2 || s.Groups != 2 || s.Syncs != 2 || s.Ops != 6 || s.Bytes != 56 || s.LastGroup != 5 ||
			s.GroupSizes[0] != 1 || s.GroupSizes[3] != 1 || s.SyncTime != 20*time.Millisecond || s.Group != 2 {
			t.Errorf("%d syncs, stats %+v", c.disk.Syncs(), s)
		}
		c.stop(t)
	})
}

func TestDecideErrorTakesOutOneOp(t *testing.T) {
	bubble(t, func(t *testing.T) {
		c := start(t, slow(), storage.CommitterConfig{})
		refused := errors.New("refused")
		a, ra := putOp(t, "a", "1")
		b, rb := putOp(t, "b", "1")
		rx := newResult(t)
		submit(t, c, a, &op{
			size:    1,
			decide:  func(storage.Txn) error { return refused },
			decided: func() { t.Error("decided after an error") },
			done: func(err error) {
				// What it was refused for may be of this group: not before the sync.
				if value(t, c.engine, "a") != "1" {
					t.Error("told before the sync")
				}
				rx.done(err)
			},
		}, b)
		if ra.wait() != nil || rb.wait() != nil || rx.wait() != refused {
			t.Errorf("%v %v %v", ra.err, rb.err, rx.err)
		}
		if s := c.Stats(); s.Rejected != 1 || s.Groups != 1 {
			t.Errorf("stats %+v", s)
		}
		c.stop(t)
	})
}

// An op that writes nothing costs no sync and no marker.
func TestNothingWrittenNothingSynced(t *testing.T) {
	bubble(t, func(t *testing.T) {
		c := start(t, slow(), storage.CommitterConfig{})
		r := newResult(t)
		decided := false
		submit(t, c, &op{size: 5, decided: func() { decided = true }, done: r.done})
		if err := r.wait(); err != nil || !decided || c.disk.Syncs() != 0 {
			t.Errorf("%v, decided %t, %d syncs", err, decided, c.disk.Syncs())
		}
		write(t, c, 1)
		c.stop(t)
		if report := check(t, c.disk); report.Lost() || report.Highest != 1 {
			t.Errorf("it took a number: %+v", report)
		}
	})
}

func TestGroupBounds(t *testing.T) {
	bubble(t, func(t *testing.T) {
		c := start(t, slow(), storage.CommitterConfig{GroupOps: 4, GroupBytes: 100, OpBytes: 1000})
		hold, _ := putOp(t, "hold", "x")
		submit(t, c, hold)
		synctest.Wait()
		var group []int // number of the group that op i was in, by its Done time
		var results []*result
		began := time.Now()
		for _, size := range []int{10, 10, 10, 10, 10, 50, 60, 500, 1, 99} {
			o, r := putOp(t, fmt.Sprint("k", size), "v")
			o.size = size
			o.done = func(err error) { group = append(group, int(time.Since(began)/(10*time.Millisecond))); r.done(err) }
			submit(t, c, o)
			results = append(results, r)
		}
		for _, r := range results {
			r.wait()
		}
		if want := []int{2, 2, 2, 2, 3, 3, 4, 5, 6, 6}; !slices.Equal(group, want) {
			t.Errorf("groups %v, want %v", group, want)
		}
		if err := c.Submit(&op{size: 1001}); !errors.Is(err, storage.ErrTooLarge) {
			t.Errorf("too large: %v", err)
		}
		c.stop(t)
	})
}

func TestFullQueueRefusesAtOnce(t *testing.T) {
	bubble(t, func(t *testing.T) {
		c := start(t, slow(), storage.CommitterConfig{QueueOps: 3, QueueBytes: 100})
		hold, _ := putOp(t, "hold", "x")
		submit(t, c, hold)
		synctest.Wait()
		a, ra := putOp(t, "a", "1")
		b, rb := putOp(t, "b", "1")
		submit(t, c, a, b)
		x, rx := putOp(t, "x", "1")
		y, _ := putOp(t, "y", "1")
		if err := c.Submit(x, y); !errors.Is(err, storage.ErrOverloaded) {
			t.Errorf("two into one place: %v", err)
		}
		if err := c.Submit(&op{size: 97}); !errors.Is(err, storage.ErrOverloaded) {
			t.Errorf("too many bytes: %v", err)
		}
		if s := c.Stats(); s.QueueOps != 2 || s.QueueBytes != 4 || s.RefusedOverload != 2 {
			t.Errorf("stats %+v", s)
		}
		submit(t, c, x)
		if ra.wait() != nil || rb.wait() != nil || rx.wait() != nil {
			t.Error("accepted ops failed")
		}
		// An empty queue takes what it could never hold beside another.
		var many []storage.Op
		var last *result
		for i := range 7 {
			o, r := putOp(t, fmt.Sprint(i), strings.Repeat("x", 50))
			many, last = append(many, o), r
		}
		submit(t, c, many...)
		if err := last.wait(); err != nil {
			t.Error(err)
		}
		if v := value(t, c.engine, "y"); v != "" {
			t.Error("half of a refused batch was written")
		}
		c.stop(t)
	})
}

func TestStopDrains(t *testing.T) {
	bubble(t, func(t *testing.T) {
		c := start(t, slow(), storage.CommitterConfig{GroupOps: 2})
		var results []*result
		for i := range 7 {
			o, r := putOp(t, fmt.Sprint("k", i), "v")
			submit(t, c, o)
			results = append(results, r)
		}
		c.stop(t)
		for i, r := range results {
			if err := r.wait(); err != nil {
				t.Errorf("op %d: %v", i, err)
			}
		}
		if err := c.Submit(&op{}); !errors.Is(err, storage.ErrClosed) {
			t.Errorf("submit after the end: %v", err)
		}
		if err := c.Run(t.Context()); err == nil {
			t.Error("ran twice")
		}
		report := check(t, c.disk)
		if report.Lost() || report.Side != report.Highest || report.Highest == 0 {
			t.Errorf("after a clean stop: %+v", report)
		}
	})
}

func TestFailedSyncFailsAll(t *testing.T) {
	bubble(t, func(t *testing.T) {
		c := start(t, slow(), storage.CommitterConfig{GroupOps: 2})
		good, rgood := putOp(t, "fine", "1")
		submit(t, c, good)
		if err := rgood.wait(); err != nil {
			t.Fatal(err)
		}
		c.disk.FailNextSync()
		var results []*result
		for i := range 5 {
			o, r := putOp(t, fmt.Sprint(i), "1")
			if i == 1 { // its refusal may rest on what was not synced
				o.decide = func(storage.Txn) error { return errors.New("refused") }
			}
			submit(t, c, o)
			results = append(results, r)
		}
		if err := <-c.end; !errors.Is(err, storage.ErrFailed) {
			t.Fatalf("run: %v", err)
		}
		for i, r := range results {
			if err := r.wait(); !errors.Is(err, storage.ErrFailed) {
				t.Errorf("op %d: %v", i, err)
			}
		}
		if err := c.Submit(&op{}); !errors.Is(err, storage.ErrFailed) {
			t.Errorf("submit: %v", err)
		}
	})
}

func TestCrashInTheSyncFailsTheGroup(t *testing.T) {
	bubble(t, func(t *testing.T) {
		c := start(t, slow(), storage.CommitterConfig{})
		o, r := putOp(t, "a", "1")
		submit(t, c, o)
		synctest.Wait()
		c.disk.Crash(nil)
		if err := r.wait(); !errors.Is(err, storage.ErrFailed) {
			t.Errorf("done: %v", err)
		}
		if err := <-c.end; !errors.Is(err, storage.ErrFailed) {
			t.Errorf("run: %v", err)
		}
		// The group was never durable: nothing is lost.
		if report := check(t, c.disk); report.Lost() || report.Highest != 0 {
			t.Errorf("%+v", report)
		}
	})
}

func TestErrorAfterAWriteStops(t *testing.T) {
	bubble(t, func(t *testing.T) {
		c := start(t, slow(), storage.CommitterConfig{})
		ok, rok := putOp(t, "a", "1")
		bad := newResult(t)
		submit(t, c, ok, &op{decide: func(tx storage.Txn) error {
			if err := tx.Put([]byte("b"), []byte("half")); err != nil {
				return err
			}
			return errors.New("changed my mind")
		}, done: bad.done})
		if err := <-c.end; !errors.Is(err, storage.ErrFailed) || !strings.Contains(err.Error(), "changed my mind") {
			t.Errorf("run: %v", err)
		}
		if !errors.Is(rok.wait(), storage.ErrFailed) || !errors.Is(bad.wait(), storage.ErrFailed) {
			t.Error("the group was acknowledged")
		}
		if value(t, c.engine, "a") != "" || value(t, c.engine, "b") != "" {
			t.Error("the group was written")
		}
		if _, err := c.engine.Begin(); err != nil {
			t.Errorf("its transaction is open: %v", err)
		}
	})
}

func TestMarkersAreReserved(t *testing.T) {
	bubble(t, func(t *testing.T) {
		c := start(t, slow(), storage.CommitterConfig{})
		for _, decide := range []func(storage.Txn) error{
			func(tx storage.Txn) error { return tx.Put([]byte("g\x00\x00\x00\x01"), nil) },
			func(tx storage.Txn) error { return tx.Delete([]byte("g")) },
		} {
			r := newResult(t)
			submit(t, c, &op{decide: decide, done: r.done})
			if r.wait() == nil {
				t.Error("an op wrote a marker")
			}
		}
		c.stop(t)
	})
}

func TestPanicInDecideIsNotSwallowed(t *testing.T) {
	e, err := memstore.NewDisk(memstore.Config{}).Open()
	if err != nil {
		t.Fatal(err)
	}
	c := storage.NewCommitter(e, storage.CommitterConfig{})
	o := &op{decide: func(storage.Txn) error { panic("bug") }, done: func(error) { t.Error("done after a panic") }}
	if err := c.Submit(o); err != nil {
		t.Fatal(err)
	}
	defer func() {
		if recover() != "bug" {
			t.Error("the panic did not come through")
		}
	}()
	c.Run(t.Context())
	t.Error("Run returned")
}

// 64 writers add 1 to a few counters, through a committer that is stopped and
// started; every acknowledged addition must be in the sum.
func TestConcurrentCountersLoseNothing(t *testing.T) {
	d := memstore.NewDisk(memstore.Config{SyncMax: 100 * time.Microsecond})
	var acked [4]atomic.Int64
	for range 3 {
		c := start(t, d, storage.CommitterConfig{QueueOps: 40})
		var wg sync.WaitGroup
		for w := range 64 {
			wg.Go(func() {
				for i := range 50 {
					n := (w + i) % 4
					r := newResult(t)
					err := c.Submit(&op{size: 9, done: r.done, decide: func(tx storage.Txn) error {
						key := []byte{byte('0' + n)}
						v, err := tx.Get(key)
						if errors.Is(err, storage.ErrNotFound) {
							v = make([]byte, 8)
						} else if err != nil {
							return err
						}
						return tx.Put(key, binary.BigEndian.AppendUint64(nil, binary.BigEndian.Uint64(v)+1))
					}})
					if errors.Is(err, storage.ErrOverloaded) {
						continue
					}
					if err != nil || r.wait() != nil {
						t.Errorf("%v, %v", err, r.err)
						return
					}
					acked[n].Add(1)
				}
			})
		}
		wg.Wait()
		for n := range acked {
			v, err := c.engine.Get([]byte{byte('0' + n)})
			if err != nil || binary.BigEndian.Uint64(v) != uint64(acked[n].Load()) {
				t.Errorf("counter %d: %x, %v; acknowledged %d", n, v, err, acked[n].Load())
			}
		}
		if s := c.Stats(); s.Ops/max(s.Groups, 1) < 4 {
			t.Errorf("%d ops in %d groups: no batching", s.Ops, s.Groups)
		}
		c.stop(t)
	}
}
