package api

import (
	"strings"
	"testing"

	"github.com/atolldb/atoll/node/topology"
)

func TestWithoutNodes(t *testing.T) {
	runs := func(id string, servers int) NodeStatus {
		return NodeStatus{ID: topology.NodeID(id), MetadataServer: true, MetadataServers: servers}
	}
	plain := func(id string) NodeStatus { return NodeStatus{ID: topology.NodeID(id)} }
	silent := func(id string) NodeStatus { return NodeStatus{ID: topology.NodeID(id), Error: "gone"} }
	three := []NodeStatus{runs("a", 3), runs("b", 3), runs("c", 3), plain("d")}
	for name, c := range map[string]struct {
		nodes   []NodeStatus
		leaving []topology.NodeID
		want    []string // one warning each, or none
	}{
		"one of three":               {three, []topology.NodeID{"b"}, []string{"b: runs one of the region's metadata servers, and does not start again once it has left and was stopped; then 2 of 3 are left; let"}},
		"two of three":               {three, []topology.NodeID{"b", "c"}, []string{"b, c: runs one of .*1 of 3 are left, which is no majority"}},
		"none of them":               {three, []topology.NodeID{"d"}, nil},
		"dead":                       {[]NodeStatus{runs("a", 3), silent("b"), runs("c", 3), plain("d")}, []topology.NodeID{"b"}, []string{"b: does not answer, and seems to have run one of .*2 of 3 are left; let"}},
		"dead, others run all":       {[]NodeStatus{runs("a", 3), runs("b", 3), runs("c", 3), silent("d")}, []topology.NodeID{"d"}, nil},
		"one leaves, one is gone":    {[]NodeStatus{runs("a", 3), runs("c", 3), plain("d")}, []topology.NodeID{"a"}, []string{"a: runs one of .*1 of 3 are left, which is no majority"}},
		"the only one":               {[]NodeStatus{runs("a", 1), plain("d")}, []topology.NodeID{"a"}, []string{"0 of 1 are left, which is no majority"}},
		"somebody else's":            {[]NodeStatus{plain("a"), silent("b")}, []topology.NodeID{"b"}, nil},
		"not known yet":              {[]NodeStatus{runs("a", 0), plain("b")}, []topology.NodeID{"a"}, nil},
		"one counts that is no more": {[]NodeStatus{runs("a", 4), runs("c", 4), runs("d", 4)}, []topology.NodeID{"d"}, []string{"2 of 4 are left, which is no majority"}},
	} {
		t.Run(name, func(t *testing.T) {
			st := Status{Nodes: c.nodes}
			got := st.Metadata().withoutNodes(c.leaving)
			if len(got) != len(c.want) {
				t.Fatalf("%q, want %q", got, c.want)
			}
			for i, want := range c.want {
				for _, part := range strings.Split(want, ".*") {
					if !strings.Contains(got[i], part) {
						t.Errorf("%q lacks %q", got[i], part)
					}
				}
			}
		})
	}
}
