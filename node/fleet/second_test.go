package fleet_test

import (
	"context"
	"fmt"
	"strings"
	"testing"

	"github.com/atolldb/atoll/client"
	"github.com/atolldb/atoll/node/fleet"
	"github.com/atolldb/atoll/node/topology"
	adminv1 "github.com/atolldb/atoll/proto/atoll/admin/v1"
)

// A region that has been alone, without any log, becomes two while it serves: its nodes
// are prepared one after the other, and the second region is taken in. Before all of
// them are prepared that is refused, and it says why. Nothing that was written before,
// meanwhile or after is missing anywhere, and no write fails.
func TestOneRegionBecomesTwo(t *testing.T) {
	f, ctx := start(t, fleet.Config{Regions: []topology.Region{"eu"}, Partitions: 16})
	eu := open(t, ctx, f, "eu")
	for i := range 200 {
		if _, err := eu.Put(ctx, fmt.Sprint("k", i), fmt.Append(nil, "value ", i)); err != nil {
			t.Fatal(err)
		}
	}
	for i := range 20 {
		obj, err := eu.Get(ctx, fmt.Sprint("k", i))
		if err == nil {
			_, err = eu.Delete(ctx, fmt.Sprint("k", i), client.After(obj.Version()))
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	writing, stop := context.WithCancel(ctx)
	ended := make(chan error, 1)
	wrote := 0
	go func() {
		for ; writing.Err() == nil; wrote++ {
			if _, err := eu.Put(ctx, fmt.Sprint("busy", wrote), []byte("v")); err != nil {
				ended <- err
				return
			}
		}
		ended <- nil
	}()

	made, err := f.NewRegion(ctx, "us")
	if err != nil {
		t.Fatal(err)
	}
	q := &adminv1.PlanOperationRequest{Kind: "add", Region: "us", Newcomer: newcomer(made, 16)}
	if _, err := regionsOf(t, f, "eu").PlanOperation(ctx, q); err == nil || !strings.Contains(err.Error(), "geo.others") {
		t.Errorf("a region that is not prepared: %v", err)
	}
	if err := f.ExpectOthers(ctx, true, "eu-1"); err != nil {
		t.Fatal(err)
	}
	plan, err := regionsOf(t, f, "eu").PlanOperation(ctx, q)
	if err != nil {
		t.Fatal(err)
	}
	if bad := refused(plan); !strings.Contains(bad, "prepared: ") || !strings.Contains(bad, "eu-2, eu-3") {
		t.Errorf("one node of three is prepared: %q", bad)
	}
	if _, err := regionsOf(t, f, "eu").BeginOperation(ctx, &adminv1.BeginOperationRequest{Plan: q}); err == nil {
		t.Error("it began")
	}
	if err := f.ExpectOthers(ctx, true, "eu-2", "eu-3"); err != nil {
		t.Fatal(err)
	}
	operate(t, ctx, regionsOf(t, f, "eu"), q)
	us := open(t, ctx, f, "us")
	if _, err := us.Put(ctx, "from-us", []byte("v"), client.EachQuorum); err != nil {
		t.Errorf("EACH_QUORUM in the new region: %v", err)
	}
	stop()
	if err := <-ended; err != nil {
		t.Errorf("a write failed meanwhile: %v", err)
	}
	// Who has forgotten what it was prepared for goes by the map that it has kept.
	if err := f.ExpectOthers(ctx, false, "eu-2"); err != nil {
		t.Fatal(err)
	}
	if _, err := eu.Put(ctx, "after", []byte("v"), client.EachQuorum); err != nil {
		t.Errorf("EACH_QUORUM in the old region: %v", err)
	}
	eventually(t, ctx, "both are equal", func() bool { return f.Converged() == nil })
	want := export(t, ctx, admin(t, f, "eu"))
	if got := export(t, ctx, admin(t, f, "us")); got != want || strings.Count(got, "\"busy") != wrote {
		t.Errorf("us differs: %d bytes of export, eu has %d; %d writes were made meanwhile, %d are there", len(got), len(want), wrote, strings.Count(got, "\"busy"))
	}
}

// refused are the checks that do not hold.
func refused(p *adminv1.PlanOperationResponse) (bad string) {
	for _, c := range p.Checks {
		if !c.Ok {
			bad += c.Name + ": " + c.Detail + "\n"
		}
	}
	return bad
}
