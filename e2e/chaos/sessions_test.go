//go:build chaos && linux

package chaos

import (
	"context"
	"sync"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/backoff"

	"github.com/atolldb/atoll/crdt/session/sessiontest"
	"github.com/atolldb/atoll/e2e/chaos/traffic"
)

// TestSessions: clients at LOCAL_ONE ask another node, of either region, each time,
// while nodes are killed and restarted and the regions are cut and healed. Those
// that carry tokens are never shown what their session had left behind; those
// without are, and how often is told: so the checker sees something.
func TestSessions(t *testing.T) {
	parallel(t)
	r := newRig(t, "sessions", []string{"eu", "us"}, 3)
	var nodes []grpc.ClientConnInterface
	for _, n := range r.Nodes {
		cc, err := grpc.NewClient("passthrough:///"+n.Addr("client"), append(r.DialOptions(), grpc.WithConnectParams(grpc.ConnectParams{
			Backoff: backoff.Config{BaseDelay: 50 * time.Millisecond, Multiplier: 1.6, MaxDelay: 500 * time.Millisecond}, MinConnectTimeout: time.Second,
		}))...)
		r.must(err)
		t.Cleanup(func() { _ = cc.Close() })
		nodes = append(nodes, cc)
	}
	cfg := traffic.RoamConfig{Nodes: nodes, Keys: r.Keys(), Roamers: 8, Rate: 15, KeyCount: 12, Prefix: "session", Tokens: true, Seed: *seedFlag}
	with := traffic.NewRoam(cfg)
	cfg.Prefix, cfg.Tokens = "loose", false
	without := traffic.NewRoam(cfg)

	ctx, cancel := context.WithCancel(r.ctx)
	var wg sync.WaitGroup
	wg.Go(func() { with.Run(ctx) })
	wg.Go(func() { without.Run(ctx) })
	end := sync.OnceFunc(func() { cancel(); wg.Wait() })
	t.Cleanup(end)
	for range *timesFlag {
		r.unsettle()
	}
	end()
	healing := time.Now()
	if err := r.settle(healTime); err != nil {
		r.unmet("healing", "not whole after %v: %v", healTime, err)
	}
	r.res.HealedMS = time.Since(healing).Milliseconds()
	r.judge(with, without)
}

// unsettle kills, restarts, cuts and heals.
func (r *rig) unsettle() {
	r.pause(2 * time.Second)
	for _, region := range r.Regions() {
		n := r.pick(region)
		r.fault("kill -9")
		r.kill(n)
		r.pause(2 * time.Second)
		r.start(n)
		r.back(n)
	}
	r.apart()
	r.pause(3 * time.Second)
	n := r.pick("eu")
	r.fault("kill -9")
	r.kill(n)
	r.pause(time.Second)
	r.must(r.net.Heal()) // while a node is down
	r.pause(2 * time.Second)
	r.start(n)
	r.back(n)
	n = r.pick("us")
	r.fault("restart")
	r.down[n] = true
	r.must(n.Stop(20 * time.Second))
	r.start(n)
	r.back(n)
	r.pause(2 * time.Second)
}

// judge checks what clients saw.
func (r *rig) judge(with, without *traffic.Roam) {
	r.t.Helper()
	defer func() {
		r.res.Seconds = time.Since(r.began).Seconds()
		shared.report.add(r.res)
	}()
	r.calm()
	ops, moved, odd := with.Ops()
	loose, _, more := without.Ops()
	for _, text := range append(odd, more...) {
		r.unmet("answer", "%s", text)
	}
	r.res.Operations = with.Tally.OK() + with.Tally.Failed() + without.Tally.OK() + without.Tally.Failed()
	r.res.Failed, r.res.Reasons = with.Tally.Failed()+without.Tally.Failed(), with.Tally.Reasons()
	for _, op := range append(ops, loose...) {
		if op.Wrote.IsZero() {
			r.res.History.Reads++
		} else {
			r.res.History.Acked++
		}
	}
	broken := sessiontest.Check(ops)
	for i, b := range broken {
		if i < 10 {
			r.unmet("session", "%v", b)
		}
	}
	kinds, missed := map[string]int{}, sessiontest.Check(loose)
	for _, b := range missed {
		kinds[b.Promise.String()]++
	}
	r.note("with tokens %d of %d operations succeeded (others: %s), %d at another node than the one before: %d broken promises; without, %d of %d: %d (%s)",
		len(ops), with.Tally.OK()+with.Tally.Failed(), listed(with.Tally.Reasons()), moved, len(broken),
		len(loose), without.Tally.OK()+without.Tally.Failed(), len(missed), listed(kinds))
	if len(missed) == 0 {
		r.t.Error("without tokens no promise was broken: the checker saw nothing")
	}
	if tried := with.Tally.OK() + with.Tally.Failed(); moved < 500 || int64(len(ops)) < tried/2 {
		r.t.Errorf("%d of %d operations with tokens succeeded, %d of them elsewhere than the one before: too few", len(ops), tried, moved)
	}
}
