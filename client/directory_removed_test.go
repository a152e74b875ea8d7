package client

import (
	"testing"

	adminv1 "github.com/atolldb/atoll/proto/atoll/admin/v1"
)

// A name that a removed region had stands for the region that has it now.
func TestRemovedNameAgain(t *testing.T) {
	gone := &adminv1.RegionPlace{Name: "ap", State: "REMOVED"}
	now := &adminv1.RegionPlace{Name: "ap", State: "ACTIVE", ClientAddrs: []string{"h:1"}}
	for _, order := range [][]*adminv1.RegionPlace{{gone, now}, {now, gone}, {gone, gone, now}} {
		d, err := directoryOf(&adminv1.RegionDirectory{Regions: order})
		if err != nil || d.state("ap") != "ACTIVE" || len(d.places) != 1 || len(d.place("ap").addrs) != 1 {
			t.Errorf("%v: %+v", err, d)
		}
	}
}
