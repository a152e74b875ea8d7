package process_test

import (
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"
	"testing"

	"github.com/atolldb/atoll/node/process"
	"github.com/atolldb/atoll/node/topology"
)

func get(t *testing.T, p *process.Process, path string) (code int, body string) {
	t.Helper()
	res, err := http.Get("http://" + p.Addrs().Admin + path)
	if err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close()
	b, err := io.ReadAll(res.Body)
	if err != nil {
		t.Fatal(err)
	}
	return res.StatusCode, string(b)
}

// sees waits until a page has all the lines.
func sees(t *testing.T, p *process.Process, path string, lines ...string) {
	t.Helper()
	eventually(t, path, func() error {
		_, body := get(t, p, path)
		for _, line := range lines {
			if !strings.Contains("\n"+body, "\n"+line+"\n") {
				return fmt.Errorf("no line %q in\n%s", line, body)
			}
		}
		return nil
	})
}

func TestOperators(t *testing.T) {
	f := newFleet(t, 2, 2)
	for _, n := range f.nodes {
		n.cfg.Replicas = 2
	}
	f.start()
	a1 := f.nodes["a1"].p
	sees(t, a1, "/readyz?verbose", "ok       store", "ok       actor", "ok       topology", "ok       metadata", "ok       geo link", "ok       disk", "ready")
	put(t, f.kv("a1"), "k", "v")
	if err := holds(t.Context(), f.kv("a1"), "k", "v"); err != nil {
		t.Error(err)
	}
	sees(t, a1, "/metrics",
		`atoll_ready 1`,
		`atoll_request_duration_seconds_count{code="ok",consistency="local_quorum",op="put"} 1`,
		`atoll_request_duration_seconds_count{code="ok",consistency="local_quorum",op="get"} 1`,
		`atoll_coordinator_puts_total 1`,
		`atoll_partitions_owned 16`,
		`atoll_link_up{peer="a2",side="asking"} 1`,
		`atoll_link_up{peer="a2",side="asked"} 1`,
		`atoll_geo_link_alive{origin="b"} 1`,
		`atoll_geo_unconfirmed_dots 0`,
		`atoll_metadata_servers 1`,
		`atoll_metadata_servers_up 1`,
	)
	eventually(t, "b has it", func() error { return holds(t.Context(), f.kv("b1"), "k", "v") })
	sees(t, f.nodes["b1"].p, "/metrics", `atoll_geo_lag_dots{origin="a"} 0`)

	if err := f.stop("a2"); err != nil {
		t.Fatal(err)
	}
	sees(t, a1, "/readyz?verbose", "warning  topology: down, or cut off from this node: [a2]", "ready")
	for _, id := range []topology.NodeID{"b1", "b2"} {
		if err := f.stop(id); err != nil {
			t.Fatal(err)
		}
	}
	eventually(t, "the link to b is told to be dead", func() error {
		code, body := get(t, a1, "/readyz?verbose")
		if code != 200 || !strings.Contains(body, "warning  geo link: region b: not heard for ") {
			return errors.New(body)
		}
		return nil
	})
}
