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
)

// lone is a region of one node, started from a file.
type lone struct {
	region, dir, config string
	addrs               []string // client, peer, admin, nats
	proc                *program.Process
}

// entry is the region in a list of regions.
func (l *lone) entry(id int, nats bool) string {
	text := fmt.Sprintf("  - name: %s\n    id: %d\n", l.region, id)
	if nats {
		text += fmt.Sprintf("    nats: [\"nats://%s\"]\n", l.addrs[3])
	}
	return text + fmt.Sprintf("    members: [{id: %s-1, client: %q, peer: %q}]\n", l.region, l.addrs[0], l.addrs[1])
}

func (l *lone) write(t *testing.T, geo string, regions ...string) {
	t.Helper()
	text := fmt.Sprintf(`node: %s-1
region: %s
data_dir: %s
secret_file: %s
partitions: 16
replicas: 1
listen: {client: %q, peer: %q, admin: %q}
memory: {memtable: 64MiB, block_cache: 32MiB}
nats: {listen: %q, max_store: 512MiB}
%sregions:
%s`, l.region, l.region, filepath.Join(l.dir, l.region), filepath.Join(l.dir, "secret"), l.addrs[0], l.addrs[1], l.addrs[2], l.addrs[3], geo, strings.Join(regions, ""))
	if err := os.WriteFile(l.config, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
}

func (l *lone) start(t *testing.T, ctx context.Context) {
	t.Helper()
	if err := l.proc.Start(exec.Command(binary, "start", "--config", l.config), nil); err != nil {
		t.Fatal(err)
	}
	eventually(t, ctx, l.region+" serves", func() bool {
		r, err := atoll(ctx, nil, "get", "--endpoints", l.addrs[0], "--timeout", "1s", "k0")
		return err == nil && (r.code == 0 || r.code == 3)
	})
}

func (l *lone) stop(t *testing.T) {
	if err := errors.Join(l.proc.Failure(), l.proc.Stop(30*time.Second)); err != nil {
		t.Error(err)
	}
}

// Who began with one node and one region becomes two regions by what the commands say:
// 'atoll region add' refuses, and says how to prepare the region; after one restart it
// goes through, and what was written before is in the second region.
func TestSecondRegion(t *testing.T) {
	t.Parallel()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "secret"), []byte(strings.Repeat("0123456789abcdef", 4)), 0o600); err != nil {
		t.Fatal(err)
	}
	addrs := freeport.For(t, 8)
	newLone := func(region string, addrs []string) *lone {
		return &lone{
			region: region, dir: dir, config: filepath.Join(dir, region+".yaml"), addrs: addrs,
			proc: program.New(region, filepath.Join(dir, region+".log")),
		}
	}
	eu, us := newLone("eu", addrs[:4]), newLone("us", addrs[4:])
	t.Cleanup(func() {
		for _, l := range []*lone{eu, us} {
			l.stop(t)
			if t.Failed() {
				t.Logf("%s said:\n%s", l.region, l.proc.Tail(30))
			}
		}
	})
	eu.write(t, "", eu.entry(1, false))
	eu.start(t, ctx)
	for i := range 20 {
		must(t, ctx, "put", "--endpoints", eu.addrs[0], fmt.Sprint("k", i), fmt.Sprint("before ", i))
	}
	us.write(t, "", eu.entry(1, true), us.entry(2, true))
	us.start(t, ctx)
	add := []string{"region", "add", "us", "--at", us.addrs[0], "--nats", "nats://" + us.addrs[3], "--endpoints", eu.addrs[0]}
	r, err := atoll(ctx, nil, append(add, "--dry-run")...)
	if err != nil || r.code == 0 || !strings.Contains(r.stderr, "geo.others") {
		t.Fatalf("a region that is not prepared: exit code %d, %v\n%s", r.code, err, r.stderr)
	}

	eu.stop(t)
	eu.write(t, "geo: {others: true}\n", eu.entry(1, true))
	eu.start(t, ctx)
	if r := must(t, ctx, append(add, "--confirm", "us", "--wait")...); !strings.Contains(r.stdout, "ok  prepared") {
		t.Errorf("it was not looked whether all nodes are prepared:\n%s", r.stdout)
	}
	for _, at := range []*lone{us, eu} {
		must(t, ctx, "put", "--endpoints", at.addrs[0], "--consistency", "each-quorum", "from-"+at.region, "v")
	}
	for i := range 20 {
		if r := must(t, ctx, "get", "--endpoints", us.addrs[0], fmt.Sprint("k", i)); !strings.Contains(r.stdout, fmt.Sprint("before ", i)) {
			t.Errorf("us has %q", r.stdout)
		}
	}
	if r := must(t, ctx, "region", "verify", "eu", "us", "--endpoints", us.addrs[0]); !strings.Contains(r.stdout, "16 of 16 partitions equal") {
		t.Error(r.stdout)
	}
}
