//go:build runbooks && linux

package runbooks

import (
	"context"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/atolldb/atoll/client"
	"github.com/atolldb/atoll/e2e/chaos/deployment"
	"github.com/atolldb/atoll/e2e/chaos/machine"
	"github.com/atolldb/atoll/e2e/chaos/traffic"
	"github.com/atolldb/atoll/e2e/program"
	"github.com/atolldb/atoll/e2e/runbooks/book"
)

var binaryFlag = flag.String("runbooks.binary", "", "the program; without it, built from the tree")

var shared struct {
	run     *machine.Run
	missing map[machine.Ability]error
	binary  string
	broken  string        // a program that ends at once
	pool    *machine.Pool // of disks that are filled, once there is one
}

func TestMain(m *testing.M) {
	flag.Parse()
	os.Exit(run(m))
}

func run(m *testing.M) int {
	fail := func(err error) int {
		fmt.Fprintln(os.Stderr, "runbooks:", err)
		return 1
	}
	r, err := machine.NewRun()
	if err != nil {
		return fail(err)
	}
	shared.run = r
	defer func() {
		if err := r.Close(); err != nil {
			fmt.Fprintln(os.Stderr, "runbooks: clean up:", err)
		}
	}()
	shared.binary = filepath.Join(r.Dir, "atoll")
	if *binaryFlag != "" {
		err = os.Symlink(*binaryFlag, shared.binary)
	} else {
		err = program.Build(shared.binary)
	}
	if err != nil {
		return fail(err)
	}
	shared.broken = filepath.Join(r.Dir, "broken")
	if err := os.WriteFile(shared.broken, []byte("#!/bin/sh\necho 'atoll: this release is broken' >&2\nexit 1\n"), 0o700); err != nil {
		return fail(err)
	}
	shared.missing = r.Probe()
	return m.Run()
}

// TestRunbook follows every runbook on real processes with its fault injected,
// while clients work, and holds it to what it promises.
func TestRunbook(t *testing.T) {
	files, err := filepath.Glob(filepath.Join(books, "*.md"))
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range files {
		name := strings.TrimSuffix(filepath.Base(f), ".md")
		if name == "README" {
			continue
		}
		t.Run(name, func(t *testing.T) { rehearse(t, read(t, name)) })
	}
}

func rehearse(t *testing.T, b *book.Book) {
	r := begin(t, b)
	var acted time.Duration
	var began time.Time
	for _, each := range chain(t, b) {
		began = time.Now()
		acted = r.follow(each)
	}
	done := time.Now()
	if b.RPO == "backup" {
		for _, region := range b.Serving {
			r.restored(region)
		}
	}
	r.pause(2 * time.Second) // clients work on what was done
	for _, region := range b.Serving {
		at := began.Add(b.RTO)
		if done.Before(at) {
			at = done
		}
		r.serves(region, at)
	}
	if b.Following != "" {
		r.serves(following, r.began)
		r.say("clients that follow have done %d operations, the last in %s", r.loads[following].t.Tally.OK(), r.clients[following].Region())
	}
	r.say("%s: commands took %v, RTO %v", b.Name, acted.Round(time.Millisecond), b.RTO)
	r.conclude()
}

// serves checks that nothing failed in a region that began later than at, which is
// when the runbook was done, or its time to recover in over, and that something was
// done.
func (r *rehearsal) serves(region string, at time.Time) {
	r.t.Helper()
	l := r.loads[region]
	now := time.Now()
	if failed := l.t.Tally.FailedBetween(at, now); len(failed) > 0 {
		r.t.Errorf("region %s: operations failed after the time to recover in: %v\n%s", region, failed, strings.Join(l.t.Tally.Told(at, now), "\n"))
	}
	before := l.t.Tally.OK()
	if err := r.eventually(5*time.Second, func(context.Context) error {
		if l.t.Tally.OK() <= before {
			return fmt.Errorf("no operation succeeds in region %s", region)
		}
		return nil
	}); err != nil {
		r.t.Error(err)
	}
}

// conclude stops the clients, starts what is down (whatever the fault was: what it
// had acknowledged must be there in the end), waits until all is equal, and checks
// the history.
func (r *rehearsal) conclude() {
	r.t.Helper()
	for _, l := range r.loads {
		l.stop()
	}
	if r.book.RPO == "printed" {
		return // what is missing returns by another runbook, which checks everything
	}
	ok, failed := int64(0), int64(0)
	for _, l := range r.loads {
		ok += l.t.Tally.OK()
		failed += l.t.Tally.Failed()
	}
	regions := r.Regions()
	if err := r.eventually(healTime, r.equal); err != nil {
		r.t.Errorf("regions are not equal after %v: %v", healTime, err)
	}
	for _, region := range regions {
		var up []*deployment.Node
		for _, n := range r.Region(region) {
			if n.Running() {
				up = append(up, n)
			}
		}
		if len(up) == 0 {
			continue // it is lost; its return is another runbook's
		}
		began := time.Now()
		if err := r.eventually(healTime, func(ctx context.Context) error { return r.whole(ctx, region) }); err != nil {
			r.t.Errorf("region %s is not whole after %v: %v", region, healTime, err)
		}
		r.say("region %s is whole after %v", region, time.Since(began).Round(time.Millisecond))
		ctx, cancel := context.WithTimeout(r.ctx, healTime)
		traffic.Final(ctx, r.history, region, r.clients[region], client.LocalQuorum)
		cancel()
	}
	_, told := r.history.Check()
	for _, v := range told {
		r.t.Errorf("VIOLATION %v", v)
	}
	counts := r.history.Counts()
	r.say("%d operations succeeded, %d failed; %d writes acknowledged, %d answers checked", ok, failed, counts.Acked, counts.Reads)
	if counts.Acked == 0 {
		r.t.Error("no write was acknowledged: nothing was rehearsed")
	}
}

// whole is Settled without the nodes that are gone for good.
func (r *rehearsal) whole(ctx context.Context, region string) error {
	for _, n := range r.Region(region) {
		if !n.Running() {
			r.Forget(n)
		}
	}
	return r.Settled(ctx, region)
}

// equal compares the regions that run, whose first nodes own everything: what links
// tell is as old as the last heartbeat.
func (r *rehearsal) equal(ctx context.Context) error {
	type sum struct{ clocks, data uint64 }
	var first *sum
	for _, region := range r.Regions() {
		for _, n := range r.Region(region) {
			if !n.Running() || len(r.Regions()) == 1 {
				continue
			}
			own, _, err := r.Status(ctx, n)
			if err != nil {
				return err
			}
			s := sum{own.GetClockDigest(), own.GetDataDigest()}
			if first == nil {
				first = &s
			} else if *first != s {
				return fmt.Errorf("%s has %x, others %x", n.ID, s, *first)
			}
		}
	}
	return nil
}
