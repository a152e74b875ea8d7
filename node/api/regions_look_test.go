package api_test

import (
	"context"
	"testing"
	"time"

	"google.golang.org/protobuf/proto"

	"github.com/atolldb/atoll/geo/regionmap"
	"github.com/atolldb/atoll/node/api"
	"github.com/atolldb/atoll/node/coord"
	"github.com/atolldb/atoll/node/regions"
	"github.com/atolldb/atoll/node/topology"
	adminv1 "github.com/atolldb/atoll/proto/atoll/admin/v1"
)

// seen is what a node knows of regions.
type seen struct {
	api.Regions
	view api.RegionsView
}

func (s *seen) View(context.Context) (api.RegionsView, error) { return s.view, nil }

// Who asks for the map of regions is told what no map says: what the node holds of the
// lease, and which regions are heard.
func TestRegionsTellOfLeaseAndLinks(t *testing.T) {
	f := &fixed{
		top: &topology.Topology{Region: "eu"},
		st:  api.Status{Links: []api.LinkStatus{{Origin: "us", Node: "eu-2", HeartbeatAge: 7 * time.Second}}},
	}
	view := api.RegionsView{Known: regionmap.Known{Map: &regionmap.Map{}}}
	view.Known.Map.Lease.Ms = 15_000
	view.Lease = &regions.LeaseStats{
		Lasts: 15 * time.Second, Left: 1500 * time.Millisecond,
		Grants: map[string]time.Duration{"us": 0, "ap": 1500 * time.Millisecond},
	}
	s := api.NewRegionsService(f, &seen{view: view})
	got, err := s.GetRegions(t.Context(), nil)
	if err != nil {
		t.Fatal(err)
	}
	want := &adminv1.GetRegionsResponse{
		Region: "eu", Map: got.Map,
		Lease: &adminv1.HeldLease{LeftMs: 1500, Grants: []*adminv1.LeaseGrant{{Region: "ap", LeftMs: 1500}, {Region: "us"}}},
		Links: []*adminv1.LinkStatus{{Origin: "us", Node: "eu-2", HeartbeatAgeMs: 7000}},
	}
	if !proto.Equal(got, want) {
		t.Errorf("got %v\nwant %v", got, want)
	}
	f.err = &coord.Error{Code: coord.CodeUnavailable, Detail: "stopping"}
	if _, err := s.GetRegions(t.Context(), nil); err == nil {
		t.Error("links of which nothing is known were shown as none")
	}
}
