package main

import (
	"strings"
	"testing"

	"google.golang.org/grpc/codes"

	"github.com/atolldb/atoll/client"
)

// Where a region lacks, and not an owner, nobody is told to ask fewer owners: it would not
// help, and at SERIAL it would give up what was asked for. Where owners lack only readers
// are: a write of one owner is refused by default. What the error says in words does not
// matter.
func TestWhatToDoWhenARegionLacks(t *testing.T) {
	const owners, lost = "--consistency local-one needs one owner only", "region-failover"
	for _, c := range []struct {
		op     string
		reason string
		lacks  client.Lack
		want   []string
		not    []string
	}{
		{"get", "UNAVAILABLE", client.LackOwners, []string{owners}, []string{lost}},
		{"put", "UNAVAILABLE", client.LackOwners, []string{"atoll status"}, []string{lost, "local-one"}},
		{"create bucket", "UNAVAILABLE", client.LackOwners, []string{"atoll status"}, []string{lost, "--consistency"}},
		{"put", "UNAVAILABLE", client.LackRegions, []string{lost, "--consistency local-quorum", "1 of 2 regions answered"}, []string{"local-one"}},
		{"put", "UNAVAILABLE", client.LackHome, []string{lost}, []string{"--consistency"}},
		{"put", "DEADLINE", client.LackHome, []string{lost}, []string{"--timeout"}},
		{"put", "REGION_FENCED", client.LackHome, []string{lost}, []string{"use nodes of another region"}},
		{"put", "REGION_FENCED", client.LackOwners, []string{"use nodes of another region"}, []string{lost}},
		{"get", "UNAVAILABLE", "something of a newer node", []string{owners}, []string{lost}},
	} {
		e := &client.Error{Op: c.op, Reason: c.reason, Code: codes.Unavailable, Detail: "quorum was not met", Lacks: c.lacks}
		if c.lacks == client.LackRegions {
			e.Needed, e.Acks = 2, 1
		}
		err := (&request{}).failure(e)
		if code := exitCode(err); code != exitUnavailable {
			t.Errorf("%s: %s, %q: exit code %d", c.op, c.reason, c.lacks, code)
		}
		for _, want := range c.want {
			if !strings.Contains(err.Error(), want) {
				t.Errorf("%s: %s, %q: %q does not say %q", c.op, c.reason, c.lacks, err, want)
			}
		}
		for _, not := range c.not {
			if strings.Contains(err.Error(), not) {
				t.Errorf("%s: %s, %q: %q says %q", c.op, c.reason, c.lacks, err, not)
			}
		}
	}
}
