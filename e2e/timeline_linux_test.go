//go:build e2e && linux

package e2e

import (
	"context"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"time"

	"golang.org/x/sys/unix"

	"github.com/atolldb/atoll/node/fleet"
	"github.com/atolldb/atoll/node/topology"
)

const timelineBeat = 250 * time.Millisecond

// timeline writes a line for each timelineBeat until ctx ends: what the nodes of a
// region that run in this process did since the last one. Denied is how long threads
// waited for a processor, also for each other: where a region has a processor of its
// own, what it has not used and was not denied it has waited for something else.
func timeline(ctx context.Context, to io.Writer, f *fleet.Fleet, region topology.Region) {
	type counts struct {
		cpu, denied, commit           time.Duration
		shipped, applied, failed      uint64 // batches
		entries, groups, ops, written uint64
		pulled                        uint64 // keys that repair fetched
		waiting                       int    // bytes in the owners' queues now
	}
	count := func() (c counts) {
		var u unix.Rusage
		_ = unix.Getrusage(unix.RUSAGE_SELF, &u)
		c.cpu = time.Duration(u.Utime.Nano() + u.Stime.Nano())
		tasks, _ := filepath.Glob("/proc/self/task/*/schedstat")
		for _, task := range tasks {
			var ran, waited int64
			if b, err := os.ReadFile(task); err == nil {
				_, _ = fmt.Sscan(string(b), &ran, &waited)
				c.denied += time.Duration(waited)
			}
		}
		for _, id := range f.Nodes() {
			p := f.Process(id)
			if p == nil || p.Node().Topology().Region != region {
				continue
			}
			x := p.Node().Figures()
			if x.Pump != nil {
				c.shipped += x.Pump.Batches
			}
			for _, d := range x.Drains {
				c.applied, c.entries, c.failed = c.applied+d.Batches, c.entries+d.Entries, c.failed+d.Failures
			}
			c.pulled += x.Repair.PulledKeys.Load()
			s := x.Commits
			c.groups, c.ops, c.written = c.groups+s.Groups, c.ops+s.Ops, c.written+s.Bytes
			c.commit, c.waiting = c.commit+s.SyncTime, c.waiting+s.QueueBytes
		}
		return c
	}
	beat := time.NewTicker(timelineBeat)
	defer beat.Stop()
	began, at, was := time.Now(), time.Now(), count()
	for {
		select {
		case <-ctx.Done():
			return
		case <-beat.C:
		}
		c, now := count(), time.Now()
		percent := func(d time.Duration) int64 { return int64(100 * d / now.Sub(at)) }
		fmt.Fprintf(to, "%6.2fs processor %d%% denied %d%%; shipped %d batches; applied %d batches, %d entries, %d failed; repair pulled %d keys; %d groups of %d ops, %d KiB, committing %d%%; %d KiB wait\n",
			now.Sub(began).Seconds(), percent(c.cpu-was.cpu), percent(c.denied-was.denied), c.shipped-was.shipped,
			c.applied-was.applied, c.entries-was.entries, c.failed-was.failed, c.pulled-was.pulled,
			c.groups-was.groups, c.ops-was.ops, (c.written-was.written)>>10, percent(c.commit-was.commit), c.waiting>>10)
		at, was = now, c
	}
}
