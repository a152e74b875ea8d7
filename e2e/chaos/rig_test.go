//go:build chaos && linux

package chaos

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/atolldb/atoll/client"
	"github.com/atolldb/atoll/e2e/chaos/deployment"
	"github.com/atolldb/atoll/e2e/chaos/history"
	"github.com/atolldb/atoll/e2e/chaos/machine"
	"github.com/atolldb/atoll/e2e/chaos/traffic"
	"github.com/atolldb/atoll/e2e/program"
	"github.com/atolldb/atoll/internal/pause"
)

const (
	workers   = 12
	startTime = 60 * time.Second
	// healTime bounds C2.
	healTime = 60 * time.Second
	// readTime bounds the final reads and exports of a run of minutes.
	readTime = 60 * time.Second
	diskSize = 1 << 30
)

// rig is one scenario's deployment, clients and history.
type rig struct {
	t   *testing.T
	ctx context.Context
	rng *rand.Rand
	*deployment.Deployment
	net       machine.Network
	clients   map[string]*client.Client
	history   *history.History
	traffic   *traffic.Traffic
	res       *result
	began     time.Time
	rate      float64 // of the clients
	metronome metronome
	prefix    string // of names that have to be unique on the machine
	// down are nodes whose process is meant not to run.
	down map[*deployment.Node]bool

	stopTraffic context.CancelFunc
	stopped     chan struct{}
}

// newRig starts a deployment and waits until all of it takes writes.
func newRig(t *testing.T, name string, regions []string, nodes int) *rig {
	t.Helper()
	seed := *seedFlag
	r := &rig{
		t: t, ctx: t.Context(), rng: rand.New(rand.NewPCG(seed, 0)), history: &history.History{}, began: time.Now(),
		res: &result{Scenario: name, Seed: seed, Faults: map[string]int{}}, clients: map[string]*client.Client{},
		down: map[*deployment.Node]bool{}, rate: *rateFlag,
	}
	dir, err := os.MkdirTemp(shared.run.Dir, "rig-")
	r.must(err)
	r.net, err = shared.run.NewNetwork(shared.missing)
	r.must(err)
	if r.net.Loopback() {
		r.note("on loopback: cuts are made by proxies between peers, NATS is not cut (%v)", shared.missing[machine.Cutting])
	}
	t.Cleanup(func() { r.must(r.net.Close()) })
	r.prefix = filepath.Base(dir)
	newDisk := func(node string) (*machine.Disk, error) {
		if shared.pool != nil {
			return shared.pool.NewDisk(r.prefix+"-"+node, diskSize)
		}
		return shared.run.Directory(r.prefix + "-" + node)
	}
	r.Deployment, err = deployment.New(deployment.Config{
		Binary: shared.binary, Dir: dir, Regions: regions, Nodes: nodes, Partitions: 64,
		Network: r.net, NewDisk: newDisk,
	})
	r.must(err)
	t.Cleanup(func() {
		r.keep(dir)
		r.must(r.Deployment.Close())
	})
	beating, stop := context.WithCancel(r.ctx)
	t.Cleanup(stop)
	go r.metronome.run(beating)
	for _, n := range r.Nodes {
		r.must(n.Start())
	}
	for _, region := range regions {
		r.open(region)
	}
	return r
}

// open waits until the region serves on all its nodes.
func (r *rig) open(region string) {
	r.t.Helper()
	ctx, cancel := context.WithTimeout(r.ctx, startTime)
	defer cancel()
	err := r.eventually(ctx, func() error {
		r.alive()
		c := r.clients[region]
		if c == nil {
			var err error
			if c, err = r.Client(ctx, region); err != nil {
				return err
			}
			r.clients[region] = c
			r.t.Cleanup(func() { _ = c.Close() })
		}
		return r.Open(ctx, c, region)
	})
	if err != nil {
		r.t.Fatalf("region %s does not serve: %v\n%s", region, err, r.tails())
	}
}

func (r *rig) must(err error) {
	r.t.Helper()
	if err != nil {
		r.t.Fatal(err)
	}
}

func (r *rig) eventually(ctx context.Context, ok func() error) error {
	return pause.Until(ctx, 100*time.Millisecond, ok)
}

// pause lets the clients work for so long.
func (r *rig) pause(d time.Duration) {
	r.t.Helper()
	if !pause.For(r.ctx, d) {
		r.t.Fatal(r.ctx.Err())
	}
}

// work starts the clients.
func (r *rig) work() {
	r.traffic = traffic.New(traffic.Config{
		Clients: r.clients, Regions: r.Regions(), Workers: workers, First: 1, Rate: r.rate,
		Sets: 20, Registers: 6, Pad: 2000, Seed: *seedFlag, History: r.history,
	})
	r.resume()
	r.t.Cleanup(r.rest)
	r.pause(2 * time.Second)
}

// rest stops the clients and waits for their last operations; resume lets them
// go on.
func (r *rig) rest() {
	r.stopTraffic()
	<-r.stopped
}

func (r *rig) resume() {
	ctx, cancel := context.WithCancel(r.ctx)
	stopped := make(chan struct{})
	r.stopTraffic, r.stopped = cancel, stopped
	go func() {
		r.traffic.Run(ctx)
		close(stopped)
	}()
}

// fault counts an injected fault.
func (r *rig) fault(kind string) {
	r.res.Faults[kind]++
	r.t.Logf("%5.1f s  %s", time.Since(r.began).Seconds(), kind)
}

func (r *rig) note(format string, args ...any) {
	text := fmt.Sprintf(format, args...)
	r.res.Notes = append(r.res.Notes, text)
	r.t.Logf("%5.1f s  %s", time.Since(r.began).Seconds(), text)
}

// unmet says what of C2 or C3 does not hold; name is for the list of known.
func (r *rig) unmet(name, format string, args ...any) {
	r.t.Helper()
	text := fmt.Sprintf("%s: %s", name, fmt.Sprintf(format, args...))
	if k, ok := known[name]; ok {
		r.res.Known = append(r.res.Known, text+" (known: "+k.why+")")
		r.t.Logf("EXPECTED FAILING %s (known: %s)", text, k.why)
		return
	}
	r.res.Unmet = append(r.res.Unmet, text)
	r.t.Error(text)
}

// met is called where unmet might have been.
func (r *rig) met(name string) {
	r.t.Helper()
	if k, ok := known[name]; ok && !k.sometimes {
		r.t.Errorf("%s is met now: take it off the list of known", name)
	}
}

// pick returns a node of the region that runs.
func (r *rig) pick(region string) *deployment.Node {
	var up []*deployment.Node
	for _, n := range r.Region(region) {
		if n.Running() && !r.down[n] {
			up = append(up, n)
		}
	}
	return up[r.rng.IntN(len(up))]
}

// kill ends a node's process.
func (r *rig) kill(n *deployment.Node) {
	r.down[n] = true
	r.must(n.Kill())
}

// start starts a node that is down, and does not wait.
func (r *rig) start(n *deployment.Node) {
	r.t.Helper()
	delete(r.down, n)
	r.must(n.Start())
}

// alive fails when a process has ended that should run (C3), and starts it.
func (r *rig) alive() {
	for _, n := range r.Nodes {
		if n.Running() || r.down[n] {
			continue
		}
		r.unmet("ended", "%s ended by itself; its last words:\n%s", n.ID, program.Tail(n.SinceStart(), 12))
		r.start(n)
	}
}

// ready waits until a node answers and takes part, and says how long it took.
// It gives up when the process ends.
func (r *rig) ready(n *deployment.Node, within time.Duration) (time.Duration, error) {
	began := time.Now()
	ctx, cancel := context.WithTimeout(r.ctx, within)
	defer cancel()
	ended := errors.New("ended")
	var last error
	err := r.eventually(ctx, func() error {
		if !n.Running() {
			last = fmt.Errorf("%s %w:\n%s", n.ID, ended, program.Tail(n.SinceStart(), 12))
			return nil
		}
		own, _, err := r.Status(ctx, n)
		if err == nil && !own.GetReady() {
			err = fmt.Errorf("%s is not ready", n.ID)
		}
		return err
	})
	return time.Since(began), errors.Join(err, last)
}

// settle waits until a region is whole (C2), without stopping the clients of
// other regions; it is used between the faults of one scenario with the
// clients of the own region stopped.
func (r *rig) settle(within time.Duration) error {
	ctx, cancel := context.WithTimeout(r.ctx, within)
	defer cancel()
	for _, region := range r.Regions() {
		if err := r.eventually(ctx, func() error {
			r.alive()
			return r.Settled(ctx, region)
		}); err != nil {
			return fmt.Errorf("region %s: %w", region, err)
		}
	}
	return nil
}

// finish lets the clients work a little longer, stops them, waits until all is
// whole, reads everything, and checks.
func (r *rig) finish() {
	r.t.Helper()
	r.pause(2 * time.Second)
	r.rest()
	healing := time.Now()
	if err := r.settle(healTime); err != nil {
		r.unmet("healing", "not whole after %v: %v", healTime, err)
	} else {
		r.met("healing")
	}
	r.res.HealedMS = time.Since(healing).Milliseconds()

	before, reading, counts := r.readRepairs(), time.Now(), r.history.Counts()
	// There is the more to read the longer the clients have worked: of hours, minutes.
	within := readTime + time.Since(r.began)/40
	ctx, cancel := context.WithTimeout(r.ctx, within)
	defer cancel()
	for _, region := range r.Regions() {
		for _, level := range []client.Level{client.LocalAll, client.LocalQuorum} {
			traffic.Final(ctx, r.history, region, r.clients[region], level)
		}
	}
	after := r.readRepairs()
	for _, n := range r.Nodes {
		was, asked := before[n]
		is, answered := after[n]
		switch {
		case !asked || !answered:
			r.note("%s was not asked how many records the final reads repaired", n.ID)
		case is != was:
			r.history.Differ(fmt.Sprintf("the final reads repaired %d records by %s that digests took for equal", is-was, n.ID))
		}
	}
	r.compareExports(ctx)
	r.t.Logf("%d sets and %d registers were read, and exports compared, in %v of %v", counts.Sets, counts.Registers,
		time.Since(reading).Round(100*time.Millisecond), within.Round(time.Second))
	r.calm()
	r.conclude()
}

// calm fails for nodes that have panicked.
func (r *rig) calm() {
	for _, n := range r.Nodes {
		if strings.Contains(n.Tail(1<<20), "goroutine 1 [") {
			r.unmet("panic", "%s panicked:\n%s", n.ID, n.Tail(40))
		}
	}
}

func (r *rig) conclude() {
	r.t.Helper()
	r.res.History = r.history.Counts()
	r.res.Violations, r.res.Told = r.history.Check()
	r.res.Operations = r.traffic.Tally.OK() + r.traffic.Tally.Failed()
	r.res.Failed, r.res.Reasons = r.traffic.Tally.Failed(), r.traffic.Tally.Reasons()
	r.res.Seconds = time.Since(r.began).Seconds()
	shared.report.add(r.res)
	for _, v := range r.res.Told {
		r.t.Errorf("VIOLATION %v", v)
	}
	r.t.Logf("faults: %s; %d operations, %d writes acknowledged, %d failed (%s); %d answers checked; healed in %d ms; violations: %d",
		listed(r.res.Faults), r.res.Operations, r.res.History.Acked, r.res.Failed, listed(r.res.Reasons),
		r.res.History.Reads, r.res.HealedMS, sum(r.res.Violations))
	if r.res.History.Acked == 0 {
		r.t.Error("no write was acknowledged: nothing was tested")
	}
}

// readRepairs returns how many records reads have repaired, of nodes that answer.
func (r *rig) readRepairs() map[*node]uint64 {
	out := map[*node]uint64{}
	for _, n := range r.Nodes {
		if own, _, err := r.Status(r.ctx, n); err == nil {
			out[n] = own.GetReadRepairs()
		}
	}
	return out
}

func (r *rig) tails() string {
	var b strings.Builder
	for _, n := range r.Nodes {
		fmt.Fprintf(&b, "%s said:\n%s\n", n.ID, n.Tail(15))
	}
	return b.String()
}

// keep copies the logs of a failed scenario to where the flag says.
func (r *rig) keep(dir string) {
	if *keepFlag == "" || !r.t.Failed() {
		return
	}
	to := filepath.Join(*keepFlag, strings.ReplaceAll(r.t.Name(), "/", "-"))
	if err := os.MkdirAll(to, 0o755); err != nil {
		r.t.Log(err)
		return
	}
	logs, _ := filepath.Glob(filepath.Join(dir, "*.log"))
	for _, path := range logs {
		text, err := os.ReadFile(path)
		if err == nil {
			err = os.WriteFile(filepath.Join(to, filepath.Base(path)), text, 0o644)
		}
		if err != nil {
			r.t.Log(err)
		}
	}
}

// writes waits until each region takes a write on all its nodes.
func (r *rig) writes(within time.Duration) error {
	ctx, cancel := context.WithTimeout(r.ctx, within)
	defer cancel()
	for region, c := range r.clients {
		if err := r.eventually(ctx, func() error {
			r.alive()
			_, err := c.Put(ctx, "first/"+region, []byte("x"), client.LocalAll, client.Overwrite())
			return err
		}); err != nil {
			return fmt.Errorf("region %s: %w", region, err)
		}
	}
	return nil
}
