//go:build e2e

package e2e

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/atolldb/atoll/client"
	"github.com/atolldb/atoll/internal/freeport"
)

// newPair writes the configurations of two regions of two nodes each, both of
// which own everything: eu-1, eu-2, us-1 and us-2.
func newPair(t *testing.T) *region {
	t.Helper()
	r := &region{t: t, dir: t.TempDir()}
	secret := filepath.Join(r.dir, "secret")
	if err := os.WriteFile(secret, []byte(strings.Repeat("0123456789abcdef", 4)), 0o600); err != nil {
		t.Fatal(err)
	}
	addrs := freeport.For(t, 4*4)
	var regions strings.Builder
	for g, name := range []string{"eu", "us"} {
		fmt.Fprintf(&regions, "  - name: %s\n    id: %d\n    nats: [\"nats://%s\"]\n    members:\n", name, g+1, addrs[g*8+3])
		for i := range 2 {
			a := addrs[(2*g+i)*4:]
			r.ids, r.clients, r.admins = append(r.ids, fmt.Sprintf("%s-%d", name, i+1)), append(r.clients, a[0]), append(r.admins, a[2])
			fmt.Fprintf(&regions, "      - {id: %s, rack: r%d, client: %q, peer: %q}\n", r.ids[2*g+i], i+1, a[0], a[1])
		}
	}
	for i, id := range r.ids {
		a := addrs[i*4:]
		nats := "nats: {mode: external, max_store: 256MiB}"
		if i%2 == 0 {
			nats = fmt.Sprintf("nats: {listen: %q, max_store: 256MiB}", a[3])
		}
		text := fmt.Sprintf(`node: %s
region: %s
data_dir: %s
secret_file: %s
partitions: 16
replicas: 2
listen: {client: %q, peer: %q, admin: %q}
memory: {memtable: 16MiB, block_cache: 16MiB}
%s
collect: {every: 0}
regions:
%s`, id, id[:2], filepath.Join(r.dir, id), secret, a[0], a[1], a[2], nats, regions.String())
		r.configure(id, text)
	}
	t.Cleanup(r.end)
	return r
}

// collecting is what `atoll collect status -o json` says.
type collecting struct {
	Nodes []struct {
		ID, Region, Error string
		OldestFloorMs     string `json:"oldest_floor_ms"`
		Dropped           string
		NeverCollected    int `json:"never_collected"`
		Stalls            []struct{ Node, Reason string }
	}
}

// Deletes are collected over two regions of real nodes: nothing of them is left,
// what was made anew stays, a node that is away is waited for by name, and neither
// a wiped nor a restored disk brings anything back.
func TestCollectOverRegions(t *testing.T) {
	t.Parallel()
	ctx, cancel := context.WithTimeout(t.Context(), 4*time.Minute)
	defer cancel()
	const keys, deleted, again = 300, 200, 50
	const us2 = 3
	r := newPair(t)
	for i := range r.ids {
		r.start(i)
	}
	var c *client.Client
	eventually(t, ctx, "the regions take writes", func() bool {
		var err error
		if c == nil {
			if c, err = client.Open(ctx, r.clients[0]); err != nil {
				return false
			}
		}
		_, err = c.Put(ctx, "first", []byte("x"), client.LocalAll)
		return err == nil
	})
	t.Cleanup(func() { c.Close() })
	key := func(i int) string { return fmt.Sprintf("k%03d", i) }
	for i := range keys {
		if _, err := c.Put(ctx, key(i), fmt.Appendf(nil, "old %d", i), client.LocalAll); err != nil {
			t.Fatal(err)
		}
	}
	// counts are what the dumps of both regions have, "" while they differ.
	counts := func() string {
		var said string
		var dump string
		for _, at := range []string{r.clients[0], r.clients[2]} {
			res, err := atoll(ctx, nil, "export", "--endpoints", at)
			if err != nil || res.code != 0 || dump != "" && res.stdout != dump {
				return ""
			}
			said, dump = strings.TrimSpace(res.stderr), res.stdout
		}
		return said
	}
	settled := func(what, want string) {
		t.Helper()
		last := ""
		wait, enough := context.WithTimeout(ctx, time.Minute)
		defer enough()
		for wait.Err() == nil {
			if last = counts(); last == want && equalPairs(ctx, r) {
				t.Logf("%s: %s", what, last)
				return
			}
			rest(t, ctx, 100*time.Millisecond)
		}
		t.Fatalf("%s: %q, want %q", what, last, want)
	}
	settled("written", "exported 301 records: 0 with siblings, 0 deletes")

	// A copy of a disk that still has everything, for later.
	r.terminate(us2)
	home, backup := filepath.Join(r.dir, "us-2"), filepath.Join(r.dir, "backup")
	if err := os.CopyFS(backup, os.DirFS(home)); err != nil {
		t.Fatal(err)
	}
	r.start(us2)
	for i := range deleted {
		if _, err := c.Delete(ctx, key(i), client.Overwrite()); err != nil {
			t.Fatal(err)
		}
	}
	for i := range again {
		if _, err := c.Put(ctx, key(i), fmt.Appendf(nil, "new %d", i), client.Overwrite()); err != nil {
			t.Fatal(err)
		}
	}
	settled("deleted, some made anew", "exported 301 records: 0 with siblings, 150 deletes")

	run := func() result {
		t.Helper()
		rest(t, ctx, 1500*time.Millisecond) // the grace
		began := time.Now()
		res, err := atoll(ctx, nil, "collect", "run", "--grace", "1s", "--wait", "--endpoints", r.clients[0])
		if err != nil {
			t.Fatal(err)
		}
		t.Logf("atoll collect run: exit code %d after %v\n%s%s", res.code, time.Since(began).Round(10*time.Millisecond), res.stdout, res.stderr)
		return res
	}
	status := func() (s collecting) {
		t.Helper()
		res, err := atoll(ctx, nil, "collect", "status", "-o", "json", "--endpoints", r.clients[2])
		if err == nil {
			err = json.Unmarshal([]byte(res.stdout), &s)
		}
		if err != nil {
			t.Fatal(err)
		}
		return s
	}

	// us-2 is away: nothing is collected anywhere, and it is named.
	r.kill(us2)
	if res := run(); res.code != 8 || !strings.Contains(res.stderr, "us-2: it does not answer") {
		t.Errorf("without us-2: exit code %d\n%s", res.code, res.stderr)
	}
	named := false
	for _, n := range status().Nodes {
		for _, s := range n.Stalls {
			named = named || s.Node == "us-2" && s.Reason == "silent"
		}
		if n.Dropped != "" && n.Dropped != "0" {
			t.Errorf("%s has dropped %s records", n.ID, n.Dropped)
		}
	}
	if !named {
		t.Error("nothing waits for us-2")
	}

	// It is back, and all four drop them.
	r.start(us2)
	settled("us-2 is back", "exported 301 records: 0 with siblings, 150 deletes")
	if res := run(); res.code != 0 {
		t.Fatal("not everything was collected")
	}
	for _, n := range status().Nodes {
		if n.Dropped != "150" || n.NeverCollected != 0 || n.Error != "" {
			t.Errorf("%+v", n)
		}
	}
	const left = "exported 151 records: 0 with siblings, 0 deletes"
	settled("collected", left)

	// checked reads everything at a level from one node while do goes on: nothing
	// that was deleted is ever there.
	back := func(what string) {
		t.Helper()
		ready := false
		reads := 0
		eventually(t, ctx, what, func() bool {
			one, err := client.Open(ctx, r.clients[us2], client.Timeout(200*time.Millisecond))
			if err == nil {
				for i := again; i < deleted; i += 7 {
					obj, err := one.Get(ctx, key(i), client.LocalOne)
					if err == nil && obj.Exists() {
						t.Errorf("%s: %s is there again: %q", what, key(i), obj.Value())
					}
					if errors.Is(err, client.ErrNotFound) {
						reads++
					}
				}
				one.Close()
			}
			s := nodeStatus(ctx, r, us2)
			ready = s != nil && s.GetReady() && s.GetPartitionsBehind() == 0
			return ready
		})
		t.Logf("%s: %d reads of deleted keys meanwhile found nothing", what, reads)
		settled(what, left)
		for i := range again {
			obj, err := c.Get(ctx, key(i), client.LocalAll)
			if err != nil || string(obj.Value()) != fmt.Sprint("new ", i) {
				t.Errorf("%s: %s is %q, %v", what, key(i), obj.Value(), err)
			}
		}
	}
	r.kill(us2)
	if err := os.RemoveAll(home); err != nil {
		t.Fatal(err)
	}
	r.start(us2)
	back("us-2 was wiped")

	r.kill(us2)
	if err := errors.Join(os.RemoveAll(home), os.Rename(backup, home)); err != nil {
		t.Fatal(err)
	}
	r.start(us2)
	back("us-2 was restored from a copy of before")
	if res := run(); res.code != 0 {
		t.Error("the next round came to nothing")
	}
	settled("at the end", left)
}

// equalPairs reports whether the nodes of each region have the same.
func equalPairs(ctx context.Context, r *region) bool {
	for _, at := range []int{0, 2} {
		nodes := regionStatus(ctx, r, at).GetNodes()
		for _, n := range nodes {
			if n.GetError() != "" || !n.GetReady() || n.GetPartitionsBehind() != 0 ||
				n.GetClockDigest() != nodes[0].GetClockDigest() || n.GetDataDigest() != nodes[0].GetDataDigest() {
				return false
			}
		}
		if len(nodes) != 2 {
			return false
		}
	}
	return true
}
