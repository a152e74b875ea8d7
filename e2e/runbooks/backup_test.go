//go:build runbooks && linux

package runbooks

import (
	"context"
	"fmt"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/atolldb/atoll/client"
	"github.com/atolldb/atoll/e2e/chaos/history"
	"github.com/atolldb/atoll/e2e/chaos/machine"
	"github.com/atolldb/atoll/e2e/chaos/traffic"
)

const (
	backupTime = 60 * time.Second
	// diskSize of disks that are filled. They are sparse.
	diskSize = 1 << 30
)

// backUp makes a backup while clients work, and keeps what was acknowledged when it
// began: all that has to be in it.
func (r *rehearsal) backUp(region, file string) error {
	if len(r.Region(region)) == 0 {
		return fmt.Errorf("no region %q", region)
	}
	r.saved = r.history.Acked()
	ctx, cancel := context.WithTimeout(r.ctx, backupTime)
	defer cancel()
	out, code, err := r.run(ctx, fmt.Sprintf("atoll backup $BACKUPS/%s --endpoints $%s", file, strings.ToUpper(region)))
	if err == nil && code != 0 {
		err = fmt.Errorf("exit code %d: %s", code, out)
	}
	r.say("%d writes were acknowledged before the backup; %s", len(r.saved), strings.TrimSpace(out))
	return err
}

// restored compares what a region has with what was acknowledged before the backup
// began, says what was acknowledged later and is lost, and goes on with clients that
// know nothing of before, and with a history of its own.
func (r *rehearsal) restored(region string) {
	r.t.Helper()
	ctx, cancel := context.WithTimeout(r.ctx, startTime)
	defer cancel()
	c, err := client.Open(ctx, r.Target(region), client.Pin(), client.NoSession(), client.DialOptions(r.DialOptions()...))
	r.must(err)
	r.t.Cleanup(func() { _ = c.Close() })
	there := map[history.Element]bool{}
	for _, key := range r.history.SetKeys() {
		obj, err := traffic.PatientGet(ctx, c, key, client.LocalQuorum)
		r.must(err)
		for _, v := range traffic.Values(obj) {
			value, err := history.Decode(key, v)
			r.must(err)
			for _, e := range value.Elements {
				there[e] = true
			}
		}
	}
	acked := r.history.Acked()
	lost, kept := 0, 0
	for e, key := range acked {
		switch before := r.saved[e] != ""; {
		case there[e]:
			kept++
		case before:
			r.t.Errorf("VIOLATION lost: %v of %s was acknowledged before the backup began, and is not there", e, key)
		default:
			lost++
		}
	}
	r.say("of %d acknowledged additions to sets %d are there; %d that came after the backup began are lost", len(acked), kept, lost)
	if len(r.saved) == 0 || lost == 0 {
		r.t.Errorf("%d writes were acknowledged before the backup, and %d after it are lost: nothing was rehearsed", len(r.saved), lost)
	}
	r.history, r.clients[region] = &history.History{}, c
	r.load(region, 1000)
}

// newDisk is a directory, or a file system of its own where the runbook or one that
// it follows fills it.
func (r *rehearsal) newDisk(name string) (*machine.Disk, error) {
	if !slices.ContainsFunc(r.book.Faults, func(f string) bool { return strings.HasPrefix(f, "fill ") }) {
		return shared.run.Directory(name)
	}
	if err := shared.missing[machine.Disks]; err != nil {
		r.t.Skipf("NOT RUN: no disk can be made here that is filled: %v", err)
	}
	if shared.pool == nil {
		var err error
		if shared.pool, err = shared.run.NewPool(0, false); err != nil {
			return nil, err
		}
	}
	return shared.pool.NewDisk(filepath.Base(name), diskSize)
}

func (r *rehearsal) fill(name, leave string) error {
	nodes, err := r.named(name, false)
	if err != nil {
		return err
	}
	var mib int64
	if _, err := fmt.Sscanf(leave, "%dMiB", &mib); err != nil {
		return fmt.Errorf("fill NODE NMiB: %q: %w", leave, err)
	}
	for _, n := range nodes {
		if err := n.Disk.Fill(mib << 20); err != nil {
			return err
		}
	}
	return nil
}
