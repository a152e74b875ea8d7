package fleet_test

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"runtime/pprof"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/atolldb/atoll/client"
	"github.com/atolldb/atoll/node/fleet"
	"github.com/atolldb/atoll/node/topology"
)

// phases, when set, is where the benchmarks of regions leave a profile of each
// phase. What nodes do has their labels: go tool pprof -tagfocus region=us.
var phases = flag.String("phases", "", "directory for a CPU profile of each phase of a benchmark of regions")

// phase profiles what follows until the returned function is called.
func phase(b *testing.B, name string) (end func()) {
	if *phases == "" {
		return func() {}
	}
	out, err := os.Create(filepath.Join(*phases, name+".pprof"))
	if err == nil {
		err = pprof.StartCPUProfile(out)
	}
	if err != nil {
		b.Fatal(err)
	}
	return func() {
		pprof.StopCPUProfile()
		if err := out.Close(); err != nil {
			b.Error(err)
		}
	}
}

// Two regions of three nodes each with 40 ms between them, one way, all in one
// process. docs/bench/2026-11-22-between-regions.md has figures.
func benchPair(b *testing.B) (f *fleet.Fleet, eu, us *client.Client, ctx context.Context) {
	f, err := fleet.New(fleet.Config{Regions: []topology.Region{"eu", "us"}, Dir: b.TempDir(), Latency: 40 * time.Millisecond, Memtable: 64 << 20})
	if err != nil {
		b.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(b.Context(), 5*time.Minute)
	b.Cleanup(cancel)
	b.Cleanup(func() {
		if err := f.Stop(); err != nil {
			b.Error(err)
		}
	})
	if err := f.Start(ctx); err != nil {
		b.Fatal(err)
	}
	var clients []*client.Client
	for _, region := range f.Regions() {
		c, err := client.Open(ctx, strings.Join(f.Endpoints(region), ","), client.NoSession())
		if err != nil {
			b.Fatal(err)
		}
		b.Cleanup(func() { c.Close() })
		clients = append(clients, c)
	}
	return f, clients[0], clients[1], ctx
}

// until looks every so often until ok says yes.
func until(b *testing.B, ctx context.Context, every time.Duration, ok func() bool) {
	b.Helper()
	beat := time.NewTicker(every)
	defer beat.Stop()
	for !ok() {
		select {
		case <-beat.C:
		case <-ctx.Done():
			b.Fatal("it takes too long")
		}
	}
}

// pour writes new keys of 1 KB at a rate, 0 for as fast as goes, for so long or
// until ctx ends, and returns how many.
func pour(b *testing.B, ctx context.Context, c *client.Client, prefix string, rate int, span time.Duration) int {
	ctx, cancel := context.WithTimeout(ctx, span)
	defer cancel()
	const writers = 32
	var all sync.WaitGroup
	var mu sync.Mutex
	written := 0
	began := time.Now()
	for w := range writers {
		all.Go(func() {
			r := rand.New(rand.NewPCG(uint64(w), uint64(began.UnixNano())))
			for i := 0; ctx.Err() == nil; i++ {
				if rate > 0 {
					due := began.Add(time.Duration(i*writers+w) * time.Second / time.Duration(rate))
					select {
					case <-time.After(time.Until(due)):
					case <-ctx.Done():
						return
					}
				}
				_, err := c.Put(ctx, fmt.Sprintf("%s-%d-%d", prefix, w, i), noise(r, 1<<10), client.Overwrite())
				if err != nil {
					if ctx.Err() == nil {
						b.Errorf("put: %v", err)
					}
					return
				}
				mu.Lock()
				written++
				mu.Unlock()
			}
		})
	}
	all.Wait()
	return written
}

// BenchmarkRegionLag tells how long after its acknowledgement a write can be read
// in the other region, at half of the rate that the machine writes.
func BenchmarkRegionLag(b *testing.B) {
	f, eu, us, ctx := benchPair(b)
	full := float64(pour(b, ctx, eu, "full", 0, 5*time.Second)) / 5
	until(b, ctx, 50*time.Millisecond, func() bool { return f.Converged() == nil })
	half := int(full / 2)
	var lags []time.Duration
	loading, stop := context.WithCancel(ctx)
	var load sync.WaitGroup
	load.Go(func() { pour(b, loading, eu, "half", half, time.Minute) })
	for i := range 200 {
		key := fmt.Sprint("probe-", i)
		if _, err := eu.Put(ctx, key, []byte("v"), client.Overwrite()); err != nil {
			b.Fatal(err)
		}
		acked := time.Now()
		until(b, ctx, 2*time.Millisecond, func() bool {
			_, err := us.Get(ctx, key, client.LocalQuorum)
			if err != nil && !errors.Is(err, client.ErrNotFound) {
				b.Fatal(err)
			}
			return err == nil
		})
		lags = append(lags, time.Since(acked))
	}
	stop()
	load.Wait()
	slices.Sort(lags)
	b.ReportMetric(full, "full-writes/s")
	b.ReportMetric(float64(half), "writes/s")
	b.ReportMetric(float64(lags[len(lags)/2].Milliseconds()), "lag-p50-ms")
	b.ReportMetric(float64(lags[len(lags)*99/100].Milliseconds()), "lag-p99-ms")
}

// BenchmarkRegionCatchUp tells how fast what was written during a cut arrives
// afterwards, against the rate at which it was written, and what it costs.
func BenchmarkRegionCatchUp(b *testing.B) {
	f, eu, _, ctx := benchPair(b)
	pour(b, ctx, eu, "warm", 0, 2*time.Second)
	until(b, ctx, 50*time.Millisecond, func() bool { return f.Converged() == nil })
	if err := f.Partition("eu", "us"); err != nil {
		b.Fatal(err)
	}
	const span = 20 * time.Second
	end := phase(b, "cut")
	written := pour(b, ctx, eu, "cut", 0, span)
	end()
	before := f.Crossed()
	end = phase(b, "catch-up")
	f.HealAll()
	began := time.Now()
	until(b, ctx, 20*time.Millisecond, func() bool { return f.Converged() == nil })
	took := time.Since(began)
	end()
	b.ReportMetric(float64(written)/span.Seconds(), "writes/s")
	b.ReportMetric(float64(written)/took.Seconds(), "caught-up/s")
	b.ReportMetric(span.Seconds()/took.Seconds(), "times")
	b.ReportMetric(float64(f.Crossed()-before)/float64(written<<10), "bytes/byte")
}
