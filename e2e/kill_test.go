//go:build e2e

package e2e

import (
	"context"
	"fmt"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"

	"github.com/atolldb/atoll/client"
	"github.com/atolldb/atoll/internal/pause"
	adminv1 "github.com/atolldb/atoll/proto/atoll/admin/v1"
)

// load writes at LOCAL_QUORUM without a pause, each key once, and remembers
// what was acknowledged.
type load struct {
	c    *client.Client
	next atomic.Int64

	mu      sync.Mutex
	acked   []int64
	failed  []failure
	stopped chan struct{}
}

type failure struct {
	at  time.Time
	err error
}

func (l *load) run(ctx context.Context, writers int) {
	var wg sync.WaitGroup
	for range writers {
		wg.Go(func() {
			for ctx.Err() == nil {
				n := l.next.Add(1)
				_, err := l.c.Put(ctx, loadKey(n), loadValue(n), client.LocalQuorum)
				l.mu.Lock()
				if err == nil {
					l.acked = append(l.acked, n)
				} else if ctx.Err() == nil {
					l.failed = append(l.failed, failure{time.Now(), err})
				}
				l.mu.Unlock()
			}
		})
	}
	wg.Wait()
	close(l.stopped)
}

func loadKey(n int64) string   { return fmt.Sprintf("load/%d", n) }
func loadValue(n int64) []byte { return fmt.Appendf(nil, "value %d", n) }

// after counts the failures later than at.
func (l *load) after(at time.Time) (n int, last error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, f := range l.failed {
		if f.at.After(at) {
			n++
			last = f.err
		}
	}
	return n, last
}

func (l *load) count() (acked, failed int) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return len(l.acked), len(l.failed)
}

// Kill -9 of any one node of three under load at LOCAL_QUORUM: no failed
// operation 3 s later, no acknowledged write lost, and the node catches up by
// clocks after its restart.
func TestKillAnyNodeUnderLoad(t *testing.T) {
	t.Parallel()
	ctx, cancel := context.WithTimeout(t.Context(), 5*time.Minute)
	defer cancel()
	r, c := serving(t, ctx)
	l, stop := loading(t, ctx, c, 16)

	for i := range regionNodes {
		rest(t, ctx, 2*time.Second)
		before, _ := l.count()
		r.kill(i)
		killed := time.Now()
		rest(t, ctx, 6*time.Second)
		if n, last := l.after(killed.Add(3 * time.Second)); n > 0 {
			t.Errorf("%d operations failed later than 3 s after %s was killed; the last: %v", n, r.ids[i], last)
		}
		without, failed := l.count()
		if without == before {
			t.Errorf("nothing was written without %s", r.ids[i])
		}
		r.start(i)
		back := time.Now()
		var s *adminv1.NodeStatus
		eventually(t, ctx, r.ids[i]+" is back and repaired", func() bool {
			s = nodeStatus(ctx, r, i)
			return s != nil && s.GetReady() && s.GetRepairedKeys() > 0
		})
		t.Logf("%s killed: %d writes acknowledged without it, %d operations failed so far; back after %v with %d keys repaired",
			r.ids[i], without-before, failed, time.Since(back).Round(10*time.Millisecond), s.GetRepairedKeys())
	}
	stop()
	eventually(t, ctx, "equal digests", func() bool { return equalNodes(ctx, r) })

	for _, level := range []client.Level{client.LocalOne, client.LocalQuorum} {
		lost := l.lost(ctx, level)
		t.Logf("%d acknowledged writes read at %v: %d lost", len(l.acked), level, lost)
		if lost > 0 {
			t.Errorf("%d acknowledged writes lost", lost)
		}
	}
}

// rest lets the others work for so long.
func rest(t *testing.T, ctx context.Context, d time.Duration) {
	t.Helper()
	if !pause.For(ctx, d) {
		t.Fatal(ctx.Err())
	}
}

// regionStatus asks a node for the region's status, nil if it does not answer.
func regionStatus(ctx context.Context, r *region, i int) *adminv1.GetStatusResponse {
	ctx, cancel := context.WithTimeout(ctx, 2*time.Second)
	defer cancel()
	cc, err := grpc.NewClient(r.clients[i], grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		return nil
	}
	defer cc.Close()
	s, err := adminv1.NewClusterClient(cc).GetStatus(ctx, &adminv1.GetStatusRequest{})
	if err != nil {
		return nil
	}
	return s
}

func nodeStatus(ctx context.Context, r *region, i int) *adminv1.NodeStatus {
	for _, n := range regionStatus(ctx, r, i).GetNodes() {
		if n.GetId() == r.ids[i] && n.GetError() == "" {
			return n
		}
	}
	return nil
}

func equalNodes(ctx context.Context, r *region) bool {
	nodes := regionStatus(ctx, r, 0).GetNodes()
	for _, n := range nodes {
		if n.GetError() != "" || n.GetClockDigest() != nodes[0].GetClockDigest() || n.GetDataDigest() != nodes[0].GetDataDigest() {
			return false
		}
	}
	return len(nodes) == regionNodes
}
