//go:build e2e

package e2e

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/atolldb/atoll/internal/freeport"
)

// region is a region of three node processes, each started from a file.
type region struct {
	t       *testing.T
	dir     string
	ids     []string
	clients []string
	admins  []string
	configs []string
	procs   []*exec.Cmd
	logs    []*lockedBuffer
}

const regionNodes = 3

// newRegion writes the configurations; nothing runs yet.
func newRegion(t *testing.T) *region {
	t.Helper()
	r := &region{t: t, dir: t.TempDir(), procs: make([]*exec.Cmd, regionNodes), logs: make([]*lockedBuffer, regionNodes)}
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
		path := filepath.Join(r.dir, r.ids[i]+".yaml")
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		r.configs = append(r.configs, path)
	}
	t.Cleanup(func() {
		for i := range r.procs {
			r.terminate(i)
		}
		if t.Failed() {
			for i, l := range r.logs {
				if l != nil {
					t.Logf("%s said:\n%s", r.ids[i], tail(l.String(), 30))
				}
			}
		}
	})
	return r
}

func tail(s string, n int) string {
	lines := strings.Split(strings.TrimSpace(s), "\n")
	return strings.Join(lines[max(0, len(lines)-n):], "\n")
}

// start starts a node's process.
func (r *region) start(i int) {
	r.t.Helper()
	cmd := exec.Command(binary, "start", "--config", r.configs[i])
	if r.logs[i] == nil {
		r.logs[i] = &lockedBuffer{}
	}
	cmd.Stdout, cmd.Stderr = r.logs[i], r.logs[i]
	if err := cmd.Start(); err != nil {
		r.t.Fatal(err)
	}
	r.procs[i] = cmd
}

// kill ends a node's process at once, as kill -9 does.
func (r *region) kill(i int) {
	r.t.Helper()
	if err := r.procs[i].Process.Kill(); err != nil {
		r.t.Fatal(err)
	}
	_ = r.procs[i].Wait() // it says that it was killed
	r.procs[i] = nil
}

// terminate asks a node to stop, and waits.
func (r *region) terminate(i int) {
	cmd := r.procs[i]
	if cmd == nil {
		return
	}
	r.procs[i] = nil
	_ = cmd.Process.Signal(os.Interrupt)
	done := make(chan error, 1)
	go func() { done <- cmd.Wait() }()
	select {
	case err := <-done:
		if err != nil {
			r.t.Errorf("stop %s: %v", r.ids[i], err)
		}
	case <-time.After(30 * time.Second):
		r.t.Errorf("%s does not stop", r.ids[i])
		_ = cmd.Process.Kill()
		<-done
	}
}

func (r *region) endpoints() string { return strings.Join(r.clients, ",") }

// eventually asks until ok says yes.
func eventually(t *testing.T, ctx context.Context, what string, ok func() bool) {
	t.Helper()
	tick := time.NewTicker(50 * time.Millisecond)
	defer tick.Stop()
	for !ok() {
		select {
		case <-tick.C:
		case <-ctx.Done():
			t.Fatalf("never: %s", what)
		}
	}
}
