//go:build runbooks && linux

package runbooks

import (
	"fmt"
	"strings"
	"time"

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
//	pause D       let time pass
//	rest R        the clients of a region stop
//	cut A B       no packet passes between two, both ways
//	heal          undo all cuts
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
	case len(args) != 1:
		return fmt.Errorf("no such fault")
	case verb == "pause":
		d, err := time.ParseDuration(args[0])
		if err != nil {
			return err
		}
		r.pause(d)
		return nil
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
