package process_test

import (
	"fmt"
	"strings"
	"testing"

	"github.com/atolldb/atoll/internal/freeport"
	"github.com/atolldb/atoll/node/process"
)

// Three members run the region's NATS; one of them may be away, and a node
// that crashed still gets a new actor.
func TestNATSCluster(t *testing.T) {
	f := newFleet(t, 1, 3)
	// Routes between servers are no dialler's business: every server must know
	// real ones.
	routes := freeport.For(t, 3)
	var urls []string
	for n := range 3 {
		urls = append(urls, fmt.Sprintf("nats://192.0.2.10:%d", 4222+n))
		id := f.regions[0].Members[n].ID
		f.leads(strings.TrimPrefix(urls[n], "nats://"), func() string { return strings.TrimPrefix(f.addrs(id).NATS, "nats://") })
	}
	f.regions[0].NATS = urls
	for n, m := range f.regions[0].Members {
		c := &f.nodes[m.ID].cfg
		c.Regions = f.regions
		c.NATS.Listen = "127.0.0.1:0"
		c.NATS.Cluster = &process.Cluster{Listen: routes[n], Routes: routes}
	}
	f.start()
	put(t, f.kv("a1"), "k", "v")

	was := f.nodes["a2"].p.Node().Replica().Actor()
	if err := f.stop("a1"); err != nil {
		t.Fatal(err)
	}
	f.nodes["a2"].p.CloseStore()
	if err := f.stop("a2"); err == nil {
		t.Error("a stop without a marker was no error")
	}
	f.start("a2")
	if is := f.nodes["a2"].p.Node().Replica().Actor(); is == was {
		t.Errorf("after an unclean stop a2 still has actor %v", is)
	}
	put(t, f.kv("a2"), "k2", "v2")
	if err := holds(t.Context(), f.kv("a3"), "k", "v"); err != nil {
		t.Error(err)
	}
}
