package main

import (
	"strings"
	"testing"

	adminv1 "github.com/atolldb/atoll/proto/atoll/admin/v1"
)

// What is missing is told by bucket as far as that is known, and what was lost while an
// operation was under way is told beside it.
func TestMissingIsTold(t *testing.T) {
	run := []*adminv1.MissingRun{{Partition: 3, Actor: 257, First: 1, Last: 9}}
	st := &adminv1.GetRegionsResponse{Map: &adminv1.RegionMap{}, Operation: &adminv1.RegionOperation{
		Kind: "failback", Region: "us", Ended: true,
		Missing: &adminv1.MissingWrites{Counted: true, Writes: 9, Runs: run, Buckets: []*adminv1.BucketWrites{{Bucket: "carts", Writes: 3}, {Bucket: "users", Writes: 4}}},
		Lost:    &adminv1.MissingWrites{Counted: true, Writes: 2, Runs: run},
	}}
	var out strings.Builder
	if err := regionsTable(&out, st); err != nil {
		t.Fatal(err)
	}
	got := strings.Join(strings.Fields(out.String()), " ")
	for _, want := range []string{"9 writes came late", "carts 3 users 4 (not known) 2", "2 writes were lost with disks meanwhile: no owner has them any more"} {
		if !strings.Contains(got, want) {
			t.Errorf("%q is not told:\n%s", want, out.String())
		}
	}
}

// Of what a region took that is lost it is told that nobody knows the buckets; of what it
// has, and tells by bucket, it is not.
func TestBucketsThatCannotBeKnownAreTold(t *testing.T) {
	run := []*adminv1.MissingRun{{Partition: 3, Actor: 257, First: 1, Last: 9}}
	buckets := []*adminv1.BucketWrites{{Bucket: "carts", Writes: 9}}
	for _, c := range []struct {
		kind    string
		missing *adminv1.MissingWrites
		told    bool
	}{
		{"failover", &adminv1.MissingWrites{Counted: true, Writes: 9, Runs: run}, true},
		{"failover", &adminv1.MissingWrites{Counted: true}, false},
		{"switchover", &adminv1.MissingWrites{Counted: true, Writes: 9, Runs: run, Buckets: buckets}, false},
		{"remove", &adminv1.MissingWrites{Counted: true, Writes: 9, Runs: run}, true},
		{"remove", &adminv1.MissingWrites{Counted: true, Writes: 9, Runs: run, Buckets: buckets}, false},
	} {
		var out strings.Builder
		p := &adminv1.PlanOperationResponse{Version: 1, To: "eu", Missing: c.missing}
		if err := operationTable(&out, c.kind, "us", p); err != nil {
			t.Fatal(err)
		}
		if got := strings.Contains(out.String(), "not known: clocks name writes, not keys"); got != c.told {
			t.Errorf("%s, %d writes, %d buckets: told: %v\n%s", c.kind, c.missing.Writes, len(c.missing.Buckets), got, out.String())
		}
	}
}

// The map says which buckets' homes have moved, since their definitions do not.
func TestMovedHomesAreTold(t *testing.T) {
	m := &adminv1.RegionMap{Version: 5, Regions: []*adminv1.RegionState{{Name: "eu", Id: 1, State: "FENCED", Fence: 1}, {Name: "us", Id: 2, State: "ACTIVE"}}}
	for _, bucket := range []string{"b1", "b2", "b3", "b4", "b5", "b6", "b7", "b8", "b9"} {
		m.Homes = append(m.Homes, &adminv1.RegionHome{Bucket: bucket, Region: "us", Epoch: 2})
	}
	m.Homes = append(m.Homes, &adminv1.RegionHome{Bucket: "locks", Region: "eu", Epoch: 3})
	var out strings.Builder
	if err := regionsTable(&out, &adminv1.GetRegionsResponse{Map: m, Region: "us"}); err != nil {
		t.Fatal(err)
	}
	got := strings.Join(strings.Fields(out.String()), " ")
	for _, want := range []string{"eu 1 FENCED 1 locks", "us 2 ACTIVE 0 b1, b2, b3, b4, b5, b6, b7, b8 and 1 more"} {
		if !strings.Contains(got, want) {
			t.Errorf("%q is not told:\n%s", want, out.String())
		}
	}
}
