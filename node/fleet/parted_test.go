package fleet_test

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/atolldb/atoll/client"
	"github.com/atolldb/atoll/node/coord"
	"github.com/atolldb/atoll/node/fleet"
	"github.com/atolldb/atoll/node/topology"
)

// Buckets of one and of two of three regions, over real logs: an export of each
// region has exactly the buckets that are in it, clocks are equal everywhere, and
// a region that is added to a bucket gets it.
func TestBucketsOfSomeRegions(t *testing.T) {
	t.Parallel()
	regions := []topology.Region{"ap", "eu", "us"}
	f, ctx := start(t, fleet.Config{Regions: regions, Nodes: 1, Partitions: 16})
	to := map[topology.Region]*client.Client{}
	for _, r := range regions {
		to[r] = open(t, ctx, f, r)
	}
	must := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	in := map[string][]string{"alone": {"eu"}, "both": {"ap", "eu"}, "default": nil}
	for name, list := range in {
		if name != "default" {
			_, err := to["eu"].Buckets().Create(ctx, client.BucketInfo{Name: name, Regions: list})
			must(err)
		}
		for i := range 30 {
			_, err := to["eu"].In(name).Put(ctx, fmt.Sprint("k", i), []byte("v"))
			must(err)
		}
		// The level counts the bucket's regions.
		_, err := to["eu"].In(name).Put(ctx, "each", []byte("v"), client.EachQuorum)
		must(err)
	}
	for _, region := range []topology.Region{"ap", "us"} {
		eventually(t, ctx, "the definitions", func() bool {
			_, err := to[region].In("alone").Get(ctx, "k1")
			return errors.Is(err, client.ErrNoBucket) && strings.Contains(err.Error(), "but in eu")
		})
	}
	if _, err := to["ap"].In("both").Get(ctx, "each"); err != nil {
		t.Errorf("acknowledged in each region of the bucket: %v", err)
	}
	exported := func(region topology.Region) map[string]int {
		n := map[string]int{}
		node := f.Process(topology.NodeID(region) + "-1").Node()
		must(node.Coordinator().Export(ctx, "", func(x coord.Exported) error {
			n[x.Bucket]++
			return nil
		}))
		return n
	}
	check := func() {
		t.Helper()
		var last error
		eventually(t, ctx, "equal regions", func() bool { last = f.Converged(); return last == nil })
		for _, region := range regions {
			got := exported(region)
			for name, list := range in {
				want := 31
				if list != nil && !slices.Contains(list, string(region)) {
					want = 0
				}
				if got[name] != want {
					t.Errorf("%s has %d keys of bucket %s, not %d", region, got[name], name, want)
				}
			}
		}
	}
	check()

	grown, err := to["eu"].Buckets().Get(ctx, "alone")
	must(err)
	grown.Regions = []string{"us"}
	if _, err := to["eu"].Buckets().Update(ctx, grown); !errors.Is(err, client.ErrInvalid) {
		t.Errorf("a bucket leaves eu: %v", err)
	}
	grown.Regions = []string{"eu", "us"}
	_, err = to["eu"].Buckets().Update(ctx, grown)
	must(err)
	in["alone"] = grown.Regions
	eventually(t, ctx, "the bucket in us", func() bool {
		_, err := to["us"].In("alone").Get(ctx, "k29")
		return err == nil
	})
	check()
}
