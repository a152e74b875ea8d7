package fleet_test

import (
	"context"
	"strings"
	"testing"
	"time"

	"github.com/atolldb/atoll/client"
	"github.com/atolldb/atoll/node/fleet"
	"github.com/atolldb/atoll/node/topology"
)

// BenchmarkLevels tells what levels across regions cost: one client, one
// operation at a time, in three regions of three nodes with 20 ms between them,
// one way. docs/bench/levels.md has figures.
func BenchmarkLevels(b *testing.B) {
	const oneWay = 20 * time.Millisecond
	f, err := fleet.New(fleet.Config{Regions: []topology.Region{"eu", "us", "ap"}, Dir: b.TempDir(), Latency: oneWay, Partitions: 8})
	if err != nil {
		b.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(b.Context(), 4*time.Minute)
	defer cancel()
	if err := f.Start(ctx); err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() {
		if err := f.Stop(); err != nil {
			b.Error(err)
		}
	})
	c, err := client.Open(ctx, strings.Join(f.Endpoints("eu"), ","), client.NoSession())
	if err != nil {
		b.Fatal(err)
	}
	defer c.Close()
	value := make([]byte, 100)
	for _, l := range []client.Level{client.LocalQuorum, client.LocalAll, client.Quorum, client.EachQuorum, client.All} {
		b.Run("put/"+l.String(), func(b *testing.B) {
			for b.Loop() {
				if _, err := c.Put(ctx, "k", value, l, client.Overwrite()); err != nil {
					b.Fatal(err)
				}
			}
		})
		b.Run("get/"+l.String(), func(b *testing.B) {
			for b.Loop() {
				if _, err := c.Get(ctx, "k", l); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
