package fleet_test

import (
	"bytes"
	"fmt"
	"testing"

	"github.com/atolldb/atoll/client"
	"github.com/atolldb/atoll/hashring"
	"github.com/atolldb/atoll/node/coord"
	"github.com/atolldb/atoll/node/fleet"
	"github.com/atolldb/atoll/node/process"
	"github.com/atolldb/atoll/node/topology"
)

// Values of up to 8 MiB cross between regions beside the log, each once; what was
// overwritten while the link was cut comes as it is now; and when the node that
// minted one is dead, another owner gives it.
func TestLargeValuesBetweenRegions(t *testing.T) {
	t.Parallel()
	f, ctx := start(t, fleet.Config{Regions: []topology.Region{"eu", "us"}, Nodes: 2, Partitions: 16, Memtable: 96 * process.MiB})
	eu, us := open(t, ctx, f, "eu"), open(t, ctx, f, "us")
	must := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	_, err := eu.Buckets().Create(ctx, client.BucketInfo{Name: "films", Kind: client.LWW, MaxValue: 8 << 20})
	must(err)
	value := func(i, size int) []byte { return bytes.Repeat([]byte{byte('a' + i)}, size) }
	put := func(key string, v []byte) {
		t.Helper()
		_, err := eu.In("films").Put(ctx, key, v)
		must(err)
	}
	arrives := func(key string, v []byte) {
		t.Helper()
		eventually(t, ctx, key+" in us", func() bool {
			got, err := us.In("films").Get(ctx, key)
			return err == nil && bytes.Equal(got.Value(), v)
		})
	}
	const large = 4
	for i := range large {
		put(fmt.Sprint("large", i), value(i, 8<<20-100))
		put(fmt.Sprint("small", i), value(i, 100))
	}
	for i := range large {
		arrives(fmt.Sprint("small", i), value(i, 100))
		arrives(fmt.Sprint("large", i), value(i, 8<<20-100))
	}
	fetched := func() (n, bytes uint64) {
		for _, id := range []topology.NodeID{"us-1", "us-2"} {
			if p := f.Process(id); p != nil {
				s := p.Node().Figures().Drains["eu"]
				n, bytes = n+s.Claims, bytes+s.ClaimBytes
			}
		}
		return n, bytes
	}
	n, size := fetched()
	t.Logf("%d large records fetched, %d bytes", n, size)
	if n == 0 || n > large || size < n*(8<<20-100) || size > n*(8<<20+1000) {
		t.Errorf("%d records with %d bytes were fetched of %d", n, size, large)
	}

	must(f.Partition("eu", "us"))
	put("late", value(1, 1<<20))
	put("late", value(2, 1<<20))
	node := f.Process("eu-1").Node()
	minter := node.Topology().Owners(node.Replica().Partition(hashring.KeyHash(coord.FullKey("films", []byte("late")))))[0]
	must(f.Kill(topology.NodeID(minter)))
	must(f.Heal("eu", "us"))
	arrives("late", value(2, 1<<20))
}
