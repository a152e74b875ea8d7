package process_test

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/atolldb/atoll/geo/natsd"
	"github.com/atolldb/atoll/internal/freeport"
	"github.com/atolldb/atoll/node/process"
	"github.com/atolldb/atoll/node/topology"
)

// From a region of one node and one server to three of each, while another
// region was away: the node keeps its actor, the topology goes on from where it
// was, and what was in the old server's log arrives by clocks.
func TestGrow(t *testing.T) {
	f := newFleet(t, 2, 1)
	for _, n := range f.nodes {
		n.cfg.Replicas = 1
	}
	f.start()
	value := func(i int) (string, string) { return fmt.Sprint("key", i), fmt.Sprint("value", i) }
	for i := range 20 {
		k, v := value(i)
		put(t, f.kv("a1"), k, v)
	}
	eventually(t, "b has the first", func() error { return holds(t.Context(), f.kv("b1"), "key19", "value19") })
	if err := f.stop("b1"); err != nil {
		t.Fatal(err)
	}
	before := f.nodes["a1"].p.Node().Figures().Pump.Entries
	for i := 20; i < 60; i++ {
		k, v := value(i)
		put(t, f.kv("a1"), k, v)
	}
	// What comes after it is known that b takes nothing stays at the node.
	eventually(t, "the log of a has of the rest what it is to have", func() error {
		switch is := f.nodes["a1"].p.Node().Figures(); {
		case is.Pump.Entries == before:
			return errors.New("nothing is in it")
		case is.Unconfirmed > 0 && !is.Pump.Waiting:
			return fmt.Errorf("%d are not in it", is.Unconfirmed)
		}
		return nil
	})
	f.change(0, func(x *topology.Topology) { x.Pace.BytesPerSecond = 77 })
	was := f.nodes["a1"].p.Node().Replica().Actor()

	// What it is to be: three servers, at a1 and two nodes that join.
	urls := []string{f.regions[0].NATS[0], "nats://192.0.2.100:2", "nats://192.0.2.100:3"}
	regions := []process.Region{f.regions[0], f.regions[1]}
	regions[0].NATS = urls
	ids := []topology.NodeID{"a1", "a2", "a3"}
	routes := freeport.For(t, len(ids))
	for i, id := range ids {
		if i > 0 {
			f.join(id, 0)
			f.leads(strings.TrimPrefix(urls[i], "nats://"), func() string { return strings.TrimPrefix(f.addrs(id).NATS, "nats://") })
		}
	}
	for i, id := range ids {
		c := &f.nodes[id].cfg
		c.Replicas, c.Regions, c.NATS.Listen = 1, regions, "127.0.0.1:0"
		c.NATS.Cluster = &process.Cluster{Listen: routes[i], Routes: routes}
	}
	cfg := f.nodes["a1"].cfg
	if _, err := process.Grow(t.Context(), cfg, logger(t)); !errors.Is(err, natsd.ErrInUse) {
		t.Errorf("while the node runs: %v", err)
	}
	if err := f.stop("a1"); err != nil {
		t.Fatal(err)
	}
	grown, err := process.Grow(t.Context(), cfg, logger(t))
	if err != nil {
		t.Fatal(err)
	}
	for _, path := range []string{grown.Carried, grown.Retired} {
		if _, err := os.Stat(path); err != nil {
			t.Error(err)
		}
	}
	if _, err := process.Grow(t.Context(), cfg, logger(t)); !errors.Is(err, natsd.ErrNothingToRetire) {
		t.Errorf("once more: %v", err)
	}

	f.start(ids...)
	if is := f.nodes["a1"].p.Node().Replica().Actor(); is != was {
		t.Errorf("a1 is actor %v, it was %v", is, was)
	}
	if _, err := os.Stat(filepath.Join(cfg.DataDir, "nats", "carried.json.done")); err != nil {
		t.Error(err)
	}
	for _, id := range ids {
		if got := f.topology(id).Pace.BytesPerSecond; got != 77 {
			t.Errorf("%s goes by another topology: pace %d", id, got)
		}
		if id != "a1" && f.nodes[id].p.Node().Replica().Actor().Seq() <= was.Seq() {
			t.Errorf("%s is actor %v, a1 was %v before", id, f.nodes[id].p.Node().Replica().Actor(), was)
		}
	}
	put(t, f.kv("a2"), "key60", "value60")
	f.start("b1")
	eventually(t, "b has what was left in the old log", func() error {
		for i := range 61 {
			k, v := value(i)
			if err := holds(t.Context(), f.kv("b1"), k, v); err != nil {
				return fmt.Errorf("%s: %w", k, err)
			}
		}
		return nil
	})
	// One of three servers may be away now.
	if err := f.stop("a3"); err != nil {
		t.Fatal(err)
	}
	f.change(0, func(x *topology.Topology) { x.Pace.BytesPerSecond = 78 })
	eventually(t, "a2 follows", func() error {
		if got := f.topology("a2").Pace.BytesPerSecond; got != 78 {
			return fmt.Errorf("pace %d", got)
		}
		return nil
	})
}

func TestGrowRefuses(t *testing.T) {
	c := single(t.TempDir())
	var ps process.Problems
	if _, err := process.Grow(t.Context(), c, logger(t)); !errors.As(err, &ps) {
		t.Errorf("without a cluster: %v", err)
	}
	c.Regions[0].NATS = []string{"nats://127.0.0.1:1"}
	c.NATS.Cluster = &process.Cluster{Listen: "127.0.0.1:1", Routes: []string{"127.0.0.1:2", "127.0.0.1:3"}}
	if _, err := process.Grow(t.Context(), c, logger(t)); !errors.Is(err, natsd.ErrNothingToRetire) {
		t.Errorf("without a server: %v", err)
	}
}
