package process_test

import (
	"context"
	"errors"
	"fmt"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/atolldb/atoll/geo/failover"
	"github.com/atolldb/atoll/geo/regionmap"
	"github.com/atolldb/atoll/node/regions"
	atollv1 "github.com/atolldb/atoll/proto/atoll/v1"
)

// A region whose disks are gone is not made as a new one: it waits until it is said to
// begin anew, serves nobody before it has everything, and names nothing as it was named
// before.
func TestRegionBeginsAnew(t *testing.T) {
	f := newFleet(t, 2, 1)
	for _, n := range f.nodes {
		n.cfg.Replicas = 1
	}
	f.start()
	for i := range 20 {
		put(t, f.kv("a1"), fmt.Sprint("old", i), "a")
		put(t, f.kv("b1"), fmt.Sprint("old", i, "b"), "b")
	}
	eventually(t, "b has all", func() error { return holds(t.Context(), f.kv("b1"), "old19", "a") })
	was := f.nodes["a1"].p.Node().Replica().Actor()
	if err := f.stop("a1"); err != nil {
		t.Fatal(err)
	}
	if err := os.RemoveAll(f.nodes["a1"].cfg.DataDir); err != nil {
		t.Fatal(err)
	}
	f.launch("a1")
	waits := func(what string) {
		t.Helper()
		eventually(t, "it waits: "+what, func() error {
			select {
			case <-f.nodes["a1"].p.Ready():
				t.Fatal("the region was made as a new one")
			default:
			}
			if why := f.nodes["a1"].p.Waits(); !strings.Contains(why, what) {
				return errors.New(why)
			}
			return nil
		})
	}
	waits("up to those of actor " + was.String() + ", and it is ACTIVE")
	do := func(kind failover.Kind) {
		t.Helper()
		ops := f.nodes["b1"].p.Node().Operations().Regions
		eventually(t, kind.String(), func() error {
			_, err := ops.Begin(t.Context(), regions.Ask{Kind: kind, Region: "a", Force: true})
			return err
		})
	}
	do(failover.Failover)
	waits("it is FENCED")
	eventually(t, "the failover ends", func() error {
		v, err := f.nodes["b1"].p.Node().Operations().Regions.View(t.Context())
		if err == nil && !v.Operation.Ended {
			err = errors.New(v.Waits)
		}
		return err
	})
	do(failover.Rebuild)
	// From its first moment on it is not to say "absent" of what there is.
	eventually(t, "the region is in service", func() error {
		n := f.nodes["a1"].p.Node()
		if n == nil || f.nodes["a1"].p.Addrs().Client == "" {
			return errors.New("it does not run yet")
		}
		ctx, stop := context.WithTimeout(t.Context(), time.Second)
		defer stop()
		for i := range 20 {
			for _, key := range []string{fmt.Sprint("old", i), fmt.Sprint("old", i, "b")} {
				res, err := f.kv("a1").Get(ctx, &atollv1.GetRequest{Key: []byte(key)})
				if err == nil && len(res.Siblings) == 0 {
					t.Fatalf("%s is absent, they say, while the region is %s", key, n.RegionMap().Map.State("a"))
				}
			}
		}
		if s := n.RegionMap().Map.State("a"); s != regionmap.Active {
			return errors.New(s.String())
		}
		return nil
	})
	f.await("a1")
	is := f.nodes["a1"].p.Node().Replica().Actor()
	if is.Seq() <= was.Seq()+1<<15 {
		t.Errorf("it mints as %s, and did as %s", is, was)
	}
	if e := f.topology("a1").Epoch; e < 1<<20 {
		t.Errorf("its epoch is %d", e)
	}
	for i := range 20 {
		put(t, f.kv("a1"), fmt.Sprint("new", i), "a")
	}
	for i := range 20 {
		eventually(t, "b has what is new", func() error { return holds(t.Context(), f.kv("b1"), fmt.Sprint("new", i), "a") })
		if err := holds(t.Context(), f.kv("a1"), fmt.Sprint("old", i), "a"); err != nil {
			t.Error(err)
		}
	}
	eventually(t, "nothing is waited for", func() error {
		in, out := f.nodes["b1"].p.Node().Lag()
		if n := in[0].Pending + out[0].Pending; n > 0 || !in[0].Alive {
			return fmt.Errorf("%+v %+v", in, out)
		}
		return nil
	})
}

// A region that is started before the others are there is made all the same, with
// actors that nobody can have had.
func TestRegionAlone(t *testing.T) {
	f := newFleet(t, 2, 1)
	for _, n := range f.nodes {
		n.cfg.Replicas = 1
	}
	f.start("a1")
	if a := f.nodes["a1"].p.Node().Replica().Actor(); a.Seq() < 1<<16 {
		t.Errorf("it mints as %s", a)
	}
	put(t, f.kv("a1"), "k", "v")
	f.start("b1")
	if a := f.nodes["b1"].p.Node().Replica().Actor(); a.Seq() != 1 {
		t.Errorf("b1 mints as %s although it was told that it is new", a)
	}
	eventually(t, "b has it", func() error { return holds(t.Context(), f.kv("b1"), "k", "v") })
}
