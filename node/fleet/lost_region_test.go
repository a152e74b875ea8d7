package fleet_test

import (
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/atolldb/atoll/client"
	"github.com/atolldb/atoll/node/fleet"
	"github.com/atolldb/atoll/node/topology"
	adminv1 "github.com/atolldb/atoll/proto/atoll/admin/v1"
)

// A region that is lost with its disks keeps the marks of deletes of the others alive
// until it is removed: no node is restarted for that, and none of it has to answer.
func TestLostRegionIsRemoved(t *testing.T) {
	f, ctx := start(t, fleet.Config{Regions: []topology.Region{"eu", "us", "ap"}, Nodes: 1, Partitions: 8})
	eu, ap := open(t, ctx, f, "eu"), open(t, ctx, f, "ap")
	if _, err := ap.Put(ctx, "k", []byte("v")); err != nil {
		t.Fatal(err)
	}
	eventually(t, ctx, "it arrives", func() bool { _, err := eu.Get(ctx, "k"); return err == nil })
	ops, node := regionsOf(t, f, "eu"), f.Process("eu-1").Node()
	failover := &adminv1.PlanOperationRequest{Kind: "failover", Region: "ap"}
	eventually(t, ctx, "both others know of all partitions what ap has", func() bool {
		plan, err := ops.PlanOperation(ctx, failover)
		return err == nil && slices.ContainsFunc(plan.Checks, func(c *adminv1.OperationCheck) bool { return c.Name == "counted" && c.Ok })
	})
	if plan, err := ops.PlanOperation(ctx, failover); err != nil || !strings.Contains(refused(plan), "lost: 1 of 1 nodes of ap answer") {
		t.Errorf("a region that lives: %v, %v", plan, err)
	}
	if err := f.Kill("ap-1"); err != nil {
		t.Fatal(err)
	}
	obj, err := eu.Get(ctx, "k")
	if err == nil {
		_, err = eu.Delete(ctx, "k", client.After(obj.Version()))
	}
	if err != nil {
		t.Fatal(err)
	}
	operate(t, ctx, ops, failover)
	collected := func() bool {
		p, err := node.Operations().Collections.CollectProgress(ctx)
		if err != nil {
			return false
		}
		for _, n := range p.Nodes {
			if n.ID != "eu-1" || n.Demand == nil {
				continue
			}
			if n.Demand.Done == 8 {
				return true
			}
			if n.Demand.Runs() {
				return false
			}
		}
		if _, err := node.Operations().Collections.StartCollect(ctx, time.Second); err != nil {
			t.Log(err)
		}
		return false
	}
	operate(t, ctx, ops, &adminv1.PlanOperationRequest{Kind: "remove", Region: "ap"})
	eventually(t, ctx, "tombstones are collected", collected)
	if _, err := eu.Put(ctx, "k", []byte("again"), client.EachQuorum); err != nil {
		t.Errorf("levels of all regions: %v", err)
	}
}
