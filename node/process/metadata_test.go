package process_test

import (
	"fmt"
	"net/http"
	"slices"
	"strings"
	"testing"

	"github.com/atolldb/atoll/internal/freeport"
	"github.com/atolldb/atoll/node/process"
	"github.com/atolldb/atoll/node/topology"
)

// A server of the region's metadata is gone for good, and another node takes its part
// over, under its name: then one of the others may be away, as before.
func TestMetadataServerMoves(t *testing.T) {
	t.Parallel()
	f := newFleet(t, 1, 4)
	routes := freeport.For(t, 4)
	on := []topology.NodeID{"a1", "a2", "a3"} // by the place in the list of addresses
	f.regions[0].NATS = nil
	for i := range on {
		addr := fmt.Sprintf("192.0.2.10:%d", 4222+i)
		f.regions[0].NATS = append(f.regions[0].NATS, "nats://"+addr)
		f.leads(addr, func() string {
			f.mu.Lock()
			id := on[i]
			f.mu.Unlock()
			return strings.TrimPrefix(f.addrs(id).NATS, "nats://")
		})
	}
	for n, m := range f.regions[0].Members {
		c := &f.nodes[m.ID].cfg
		c.Regions, c.NATS.Listen = f.regions, ""
		if n < 3 {
			c.NATS.Listen, c.NATS.Cluster = "127.0.0.1:0", &process.Cluster{Listen: routes[n], Routes: routes[:3]}
		}
	}
	f.start()
	put(t, f.kv("a1"), "k", "v")
	f.keptBy(3, "a1", "a2", "a3")
	for _, id := range []topology.NodeID{"a1", "a4"} { // one that runs a server, and one that does not
		f.ready(id, "ok       metadata\n")
		sees(t, f.nodes[id].p, "/metrics", "atoll_metadata_servers 3", "atoll_metadata_servers_up 3")
	}

	if err := f.stop("a2"); err != nil { // and it does not come back
		t.Fatal(err)
	}
	f.keptBy(3, "a1", "a3")
	if err := f.stop("a4"); err != nil {
		t.Fatal(err)
	}
	c := &f.nodes["a4"].cfg
	c.NATS.Listen, c.NATS.Name = "127.0.0.1:0", "a2"
	c.NATS.Cluster = &process.Cluster{Listen: routes[3], Routes: []string{routes[0], routes[3], routes[2]}}
	f.mu.Lock()
	on[1] = "a4"
	f.mu.Unlock()
	f.start("a4")
	f.keptBy(3, "a1", "a3", "a4")
	eventually(t, "a4 has what the others keep", func() error { return f.paced(5, "a4") })

	if err := f.stop("a1"); err != nil {
		t.Fatal(err)
	}
	eventually(t, "two of three go on", func() error { return f.paced(7, "a3", "a4") })
	f.ready("a3", "warning  metadata: 2 of 3 metadata servers up\n")
	sees(t, f.nodes["a3"].p, "/metrics", "atoll_metadata_servers 3", "atoll_metadata_servers_up 2")

	if err := f.stop("a4"); err != nil {
		t.Fatal(err)
	}
	f.ready("a3", "without a quorum", "reads and writes do not need them\n")
	sees(t, f.nodes["a3"].p, "/metrics", "atoll_metadata_servers 3")
}

// ready waits until a node that is ready says all that of the metadata.
func (f *fleet) ready(id topology.NodeID, texts ...string) {
	f.t.Helper()
	eventually(f.t, fmt.Sprint(texts), func() error {
		code, body := get(f.t, f.nodes[id].p, "/readyz?verbose")
		for _, text := range texts {
			if code != http.StatusOK || !strings.Contains(body, text) {
				return fmt.Errorf("%d: %s", code, body)
			}
		}
		return nil
	})
}

// keptBy waits until these nodes, of those that answer, and no others run servers of the
// metadata, and know of so many.
func (f *fleet) keptBy(servers int, ids ...topology.NodeID) {
	f.t.Helper()
	eventually(f.t, "the servers of the metadata", func() error {
		st, err := f.nodes[ids[0]].p.Node().Status(f.t.Context())
		if err != nil {
			return err
		}
		m := st.Metadata()
		if slices.Sort(m.On); !slices.Equal(m.On, ids) || m.Total != servers {
			return fmt.Errorf("%d of %d: %v", len(m.On), m.Total, m.On)
		}
		return nil
	})
}

// paced has a change stored, through the first of those nodes, and says if not all of
// them have learned of it. It is called again until they have.
func (f *fleet) paced(partitions int, by ...topology.NodeID) error {
	members := f.nodes[by[0]].p.Node().Operations().Membership
	if err := members.SetPace(f.t.Context(), topology.Pace{Concurrent: partitions}); err != nil {
		return err
	}
	for _, id := range by {
		if got := f.topology(id).Pace.Concurrent; got != partitions {
			return fmt.Errorf("%s goes by %d partitions at a time, not %d", id, got, partitions)
		}
	}
	return nil
}
