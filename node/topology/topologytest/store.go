package topologytest

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/atolldb/atoll/hashring"
	"github.com/atolldb/atoll/node/topology"
)

// OpenStore returns a store on the state of one test; called again, another
// one on the same state, as another node has it.
type OpenStore func() topology.Store

// StoreCase is one thing a store must do.
type StoreCase struct {
	Name string
	Run  func(t *testing.T, open OpenStore)
}

// StoreCases is the suite. Run each on a state of its own. It also runs in a
// testing/synctest bubble.
func StoreCases() []StoreCase {
	return []StoreCase{
		{"load what was swapped in", storeLoad},
		{"conflict", storeConflict},
		{"epochs rise", storeEpochs},
		{"nothing invalid", storeInvalid},
		{"swaps at once", storeAtOnce},
		{"first swaps at once", storeFirstAtOnce},
		{"watch", storeWatch},
		{"watch sees the newest", storeWatchNewest},
		{"lead", storeLead},
		{"lead at once", storeLeadAtOnce},
		{"end of the context", storeDeadline},
		{"the map of regions", storeRegions},
	}
}

// Topology returns a topology of three members at an epoch. The tag tells it
// apart from others of the same epoch.
func Topology(tb testing.TB, epoch topology.Epoch, tag uint64) *topology.Topology {
	tb.Helper()
	t, err := topology.Static("east", Region, []topology.Member{
		{ID: "n1", Rack: "a", PeerAddr: "h1:1", ClientAddr: "h1:2"},
		{ID: "n2", Rack: "b", PeerAddr: "h2:1", ClientAddr: "h2:2"},
		{ID: "n3", Rack: "c", PeerAddr: "h3:1", ClientAddr: "h3:2"},
	}, hashring.Rules{Partitions: 16, Replicas: 3})
	if err != nil {
		tb.Fatal(err)
	}
	t.Epoch, t.Pace.BytesPerSecond = epoch, tag
	return t
}

// Same says how two topologies differ, "" if they do not.
func Same(want, got *topology.Topology) string {
	encode := func(t *topology.Topology) []byte {
		if t == nil {
			return nil
		}
		return topology.Encode(t)
	}
	return cmp.Diff(encode(want), encode(got))
}

type revised struct {
	t  *topology.Topology
	at topology.Revision
}

func load(t *testing.T, s topology.Store, want *topology.Topology) topology.Revision {
	t.Helper()
	got, at, err := s.Load(within(t))
	if err != nil {
		t.Fatal(err)
	}
	if d := Same(want, got); d != "" {
		t.Fatalf("at revision %d:\n%s", at, d)
	}
	if (at == 0) != (want == nil) {
		t.Fatalf("revision %d of %v", at, got)
	}
	return at
}

func swap(t *testing.T, s topology.Store, x *topology.Topology, at topology.Revision) topology.Revision {
	t.Helper()
	now, err := s.Swap(within(t), x, at)
	if err != nil {
		t.Fatal(err)
	}
	if now <= at {
		t.Fatalf("revision %d after %d", now, at)
	}
	return now
}

func refused(t *testing.T, s topology.Store, x *topology.Topology, at topology.Revision) {
	t.Helper()
	if now, err := s.Swap(within(t), x, at); !errors.Is(err, topology.ErrConflict) {
		t.Fatalf("swap of epoch %d at revision %d: %d, %v", x.Epoch, at, now, err)
	}
}

func storeLoad(t *testing.T, open OpenStore) {
	s := open()
	load(t, s, nil)
	one, two := Topology(t, 1, 0), Topology(t, 2, 0)
	at := swap(t, s, one, 0)
	for _, s := range []topology.Store{s, open()} {
		if got := load(t, s, one); got != at {
			t.Fatalf("revision %d, not %d", got, at)
		}
	}
	at = swap(t, open(), two, at)
	if got := load(t, s, two); got != at {
		t.Fatalf("revision %d, not %d", got, at)
	}
}

func storeConflict(t *testing.T, open OpenStore) {
	s := open()
	refused(t, s, Topology(t, 1, 0), 7)
	first := swap(t, s, Topology(t, 1, 0), 0)
	refused(t, s, Topology(t, 2, 0), 0)
	refused(t, s, Topology(t, 2, 0), first+1)
	second := swap(t, s, Topology(t, 2, 1), first)
	refused(t, open(), Topology(t, 3, 0), first)
	load(t, s, Topology(t, 2, 1))
	swap(t, open(), Topology(t, 3, 0), second)
}

func storeEpochs(t *testing.T, open OpenStore) {
	s := open()
	at := swap(t, s, Topology(t, 5, 0), 0)
	refused(t, s, Topology(t, 5, 1), at)
	refused(t, s, Topology(t, 4, 1), at)
	load(t, s, Topology(t, 5, 0))
	swap(t, s, Topology(t, 9, 0), at)
}

func storeInvalid(t *testing.T, open OpenStore) {
	s := open()
	x := Topology(t, 1, 0)
	x.Members[0].ID = "n2"
	if _, err := s.Swap(within(t), x, 0); err == nil || errors.Is(err, topology.ErrConflict) {
		t.Fatalf("got %v", err)
	}
	load(t, s, nil)
}

// Many change the same thing at once: every revision has one winner, and what
// it made is what the next one changed.
func storeAtOnce(t *testing.T, open OpenStore) {
	ctx := within(t)
	const nodes, each = 6, 5
	swap(t, open(), Topology(t, 1, 0), 0)
	type win struct {
		from revised // what it changed
		made revised
	}
	wins := make([][]win, nodes)
	errs := make([]error, nodes)
	var wg sync.WaitGroup
	for n := range nodes {
		s := open()
		wg.Go(func() {
			for len(wins[n]) < each {
				have, at, err := s.Load(ctx)
				if err != nil {
					errs[n] = err
					return
				}
				next := have.Clone()
				next.Epoch++
				next.Pace.BytesPerSecond = uint64(n*each + len(wins[n]) + 1)
				now, err := s.Swap(ctx, next, at)
				switch {
				case err == nil:
					wins[n] = append(wins[n], win{revised{have, at}, revised{next, now}})
				case !errors.Is(err, topology.ErrConflict):
					errs[n] = err
					return
				}
			}
		})
	}
	wg.Wait()
	if err := errors.Join(errs...); err != nil {
		t.Fatal(err)
	}
	made := map[topology.Revision]*topology.Topology{}
	changed := map[topology.Revision]bool{}
	for n := range wins {
		for _, w := range wins[n] {
			if changed[w.from.at] {
				t.Errorf("two changed revision %d", w.from.at)
			}
			if made[w.made.at] != nil {
				t.Errorf("two made revision %d", w.made.at)
			}
			changed[w.from.at], made[w.made.at] = true, w.made.t
		}
	}
	for n := range wins {
		for _, w := range wins[n] {
			if from := made[w.from.at]; from != nil && Same(from, w.from.t) != "" {
				t.Errorf("revision %d is not what was swapped in", w.from.at)
			}
		}
	}
	if last, _, err := open().Load(ctx); err != nil || last.Epoch != 1+nodes*each {
		t.Errorf("after %d swaps: %+v, %v", nodes*each, last, err)
	}
}

// All nodes of a region start at once, with the same topology to begin with.
func storeFirstAtOnce(t *testing.T, open OpenStore) {
	ctx := within(t)
	const nodes = 5
	errs := make([]error, nodes)
	var wg sync.WaitGroup
	for n := range nodes {
		s := open()
		wg.Go(func() { _, errs[n] = s.Swap(ctx, Topology(t, 1, 0), 0) })
	}
	wg.Wait()
	won := 0
	for _, err := range errs {
		switch {
		case err == nil:
			won++
		case !errors.Is(err, topology.ErrConflict):
			t.Error(err)
		}
	}
	if won != 1 {
		t.Errorf("%d of %d were the first", won, nodes)
	}
}

// watch follows a store until the test ends.
func watch(t *testing.T, s topology.Store) <-chan revised {
	ctx, cancel := context.WithCancel(within(t))
	seen := make(chan revised, 256)
	done := make(chan error, 1)
	go func() {
		done <- s.Watch(ctx, func(x *topology.Topology, at topology.Revision) { seen <- revised{x, at} })
	}()
	t.Cleanup(func() {
		cancel()
		if err := <-done; !errors.Is(err, context.Canceled) {
			t.Errorf("watch ended with %v", err)
		}
	})
	return seen
}

// until waits for a topology, and sees that none comes after a newer one.
func until(t *testing.T, seen <-chan revised, want *topology.Topology) {
	t.Helper()
	ctx := within(t)
	last := revised{}
	for {
		select {
		case r := <-seen:
			if last.t != nil && (r.at < last.at || r.t.Epoch < last.t.Epoch) {
				t.Fatalf("epoch %d at revision %d after epoch %d at revision %d", r.t.Epoch, r.at, last.t.Epoch, last.at)
			}
			if last = r; r.t.Epoch == want.Epoch {
				if d := Same(want, r.t); d != "" {
					t.Fatal(d)
				}
				return
			}
		case <-ctx.Done():
			t.Fatalf("epoch %d never came", want.Epoch)
		}
	}
}

func storeWatch(t *testing.T, open OpenStore) {
	early := watch(t, open())
	s := open()
	at := swap(t, s, Topology(t, 1, 0), 0)
	until(t, early, Topology(t, 1, 0))
	late := watch(t, open())
	until(t, late, Topology(t, 1, 0))
	swap(t, s, Topology(t, 2, 0), at)
	for _, w := range []<-chan revised{early, late} {
		until(t, w, Topology(t, 2, 0))
	}
}

func storeWatchNewest(t *testing.T, open OpenStore) {
	seen, s := watch(t, open()), open()
	at := topology.Revision(0)
	const last = 40
	for e := topology.Epoch(1); e <= last; e++ {
		at = swap(t, s, Topology(t, e, uint64(e)), at)
	}
	until(t, seen, Topology(t, last, last))
}

// leadTTL is short for a lease, and long against one request.
const leadTTL = 2 * time.Second

func lead(t *testing.T, s topology.Store, node topology.NodeID) topology.NodeID {
	t.Helper()
	leader, err := s.Lead(within(t), node, leadTTL)
	if err != nil {
		t.Fatal(err)
	}
	return leader
}

func storeLead(t *testing.T, open OpenStore) {
	a, b, c := open(), open(), open()
	if l := lead(t, a, "n1"); l != "n1" {
		t.Fatalf("%s leads, and nobody else was there", l)
	}
	beat := time.NewTicker(leadTTL / 8)
	defer beat.Stop()
	began, renewed := time.Now(), time.Now()
	for time.Since(began) < leadTTL+leadTTL/2 { // longer than one lease
		renewed = time.Now()
		if l := lead(t, a, "n1"); l != "n1" {
			t.Fatalf("%s leads, though n1 went on", l)
		}
		if l := lead(t, b, "n2"); l != "n1" {
			t.Fatalf("n2 is told that %s leads", l)
		}
		<-beat.C
	}
	// n1 is gone.
	for {
		leader := lead(t, b, "n2")
		if leader == "n2" {
			break
		}
		if time.Since(renewed) > 10*leadTTL {
			t.Fatalf("%s leads for ever", leader)
		}
		<-beat.C
	}
	if took := time.Since(renewed); took < leadTTL {
		t.Errorf("n2 took over %v after n1's last word", took)
	}
	for _, s := range []topology.Store{a, c} { // n1 is back, n3 is new
		for node := range map[topology.NodeID]bool{"n1": true, "n3": true} {
			if l := lead(t, s, node); l != "n2" {
				t.Errorf("%s is told that %s leads", node, l)
			}
		}
	}
	if l := lead(t, b, "n2"); l != "n2" {
		t.Errorf("n2 is told that %s leads", l)
	}
}

func storeLeadAtOnce(t *testing.T, open OpenStore) {
	ctx := within(t)
	const nodes = 6
	told := make([]topology.NodeID, nodes)
	errs := make([]error, nodes)
	var wg sync.WaitGroup
	for n := range nodes {
		s := open()
		wg.Go(func() {
			told[n], errs[n] = s.Lead(ctx, topology.NodeID(fmt.Sprintf("n%d", n)), time.Hour)
		})
	}
	wg.Wait()
	if err := errors.Join(errs...); err != nil {
		t.Fatal(err)
	}
	for n := range nodes {
		if told[n] != told[0] {
			t.Errorf("n%d is told that %s leads, n0 that %s does", n, told[n], told[0])
		}
	}
}

func storeDeadline(t *testing.T, open OpenStore) {
	s := open()
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	if x, _, err := s.Load(ctx); !errors.Is(err, context.Canceled) {
		t.Errorf("load: %v, %v", x, err)
	}
	if at, err := s.Swap(ctx, Topology(t, 1, 0), 0); !errors.Is(err, context.Canceled) {
		t.Errorf("swap: %d, %v", at, err)
	}
	if l, err := s.Lead(ctx, "n1", time.Second); !errors.Is(err, context.Canceled) {
		t.Errorf("lead: %s, %v", l, err)
	}
	if err := s.Watch(ctx, func(*topology.Topology, topology.Revision) { t.Error("it saw something") }); !errors.Is(err, context.Canceled) {
		t.Errorf("watch: %v", err)
	}
}

// storeRegions holds stores to topology.RegionStore, too.
func storeRegions(t *testing.T, open OpenStore) {
	a, b := open().(topology.RegionStore), open().(topology.RegionStore)
	if got, at, err := a.LoadRegions(t.Context()); got != nil || at != 0 || err != nil {
		t.Fatalf("an empty store has %q at %d, %v", got, at, err)
	}
	if err := a.SwapRegions(t.Context(), []byte("one"), 0); err != nil {
		t.Fatal(err)
	}
	if err := b.SwapRegions(t.Context(), []byte("two"), 0); !errors.Is(err, topology.ErrConflict) {
		t.Fatalf("a second first: %v", err)
	}
	got, at, err := b.LoadRegions(t.Context())
	if string(got) != "one" || at == 0 || err != nil {
		t.Fatalf("read %q at %d, %v", got, at, err)
	}
	var won, lost int
	var mu sync.Mutex
	var wg sync.WaitGroup
	for i, s := range []topology.RegionStore{a, b, a, b} {
		wg.Go(func() {
			err := s.SwapRegions(t.Context(), fmt.Appendf(nil, "next %d", i), at)
			mu.Lock()
			defer mu.Unlock()
			switch {
			case err == nil:
				won++
			case errors.Is(err, topology.ErrConflict):
				lost++
			default:
				t.Error(err)
			}
		})
	}
	wg.Wait()
	if won != 1 || lost != 3 {
		t.Errorf("%d of four swaps at once got through, %d conflicts", won, lost)
	}
}
