//go:build e2e

package e2e

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/atolldb/atoll/client"
	"github.com/atolldb/atoll/internal/freeport"
)

// add starts a node that the other nodes' configurations do not name.
func (r *region) add(id, rack string) {
	r.t.Helper()
	template, err := os.ReadFile(r.configs[0])
	if err != nil {
		r.t.Fatal(err)
	}
	_, regions, ok := strings.Cut(string(template), "regions:\n")
	if !ok {
		r.t.Fatal("the configuration has no regions")
	}
	a := freeport.For(r.t, 3)
	text := fmt.Sprintf(`node: %s
region: eu
data_dir: %s
secret_file: %s
partitions: 64
listen: {client: %q, peer: %q, admin: %q}
memory: {memtable: 64MiB, block_cache: 32MiB}
nats: {max_store: 512MiB}
join: {rack: %s, weight: 1, client: %q, peer: %q}
regions:
%s`, id, filepath.Join(r.dir, id), filepath.Join(r.dir, "secret"), a[0], a[1], a[2], rack, a[0], a[1], regions)
	r.ids, r.clients, r.admins = append(r.ids, id), append(r.clients, a[0]), append(r.admins, a[2])
	r.configure(id, text)
	r.start(len(r.ids) - 1)
}

// nodes are the members' states by id.
func (r *region) nodes(ctx context.Context) map[string]string {
	r.t.Helper()
	res := must(r.t, ctx, "node", "ls", "-o", "json", "--endpoints", r.endpoints())
	var out struct {
		Nodes []struct {
			Member struct{ ID, State string }
			Owned  int
		}
	}
	if err := json.Unmarshal([]byte(res.stdout), &out); err != nil {
		r.t.Fatal(err)
	}
	states := map[string]string{}
	for _, n := range out.Nodes {
		states[n.Member.ID] = fmt.Sprintf("%s %d", strings.TrimPrefix(n.Member.State, "MEMBER_STATE_"), n.Owned)
	}
	return states
}

// awaitJoining waits until nodes have registered.
func (r *region) awaitJoining(ctx context.Context, ids ...string) {
	r.t.Helper()
	eventually(r.t, ctx, strings.Join(ids, ", ")+" have registered", func() bool {
		states := r.nodes(ctx)
		return !slices.ContainsFunc(ids, func(id string) bool { return states[id] != "JOINING 0" })
	})
}

// lost counts the acknowledged writes that are not there.
func (l *load) lost(ctx context.Context, level client.Level) int64 {
	var lost, next atomic.Int64
	var wg sync.WaitGroup
	for range 32 {
		wg.Go(func() {
			for i := next.Add(1) - 1; i < int64(len(l.acked)); i = next.Add(1) - 1 {
				obj, err := l.c.Get(ctx, loadKey(l.acked[i]), level)
				if err != nil || string(obj.Value()) != string(loadValue(l.acked[i])) {
					lost.Add(1)
				}
			}
		})
	}
	wg.Wait()
	return lost.Load()
}

// TestJoinDrainReplace drives a loaded region through what an operator does to
// it, by the commands that he would type: two nodes join, one is drained, and a
// dead one is replaced. No acknowledged write is lost, and but for the seconds
// after the kill no operation fails.
func TestJoinDrainReplace(t *testing.T) {
	t.Parallel()
	ctx, cancel := context.WithTimeout(t.Context(), 5*time.Minute)
	defer cancel()
	r, c := serving(t, ctx)
	l, stop := loading(t, ctx, c, 4)
	rest(t, ctx, 3*time.Second)

	// unharmed runs what an operator does; nothing may fail meanwhile.
	unharmed := func(what string, do func()) {
		t.Helper()
		before, failed := l.count()
		began := time.Now()
		do()
		after, now := l.count()
		t.Logf("%s: %v, %d writes acknowledged meanwhile, %d failed",
			what, time.Since(began).Round(10*time.Millisecond), after-before, now-failed)
		if now > failed {
			_, last := l.after(began)
			t.Errorf("%s: %d operations failed, the last with %v", what, now-failed, last)
		}
		if after == before {
			t.Errorf("%s: nothing was written", what)
		}
	}
	operate := func(args ...string) {
		t.Helper()
		t.Logf("atoll %s\n%s", strings.Join(args, " "), must(t, ctx, append(args, "--endpoints", r.endpoints())...).stdout)
	}

	unharmed("two nodes join", func() {
		r.add("eu-4", "r1")
		r.add("eu-5", "r2")
		r.awaitJoining(ctx, "eu-4", "eu-5")
		operate("node", "join", "eu-4", "eu-5", "--yes", "--wait")
	})
	operate("task", "show", "1")
	unharmed("eu-2 is drained", func() { operate("node", "drain", "eu-2", "--yes", "--wait") })
	if state, ok := r.nodes(ctx)["eu-2"]; ok {
		t.Errorf("eu-2 is still a member: %s", state)
	}

	r.kill(2)
	killed := time.Now()
	r.add("eu-6", "r3")
	r.awaitJoining(ctx, "eu-6")
	operate("node", "replace", "eu-3", "--by", "eu-6", "--yes")
	waiting, enough := context.WithTimeout(ctx, 2*time.Minute)
	defer enough()
	if res, err := atoll(waiting, nil, "task", "wait", "3", "--endpoints", r.endpoints()); err != nil || res.code != 0 {
		operate("task", "show", "3")
		t.Fatalf("eu-3 is not replaced: exit code %d, %v\n%s", res.code, err, res.stderr)
	}
	t.Logf("eu-3 is replaced after %v", time.Since(killed).Round(time.Second))
	operate("task", "show", "3")
	if n, last := l.after(killed.Add(3 * time.Second)); n > 0 {
		t.Errorf("%d operations failed later than 3 s after eu-3 was killed; the last: %v", n, last)
	}
	rest(t, ctx, 2*time.Second)
	stop()

	acked, failed := l.count()
	t.Logf("%d writes acknowledged, %d failed", acked, failed)
	if lost := l.lost(ctx, client.LocalQuorum); lost > 0 {
		t.Errorf("%d acknowledged writes are lost", lost)
	}
	states := r.nodes(ctx)
	owned := 0
	for id, s := range states {
		var n int
		if _, err := fmt.Sscanf(s, "UP %d", &n); err != nil {
			t.Errorf("%s is %s", id, s)
		}
		owned += n
	}
	if len(states) != 4 || owned != 64*3 {
		t.Errorf("members %v", states)
	}
	operate("status")
}
