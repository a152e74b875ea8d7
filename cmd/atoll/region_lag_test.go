package main

import (
	"strings"
	"testing"

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
