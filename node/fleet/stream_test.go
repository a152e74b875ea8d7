package fleet_test

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/atolldb/atoll/client"
	"github.com/atolldb/atoll/geo/natsd/natsdtest"
	"github.com/atolldb/atoll/node/fleet"
	"github.com/atolldb/atoll/node/process"
	"github.com/atolldb/atoll/node/topology"
)

// Whatever becomes of a region's JetStream, it costs time: both regions are equal
// afterwards, and what was acknowledged is there.

// pair is two regions of one node, eu and us, of which the link is cut.
type pair struct {
	*fleet.Fleet
	t      *testing.T
	ctx    context.Context
	dir    string
	eu, us *client.Client
	keys   int
}

func newPair(t *testing.T) *pair {
	t.Parallel()
	dir := t.TempDir()
	f, ctx := start(t, fleet.Config{Dir: dir, Regions: []topology.Region{"eu", "us"}, Nodes: 1, Partitions: 16})
	p := &pair{Fleet: f, t: t, ctx: ctx, dir: dir, eu: open(t, ctx, f, "eu"), us: open(t, ctx, f, "us")}
	p.put(20)
	p.equal()
	return p
}

func (p *pair) must(err error) {
	p.t.Helper()
	if err != nil {
		p.t.Fatal(err)
	}
}

// put writes n new keys in eu.
func (p *pair) put(n int) {
	p.t.Helper()
	for range n {
		p.keys++
		_, err := p.eu.Put(p.ctx, fmt.Sprint("key", p.keys), []byte("v"))
		p.must(err)
	}
}

// equal waits until both regions hold the same, and looks for every key in us.
func (p *pair) equal() {
	p.t.Helper()
	var last error
	eventually(p.t, p.ctx, "equal regions", func() bool { last = p.Converged(); return last == nil })
	for i := range p.keys {
		if _, err := p.us.Get(p.ctx, fmt.Sprint("key", i+1)); err != nil {
			p.t.Fatalf("key%d in us: %v", i+1, err)
		}
	}
}

// gaps that us has noticed in the log of eu.
func (p *pair) gaps() uint64 { return p.Process("us-1").Node().Figures().Drains["eu"].Gaps }

// noticed waits for a gap more than before.
func (p *pair) noticed(before uint64) {
	p.t.Helper()
	eventually(p.t, p.ctx, "a gap that us has noticed", func() bool { return p.gaps() > before })
}

// store is the directory of eu's JetStream.
func (p *pair) store() string {
	found, err := filepath.Glob(filepath.Join(p.dir, "eu-1", "*", "js-solo"))
	if err != nil || len(found) != 1 {
		p.t.Fatalf("stores of eu: %q, %v", found, err)
	}
	return found[0]
}

// logs are the files of eu's stream.
func (p *pair) logs(pattern string) []string {
	found, err := filepath.Glob(filepath.Join(p.store(), "jetstream", "*", "streams", "GEO_eu", pattern))
	if err != nil || len(found) == 0 {
		p.t.Fatalf("files %s of the stream of eu: %q, %v", pattern, found, err)
	}
	return found
}

func TestJetStreamIsWiped(t *testing.T) {
	p := newPair(t)
	before := p.gaps()
	p.must(p.Partition("eu", "us"))
	p.put(100) // they are in the stream, and nobody has pulled them
	p.must(p.StopNode("eu-1"))
	p.must(os.RemoveAll(p.store()))
	p.must(p.StartNode(p.ctx, "eu-1"))
	p.must(p.Heal("eu", "us"))
	p.noticed(before)
	p.put(20)
	p.equal()
}

// Also when the region that pulls was down meanwhile.
func TestStreamIsCutOffWhileNobodyPulls(t *testing.T) {
	p := newPair(t)
	p.must(p.StopNode("us-1"))
	p.put(100)
	p.must(natsdtest.PurgeStream(p.ctx, nil, p.urls(), "GEO_eu"))
	p.put(20)
	p.must(p.StartNode(p.ctx, "us-1"))
	p.noticed(0)
	p.equal()
}

// urls of eu's NATS server.
func (p *pair) urls() []string { return []string{p.Process("eu-1").Addrs().NATS} }

func TestStreamIsDeletedUnderLoad(t *testing.T) {
	p := newPair(t)
	var load sync.WaitGroup
	ctx, stop := context.WithCancel(p.ctx)
	written := 0
	load.Go(func() {
		for ctx.Err() == nil {
			_, err := p.eu.Put(ctx, fmt.Sprint("key", p.keys+written+1), []byte("v"))
			if err != nil {
				if ctx.Err() == nil {
					t.Errorf("write while the stream is gone: %v", err)
				}
				return
			}
			written++
		}
	})
	for range 3 {
		before := p.gaps()
		p.must(natsdtest.DeleteStream(p.ctx, nil, p.urls(), "GEO_eu"))
		p.noticed(before)
	}
	stop()
	load.Wait()
	p.keys += written
	t.Logf("%d writes meanwhile, %d gaps noticed", written, p.gaps())
	p.equal()
}

// Files of the stream that are damaged while the server is down: the server
// keeps of it what it can read, or nothing.
func TestFilesOfTheStreamAreDamaged(t *testing.T) {
	for name, harm := range map[string]func(p *pair){
		"bits flip in its messages": func(p *pair) {
			for _, f := range p.logs("msgs/*.blk") {
				p.flip(f)
			}
			p.forgetState()
		},
		"its messages are cut short": func(p *pair) {
			for _, f := range p.logs("msgs/*.blk") {
				st, err := os.Stat(f)
				p.must(err)
				p.must(os.Truncate(f, st.Size()/3))
			}
			p.forgetState()
		},
		"its description is junk": func(p *pair) {
			p.must(os.WriteFile(p.logs("meta.inf")[0], []byte("junk"), 0o600))
		},
		"the state of its consumer is junk": func(p *pair) {
			p.must(os.WriteFile(p.logs("obs/to_us/o.dat")[0], []byte("junk"), 0o600))
		},
	} {
		t.Run(name, func(t *testing.T) {
			p := newPair(t)
			p.must(p.Partition("eu", "us"))
			p.put(200)
			p.must(p.StopNode("eu-1"))
			before := p.gaps()
			harm(p)
			p.must(p.StartNode(p.ctx, "eu-1"))
			p.must(p.Heal("eu", "us"))
			p.put(20)
			p.equal()
			t.Logf("%d gaps noticed", p.gaps()-before)
		})
	}
}

// flip changes one bit in every 512 bytes of a file's second half.
func (p *pair) flip(file string) {
	b, err := os.ReadFile(file)
	p.must(err)
	for i := len(b) / 2; i < len(b); i += 512 {
		b[i] ^= 4
	}
	p.must(os.WriteFile(file, b, 0o600))
}

// forgetState removes the summary that saves the server from reading the messages.
func (p *pair) forgetState() {
	for _, f := range p.logs("msgs/*") {
		if strings.HasSuffix(f, ".db") {
			if err := os.Remove(f); !errors.Is(err, os.ErrNotExist) {
				p.must(err)
			}
		}
	}
}

// What does not fit into the log goes, the oldest first; who had not pulled it
// finds out, and the clocks bring it.
func TestLogIsFull(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	f, ctx := start(t, fleet.Config{Dir: dir, Regions: []topology.Region{"eu", "us"}, Nodes: 1, Partitions: 16, LogBytes: 16 * process.MiB})
	p := &pair{Fleet: f, t: t, ctx: ctx, dir: dir, eu: open(t, ctx, f, "eu"), us: open(t, ctx, f, "us")}
	p.put(20)
	p.equal()
	before := p.gaps()
	// It is pulled from until the moment of the cut, so that the log is wanted; what
	// is put there by hand stands for what a pump has put there before it knew.
	p.must(p.Partition("eu", "us"))
	p.put(20)
	p.must(natsdtest.FillStream(p.ctx, nil, p.urls(), "geo.eu.log.eu-1", 1<<20, 20))
	eventually(t, ctx, "the log at its bound", func() bool {
		s := p.Process("eu-1").Node().Figures().Log
		return s != nil && s.MaxBytes == 16<<20 && s.Bytes > 14<<20 && s.Bytes <= 16<<20 && s.Open["us"] > 0
	})
	p.must(p.Heal("eu", "us"))
	p.noticed(before)
	p.equal()
}

// The node that minted is gone for good, with writes that no log ever had: another
// owner has them, and the other region gets them from there.
func TestOwnersShipWhatTheDeadOneLeft(t *testing.T) {
	t.Parallel()
	f, ctx := start(t, fleet.Config{Regions: []topology.Region{"eu", "us"}, Nodes: 3, Partitions: 16})
	eu, us := open(t, ctx, f, "eu"), open(t, ctx, f, "us")
	eventually(t, ctx, "equal regions", func() bool { return f.Converged() == nil })
	if err := f.Partition("eu", "us"); err != nil {
		t.Fatal(err)
	}
	write := func(prefix string, n int) {
		for i := range n {
			if _, err := eu.Put(ctx, fmt.Sprint(prefix, i), []byte("v")); err != nil {
				t.Fatal(err)
			}
		}
	}
	write("before", 50)
	eventually(t, ctx, "the pump waits", func() bool {
		write("until", 20)
		return f.Process("eu-2").Node().Figures().Pump.Waiting
	})
	write("unshipped", 200)
	if n := f.Process("eu-2").Node().Figures().Unconfirmed; n == 0 {
		t.Fatal("eu-2 has shipped everything")
	}
	if err := f.Kill("eu-2"); err != nil {
		t.Fatal(err)
	}
	if err := f.Heal("eu", "us"); err != nil {
		t.Fatal(err)
	}
	began := time.Now()
	for i := range 200 {
		eventually(t, ctx, "an unshipped write in us", func() bool {
			_, err := us.Get(ctx, fmt.Sprint("unshipped", i))
			return err == nil
		})
	}
	took := time.Since(began)
	t.Logf("us had what the dead node left after %v", took.Round(10*time.Millisecond))
	if took > 20*time.Second {
		t.Errorf("us had what the dead node left after %v", took)
	}
}
