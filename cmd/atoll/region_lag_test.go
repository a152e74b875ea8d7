package main

import (
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/atolldb/atoll/geo"
	"github.com/atolldb/atoll/node/api"
	"github.com/atolldb/atoll/node/api/apitest"
	adminv1 "github.com/atolldb/atoll/proto/atoll/admin/v1"
)

// A dead link does not hide that some partitions are not counted: the figure is no bound
// of what would be lost then.
func TestUncountedPartitionsOfADeadLinkAreTold(t *testing.T) {
	l := &adminv1.RegionLink{Origin: "eu", Destination: "us", SeenBy: "us", Heard: true, HeartbeatAgeMs: 9000, UnknownPartitions: 22}
	got := strings.Join(lagging(&adminv1.RegionLagResponse{Links: []*adminv1.RegionLink{l}}, lagLimits{}), "\n")
	for _, want := range []string{"nothing is heard from region eu for 9s", "22 partitions are not counted: nobody in region eu was heard of them since"} {
		if !strings.Contains(got, want) {
			t.Errorf("%q is not told:\n%s", want, got)
		}
	}
}

// Whoever watches sees a link die and come back, and goes on seeing it when the node that
// was asked is gone.
func TestLagIsWatched(t *testing.T) {
	t.Parallel()
	region := apitest.NewRegion(t, 2)
	say := func(alive bool, pending uint64) {
		region.SetLag(api.Lag{Links: []api.Link{{SeenBy: "eu", LagReport: geo.LagReport{
			Origin: "eu", Destination: "us", Heard: true, Alive: alive, HeartbeatAge: 4 * time.Second, Pending: pending,
		}}}})
	}
	say(true, 3)
	p := startAtoll(t, nil, "region", "lag", "--watch", "--endpoints", region.Nodes[0].Addr+","+region.Nodes[1].Addr)
	late := time.AfterFunc(time.Minute, func() { _ = p.cmd.Process.Kill() })
	defer late.Stop()
	// shows waits for a look at the link.
	shows := func(link, pending string) {
		t.Helper()
		for {
			line, err := p.out.ReadString('\n')
			if err != nil {
				t.Fatalf("no link that is %s, with %s pending: %v\n%s", link, pending, err, p.stderr.String())
			}
			if f := strings.Fields(line); len(f) > 5 && f[0] == "eu" && f[3] == link && f[5] == pending {
				return
			}
		}
	}
	shows("alive", "3")
	say(false, 7)
	region.Nodes[0].Kill()
	shows("DEAD", "7")
	say(true, 0)
	shows("alive", "0")
	p.signal(syscall.SIGINT)
	_ = p.exit()
	for _, want := range []string{"ask what regions lack: ", "nothing is heard from region us for 4s"} {
		if !strings.Contains(p.stderr.String(), want) {
			t.Errorf("%q was not said:\n%s", want, p.stderr.String())
		}
	}
}
