package api_test

import (
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"google.golang.org/protobuf/testing/protocmp"

	"github.com/atolldb/atoll/geo"
	"github.com/atolldb/atoll/node/api"
	"github.com/atolldb/atoll/node/topology"
	adminv1 "github.com/atolldb/atoll/proto/atoll/admin/v1"
)

func TestRegionLag(t *testing.T) {
	s := &scripted{lag: api.Lag{
		Links: []api.Link{{
			SeenBy: "us", CompleteAsOf: time.UnixMilli(1_700_000_000_000),
			LagReport: geo.LagReport{
				Origin: "eu", Destination: "us", Alive: true, Heard: true, HeartbeatAge: time.Second,
				Pending: 3, PendingAge: 2 * time.Second, PendingBytes: 300, Unheld: 4, Unknown: 5, Unsure: 6,
			},
			NeedFullSync: []topology.NodeID{"eu-1", "eu-3"},
		}, {SeenBy: "eu", LagReport: geo.LagReport{Origin: "eu", Destination: "us"}}},
		Silent: []topology.NodeID{"us-2"},
	}}
	got, err := service(s).RegionLag(t.Context(), &adminv1.RegionLagRequest{})
	if err != nil {
		t.Fatal(err)
	}
	want := &adminv1.RegionLagResponse{
		Region: "eu", Silent: []string{"us-2"},
		Links: []*adminv1.RegionLink{{
			Origin: "eu", Destination: "us", SeenBy: "us", Alive: true, Heard: true, HeartbeatAgeMs: 1000,
			Pending: 3, OldestMs: 2000, PendingBytes: 300, Unheld: 4, UnknownPartitions: 5, UnsurePartitions: 6, CompleteAsOfMs: 1_700_000_000_000,
			NeedsFullSync: []string{"eu-1", "eu-3"},
		}, {Origin: "eu", Destination: "us", SeenBy: "eu"}},
	}
	if diff := cmp.Diff(want, got, protocmp.Transform()); diff != "" {
		t.Error(diff)
	}
}

func TestRegionVerify(t *testing.T) {
	s := &scripted{verified: api.Verified{
		Began: time.UnixMilli(5), Took: time.Second, Partitions: 3, Equal: 1,
		Others: []api.Verdict{
			{Partition: 1, Kind: api.Behind, MissingInA: 1, MissingInB: 2},
			{Partition: 2, Kind: api.Differs, Nodes: []topology.NodeID{"us-1"}},
		},
	}}
	got, err := service(s).RegionVerify(t.Context(), &adminv1.RegionVerifyRequest{A: "eu", B: "us", Deep: true, WaitMs: 1500})
	if err != nil {
		t.Fatal(err)
	}
	want := &adminv1.RegionVerifyResponse{
		BeganMs: 5, TookMs: 1000, Partitions: 3, Equal: 1,
		Others: []*adminv1.PartitionVerdict{
			{Partition: 1, Kind: adminv1.VerdictKind_VERDICT_KIND_BEHIND, MissingInA: 1, MissingInB: 2},
			{Partition: 2, Kind: adminv1.VerdictKind_VERDICT_KIND_DIFFERS, Nodes: []string{"us-1"}},
		},
	}
	if diff := cmp.Diff(want, got, protocmp.Transform()); diff != "" {
		t.Error(diff)
	}
	if s.asked[0] != "verify eu us true 1.5s" {
		t.Error(s.asked)
	}
	for _, bad := range []*adminv1.RegionVerifyRequest{
		{A: "eu", B: "us", WaitMs: -1}, {A: "eu", B: "us", WaitMs: 60_001}, {A: "eu", B: "eu"}, {},
	} {
		if _, err := service(s).RegionVerify(t.Context(), bad); err == nil {
			t.Errorf("%v was taken", bad)
		}
	}
}
