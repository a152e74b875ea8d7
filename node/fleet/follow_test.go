package fleet_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/atolldb/atoll/client"
	"github.com/atolldb/atoll/node/fleet"
	"github.com/atolldb/atoll/node/topology"
	adminv1 "github.com/atolldb/atoll/proto/atoll/admin/v1"
)

// The bounds that docs/dr.md promises.
const (
	maxSwitchover = 30 * time.Second
	maxFailover   = 60 * time.Second
)

// crowd is clients of region eu that follow the map of regions: each writes keys, and
// a register of its own that it reads after each write, in one session for all.
type crowd struct {
	t    *testing.T
	c    *client.Client
	ctx  context.Context
	stop context.CancelFunc
	wg   sync.WaitGroup

	ops     atomic.Int64 // that succeeded
	losses  atomic.Int64 // that its session was told
	calm    atomic.Bool  // an error is one
	mu      sync.Mutex
	moves   []client.RegionChange
	acked   []string
	places  map[string]int // writes, by region
	slowest time.Duration
}

const crowdSize = 12

func gather(t *testing.T, ctx context.Context, f *fleet.Fleet) *crowd {
	w := &crowd{t: t, places: map[string]int{}}
	w.calm.Store(true)
	w.ctx, w.stop = context.WithCancel(ctx)
	var err error
	w.c, err = client.Open(ctx, strings.Join(f.Endpoints("eu"), ","), client.Region("eu"), client.Fallback("us"),
		client.ReturnAfter(time.Second), client.Timeout(5*time.Second), client.OnRegionChange(func(m client.RegionChange) {
			w.mu.Lock()
			defer w.mu.Unlock()
			w.moves = append(w.moves, m)
		}))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { w.disperse(); w.c.Close() })
	for i := range crowdSize {
		w.wg.Go(func() { w.work(i) })
	}
	return w
}

// disperse ends the work, and waits for it.
func (w *crowd) disperse() {
	w.stop()
	w.wg.Wait()
}

func (w *crowd) moved() []client.RegionChange {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.moves
}

// failed tells what is not to be, and forgives while a region is lost. A session is
// told what is lost with it, and goes on: then it reports true.
func (w *crowd) failed(what string, err error) (lost bool) {
	if errors.Is(err, client.ErrSessionLost) {
		w.c.AcceptLoss()
		w.losses.Add(1)
		return true
	}
	if w.calm.Load() {
		w.t.Errorf("%s in %s: %v", what, w.c.Region(), err)
	}
	return false
}

func (w *crowd) work(i int) {
	register := fmt.Sprint("register/", i)
	var version client.Version
	last, unsure := "", false
	for n := 0; w.ctx.Err() == nil; n++ {
		key := fmt.Sprintf("key/%d/%d", i, n)
		var info client.Info
		began := time.Now()
		_, err := w.c.Put(w.t.Context(), key, []byte(key), client.Explain(&info))
		if took := time.Since(began); err == nil {
			w.ops.Add(1)
			w.mu.Lock()
			w.acked, w.places[info.Region], w.slowest = append(w.acked, key), w.places[info.Region]+1, max(w.slowest, took)
			w.mu.Unlock()
		} else {
			w.failed("put", err)
		}
		v, err := w.c.Put(w.t.Context(), register, []byte(key), client.After(version), client.Explain(&info))
		switch {
		case err == nil:
			version, last = v, key
			unsure = unsure || info.MaybeDuplicate
			w.ops.Add(1)
		default:
			// It may show, beside what follows.
			unsure = unsure || errors.Is(err, client.ErrUnknownOutcome)
			if w.failed("put register", err) {
				last = ""
			}
		}
		obj, err := w.c.Get(w.t.Context(), register, client.LocalTwo)
		switch {
		case err == nil && !unsure && last != "" && string(obj.Value()) != last:
			w.t.Errorf("%s in %s is %q, the session has written %q", register, w.c.Region(), obj.Value(), last)
		case err == nil, unsure && errors.Is(err, client.ErrSiblings), last == "" && errors.Is(err, client.ErrNotFound):
			w.ops.Add(1)
		default:
			if w.failed("get register", err) {
				last = ""
			}
		}
	}
}

// TestClientsFollow: while clients work, their region is switched over, comes back, is
// lost and failed over, and comes back again. They go where it is served; the only
// errors are those of the lost region before anybody has said so; no acknowledged
// write is lost, and a session reads its own writes wherever it is.
func TestClientsFollow(t *testing.T) {
	f, _ := start(t, fleet.Config{Regions: []topology.Region{"eu", "us"}, Latency: 5 * time.Millisecond, Partitions: 16})
	ctx, cancel := context.WithTimeout(t.Context(), 3*time.Minute) // 40 s with the race detector
	defer cancel()
	regions, us := regionsOf(t, f, "us"), open(t, ctx, f, "us")
	w := gather(t, ctx, f)
	works := func(in string) {
		t.Helper()
		eventually(t, ctx, "clients work in "+in, func() bool { return w.c.Region() == in })
		before := w.ops.Load()
		eventually(t, ctx, "clients go on", func() bool { return w.ops.Load() > before+20*crowdSize })
	}
	works("eu")
	homed := func(name string) {
		t.Helper()
		eu := open(t, ctx, f, "eu")
		if _, err := eu.Buckets().Create(ctx, client.BucketInfo{Name: name, Home: "eu"}); err != nil {
			t.Fatal(err)
		}
		if _, err := eu.In(name).Put(ctx, "n", []byte("in eu"), client.Serial); err != nil {
			t.Fatal(err)
		}
		eventually(t, ctx, "it is in us", func() bool {
			got, err := us.In(name).Get(ctx, "n", client.LocalQuorum)
			return err == nil && string(got.Value()) == "in eu"
		})
	}
	// decides holds the survivors to what SERIAL is: what was decided in the old home holds.
	decides := func(name string) {
		t.Helper()
		if _, err := us.In(name).Put(ctx, "n", []byte("twice"), client.Serial, client.IfAbsent()); !errors.Is(err, client.ErrConditionFailed) {
			t.Errorf("SERIAL in us, of what is there: %v", err)
		}
		got, err := us.In(name).Get(ctx, "n", client.Serial)
		if err == nil {
			_, err = us.In(name).Put(ctx, "n", []byte("in us"), client.Serial, client.IfUnchanged(got.Version()))
		}
		if err != nil {
			t.Errorf("SERIAL in us: %v", err)
		}
	}

	homed("switched")
	began := time.Now()
	operate(t, ctx, regions, &adminv1.PlanOperationRequest{Kind: "switchover", Region: "eu"})
	decides("switched")
	took := time.Since(began)
	t.Logf("switchover: %v", took)
	if took > maxSwitchover {
		t.Errorf("the switchover took %v", took)
	}
	works("us")
	operate(t, ctx, regions, &adminv1.PlanOperationRequest{Kind: "failback", Region: "eu"})
	works("eu")

	homed("lost")
	w.calm.Store(false)
	for _, id := range []topology.NodeID{"eu-1", "eu-2", "eu-3"} {
		if err := f.Kill(id); err != nil {
			t.Fatal(err)
		}
	}
	began = time.Now()
	operate(t, ctx, regions, &adminv1.PlanOperationRequest{Kind: "failover", Region: "eu", Force: true})
	if _, err := us.Put(ctx, "all", []byte("v"), client.EachQuorum); err != nil {
		t.Errorf("survivors: %v", err)
	}
	decides("lost")
	eventually(t, ctx, "clients of the lost region go", func() bool { return w.c.Region() == "us" })
	if took = time.Since(began); took > maxFailover {
		t.Errorf("the failover took %v", took)
	}
	t.Logf("failover: %v, until the clients of the lost region work", took)
	eventually(t, ctx, "what was under way has ended", func() bool { return time.Since(began) > took+5*time.Second })
	w.calm.Store(true)
	works("us")
	for _, id := range []topology.NodeID{"eu-1", "eu-2", "eu-3"} {
		if err := f.StartNode(ctx, id); err != nil {
			t.Fatal(err)
		}
	}
	operate(t, ctx, regions, &adminv1.PlanOperationRequest{Kind: "failback", Region: "eu"})
	works("eu")
	w.disperse()

	eventually(t, ctx, "regions are equal", func() bool { return f.Converged() == nil })
	for _, region := range []topology.Region{"eu", "us"} {
		c := open(t, ctx, f, region)
		for i, got := range c.GetMany(ctx, w.acked) {
			if got.Err != nil || string(got.Object.Value()) != w.acked[i] {
				t.Errorf("LOST in %s: %s: %v", region, w.acked[i], got.Err)
			}
		}
	}
	t.Logf("%d operations, writes %v, the slowest took %v; %d were told of losses; moves %+v", w.ops.Load(), w.places, w.slowest, w.losses.Load(), w.moved())
	if n := len(w.moved()); n != 4 {
		t.Errorf("%d moves: %+v", n, w.moved())
	}
}
