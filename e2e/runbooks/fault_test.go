//go:build runbooks && linux

package runbooks

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/atolldb/atoll/client"
	"github.com/atolldb/atoll/e2e/chaos/deployment"
	"github.com/atolldb/atoll/e2e/chaos/machine"
)

// inject does one thing to the deployment. What is a node's name is one node,
// what is a region's are all its nodes.
//
//	kill X        kill -9
//	lose X        kill -9, and the disk is gone
//	start X       start what does not run; a node that there was none of joins
//	stop X        stop in order
//	found X       a region that there was none of runs, and no other knows of it
//	restart X     stop, and start
//	forget X      what the metadata server of a node that does not run has on its disk is gone
//	prepare X     its configuration has geo.others from its next start on
//	pause D       let time pass
//	rest R        the clients of a region stop
//	burst R N     N writes of new, long keys in a region, as fast as it takes them
//	hold R S      the nodes of S cannot ask those of R: R's large values do not get there
//	large R N     N writes of large values in a region, of which the others are told
//	storm R B/K N a client of the region adds R-1 ... R-N to a key without reading it
//	hammer R B/K  clients of the region read and write one key all the time, with contexts
//	calm          they stop
//	make B        a bucket with no policy of its own
//	cut A B       no packet passes between two, both ways
//	heal          undo all cuts
//	skew X D      X's clock is ahead by D, whole seconds, or behind by -D; 0s: right
//	backup R F    'atoll backup' of a region, while clients work, to the file $BACKUPS/F
//	fill X N      the disk of a node, of its own, has N bytes left
//	drain X       what fill wrote is gone
//	release X     a node is stopped in order, gets a program that ends at once, and is
//	              started
//	revert X      it has the program of before, and does not run
//	later D F     the fault F, when D has passed, while commands are run
func (r *rehearsal) inject(fault string) error {
	words := strings.Fields(fault)
	verb, args := words[0], words[1:]
	switch {
	case verb == "later" && len(args) > 1:
		return r.later(args[0], strings.Join(args[1:], " "))
	case verb == "heal" && len(args) == 0:
		return r.net.Heal()
	case verb == "cut" && len(args) == 2:
		return r.cut(args[0], args[1])
	case verb == "burst" && len(args) == 2:
		return r.burst(args[0], args[1])
	case verb == "hold" && len(args) == 2:
		return r.hold(args[0], args[1])
	case verb == "large" && len(args) == 2:
		return r.large(args[0], args[1])
	case verb == "calm" && len(args) == 0:
		r.calm()
		return nil
	case verb == "hammer" && len(args) == 2:
		return r.hammer(args[0], args[1])
	case verb == "storm" && len(args) == 3:
		return r.storm(args[0], args[1], args[2])
	case verb == "backup" && len(args) == 2:
		return r.backUp(args[0], args[1])
	case verb == "fill" && len(args) == 2:
		return r.fill(args[0], args[1])
	case verb == "skew" && len(args) == 2:
		return r.skew(args[0], args[1])
	case len(args) != 1:
		return fmt.Errorf("no such fault")
	case verb == "found":
		return r.found(args[0])
	case verb == "pause":
		d, err := time.ParseDuration(args[0])
		if err != nil {
			return err
		}
		r.pause(d)
		return nil
	case verb == "make":
		_, err := r.clients[r.Regions()[0]].Buckets().Create(r.ctx, client.BucketInfo{Name: args[0]})
		return err
	case verb == "rest":
		l := r.loads[args[0]]
		if l == nil {
			return fmt.Errorf("no region %q", args[0])
		}
		l.stop()
		return nil
	}
	nodes, err := r.named(args[0], verb == "start")
	if err != nil {
		return err
	}
	for _, n := range nodes {
		if err := act(n, verb); err != nil {
			return err
		}
	}
	return nil
}

// burst writes many keys. They are long, so that the index of what another region
// lacks grows fast.
func (r *rehearsal) burst(region, count string) error {
	n, err := strconv.Atoi(count)
	c := r.clients[region]
	if err != nil || c == nil {
		return fmt.Errorf("burst REGION NUMBER: %q %q", region, count)
	}
	var next atomic.Int64
	errs := make([]error, 4*workers)
	var wg sync.WaitGroup
	for i := range errs {
		wg.Go(func() {
			for k := next.Add(1); k <= int64(n) && errs[i] == nil; k = next.Add(1) {
				key := fmt.Sprintf("burst/%d/%s", k, strings.Repeat("x", burstKey))
				_, errs[i] = c.Put(r.ctx, key, []byte("x"), client.LocalQuorum, client.Overwrite())
			}
		})
	}
	wg.Wait()
	return errors.Join(errs...)
}

// storm writes a key of a bucket as a client does that has not read it. What is
// refused since there are too many siblings is what such a client sees.
func (r *rehearsal) storm(region, name, count string) error {
	bucket, key, ok := strings.Cut(name, "/")
	n, err := strconv.Atoi(count)
	if !ok || err != nil || len(r.Region(region)) == 0 {
		return fmt.Errorf("storm REGION BUCKET/KEY NUMBER: %q %q %q", region, name, count)
	}
	c, err := client.Open(r.ctx, r.Target(region), client.DialOptions(r.DialOptions()...), client.Bucket(bucket))
	if err != nil {
		return err
	}
	defer c.Close() //nolint:errcheck // all is answered
	for i := range n {
		_, err := c.Put(r.ctx, key, fmt.Appendf(nil, "%s-%d", region, i+1))
		if err != nil && !errors.Is(err, client.ErrTooManySiblings) {
			return err
		}
	}
	return nil
}

const (
	hammers    = 6
	hammerBeat = 20 * time.Millisecond
)

// hammer works at one key until calm, or until the test ends: five reads for each
// write.
func (r *rehearsal) hammer(region, name string) error {
	bucket, key, ok := strings.Cut(name, "/")
	if !ok || len(r.Region(region)) == 0 {
		return fmt.Errorf("hammer REGION BUCKET/KEY: %q %q", region, name)
	}
	c, err := client.Open(r.ctx, r.Target(region), client.DialOptions(r.DialOptions()...), client.Bucket(bucket))
	if err != nil {
		return err
	}
	ctx, cancel := context.WithCancel(r.ctx)
	var wg sync.WaitGroup
	for range hammers {
		wg.Go(func() {
			beat := time.NewTicker(hammerBeat)
			defer beat.Stop()
			for i := 0; ctx.Err() == nil; i++ {
				// Whether one is refused does not matter: others are.
				obj, _ := c.Get(ctx, key)
				if i%5 == 0 {
					_, _ = c.Put(ctx, key, fmt.Append(nil, i), client.After(obj.Version()))
				}
				select {
				case <-beat.C:
				case <-ctx.Done():
				}
			}
		})
	}
	r.calm = sync.OnceFunc(func() {
		cancel()
		wg.Wait()
		_ = c.Close()
	})
	r.t.Cleanup(r.calm)
	return nil
}

// burstKey is how long the keys of a burst are, about.
const burstKey = 500

// found starts a region that is new. Nobody writes there, but its clients can ask.
func (r *rehearsal) found(region string) error {
	nodes, err := r.Found(region)
	if err != nil {
		return err
	}
	for _, n := range nodes {
		if err := n.Start(); err != nil {
			return err
		}
	}
	return r.eventually(startTime, func(ctx context.Context) error {
		try, cancel := context.WithTimeout(ctx, 2*time.Second)
		defer cancel()
		c, err := client.Open(try, r.Target(region), client.DialOptions(r.DialOptions()...))
		if err != nil {
			return err
		}
		r.clients[region] = c
		r.t.Cleanup(func() { _ = c.Close() })
		return nil
	})
}

func act(n *deployment.Node, verb string) error {
	switch verb {
	case "kill":
		return n.Kill()
	case "lose":
		if err := n.Kill(); err != nil {
			return err
		}
		return n.Wipe()
	case "start":
		if n.Running() {
			return nil
		}
		return n.Start()
	case "stop":
		return n.Stop(30 * time.Second)
	case "restart":
		if err := n.Stop(30 * time.Second); err != nil {
			return err
		}
		return n.Start()
	case "forget":
		return os.RemoveAll(filepath.Join(n.DataDir(), "nats"))
	case "prepare":
		return n.Configure("geo: {others: true}")
	case "drain":
		return n.Disk.Drain()
	case "release":
		if err := n.Stop(30 * time.Second); err != nil {
			return err
		}
		n.Runs(shared.broken)
		return n.Start()
	case "revert":
		if err := n.Kill(); err != nil {
			return err
		}
		n.Runs(shared.binary)
		return nil
	}
	return fmt.Errorf("no such fault")
}

// named are the nodes of a name. fresh makes one that there is none of, as long as
// its name is the next of its region.
func (r *rehearsal) named(name string, fresh bool) ([]*deployment.Node, error) {
	if nodes := r.Region(name); len(nodes) > 0 {
		return nodes, nil
	}
	for _, n := range r.Nodes {
		if n.ID == name {
			return []*deployment.Node{n}, nil
		}
	}
	if region, _, ok := strings.Cut(name, "-"); ok && fresh && len(r.Region(region)) > 0 {
		n, err := r.Join(region)
		if err == nil && n.ID != name {
			err = fmt.Errorf("the next node of %s is %s, not %s", region, n.ID, name)
		}
		return []*deployment.Node{n}, err
	}
	return nil, fmt.Errorf("no node or region %q", name)
}

func (r *rehearsal) cut(a, b string) error {
	if err := shared.missing[machine.Cutting]; err != nil {
		r.t.Skipf("NOT RUN: no links can be cut here: %v", err)
	}
	as, err := r.named(a, false)
	if err != nil {
		return err
	}
	bs, err := r.named(b, false)
	if err != nil {
		return err
	}
	for _, x := range as {
		for _, y := range bs {
			if err := r.net.Cut(x.ID, y.ID); err != nil {
				return err
			}
			if err := r.net.Cut(y.ID, x.ID); err != nil {
				return err
			}
		}
	}
	return nil
}

func (r *rehearsal) skew(name, by string) error {
	if err := shared.missing[machine.Skewing]; err != nil {
		r.t.Skipf("NOT RUN: no clock can be set here: %v", err)
	}
	d, err := time.ParseDuration(by)
	if err != nil {
		return err
	}
	nodes, err := r.named(name, false)
	if err != nil {
		return err
	}
	for _, n := range nodes {
		if err := machine.SkewClock(n.Pid(), d); err != nil {
			return err
		}
	}
	return nil
}

// later injects a fault beside the commands. The test waits for it.
func (r *rehearsal) later(after, fault string) error {
	d, err := time.ParseDuration(after)
	if err != nil {
		return err
	}
	done := make(chan struct{})
	go func() {
		defer close(done)
		select {
		case <-time.After(d):
		case <-r.ctx.Done():
			return
		}
		r.say("fault, as announced: %s", fault)
		if err := r.inject(fault); err != nil {
			r.t.Errorf("inject %q: %v", fault, err)
		}
	}()
	r.t.Cleanup(func() { <-done })
	return nil
}
