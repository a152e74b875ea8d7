package jetstream_test

import (
	"context"
	"fmt"
	"sync"
	"testing"
	"time"

	"github.com/hashicorp/go-hclog"

	"github.com/atolldb/atoll/crdt"
	"github.com/atolldb/atoll/geo"
	"github.com/atolldb/atoll/geo/geotest"
	"github.com/atolldb/atoll/geo/natsd/natsdtest"
	"github.com/atolldb/atoll/hashring"
)

// BenchmarkPath is 20,000 updates of 200 B from Mint to ApplyRemote, minted at once:
// pump, log, servers, feed and drain all in this process.
func BenchmarkPath(b *testing.B) {
	for name, nodes := range map[string]func(*testing.B) []*natsdtest.Node{
		"R1": func(b *testing.B) []*natsdtest.Node {
			return []*natsdtest.Node{natsdtest.Solo(b, "east", b.TempDir())}
		},
		"R3": func(b *testing.B) []*natsdtest.Node { return natsdtest.Cluster(b, "east") },
	} {
		b.Run(name, func(b *testing.B) {
			w := newWorld(b, nodes(b))
			actor := crdt.MakeActor(1, 1)
			out, in := geotest.NewOutbox(actor), geotest.NewInbox(nil)
			pump := geo.NewPump(geo.PumpConfig{Region: "east", Node: "east-1", Incarnation: actor, Nodes: func() int { return 3 }}, out, w.log, hclog.NewNullLogger())
			drain := geo.NewDrain(geo.DrainConfig{Region: "west", Origin: "east"}, w.Feed(), in, geo.DrainEvents{}, hclog.NewNullLogger())
			ctx, cancel := context.WithCancel(context.Background())
			var wg sync.WaitGroup
			defer wg.Wait()
			defer cancel()
			wg.Go(func() { _ = pump.Run(ctx) })
			wg.Go(func() { _ = drain.Run(ctx) })
			record := make([]byte, 200)
			for i := range record {
				record[i] = byte(i * 7919 >> 3)
			}
			const round = 20_000
			minted := 0
			for b.Loop() {
				for range round {
					out.Mint(hashring.Partition(minted%256), fmt.Sprintf("bucket\x00key-%d", minted), record)
					minted++
				}
				bound, done := context.WithTimeout(ctx, time.Minute)
				if err := in.WaitCount(bound, minted); err != nil {
					b.Fatalf("%v; pump %+v", err, pump.Stats())
				}
				done()
			}
			b.ReportMetric(float64(minted)/b.Elapsed().Seconds(), "updates/s")
			b.ReportMetric(float64(minted)/float64(pump.Stats().Batches), "updates/batch")
		})
	}
}

// BenchmarkLag is the time of one lone update from Mint to ApplyRemote, the
// pause in which updates gather (10 ms) included.
func BenchmarkLag(b *testing.B) {
	w := newWorld(b, natsdtest.Cluster(b, "east"))
	actor := crdt.MakeActor(1, 1)
	out, in := geotest.NewOutbox(actor), geotest.NewInbox(nil)
	pump := geo.NewPump(geo.PumpConfig{Region: "east", Node: "east-1", Incarnation: actor, Nodes: func() int { return 3 }}, out, w.log, hclog.NewNullLogger())
	drain := geo.NewDrain(geo.DrainConfig{Region: "west", Origin: "east"}, w.Feed(), in, geo.DrainEvents{}, hclog.NewNullLogger())
	ctx, cancel := context.WithCancel(context.Background())
	var wg sync.WaitGroup
	defer wg.Wait()
	defer cancel()
	wg.Go(func() { _ = pump.Run(ctx) })
	wg.Go(func() { _ = drain.Run(ctx) })
	n := 0
	for b.Loop() {
		out.Mint(0, fmt.Sprint("key", n), []byte("record"))
		n++
		bound, done := context.WithTimeout(ctx, time.Minute)
		if err := in.WaitCount(bound, n); err != nil {
			b.Fatal(err)
		}
		done()
	}
}
