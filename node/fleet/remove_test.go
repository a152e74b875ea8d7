package fleet_test

import (
	"context"
	"errors"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"

	"github.com/atolldb/atoll/client"
	"github.com/atolldb/atoll/node/fleet"
	"github.com/atolldb/atoll/node/topology"
	adminv1 "github.com/atolldb/atoll/proto/atoll/admin/v1"
)

func regionsOf(t *testing.T, f *fleet.Fleet, region topology.Region) adminv1.RegionsClient {
	t.Helper()
	conn, err := grpc.NewClient(f.Endpoints(region)[0], grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	return adminv1.NewRegionsClient(conn)
}

// operate begins an operation and waits until it has ended.
func operate(t *testing.T, ctx context.Context, c adminv1.RegionsClient, plan *adminv1.PlanOperationRequest) {
	t.Helper()
	what := plan.Kind + " of " + plan.Region
	eventually(t, ctx, what+" begins", func() bool {
		_, err := c.BeginOperation(ctx, &adminv1.BeginOperationRequest{Plan: plan})
		if err != nil {
			t.Logf("%s: %v", what, err)
		}
		return err == nil
	})
	eventually(t, ctx, what+" ends", func() bool {
		res, err := c.GetRegions(ctx, &adminv1.GetRegionsRequest{})
		return err == nil && res.Operation.GetEnded() && res.Operation.GetRegion() == plan.Region && res.Operation.GetKind() == plan.Kind
	})
}

// A region is removed while the others are written to, and no node is restarted:
// nothing fails there, nothing is kept for it any more (its place in their logs, the
// marks of deletes), it serves nothing, and it stays so after restarts on both sides.
func TestRegionIsRemoved(t *testing.T) {
	f, ctx := start(t, fleet.Config{Regions: []topology.Region{"eu", "us", "ap"}, Nodes: 1, Partitions: 8})
	eu, ap := open(t, ctx, f, "eu"), open(t, ctx, f, "ap")
	if _, err := ap.Put(ctx, "from-ap", []byte("v")); err != nil {
		t.Fatal(err)
	}
	stop := busy(t, ctx, eu)
	ops := regionsOf(t, f, "eu")
	if _, err := ops.PlanOperation(ctx, &adminv1.PlanOperationRequest{Kind: "remove", Region: "ap"}); err == nil {
		t.Error("a region in service can be removed")
	}
	operate(t, ctx, ops, &adminv1.PlanOperationRequest{Kind: "switchover", Region: "ap"})
	operate(t, ctx, ops, &adminv1.PlanOperationRequest{Kind: "remove", Region: "ap"})
	removed := func() {
		t.Helper()
		eventually(t, ctx, "it is told, and serves nothing", func() bool {
			short, cancel := context.WithTimeout(ctx, 3*time.Second)
			defer cancel()
			_, err := ap.Get(short, "from-ap")
			return errors.Is(err, client.ErrRegionFenced)
		})
	}
	removed()
	if obj, err := eu.Get(ctx, "from-ap"); err != nil || string(obj.Value()) != "v" {
		t.Errorf("what was written there is gone with it: %v", err)
	}
	links := func() {
		t.Helper()
		eventually(t, ctx, "it is no concern of the others", func() bool {
			res, err := admin(t, f, "us").RegionLag(ctx, &adminv1.RegionLagRequest{})
			return err == nil && len(res.Links) == 4 && len(res.Silent) == 0
		})
	}
	links()
	eventually(t, ctx, "its place in the log is given up", func() bool {
		log := f.Process("eu-1").Node().Figures().Log
		_, kept := log.Open["ap"]
		_, us := log.Open["us"]
		return us && !kept
	})
	stop()

	// Its nodes are stopped: the marks of deletes go without it.
	if err := f.StopNode("ap-1"); err != nil {
		t.Fatal(err)
	}
	obj, err := eu.Get(ctx, "from-ap")
	if err == nil {
		_, err = eu.Delete(ctx, "from-ap", client.After(obj.Version()))
	}
	if err != nil {
		t.Fatal(err)
	}
	eventually(t, ctx, "the two are equal", func() bool {
		v, err := admin(t, f, "eu").RegionVerify(ctx, &adminv1.RegionVerifyRequest{A: "eu", B: "us"})
		return err == nil && v.Equal == 8
	})
	node := f.Process("eu-1").Node()
	eventually(t, ctx, "tombstones are collected", func() bool {
		p, err := node.Operations().Collections.CollectProgress(ctx)
		if err != nil {
			return false
		}
		for _, n := range p.Nodes {
			if n.ID == "eu-1" && n.Demand != nil && n.Demand.Done == 8 {
				return true
			} else if n.ID == "eu-1" && n.Demand != nil && n.Demand.Runs() {
				return false
			}
		}
		if _, err := node.Operations().Collections.StartCollect(ctx, 1*time.Second); err != nil {
			t.Log(err)
		}
		return false
	})

	// Both sides are started again, as they are configured.
	for _, id := range []topology.NodeID{"eu-1", "us-1"} {
		if err := f.StopNode(id); err != nil {
			t.Fatal(err)
		}
		if err := f.StartNode(ctx, id); err != nil {
			t.Fatal(err)
		}
	}
	if err := f.StartNode(ctx, "ap-1"); err != nil {
		t.Fatal(err)
	}
	links()
	removed()
	if _, err := eu.Put(ctx, "afterwards", []byte("v")); err != nil {
		t.Error(err)
	}
	if _, err := regionsOf(t, f, "ap").PlanOperation(ctx, &adminv1.PlanOperationRequest{Kind: "failover", Region: "eu", Force: true}); err == nil {
		t.Error("a removed region changes the map")
	}

	// Its name comes in again, as another region: not with the ids of nodes of then.
	if err := f.DropRegion("ap"); err != nil {
		t.Fatal(err)
	}
	made, err := f.NewRegion(ctx, "ap")
	if err != nil {
		t.Fatal(err)
	}
	for what, spoil := range map[string]func(*adminv1.RegionNewcomer){
		"nodes": func(n *adminv1.RegionNewcomer) { n.Members[0].Id = "ap-1" },
		"keys":  func(n *adminv1.RegionNewcomer) { n.Partitions = 16 },
		"reach": func(n *adminv1.RegionNewcomer) { n.Members[0].PeerAddr = "127.0.0.1:1" },
	} {
		n := newcomer(made, 8)
		spoil(n)
		plan, err := ops.PlanOperation(ctx, &adminv1.PlanOperationRequest{Kind: "add", Region: "ap", Newcomer: n})
		if err != nil {
			t.Fatal(err)
		}
		for _, c := range plan.Checks {
			if c.Ok == (c.Name == what) {
				t.Errorf("%s is wrong: %v", what, c)
			}
		}
	}
	old := newcomer(made, 8)
	old.Id = 3
	if _, err := ops.PlanOperation(ctx, &adminv1.PlanOperationRequest{Kind: "add", Region: "ap", Newcomer: old}); err == nil {
		t.Error("the number of a removed region is given again")
	}
	ops = regionsOf(t, f, "eu")
	operate(t, ctx, ops, &adminv1.PlanOperationRequest{Kind: "add", Region: "ap", Newcomer: newcomer(made, 8)})
	again := open(t, ctx, f, "ap")
	if _, err := again.Put(ctx, "again", []byte("v")); err != nil {
		t.Error(err)
	}
	if obj, err := again.Get(ctx, "afterwards"); err != nil || string(obj.Value()) != "v" {
		t.Errorf("it came in without what there is: %v", err)
	}
	eventually(t, ctx, "all three are equal", func() bool { return f.Converged() == nil })
}
