//go:build e2e

package e2e

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/atolldb/atoll/e2e/program"
	"github.com/atolldb/atoll/internal/freeport"
	"github.com/atolldb/atoll/internal/pause"
)

// region is a region of three node processes, each started from a file.
type region struct {
	t       *testing.T
	dir     string
	ids     []string
	clients []string
	admins  []string
	configs []string
	procs   []*program.Process
}

const regionNodes = 3

// newRegion writes the configurations; nothing runs yet.
func newRegion(t *testing.T) *region {
	t.Helper()
	r := &region{t: t, dir: t.TempDir()}
	secret := filepath.Join(r.dir, "secret")
	if err := os.WriteFile(secret, []byte(strings.Repeat("0123456789abcdef", 4)), 0o600); err != nil {
		t.Fatal(err)
	}
	addrs := freeport.For(t, regionNodes*5)
	var members, nats, routes strings.Builder
	for i := range regionNodes {
		a := addrs[i*5:]
		r.ids = append(r.ids, fmt.Sprintf("eu-%d", i+1))
		r.clients = append(r.clients, a[0])
		r.admins = append(r.admins, a[2])
		fmt.Fprintf(&members, "      - {id: %s, rack: r%d, client: %q, peer: %q}\n", r.ids[i], i+1, a[0], a[1])
		fmt.Fprintf(&nats, "      - nats://%s\n", a[3])
		fmt.Fprintf(&routes, "      - %s\n", a[4])
	}
	for i := range regionNodes {
		a := addrs[i*5:]
		text := fmt.Sprintf(`node: %s
region: eu
data_dir: %s
secret_file: %s
partitions: 64
listen: {client: %q, peer: %q, admin: %q}
memory: {memtable: 64MiB, block_cache: 32MiB}
nats:
  listen: %q
  max_store: 512MiB
  cluster:
    listen: %q
    routes:
%sregions:
  - name: eu
    id: 1
    nats:
%s    members:
%s`, r.ids[i], filepath.Join(r.dir, r.ids[i]), secret, a[0], a[1], a[2], a[3], a[4], routes.String(), nats.String(), members.String())
		r.configure(r.ids[i], text)
	}
	t.Cleanup(r.end)
	return r
}

// configure writes the configuration of the next node, which does not run yet.
func (r *region) configure(id, text string) {
	r.t.Helper()
	path := filepath.Join(r.dir, id+".yaml")
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		r.t.Fatal(err)
	}
	r.configs, r.procs = append(r.configs, path), append(r.procs, program.New(id, filepath.Join(r.dir, id+".log")))
}

// end stops all nodes, and tells what they said if the test has failed.
func (r *region) end() {
	for i := range r.procs {
		r.terminate(i)
	}
	if r.t.Failed() {
		for i, p := range r.procs {
			r.t.Logf("%s said:\n%s", r.ids[i], p.Tail(30))
		}
	}
}

// start starts a node's process.
func (r *region) start(i int) {
	r.t.Helper()
	if err := r.procs[i].Start(exec.Command(binary, "start", "--config", r.configs[i]), nil); err != nil {
		r.t.Fatal(err)
	}
}

// kill ends a node's process at once, as kill -9 does.
func (r *region) kill(i int) {
	r.t.Helper()
	if err := r.procs[i].Kill(); err != nil {
		r.t.Fatal(err)
	}
}

// terminate asks a node to stop, and waits.
func (r *region) terminate(i int) {
	if err := errors.Join(r.procs[i].Failure(), r.procs[i].Stop(30*time.Second)); err != nil {
		r.t.Error(err)
	}
}

func (r *region) endpoints() string { return strings.Join(r.clients, ",") }

// eventually asks until ok says yes.
func eventually(t *testing.T, ctx context.Context, what string, ok func() bool) {
	t.Helper()
	if err := pause.Until(ctx, 50*time.Millisecond, func() error {
		if !ok() {
			return errors.New("not yet")
		}
		return nil
	}); err != nil {
		t.Fatalf("never: %s", what)
	}
}
