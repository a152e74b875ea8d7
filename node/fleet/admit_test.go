package fleet_test

import (
	"testing"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"

	"github.com/atolldb/atoll/node/fleet"
	"github.com/atolldb/atoll/node/topology"
	adminv1 "github.com/atolldb/atoll/proto/atoll/admin/v1"
)

// Where the map of regions has been changed before, a region that is new does not take
// writes until it is admitted, as one that returns is: with all that the others have.
func TestNewRegionIsAdmitted(t *testing.T) {
	f, ctx := start(t, fleet.Config{Regions: []topology.Region{"eu", "us"}, Nodes: 1, Partitions: 16})
	conn, err := grpc.NewClient(f.Endpoints("eu")[0], grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	regions := adminv1.NewRegionsClient(conn)
	operate := func(kind, region string) {
		t.Helper()
		eventually(t, ctx, kind+" of "+region+" begins", func() bool {
			_, err := regions.BeginOperation(ctx, &adminv1.BeginOperationRequest{Plan: &adminv1.PlanOperationRequest{Kind: kind, Region: region}})
			if err != nil {
				t.Logf("%s of %s: %v", kind, region, err)
			}
			return err == nil
		})
		eventually(t, ctx, kind+" of "+region+" ends", func() bool {
			res, err := regions.GetRegions(ctx, &adminv1.GetRegionsRequest{})
			return err == nil && res.Operation.GetEnded() && res.Operation.GetRegion() == region && res.Operation.GetKind() == kind
		})
	}
	operate("switchover", "us")
	operate("failback", "us")
	eu := open(t, ctx, f, "eu")
	if _, err := eu.Put(ctx, "k", []byte("v")); err != nil {
		t.Fatal(err)
	}
	if err := f.AddRegion(ctx, "ap"); err != nil {
		t.Fatal(err)
	}
	ap := open(t, ctx, f, "ap")
	if _, err := ap.Put(ctx, "early", []byte("v")); err == nil {
		t.Error("a region that was not admitted took a write")
	}
	operate("failback", "ap")
	if obj, err := ap.Get(ctx, "k"); err != nil || string(obj.Value()) != "v" {
		t.Errorf("admitted without what the others have: %v", err)
	}
	eventually(t, ctx, "it takes writes", func() bool {
		_, err := ap.Put(ctx, "late", []byte("v"))
		return err == nil
	})
}
