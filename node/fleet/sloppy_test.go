package fleet_test

import (
	"errors"
	"fmt"
	"slices"
	"testing"

	"github.com/atolldb/atoll/client"
	"github.com/atolldb/atoll/hashring"
	"github.com/atolldb/atoll/node/coord"
	"github.com/atolldb/atoll/node/fleet"
	"github.com/atolldb/atoll/node/topology"
)

// Two of a key's three owners are down: a write is refused, and a sloppy one is
// taken, says who stood in, and is with all owners soon after they are back.
func TestSloppyWriteComesHome(t *testing.T) {
	f, ctx := start(t, fleet.Config{Regions: []topology.Region{"eu"}, Nodes: 5})
	c := open(t, ctx, f, "eu")

	// eu-1 has the metadata server and stays.
	top := f.Process("eu-1").Node().Topology()
	var key string
	var owners []topology.NodeID
	for i := 0; ; i++ {
		key = fmt.Sprint("cart/", i)
		p := hashring.PartitionOf(hashring.KeyHash(coord.FullKey("default", []byte(key))), top.Table.Partitions())
		if owners = top.Takers(p); owners[0] == "eu-1" {
			break
		}
	}
	for _, id := range owners[1:] {
		if err := f.Kill(id); err != nil {
			t.Fatal(err)
		}
	}
	eventually(t, ctx, "a strict write is refused", func() bool {
		_, err := c.Put(ctx, key, []byte("strict"))
		return errors.Is(err, client.ErrUnavailable) && !errors.Is(err, client.ErrUnknownOutcome)
	})
	var info client.Info
	if _, err := c.Put(ctx, key, []byte("milk"), client.Sloppy(), client.Overwrite(), client.Explain(&info)); err != nil {
		t.Fatal(err)
	}
	if !info.Degraded || len(info.Hinted) != 1 || !slices.Equal(info.Replicas, []string{"eu-1"}) {
		t.Errorf("%+v", info)
	}
	for _, id := range owners[1:] {
		if err := f.StartNode(ctx, id); err != nil {
			t.Fatal(err)
		}
	}
	eventually(t, ctx, "all owners show it", func() bool {
		obj, err := c.Get(ctx, key, client.LocalAll)
		return err == nil && string(obj.Value()) == "milk"
	})
	eventually(t, ctx, "no hint is left", func() bool {
		return len(f.Process(topology.NodeID(info.Hinted[0])).Node().Hints().Owed()) == 0
	})
}
