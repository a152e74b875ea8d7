package fleet_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"testing"

	"github.com/atolldb/atoll/client"
	"github.com/atolldb/atoll/node/fleet"
	"github.com/atolldb/atoll/node/process"
	"github.com/atolldb/atoll/node/topology"
	adminv1 "github.com/atolldb/atoll/proto/atoll/admin/v1"
)

// export of a whole region.
func export(t *testing.T, ctx context.Context, c adminv1.ClusterClient) string {
	t.Helper()
	stream, err := c.Export(ctx, &adminv1.ExportRequest{})
	if err != nil {
		t.Fatal(err)
	}
	var out string
	for {
		msg, err := stream.Recv()
		if errors.Is(err, io.EOF) {
			return out
		}
		if err != nil {
			t.Fatal(err)
		}
		for _, r := range msg.Records {
			out += fmt.Sprintf("%q %q %d\n", r.Bucket, r.Key, len(r.Versions))
			for _, v := range r.Versions {
				out += fmt.Sprintf("  %d/%d %d %v %d %q %v\n", v.Actor, v.N, v.Stamp, v.Deleted, v.ExpiresAt, v.Value, v.Past)
			}
		}
	}
}

// newcomer is a region as it tells of itself.
func newcomer(r process.Region, partitions uint32) *adminv1.RegionNewcomer {
	n := &adminv1.RegionNewcomer{Id: uint32(r.ID), Partitions: partitions, Nats: r.NATS}
	for _, m := range r.Members {
		n.Members = append(n.Members, &adminv1.RegionSeed{Id: string(m.ID), Rack: m.Rack, ClientAddr: m.Client, PeerAddr: m.Peer})
	}
	return n
}

// A third region is taken in by a pair that has data and is written to meanwhile, and
// removed again, and no node is restarted: it ends byte by byte as the others, and
// what is written in any of them arrives in the two others. Nothing fails on the way.
func TestThirdRegionJoins(t *testing.T) {
	f, ctx := start(t, fleet.Config{Regions: []topology.Region{"eu", "us"}, Partitions: 16})
	eu := open(t, ctx, f, "eu")
	for i := range 200 {
		if _, err := eu.Put(ctx, fmt.Sprint("k", i), fmt.Append(nil, "value ", i)); err != nil {
			t.Fatal(err)
		}
	}
	for i := range 20 { // some are deleted, and stay so
		obj, err := eu.Get(ctx, fmt.Sprint("k", i))
		if err == nil {
			_, err = eu.Delete(ctx, fmt.Sprint("k", i), client.After(obj.Version()))
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	stop := busy(t, ctx, eu)
	if err := f.StopNode("us-3"); err != nil { // it learns of it when it is started
		t.Fatal(err)
	}
	made, err := f.NewRegion(ctx, "ap")
	if err != nil {
		t.Fatal(err)
	}
	world := regionsOf(t, f, "eu")
	operate(t, ctx, world, &adminv1.PlanOperationRequest{Kind: "add", Region: "ap", Newcomer: newcomer(made, 16)})
	for _, bad := range []*adminv1.RegionNewcomer{newcomer(made, 16), {Id: 9, Partitions: 16, Nats: made.NATS}} {
		if _, err := world.PlanOperation(ctx, &adminv1.PlanOperationRequest{Kind: "add", Region: "ap", Newcomer: bad}); err == nil {
			t.Error("added twice")
		}
	}
	if err := f.StartNode(ctx, "us-3"); err != nil {
		t.Fatal(err)
	}
	stop()
	ap, us := open(t, ctx, f, "ap"), open(t, ctx, f, "us")
	if _, err := ap.Put(ctx, "from-ap", []byte("v")); err != nil {
		t.Fatal(err)
	}
	if _, err := us.Put(ctx, "from-us", []byte("v")); err != nil {
		t.Fatal(err)
	}
	eventually(t, ctx, "all three are equal", func() bool { return f.Converged() == nil })
	// A node is started again, whose configuration does not have it.
	if err := f.StopNode("eu-2"); err != nil {
		t.Fatal(err)
	}
	if err := f.StartNode(ctx, "eu-2"); err != nil {
		t.Fatal(err)
	}
	regions := []topology.Region{"eu", "us", "ap"}
	want := export(t, ctx, admin(t, f, "eu"))
	for _, r := range regions[1:] {
		if got := export(t, ctx, admin(t, f, r)); got != want || len(got) < 1000 {
			t.Errorf("region %s differs: %d bytes of export, eu has %d", r, len(got), len(want))
		}
	}
	ops := admin(t, f, "ap")
	eventually(t, ctx, "every pair of regions hears each other and lacks nothing", func() bool {
		res, err := ops.RegionLag(ctx, &adminv1.RegionLagRequest{})
		if err != nil || len(res.Links) != 12 || len(res.Silent) > 0 {
			return false
		}
		for _, l := range res.Links {
			if !l.Alive || l.Pending+l.Unheld > 0 || l.UnknownPartitions > 0 {
				return false
			}
		}
		return true
	})
	for i, a := range regions {
		b := regions[(i+1)%3]
		v, err := ops.RegionVerify(ctx, &adminv1.RegionVerifyRequest{A: string(a), B: string(b), Deep: true, WaitMs: 10_000})
		if err != nil || v.Equal != 16 {
			t.Errorf("%s and %s: %v %v", a, b, v, err)
		}
	}

	// It leaves again: what was written there stays, and the two others go on.
	operate(t, ctx, world, &adminv1.PlanOperationRequest{Kind: "switchover", Region: "ap"})
	operate(t, ctx, world, &adminv1.PlanOperationRequest{Kind: "remove", Region: "ap"})
	if err := f.DropRegion("ap"); err != nil {
		t.Fatal(err)
	}
	if got := export(t, ctx, admin(t, f, "eu")); got != want {
		t.Error("something is gone with the region")
	}
	if _, err := eu.Put(ctx, "afterwards", []byte("v")); err != nil {
		t.Error(err)
	}
	eventually(t, ctx, "the two are equal", func() bool { return f.Converged() == nil })
	eventually(t, ctx, "it is no concern of the others", func() bool {
		res, err := admin(t, f, "us").RegionLag(ctx, &adminv1.RegionLagRequest{})
		return err == nil && len(res.Links) == 4
	})
	if err := f.DropRegion("ap"); err == nil {
		t.Error("dropped twice")
	}
	if err := f.AddRegion(ctx, "eu"); err == nil {
		t.Error("added twice")
	}
}
