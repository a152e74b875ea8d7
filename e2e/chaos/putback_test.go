//go:build chaos && linux

package chaos

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/atolldb/atoll/client"
	"github.com/atolldb/atoll/e2e/chaos/traffic"
	"github.com/atolldb/atoll/e2e/program"
)

// putBack: the data directories of two nodes, one after the other, are put back to old
// copies, all of them, the parts of their NATS servers included. The first copy was made of
// a running node, at one instant, as a snapshot of a volume is: to the node that looks like
// a crash. The second one was made of a clean stop, and looks like one still: only the
// registry and the others can tell (ADR 26), and before they have it answers nothing. So
// between that copy and its return deletes are collected as well: who shows one of those
// values again shows it for good. (A snapshot may, before it has met another owner's floor:
// docs/durability.md.)
func putBack(r *rig) {
	for i, n := range []*node{r.Nodes[1], r.Nodes[0]} {
		stopped := i == 1
		living, doomed := r.values(2000+10*i), r.values(2001+10*i)
		backup := r.copyOf(n, stopped)
		newer := r.values(2002 + 10*i)
		doomed.Delete(r.ctx, r.clients["eu"])
		if stopped {
			r.collected(n)
		}
		was, _, err := r.Status(r.ctx, n)
		r.must(err)
		r.down[n] = true
		r.must(n.Stop(30 * time.Second))
		r.must(n.Wipe())
		r.must(os.Rename(backup, n.DataDir()))
		if stopped {
			r.fault("put back to a clean stop")
		} else {
			r.fault("put back to a snapshot")
		}
		r.start(n)
		enough := r.looking(doomed, newer, living)
		r.back(n)
		enough()
		const refused = "the clean-stop marker is not the newest"
		if told := strings.Contains(n.SinceStart(), refused); told != stopped {
			r.unmet("put-back-told", "%s says that its clean stop is not the newest: %v:\n%s", n.ID, told, program.Tail(n.SinceStart(), 12))
		} else {
			r.met("put-back-told")
		}
		is, _, err := r.Status(r.ctx, n)
		r.must(err)
		if is.GetActor() <= was.GetActor() {
			r.unmet("put-back-actor", "%s mints as %d, and was %d before it was put back: names of writes come again", n.ID, is.GetActor(), was.GetActor())
		} else {
			r.met("put-back-actor")
		}
		r.keptByAll()
	}
}

// keptByAll waits until the metadata servers of all nodes have what the others have: with
// one that has not, and another one stopped, there is no majority.
func (r *rig) keptByAll() {
	r.t.Helper()
	ctx, cancel := context.WithTimeout(r.ctx, readyTime)
	defer cancel()
	if err := r.eventually(ctx, func() error {
		_, region, err := r.Status(ctx, r.Nodes[0])
		if err != nil {
			return err
		}
		for _, n := range region.GetNodes() {
			if !n.GetMetadataServer() {
				return fmt.Errorf("the metadata server of %s lacks something", n.GetId())
			}
		}
		return nil
	}); err != nil {
		r.unmet("put-back-metadata", "%v after the start: %v", readyTime, err)
	} else {
		r.met("put-back-metadata")
	}
}

// values are written by one client of the history.
func (r *rig) values(as int) *traffic.Ballast {
	return traffic.Load(r.ctx, r.history, r.clients["eu"], uint16(as), 150, 300)
}

// looking reads all of some values again and again until it is told that it is enough, at
// a quorum, whoever answers. Reads may fail meanwhile, and may not be wrong.
func (r *rig) looking(at ...*traffic.Ballast) (enough func()) {
	ctx, stop := context.WithCancel(r.ctx)
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		for ctx.Err() == nil {
			for _, b := range at {
				b.Scan(ctx, "eu", r.clients["eu"], client.LocalQuorum)
			}
		}
	}()
	enough = func() { stop(); <-ended }
	r.t.Cleanup(enough)
	return enough
}

// copyOf makes a copy of the node's data directory beside it.
func (r *rig) copyOf(n *node, stopped bool) (dir string) {
	r.t.Helper()
	dir = filepath.Join(n.Disk.Dir, "backup")
	if stopped {
		r.down[n] = true
		r.must(n.Stop(30 * time.Second))
	} else {
		r.must(n.Pause())
	}
	r.must(os.CopyFS(dir, os.DirFS(n.DataDir())))
	if stopped {
		r.start(n)
		r.back(n)
	} else {
		r.must(n.Resume())
	}
	return dir
}

// collected has deletes taken off all disks, and waits until some have left that of a
// node. (All of them would take as long as the pauses between 64 partitions.)
func (r *rig) collected(n *node) {
	r.t.Helper()
	const some = 20
	r.pause(time.Second) // what is younger than that is not collected
	r.must(r.Collect(r.ctx, n, time.Second))
	ctx, cancel := context.WithTimeout(r.ctx, 30*time.Second)
	defer cancel()
	if err := r.eventually(ctx, func() error {
		if dropped, err := r.Dropped(ctx, n); err != nil || dropped < some {
			return errors.Join(err, fmt.Errorf("%d deletes are off the disk of %s", dropped, n.ID))
		}
		return nil
	}); err != nil {
		r.unmet("put-back-collected", "deletes stay on the disks: %v", err)
	} else {
		r.met("put-back-collected")
	}
}
