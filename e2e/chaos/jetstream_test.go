//go:build chaos && linux

package chaos

import (
	"context"
	"os"
	"path/filepath"
	"time"

	"github.com/atolldb/atoll/geo/natsd/natsdtest"
)

// jetstreamFaults: the servers that carry writes from eu to us die, are damaged
// and are emptied, and the stream is deleted, under load in both regions. The
// final check compares what both hold with what was acknowledged.
func jetstreamFaults(r *rig) {
	leader := r.streamLeader("eu")
	r.fault("kill -9 of the stream's leader")
	r.kill(leader)
	r.pause(2 * time.Second)
	r.start(leader)
	r.back(leader)

	r.fault("stream deleted")
	r.onStreams("eu", func(ctx context.Context, dial natsdtest.Dial, urls []string) error {
		return natsdtest.DeleteStream(ctx, dial, urls, "GEO_eu")
	})
	r.pause(2 * time.Second)

	n := r.pick("eu")
	r.fault("bits flipped in the stream's files")
	r.kill(n)
	flipped := 0
	for _, f := range r.streamFiles(n) {
		b, err := os.ReadFile(f)
		r.must(err)
		for i := len(b) / 2; i < len(b); i += 4096 {
			b[i] ^= 1
			flipped++
		}
		r.must(os.WriteFile(f, b, 0o600))
	}
	r.note("%d bits of the stream were flipped at %s", flipped, n.ID)
	r.start(n)
	r.back(n)

	r.fault("kill -9 of all of eu, and all its JetStream directories emptied")
	for _, n := range r.Region("eu") {
		r.kill(n)
	}
	for _, n := range r.Region("eu") {
		dirs, err := filepath.Glob(filepath.Join(n.DataDir(), "*", "js-cluster"))
		r.must(err)
		if len(dirs) != 1 {
			r.t.Fatalf("JetStream directories of %s: %q", n.ID, dirs)
		}
		r.must(os.RemoveAll(dirs[0]))
	}
	for _, n := range r.Region("eu") {
		r.start(n)
	}
	r.back(r.Region("eu")...)
	r.pause(2 * time.Second)
}

// streamFiles are the files with a node's copies of its region's batches.
func (r *rig) streamFiles(n *node) []string {
	found, err := filepath.Glob(filepath.Join(n.DataDir(), "*", "js-cluster", "jetstream", "*", "streams", "GEO_*", "msgs", "*.blk"))
	r.must(err)
	return found
}

// streamLeader is the node whose server leads the region's stream.
func (r *rig) streamLeader(region string) *node {
	r.t.Helper()
	name := ""
	r.onStreams(region, func(ctx context.Context, dial natsdtest.Dial, urls []string) (err error) {
		name, err = natsdtest.StreamLeader(ctx, dial, urls, "GEO_"+region)
		return err
	})
	for _, n := range r.Region(region) {
		if n.ID == name {
			return n
		}
	}
	r.t.Fatalf("the stream of %s is led by %q", region, name)
	return nil
}

// onStreams does something with the JetStream of a region, again until it works.
func (r *rig) onStreams(region string, do func(ctx context.Context, dial natsdtest.Dial, urls []string) error) {
	r.t.Helper()
	var urls []string
	for _, n := range r.Region(region) {
		urls = append(urls, "nats://"+n.Addr("nats"))
	}
	ctx, cancel := context.WithTimeout(r.ctx, 30*time.Second)
	defer cancel()
	r.must(r.eventually(ctx, func() error {
		try, done := context.WithTimeout(ctx, 3*time.Second)
		defer done()
		return do(try, r.net.Dial, urls)
	}))
}
