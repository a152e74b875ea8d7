package catalog

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/hashicorp/go-hclog"

	"github.com/atolldb/atoll/crdt"
	"github.com/atolldb/atoll/crdt/hlc"
	"github.com/atolldb/atoll/node/bucket"
	"github.com/atolldb/atoll/node/coord"
	"github.com/atolldb/atoll/node/storage/memstore"
	"github.com/atolldb/atoll/node/topology"
)

// region is a store of one record. Two regions join when they are told to.
type region struct {
	mu     sync.Mutex
	actor  crdt.Actor
	n      uint64
	record crdt.Record
	reads  int
	clock  *hlc.Clock
	down   error
	takes  time.Duration
}

var (
	keys    = crdt.Keys{crdt.Secret("s")}
	fullKey = coord.FullKey(coord.SystemBucket, []byte(tableKey))
)

func (r *region) get(g coord.Get, done func(coord.GetResult, error)) {
	go func() {
		r.mu.Lock()
		r.reads++
		rec, err := r.record, r.down
		r.mu.Unlock()
		time.Sleep(r.takes)
		switch {
		case g.Bucket != coord.SystemBucket || string(g.Key) != tableKey || !g.System:
			done(coord.GetResult{}, fmt.Errorf("reads %+v", g))
		case err != nil:
			done(coord.GetResult{}, err)
		default:
			res := coord.GetResult{View: crdt.Read(rec, crdt.MV, r.clock.Now())}
			if len(rec.Versions) > 0 {
				res.Context = crdt.AppendContext(nil, keys, fullKey, rec.Context())
			}
			done(res, nil)
		}
	}()
}

func (r *region) put(p coord.Put, done func(coord.PutResult, error)) {
	go func() {
		time.Sleep(r.takes)
		r.mu.Lock()
		defer r.mu.Unlock()
		ctx, err := crdt.DecodeContext(keys, fullKey, p.Context)
		if err != nil || r.down != nil {
			done(coord.PutResult{}, errors.Join(err, r.down))
			return
		}
		if !p.Condition.Holds(r.record, ctx.Seen, r.clock.Now()) {
			done(coord.PutResult{}, &coord.Error{Code: coord.CodeConditionFailed})
			return
		}
		r.n++
		r.record = crdt.Write(r.record, ctx.Seen, crdt.Version{
			Dot: crdt.Dot{Actor: r.actor, N: r.n}, Stamp: r.clock.Next(max(ctx.Stamp, r.record.MaxStamp())), Value: p.Value,
		})
		done(coord.PutResult{}, nil)
	}()
}

func (r *region) siblings() int {
	r.mu.Lock()
	defer r.mu.Unlock()
	return len(r.record.Versions)
}

func exchange(a, b *region) {
	both := crdt.Join(a.record, b.record)
	a.record, b.record = both, both
}

func newRegion(actor crdt.Actor) *region {
	return &region{actor: actor, clock: hlc.New(time.Now), takes: 5 * time.Millisecond}
}

func (r *region) node(t *testing.T, disk *memstore.Disk, floor ...bucket.Definition) *Catalog {
	t.Helper()
	engine, err := disk.Open()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { engine.Close() })
	c, err := New(Config{Floor: floor}, Deps{
		Get: r.get, Put: r.put, Regions: func() []string { return []string{"eu", "us"} },
		Beside: engine, HLC: r.clock, Chance: func() float64 { return 0.5 }, Log: hclog.NewNullLogger(),
	})
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// pause lets time pass, and everything come to rest.
func pause(d time.Duration) {
	time.Sleep(d)
	synctest.Wait()
}

func disk() *memstore.Disk { return memstore.NewDisk(memstore.Config{}) }

func run(t *testing.T, c *Catalog) (stop func()) {
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error)
	go func() { ended <- c.Run(ctx) }()
	return func() {
		t.Helper()
		cancel()
		if err := <-ended; !errors.Is(err, context.Canceled) {
			t.Error(err)
		}
	}
}

func names(c *Catalog) []string {
	all, _ := c.Known()
	var out []string
	for _, d := range all {
		out = append(out, d.Name)
	}
	return out
}

func code(err error) coord.Code {
	var e *coord.Error
	if errors.As(err, &e) {
		return e.Code
	}
	return 0
}

// One node changes, another one learns of it by its beat, and at once when it is
// asked for what it does not know.
func TestNodesLearn(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRegion(65)
		a, b := r.node(t, disk()), r.node(t, disk(), bucket.Definition{Name: "configured", Kind: crdt.LWW})
		stop := run(t, b)
		defer stop()
		made, err := a.Create(t.Context(), bucket.Definition{Name: "carts", Kind: crdt.LWW, TTL: 1500, MaxValue: 9})
		if err != nil || made.Revision != 1 || made.Stamp == 0 {
			t.Fatalf("%+v, %v", made, err)
		}
		if got, ok := a.Bucket("carts"); !ok || got.Kind != crdt.LWW || got.TTL != 1500*time.Millisecond || got.MaxValue != 9 {
			t.Errorf("the node that made it knows %+v, %v", got, ok)
		}
		pause(1300 * time.Millisecond)
		if got := names(b); !slices.Equal(got, []string{"carts", "configured", "default"}) {
			t.Errorf("after a beat: %v", got)
		}
		if _, err := a.Create(t.Context(), bucket.Definition{Name: "more"}); err != nil {
			t.Fatal(err)
		}
		b.Refresh(time.Now().Add(time.Second), func(err error) {
			if _, ok := b.Bucket("more"); !ok || err != nil {
				t.Errorf("after a refresh: %v, %v", names(b), err)
			}
		})
		pause(100 * time.Millisecond)
		if _, err := b.Create(t.Context(), bucket.Definition{Name: "carts"}); code(err) != coord.CodeBucketExists {
			t.Error(err)
		}
		d, err := b.Get(t.Context(), "carts")
		if err != nil {
			t.Fatal(err)
		}
		d.MaxValue = 10
		if d, err = b.Update(t.Context(), d); err != nil || d.Revision != 2 {
			t.Fatal(d, err)
		}
		d.Revision = 1
		if _, err = a.Update(t.Context(), d); code(err) != coord.CodeRevision {
			t.Error(err)
		}
		if err := a.Delete(t.Context(), "carts", 2); err != nil {
			t.Error(err)
		}
		if _, ok := a.Bucket("carts"); ok {
			t.Error("deleted and there")
		}
		if _, err := b.Get(t.Context(), "carts"); code(err) != coord.CodeNoBucket {
			t.Error(err)
		}
		if n := r.siblings(); n != 1 {
			t.Errorf("%d versions of the table", n)
		}
	})
}

// Refreshes that are asked for together share a read, none is answered by one
// that began before it (C3), and reads are refreshGap apart.
func TestRefreshesShareReads(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRegion(65)
		r.takes = 10 * time.Millisecond
		a, b := r.node(t, disk()), r.node(t, disk())
		began := time.Now()
		var told []time.Duration
		ask := func() {
			a.Refresh(time.Now().Add(time.Second), func(err error) {
				if err != nil {
					t.Error(err)
				}
				told = append(told, time.Since(began))
			})
		}
		for range 100 {
			ask()
		}
		pause(5 * time.Millisecond)
		made := make(chan error)
		go func() { // while the read is under way
			_, err := b.Create(t.Context(), bucket.Definition{Name: "carts"})
			made <- err
		}()
		ask()
		if err := <-made; err != nil {
			t.Fatal(err)
		}
		pause(200 * time.Millisecond)
		if len(told) != 101 || told[0] != 10*time.Millisecond || told[100] != refreshGap+10*time.Millisecond {
			t.Errorf("%d told at %v", len(told), told)
		}
		if _, ok := a.Bucket("carts"); !ok {
			t.Error("the second read does not show it")
		}
		if r.reads > 2+2 { // of a, and of b's change
			t.Errorf("%d reads", r.reads)
		}
	})
}

func TestRefreshFails(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRegion(65)
		c := r.node(t, disk())
		r.down = errors.New("no quorum")
		var got error
		c.Refresh(time.Now().Add(time.Second), func(err error) { got = err })
		pause(100 * time.Millisecond)
		if !errors.Is(got, r.down) {
			t.Error(got)
		}
		r.down, r.takes = nil, 3*time.Second
		began, took := time.Now(), time.Duration(0)
		c.Refresh(time.Now().Add(time.Second), func(err error) { got, took = err, time.Since(began) })
		pause(10 * time.Second)
		if !errors.Is(got, errSlow) || took >= time.Second {
			t.Error(got, took)
		}
		c.Refresh(time.Now().Add(-time.Second), func(err error) { got = err })
		pause(10 * time.Second)
		if !errors.Is(got, errSlow) {
			t.Error(got)
		}
	})
}

// A node that starts alone knows what it knew.
func TestRestartAlone(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r, d := newRegion(65), disk()
		c := r.node(t, d)
		stop := run(t, c)
		if _, err := c.Create(t.Context(), bucket.Definition{Name: "carts", Kind: crdt.LWW}); err != nil {
			t.Fatal(err)
		}
		pause(2 * time.Second)
		stop()
		d.Crash(func() bool { return false })
		r.down = errors.New("no peers")
		c = r.node(t, d)
		if b, ok := c.Bucket("carts"); !ok || b.Kind != crdt.LWW {
			t.Errorf("knows %v", names(c))
		}
		// A copy that is spoiled costs no more than that.
		if err := c.deps.Beside.WriteBeside(tableFile, []byte{9}); err != nil {
			t.Fatal(err)
		}
		d.Crash(func() bool { return false })
		r.down = nil
		c = r.node(t, d)
		stop = run(t, c)
		pause(time.Second)
		if _, ok := c.Bucket("carts"); !ok {
			t.Errorf("knows %v", names(c))
		}
		stop()
	})
}

// Two regions that are cut off from each other make the same bucket, and others.
func TestRegionsConverge(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		eu, us := newRegion(65), newRegion(66)
		a, b := eu.node(t, disk()), us.node(t, disk())
		must := func(_ bucket.Definition, err error) {
			t.Helper()
			if err != nil {
				t.Fatal(err)
			}
		}
		must(a.Create(t.Context(), bucket.Definition{Name: "both", Kind: crdt.LWW, MaxValue: 1}))
		must(a.Create(t.Context(), bucket.Definition{Name: "eu"}))
		pause(10 * time.Millisecond)
		must(b.Create(t.Context(), bucket.Definition{Name: "both", MaxValue: 2}))
		must(b.Create(t.Context(), bucket.Definition{Name: "us"}))
		exchange(eu, us)
		stopA, stopB := run(t, a), run(t, b)
		defer stopA()
		defer stopB()
		pause(3 * time.Second)
		for _, c := range []*Catalog{a, b} {
			both, _ := c.Bucket("both")
			if got := names(c); !slices.Equal(got, []string{"both", "default", "eu", "us"}) || both.Kind != crdt.MV || both.MaxValue != 2 {
				t.Errorf("%v, %+v", got, both)
			}
		}
		if eu.siblings() != 2 {
			t.Errorf("%d versions", eu.siblings())
		}
		must(b.Create(t.Context(), bucket.Definition{Name: "later"}))
		if us.siblings() != 1 {
			t.Errorf("the next change leaves %d versions", us.siblings())
		}
	})
}

// Of many changes at the same time of one bucket, all with the same revision, one
// is made (C2).
func TestOneOfManyChangesHolds(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRegion(65)
		first := r.node(t, disk())
		if _, err := first.Create(t.Context(), bucket.Definition{Name: "carts"}); err != nil {
			t.Fatal(err)
		}
		var mu sync.Mutex
		var made []uint32
		var all sync.WaitGroup
		for i := range uint32(10) {
			c := r.node(t, disk())
			all.Go(func() {
				d, err := c.Update(t.Context(), bucket.Definition{Name: "carts", Revision: 1, MaxValue: i + 1})
				switch {
				case err == nil:
					mu.Lock()
					made = append(made, d.MaxValue)
					mu.Unlock()
				case code(err) != coord.CodeRevision:
					t.Error(err)
				}
			})
		}
		all.Wait()
		d, err := first.Get(t.Context(), "carts")
		if err != nil || len(made) != 1 || d.MaxValue != made[0] || d.Revision != 2 {
			t.Errorf("%v are made, %+v holds, %v", made, d, err)
		}
	})
}

func TestRegionsOfABucket(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newRegion(65).node(t, disk())
		for name, w := range map[string]struct {
			d                  bucket.Definition
			field, limit, seen string
		}{
			"unknown":    {bucket.Definition{Name: "a", Regions: []string{"eu", "ap"}}, "regions", "eu, us", `"ap"`},
			"no home":    {bucket.Definition{Name: "a", Home: "ap"}, "home_region", "eu, us", `"ap"`},
			"bad name":   {bucket.Definition{Name: ".atoll"}, "name", "1..63 of a-z, 0-9, -, _ and ., the first no dot", `".atoll"`},
			"long value": {bucket.Definition{Name: "a", MaxValue: 9 << 20}, "max_value", "0..8388608", "9437184"},
		} {
			_, err := c.Create(t.Context(), w.d)
			var e *coord.Error
			if !errors.As(err, &e) || e.Code != coord.CodeInvalid || e.Field != w.field || e.Limit != w.limit || e.Seen != w.seen {
				t.Errorf("%s: %v", name, err)
			}
		}
		d, err := c.Create(t.Context(), bucket.Definition{Name: "a", Regions: []string{"us", "eu"}, Home: "us"})
		if err != nil || d.Regions != nil || d.Home != "us" {
			t.Errorf("%+v, %v", d, err)
		}
		if _, err := c.Create(t.Context(), bucket.Definition{Name: "part", Regions: []string{"eu"}}); err != nil {
			t.Error(err)
		}
		for name, want := range map[string][2]bool{"a": {true, true}, "part": {true, false}} {
			for i, region := range []topology.Region{"eu", "us"} {
				if has, known := c.Has(region, []byte(name)); !known || has != want[i] {
					t.Errorf("bucket %s in %s: %v, known %v", name, region, has, known)
				}
			}
		}
		if c.Apart("eu", "us") == 0 || c.Apart("eu", "eu") != 0 || !c.Hidden("eu", "eu", "us") || c.Hidden("us", "us", "eu") {
			t.Error("one bucket is in eu alone")
		}
		// What nobody defines is everywhere, once that is known.
		if _, known := c.Has("us", []byte("stranger")); known {
			t.Error("a bucket is known that nobody has heard of")
		}
		time.Sleep(time.Second)
		if has, known := c.Has("us", []byte("stranger")); !has || !known {
			t.Error("a bucket of some configuration is not found out about")
		}
	})
}

// A table of a newer format is neither taken for less nor overwritten.
func TestNewerFormat(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRegion(65)
		c := r.node(t, disk())
		if _, err := c.Create(t.Context(), bucket.Definition{Name: "carts"}); err != nil {
			t.Fatal(err)
		}
		r.record.Versions[0].Value = []byte{99}
		if _, err := c.Create(t.Context(), bucket.Definition{Name: "more"}); code(err) != coord.CodeUnavailable {
			t.Error(err)
		}
		if _, ok := c.Bucket("carts"); !ok {
			t.Error("forgets what it knew")
		}
		if len(r.record.Versions) != 1 || r.record.Versions[0].Value[0] != 99 {
			t.Error("it was overwritten")
		}
	})
}
