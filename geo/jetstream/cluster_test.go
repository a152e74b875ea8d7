package jetstream_test

import (
	"context"
	"fmt"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/hashicorp/go-hclog"
	natsjs "github.com/nats-io/nats.go/jetstream"

	"github.com/atolldb/atoll/crdt"
	"github.com/atolldb/atoll/geo"
	"github.com/atolldb/atoll/geo/geotest"
	"github.com/atolldb/atoll/geo/jetstream"
	"github.com/atolldb/atoll/geo/natsd/natsdtest"
	"github.com/atolldb/atoll/hashring"
)

// whole waits until servers tell of the stream that it has a leader, and replicas at two
// others. Who was asked first may have heard neither: the log is ready when one server
// takes messages.
func (w *world) whole() *natsjs.StreamInfo {
	w.t.Helper()
	var info *natsjs.StreamInfo
	ctx, cancel := context.WithTimeout(w.t.Context(), time.Minute)
	defer cancel()
	for {
		stream, err := w.admin.Stream(ctx, "GEO_east")
		if err == nil {
			info = stream.CachedInfo()
			if c := info.Cluster; info.Config.Replicas == 3 && c != nil && c.Leader != "" && len(c.Replicas) == 2 {
				return info
			}
		}
		select {
		case <-time.After(20 * time.Millisecond):
		case <-ctx.Done():
			w.t.Fatalf("the stream is not whole: %v, %+v", err, info)
		}
	}
}

// Three servers, three replicas: the path passes over the loss of the server
// that leads the stream.
func TestClusterLosesLeader(t *testing.T) {
	w := newWorld(t, natsdtest.Cluster(t, "east"))
	info := w.whole()
	leader := slices.IndexFunc(w.nodes, func(n *natsdtest.Node) bool { return n.Name() == info.Cluster.Leader })
	if leader < 0 {
		t.Fatalf("leader %q is unknown", info.Cluster.Leader)
	}
	// The pump's node is one that stays.
	log, err := jetstream.NewLog(jetstream.LogConfig{Region: "east", Node: "east-1", Replicas: 3, MaxBytes: 1 << 30},
		w.nodes[(leader+1)%3].Client(t), hclog.NewNullLogger())
	if err != nil {
		t.Fatal(err)
	}
	actor := crdt.MakeActor(1, 1)
	out, in := geotest.NewOutbox(actor), geotest.NewInbox(nil)
	pump := geo.NewPump(geo.PumpConfig{Region: "east", Node: "east-1", Incarnation: actor, Nodes: func() int { return 3 }}, out, log, hclog.NewNullLogger())
	drain := geo.NewDrain(geo.DrainConfig{Region: "west", Origin: "east", Sole: true}, w.Feed(), in, geo.DrainEvents{}, hclog.NewNullLogger())
	ctx, cancel := context.WithCancel(context.Background())
	var wg sync.WaitGroup
	defer wg.Wait()
	defer cancel()
	wg.Go(func() { _ = log.Run(ctx) })
	wg.Go(func() { _ = pump.Run(ctx) })
	wg.Go(func() { _ = drain.Run(ctx) })
	mint := func(from, to int) {
		t.Helper()
		for i := from; i < to; i++ {
			out.Mint(hashring.Partition(i%16), fmt.Sprint("key", i), []byte("record"))
		}
		bound, done := context.WithTimeout(ctx, 60*time.Second)
		defer done()
		if err := in.WaitCount(bound, to); err != nil {
			t.Fatalf("%v; pump %+v, drain %+v", err, pump.Stats(), drain.Stats())
		}
	}
	mint(0, 500)
	w.nodes[leader].Stop()
	began := time.Now()
	mint(500, 1000)
	t.Logf("writes flowed again %v after the leader stopped; pump %+v", time.Since(began), pump.Stats())
}
