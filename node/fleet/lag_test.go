package fleet_test

import (
	"context"
	"errors"
	"fmt"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"

	"github.com/atolldb/atoll/client"
	"github.com/atolldb/atoll/node/fleet"
	"github.com/atolldb/atoll/node/topology"
	adminv1 "github.com/atolldb/atoll/proto/atoll/admin/v1"
)

// admin of a region's first node.
func admin(t *testing.T, f *fleet.Fleet, region topology.Region) adminv1.ClusterClient {
	t.Helper()
	conn, err := grpc.NewClient(f.Endpoints(region)[0], grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	return adminv1.NewClusterClient(conn)
}

func linkOf(t *testing.T, ctx context.Context, c adminv1.ClusterClient, origin, destination, by string) *adminv1.RegionLink {
	t.Helper()
	res, err := c.RegionLag(ctx, &adminv1.RegionLagRequest{})
	if err != nil {
		t.Fatal(err)
	}
	for _, l := range res.Links {
		if l.Origin == origin && l.Destination == destination && l.SeenBy == by {
			return l
		}
	}
	return &adminv1.RegionLink{}
}

// While regions are cut off from each other, the link is shown dead within 3 s,
// and the origin counts exactly the writes made since: puts, overwrites, deletes,
// expiring values and conditional writes. Afterwards nothing is missing, and the
// regions are found equal.
func TestPendingIsExact(t *testing.T) {
	f, ctx := start(t, fleet.Config{Regions: []topology.Region{"eu", "us"}, Latency: 5 * time.Millisecond})
	eu, us := open(t, ctx, f, "eu"), open(t, ctx, f, "us")
	ops := map[string]adminv1.ClusterClient{"eu": admin(t, f, "eu"), "us": admin(t, f, "us")}
	settled := func() bool {
		for _, by := range []string{"eu", "us"} {
			for _, way := range [][2]string{{"eu", "us"}, {"us", "eu"}} {
				l := linkOf(t, ctx, ops["eu"], way[0], way[1], by)
				if !l.Alive || l.Pending+l.Unheld > 0 || l.UnknownPartitions+l.UnsurePartitions > 0 {
					return false
				}
			}
		}
		return true
	}
	if _, err := eu.Put(ctx, "before", []byte("v")); err != nil {
		t.Fatal(err)
	}
	eventually(t, ctx, "both hear each other and lack nothing", settled)

	if err := f.Partition("eu", "us"); err != nil {
		t.Fatal(err)
	}
	began := time.Now()
	eventually(t, ctx, "the link is shown dead", func() bool {
		// When it was asked: an answer waits for those who are cut off, while nobody
		// takes them for down.
		asked := time.Since(began)
		alive := linkOf(t, ctx, ops["eu"], "eu", "us", "eu").Alive
		if alive && asked > 3*time.Second {
			t.Fatalf("shown alive %s after the cut", asked)
		}
		return !alive
	})
	write := func(c *client.Client, n int) {
		for i := range n {
			key := fmt.Sprintf("k%d", i%7)
			obj, err := c.Get(ctx, key)
			if err != nil && !errors.Is(err, client.ErrNotFound) && !errors.Is(err, client.ErrSiblings) {
				t.Fatal(err)
			}
			switch i % 4 {
			case 0:
				_, err = c.Put(ctx, key, []byte("v"), client.After(obj.Version()))
			case 1:
				_, err = c.Put(ctx, key, []byte("blind"))
			case 2:
				_, err = c.Put(ctx, key, []byte("short"), client.TTL(time.Second))
			case 3:
				_, err = c.Delete(ctx, key, client.After(obj.Version()))
			}
			if err != nil {
				t.Fatal(err)
			}
		}
	}
	write(eu, 40)
	write(us, 17)
	for _, c := range []struct {
		origin, destination string
		pending             uint64
	}{{"eu", "us", 40}, {"us", "eu", 17}} {
		var l *adminv1.RegionLink
		eventually(t, ctx, "exactly the writes made during the cut are pending", func() bool {
			l = linkOf(t, ctx, ops[c.origin], c.origin, c.destination, c.origin)
			return l.Pending == c.pending && l.OldestMs > 0
		})
		if l.Alive || l.Unheld != c.pending {
			t.Errorf("%v", l)
		}
	}
	v, err := ops["eu"].RegionVerify(ctx, &adminv1.RegionVerifyRequest{A: "eu", B: "us"})
	if err != nil || v.Equal != 0 || v.Others[0].Kind != adminv1.VerdictKind_VERDICT_KIND_SILENT {
		t.Errorf("a region that does not answer: %v %v", v, err)
	}

	f.HealAll()
	eventually(t, ctx, "nothing is missing", settled)
	v, err = ops["us"].RegionVerify(ctx, &adminv1.RegionVerifyRequest{A: "eu", B: "us", WaitMs: 20_000})
	if err != nil || int(v.Equal) != int(v.Partitions) || v.Partitions != 64 {
		t.Errorf("equal: %v %v", v, err)
	}
	if l := linkOf(t, ctx, ops["us"], "eu", "us", "us"); time.Since(time.UnixMilli(l.CompleteAsOfMs)) > 30*time.Second {
		t.Errorf("complete as of %v", time.UnixMilli(l.CompleteAsOfMs))
	}
}
