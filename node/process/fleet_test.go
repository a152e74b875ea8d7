package process_test

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/hashicorp/go-hclog"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"

	"github.com/atolldb/atoll/node/process"
	"github.com/atolldb/atoll/node/topology"
	atollv1 "github.com/atolldb/atoll/proto/atoll/v1"
)

// fleet is regions of nodes on loopback, each with one NATS server at its
// first node. The configurations use addresses of a network that exists in
// documentation only; the dial hook leads them to where the nodes listen. So
// every connection that did not go through the hook would fail, and no port
// needs to be known before it is open.
type fleet struct {
	t       *testing.T
	dir     string
	regions []process.Region
	nodes   map[topology.NodeID]*running

	mu   sync.Mutex               // nodes dial while the test changes what is there
	real map[string]func() string // by address: where it is, "" when down
}

type running struct {
	cfg  process.Config
	p    *process.Process
	stop context.CancelFunc
	done chan error
}

const waitLimit = 30 * time.Second

func newFleet(t *testing.T, regions, nodes int) *fleet {
	f := &fleet{t: t, dir: t.TempDir(), nodes: map[topology.NodeID]*running{}, real: map[string]func() string{}}
	if err := os.WriteFile(filepath.Join(f.dir, "secret"), []byte("0123456789abcdef0123456789abcdef\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	for r := range regions {
		name := topology.Region(string(rune('a' + r)))
		region := process.Region{Name: name, ID: topology.RegionID(r + 1), NATS: []string{fmt.Sprintf("nats://192.0.2.%d:4222", r+1)}}
		for n := range nodes {
			region.Members = append(region.Members, process.Member{
				ID: topology.NodeID(fmt.Sprintf("%s%d", name, n+1)), Rack: fmt.Sprint("r", n),
				Client: fmt.Sprintf("192.0.2.%d:%d", r+1, 7000+n),
				Peer:   fmt.Sprintf("192.0.2.%d:%d", r+1, 8000+n),
			})
		}
		f.regions = append(f.regions, region)
	}
	for _, r := range f.regions {
		for n, m := range r.Members {
			f.nodes[m.ID] = &running{cfg: f.config(r, n)}
			f.leads(m.Peer, func() string { return f.addrs(m.ID).Peer })
		}
		f.leads(strings.TrimPrefix(r.NATS[0], "nats://"), func() string {
			return strings.TrimPrefix(f.addrs(r.Members[0].ID).NATS, "nats://")
		})
	}
	t.Cleanup(func() {
		for id := range f.nodes {
			if err := f.stop(id); err != nil {
				t.Errorf("stop %s: %v", id, err)
			}
		}
	})
	return f
}

func (f *fleet) config(r process.Region, n int) process.Config {
	c := process.Default()
	c.Node, c.Region, c.DataDir = r.Members[n].ID, r.Name, filepath.Join(f.dir, string(r.Members[n].ID))
	c.Listen = process.Listen{Client: "127.0.0.1:0", Peer: "127.0.0.1:0", Admin: "127.0.0.1:0"}
	c.SecretFile = filepath.Join(f.dir, "secret")
	c.Regions, c.Partitions = f.regions, 16
	c.Memory.Memtable, c.Memory.BlockCache = 8*process.MiB, 1*process.MiB
	c.NATS.MaxStore = 256 * process.MiB
	if n == 0 {
		c.NATS.Listen = "127.0.0.1:0"
	}
	return c
}

// join adds a node that the configurations do not list.
func (f *fleet) join(id topology.NodeID, region int) *running {
	r := f.regions[region]
	c := f.config(r, 0)
	c.NATS.Listen = ""
	c.Node, c.DataDir = id, filepath.Join(f.dir, string(id))
	c.Join = &process.Join{Rack: "new", Client: "192.0.2.100:1", Peer: "192.0.2.100:" + strconv.Itoa(len(f.nodes)+1)}
	f.leads(c.Join.Peer, func() string { return f.addrs(id).Peer })
	f.mu.Lock()
	defer f.mu.Unlock()
	f.nodes[id] = &running{cfg: c}
	return f.nodes[id]
}

// leads makes an address of the configurations lead to where to says; nil: nobody
// is there.
func (f *fleet) leads(addr string, to func() string) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.real[addr] = to
}

func (f *fleet) topology(id topology.NodeID) *topology.Topology {
	return f.nodes[id].p.Node().Topology()
}

func (f *fleet) addrs(id topology.NodeID) process.Addrs {
	f.mu.Lock()
	defer f.mu.Unlock()
	if r := f.nodes[id]; r.p != nil {
		return r.p.Addrs()
	}
	return process.Addrs{}
}

func (f *fleet) dial(ctx context.Context, network, addr string) (net.Conn, error) {
	f.mu.Lock()
	to := f.real[addr]
	f.mu.Unlock()
	if to == nil {
		return nil, fmt.Errorf("nobody is at %s", addr)
	}
	addr = to()
	if addr == "" {
		return nil, errors.New("down")
	}
	return new(net.Dialer).DialContext(ctx, network, addr)
}

// start starts nodes, all if none is named, and waits until they are ready.
func (f *fleet) start(ids ...topology.NodeID) {
	f.t.Helper()
	if len(ids) == 0 {
		for id := range f.nodes {
			ids = append(ids, id)
		}
	}
	f.launch(ids...)
	f.await(ids...)
}

// launch starts nodes.
func (f *fleet) launch(ids ...topology.NodeID) {
	f.t.Helper()
	for _, id := range ids {
		r := f.nodes[id]
		p, err := process.New(r.cfg, process.Hooks{Logger: logger(f.t).With("on", string(id)), Dial: f.dial})
		if err != nil {
			f.t.Fatal(err)
		}
		ctx, stop := context.WithCancel(context.Background())
		done := make(chan error, 1)
		f.mu.Lock()
		r.p, r.stop, r.done = p, stop, done
		f.mu.Unlock()
		go func() { done <- p.Run(ctx) }()
	}
}

// await waits until nodes are ready.
func (f *fleet) await(ids ...topology.NodeID) {
	f.t.Helper()
	for _, id := range ids {
		r := f.nodes[id]
		select {
		case <-r.p.Ready():
		case err := <-r.done:
			r.done <- err
			f.t.Fatalf("%s: %v", id, err)
		case <-time.After(waitLimit):
			f.t.Fatalf("%s is not ready", id)
		}
	}
}

// stop stops a node in order, or collects one that has stopped.
func (f *fleet) stop(id topology.NodeID) error {
	r := f.nodes[id]
	if r.p == nil {
		return nil
	}
	r.stop()
	err := <-r.done
	f.mu.Lock()
	r.p = nil
	f.mu.Unlock()
	return err
}

func (f *fleet) kv(id topology.NodeID) atollv1.KVClient {
	f.t.Helper()
	return kvOf(f.t, f.nodes[id].p)
}

func kvOf(t *testing.T, p *process.Process) atollv1.KVClient {
	t.Helper()
	conn, err := grpc.NewClient(p.Addrs().Client, grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close() })
	return atollv1.NewKVClient(conn)
}

// eventually waits until what is true.
func eventually(t *testing.T, what string, is func() error) {
	t.Helper()
	beat := time.NewTicker(10 * time.Millisecond)
	defer beat.Stop()
	late := time.After(waitLimit)
	for {
		err := is()
		if err == nil {
			return
		}
		select {
		case <-beat.C:
		case <-late:
			t.Fatalf("%s: %v", what, err)
		}
	}
}

// logger logs warnings to the test; everything with -v and ATOLL_TEST_LOG set.
func logger(t *testing.T) hclog.Logger {
	level := hclog.LevelFromString(os.Getenv("ATOLL_TEST_LOG"))
	if level == hclog.NoLevel {
		return hclog.NewNullLogger()
	}
	return hclog.New(&hclog.LoggerOptions{Level: level, Output: t.Output()})
}
