package main

import (
	"context"
	"strings"
	"testing"

	"google.golang.org/protobuf/proto"

	adminv1 "github.com/atolldb/atoll/proto/atoll/admin/v1"
)

// cannedRegions is a node that has been asked for the map of regions.
type cannedRegions struct {
	adminv1.UnimplementedRegionsServer
	regions *adminv1.GetRegionsResponse
}

func (c *cannedRegions) GetRegions(context.Context, *adminv1.GetRegionsRequest) (*adminv1.GetRegionsResponse, error) {
	return c.regions, nil
}

// Whatever keeps regions from standing in for each other ends 'dr status' with 8, and
// what is wrong with the lease ends 'dr lease' so, too.
func TestDegradedRegions(t *testing.T) {
	well := &adminv1.GetRegionsResponse{
		Region: "eu",
		Map: &adminv1.RegionMap{Version: 4, LeaseMs: 15_000, LeaseBinds: true, Regions: []*adminv1.RegionState{
			{Name: "ap", Id: 3, State: "ACTIVE"}, {Name: "eu", Id: 1, State: "ACTIVE"}, {Name: "us", Id: 2, State: "ACTIVE"}, {Name: "old", Id: 4, State: "REMOVED"},
		}},
		Lease: &adminv1.HeldLease{LeftMs: 12_000, Grants: []*adminv1.LeaseGrant{{Region: "ap"}, {Region: "us", LeftMs: 12_000}}},
		Links: []*adminv1.LinkStatus{
			{Origin: "ap", Node: "eu-1", Alive: true, HeartbeatAgeMs: 400}, {Origin: "us", Node: "eu-1", Alive: true, HeartbeatAgeMs: 300},
		},
		Operation: &adminv1.RegionOperation{Kind: "failback", Region: "us", Ended: true},
	}
	const held = "region eu holds it for 12s, and longer if it is granted again; granted by ap: nothing; granted by us: 12s"
	for _, c := range []struct {
		name       string
		change     func(*adminv1.GetRegionsResponse)
		status     string // a line of standard error; "" for code 0
		lease      bool   // 'dr lease' says it, too
		says, miss string // of what both print
	}{
		{"all is well", func(*adminv1.GetRegionsResponse) {}, "", false, held, ""},
		{"no lease", func(st *adminv1.GetRegionsResponse) { st.Map.LeaseMs, st.Map.LeaseBinds, st.Lease = 0, false, nil }, "", false, "no lease: ", "holds it"},
		{
			"the lease has run out", func(st *adminv1.GetRegionsResponse) { st.Lease.LeftMs, st.Lease.Grants[1].LeftMs = 0, 0 },
			"the lease of region eu has run out: buckets with their home there refuse SERIAL; not granted by ap, us", true,
			"region eu does not hold it: it decides nothing", "holds it for",
		},
		{
			"the lease does not bind", func(st *adminv1.GetRegionsResponse) { st.Map.LeaseBinds = false },
			"the lease does not bind yet: not all nodes are known to go by it, and a failover may leave two homes", true, "which not all nodes are known to go by yet", "",
		},
		{
			"a region is silent", func(st *adminv1.GetRegionsResponse) { st.Links[0].Alive, st.Links[0].HeartbeatAgeMs = false, 7000 },
			"node eu-1 hears nothing from region ap for 7s", false, held, "",
		},
		{"a region is out", func(st *adminv1.GetRegionsResponse) { st.Map.Regions[2].State = "FENCED" }, "region us is FENCED", false, held, ""},
		{
			"this region is out, and holds nothing", func(st *adminv1.GetRegionsResponse) { st.Map.Regions[1].State, st.Lease = "FENCED", nil },
			"region eu is FENCED", false, "homes decide at SERIAL with a lease of 15s", "hold",
		},
		{"the map is contested", func(st *adminv1.GetRegionsResponse) { st.Map.Contested = true }, "two maps of regions have one number: no consensus of all regions until the map is changed again", false, held, ""},
		{
			"something is under way", func(st *adminv1.GetRegionsResponse) { st.Operation.Ended, st.Operation.Waits = false, "us" },
			"failback of us: stage 0 of 0, : ; waits: us", false, held, "",
		},
	} {
		st := proto.Clone(well).(*adminv1.GetRegionsResponse)
		c.change(st)
		addr := serve(t, &canned{}, &cannedRegions{regions: st})
		for _, args := range [][]string{{"dr", "status"}, {"dr", "status", "-o", "json"}, {"dr", "lease"}} {
			want, code := "", exitOK
			if c.status != "" && (args[1] == "status" || c.lease) {
				want, code = "degraded:\n  "+c.status, exitDegraded
			}
			out, msg, got := execute(t, append(args, "--endpoints", addr)...)
			if got != code || msg != want {
				t.Errorf("%s: %v: exit code %d, want %d; it says %q, want %q", c.name, args, got, code, msg, want)
			}
			if len(args) == 2 && (!strings.Contains(out, c.says) || c.miss != "" && strings.Contains(out, c.miss)) {
				t.Errorf("%s: %v: printed, with %q and without %q:\n%s", c.name, args, c.says, c.miss, out)
			}
		}
	}
}
