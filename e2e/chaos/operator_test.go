//go:build chaos && linux

package chaos

import (
	"bytes"
	"context"
	"fmt"
	"os/exec"
	"strings"
	"time"

	"google.golang.org/grpc"

	adminv1 "github.com/atolldb/atoll/proto/atoll/admin/v1"
)

// atoll runs a command as an operator of the region does, from a host of its
// own, and returns what it printed.
func (r *rig) atoll(within time.Duration, region string, args ...string) (string, error) {
	ctx, cancel := context.WithTimeout(r.ctx, within)
	defer cancel()
	cmd := exec.CommandContext(ctx, shared.binary, append(args, "--endpoints", r.Target(region))...)
	var out bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &out
	if err := r.net.Start("clients", cmd); err != nil {
		return "", err
	}
	if err := cmd.Wait(); err != nil {
		return out.String(), fmt.Errorf("atoll %s: %w: %s", strings.Join(args, " "), err, out.String())
	}
	return out.String(), nil
}

// newcomer adds a node to the region, starts it, and waits until the region
// knows that it wants to join.
func (r *rig) newcomer(region string) *node {
	r.t.Helper()
	n, err := r.Join(region)
	r.must(err)
	r.start(n)
	ctx, cancel := context.WithTimeout(r.ctx, startTime)
	defer cancel()
	if err := r.eventually(ctx, func() error {
		r.alive()
		m, err := r.member(ctx, region, n.ID)
		if err == nil && m == nil {
			err = fmt.Errorf("%s is not known", n.ID)
		}
		return err
	}); err != nil {
		r.t.Fatalf("%s does not register: %v\n%s", n.ID, err, n.Tail(20))
	}
	return n
}

// admin calls one of the region's nodes.
func (r *rig) admin(region string, call func(c adminv1.ClusterClient) error) error {
	var last error
	for _, n := range r.Region(region) {
		if r.down[n] || !n.Running() {
			continue
		}
		cc, err := grpc.NewClient("passthrough:///"+n.Addr("client"), r.DialOptions()...)
		if err != nil {
			return err
		}
		last = call(adminv1.NewClusterClient(cc))
		cc.Close()
		if last == nil {
			return nil
		}
	}
	return last
}

// member returns what the region knows of a node, nil for nothing.
func (r *rig) member(ctx context.Context, region, id string) (found *adminv1.Member, err error) {
	ctx, cancel := context.WithTimeout(ctx, 3*time.Second)
	defer cancel()
	err = r.admin(region, func(c adminv1.ClusterClient) error {
		res, err := c.GetTopology(ctx, &adminv1.GetTopologyRequest{})
		for _, m := range res.GetMembers() {
			if m.GetId() == id {
				found = m
			}
		}
		return err
	})
	return found, err
}

// lastTask returns the task that was begun last.
func (r *rig) lastTask(region string) (last *adminv1.Task, err error) {
	ctx, cancel := context.WithTimeout(r.ctx, 5*time.Second)
	defer cancel()
	err = r.admin(region, func(c adminv1.ClusterClient) error {
		res, err := c.ListTasks(ctx, &adminv1.ListTasksRequest{})
		for _, t := range res.GetTasks() {
			if last == nil || t.GetId() > last.GetId() {
				last = t
			}
		}
		return err
	})
	if err == nil && last == nil {
		err = fmt.Errorf("region %s has no task", region)
	}
	return last, err
}

// awaitTask waits until a task has ended.
func (r *rig) awaitTask(region string, within time.Duration) (*adminv1.Task, error) {
	ctx, cancel := context.WithTimeout(r.ctx, within)
	defer cancel()
	var last *adminv1.Task
	waits := ""
	err := r.eventually(ctx, func() error {
		t, err := r.lastTask(region)
		if err != nil {
			return err
		}
		if now := fmt.Sprint(t.GetWaitsFor()); now != waits {
			waits = now
			r.t.Logf("%5.1f s  task %d: %d of %d moves done; it waits for %v",
				time.Since(r.began).Seconds(), t.GetId(), t.GetDone(), t.GetMoves(), t.GetWaitsFor())
		}
		if last = t; t.GetEndedMs() == 0 {
			return fmt.Errorf("task %d is not done: %d moves planned, %d copying, %d switched, %d done; it waits for %q",
				t.GetId(), t.GetPlanned(), t.GetCopying(), t.GetSwitched(), t.GetDone(), t.GetWaitsFor())
		}
		return nil
	})
	if err == nil && last.GetAborted() {
		err = fmt.Errorf("task %d was aborted", last.GetId())
	}
	return last, err
}
