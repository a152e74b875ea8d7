package jskv_test

import (
	"bytes"
	"context"
	"errors"
	"net"
	"sync/atomic"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	natsjs "github.com/nats-io/nats.go/jetstream"

	"github.com/atolldb/atoll/geo/natsd"
	"github.com/atolldb/atoll/geo/natsd/natsdtest"
	"github.com/atolldb/atoll/internal/freeport"
	"github.com/atolldb/atoll/node/topology"
	"github.com/atolldb/atoll/node/topology/jskv"
	"github.com/atolldb/atoll/node/topology/topologytest"
)

func openStore(t *testing.T, nc *nats.Conn, replicas int) *jskv.Store {
	t.Helper()
	s, err := jskv.NewStore(jskv.Config{Region: "east", RegionID: topologytest.Region, Replicas: replicas}, nc)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func TestStoreConformance(t *testing.T) {
	for _, c := range topologytest.StoreCases() {
		t.Run(c.Name, func(t *testing.T) {
			t.Parallel()
			s := natsdtest.Solo(t, "east", t.TempDir())
			c.Run(t, func() topology.Store { return openStore(t, s.Client(t), 1) })
		})
	}
}

// A bucket that an earlier version made takes what this one keeps.
func TestBucketGrows(t *testing.T) {
	s := natsdtest.Solo(t, "east", t.TempDir())
	js, err := natsjs.New(s.Client(t))
	if err != nil {
		t.Fatal(err)
	}
	_, err = js.CreateStream(t.Context(), natsjs.StreamConfig{
		Name: "KV_TOPO_east", Subjects: []string{"$KV.TOPO_east.>"}, Storage: natsjs.FileStorage,
		MaxMsgsPerSubject: 8, MaxMsgSize: 4 << 10, MaxBytes: 64 << 20, Discard: natsjs.DiscardNew, DenyDelete: true, AllowRollup: true,
	})
	if err != nil {
		t.Fatal(err)
	}
	id, err := open(t, s.Client(t), 1).Allocate(t.Context(), "n1", 0)
	if err != nil {
		t.Fatal(err)
	}
	store, large := openStore(t, s.Client(t), 1), topologytest.Topology(t, 1, 0)
	for len(topology.Encode(large)) < 64<<10 {
		large.Members = append(large.Members, topology.Member{ID: topology.NodeID("m" + string(rune('a'+len(large.Members)%26)) + time.Duration(len(large.Members)).String()), Rack: string(make([]byte, 250))})
	}
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	if _, err := store.Swap(ctx, large, 0); err != nil {
		t.Fatal(err)
	}
	if x, _, err := store.Load(ctx); err != nil || topologytest.Same(large, x) != "" {
		t.Fatalf("%v", err)
	}
	if _, err := open(t, s.Client(t), 1).Resume(ctx, "n1", id); err != nil {
		t.Error(err)
	}
	stream, err := js.Stream(ctx, "KV_TOPO_east")
	if err != nil {
		t.Fatal(err)
	}
	if c := stream.CachedInfo().Config; c.AllowDirect || !c.DenyDelete || c.MaxMsgsPerSubject != 8 {
		t.Errorf("the bucket is %+v", c)
	}
}

// A bucket of another region is not taken for the own one.
func TestStoreOfAnotherRegion(t *testing.T) {
	s := natsdtest.Solo(t, "east", t.TempDir())
	if _, err := openStore(t, s.Client(t), 1).Swap(t.Context(), topologytest.Topology(t, 1, 0), 0); err != nil {
		t.Fatal(err)
	}
	other, err := jskv.NewStore(jskv.Config{Region: "east", RegionID: topologytest.Region + 1}, s.Client(t))
	if err != nil {
		t.Fatal(err)
	}
	if x, _, err := other.Load(t.Context()); err == nil {
		t.Errorf("loaded %+v", x)
	}
	if err := other.Watch(t.Context(), func(*topology.Topology, topology.Revision) { t.Error("it saw something") }); err == nil {
		t.Error("the watch went on")
	}
}

// deaf loses the answer to the next writes of the topology: the connection
// breaks when it comes.
type deaf struct {
	addr string
	lose atomic.Int32 // so many more
	lost atomic.Int32
}

func (d *deaf) Dial(network, _ string) (net.Conn, error) {
	conn, err := net.Dial(network, d.addr)
	return &deafConn{Conn: conn, of: d}, err
}

type deafConn struct {
	net.Conn
	of     *deaf
	deafen atomic.Bool
}

func (c *deafConn) Write(b []byte) (int, error) {
	if bytes.Contains(b, []byte("HPUB $KV.TOPO_east.topology")) && c.of.lose.Add(-1) >= 0 {
		c.deafen.Store(true)
	}
	return c.Conn.Write(b)
}

func (c *deafConn) Read(b []byte) (int, error) {
	n, err := c.Conn.Read(b)
	if c.deafen.Load() && bytes.Contains(b[:n], []byte(`"seq"`)) {
		c.of.lost.Add(1)
		_ = c.Conn.Close()
		return 0, errors.New("lost")
	}
	return n, err
}

func (d *deaf) connect(t *testing.T, s *natsdtest.Node) *nats.Conn {
	t.Helper()
	d.addr = s.ClientURL()[len("nats://"):]
	nc, err := nats.Connect(s.ClientURL(), nats.SetCustomDialer(d), nats.MaxReconnects(-1), nats.ReconnectWait(10*time.Millisecond))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(nc.Close)
	return nc
}

// A swap that got through without an answer is told as done, once; also when
// somebody has changed the topology since.
func TestSwapUnanswered(t *testing.T) {
	s := natsdtest.Solo(t, "east", t.TempDir())
	d, other := &deaf{}, openStore(t, s.Client(t), 1)
	store := openStore(t, d.connect(t, s), 1)
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	d.lose.Store(1)
	at, err := store.Swap(ctx, topologytest.Topology(t, 1, 0), 0)
	if err != nil {
		t.Fatal(err)
	}
	if d.lost.Load() != 1 {
		t.Fatalf("%d answers were lost", d.lost.Load())
	}
	if x, have, err := other.Load(ctx); err != nil || have != at || topologytest.Same(topologytest.Topology(t, 1, 0), x) != "" {
		t.Fatalf("stored is revision %d, not %d; %v", have, at, err)
	}

	// Somebody else goes on from it while the answer is lost.
	d.lose.Store(1)
	moved := make(chan error, 1)
	go func() {
		watching, stop := context.WithCancel(ctx)
		defer stop()
		moved <- other.Watch(watching, func(x *topology.Topology, at topology.Revision) {
			if x.Epoch == 2 {
				if _, err := other.Swap(ctx, topologytest.Topology(t, 3, 0), at); err != nil {
					t.Error(err)
				}
				stop()
			}
		})
	}()
	second, err := store.Swap(ctx, topologytest.Topology(t, 2, 7), at)
	if err != nil || second <= at {
		t.Fatalf("revision %d after %d, %v", second, at, err)
	}
	if err := <-moved; !errors.Is(err, context.Canceled) {
		t.Fatal(err)
	}
	if x, have, err := other.Load(ctx); err != nil || have <= second || x.Epoch != 3 {
		t.Fatalf("in the end epoch %d at revision %d: %v", x.Epoch, have, err)
	}

	// And if it was not stored, but another one was, that is a conflict.
	_, at, err = other.Load(ctx)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := other.Swap(ctx, topologytest.Topology(t, 4, 0), at); err != nil {
		t.Fatal(err)
	}
	if _, err := store.Swap(ctx, topologytest.Topology(t, 4, 1), at); !errors.Is(err, topology.ErrConflict) {
		t.Fatalf("got %v", err)
	}
}

// A watch goes on when the servers were away, and sees what came meanwhile.
func TestWatchSurvivesRestart(t *testing.T) {
	dir := t.TempDir()
	// The second one is where the first one was, and nobody in between.
	cfg := natsd.Config{Name: "east-1", Region: "east", DataDir: dir, Listen: freeport.For(t, 1)[0]}
	s := natsdtest.Start(t, cfg)
	nc, err := nats.Connect(s.ClientURL(), nats.MaxReconnects(-1), nats.ReconnectWait(20*time.Millisecond))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(nc.Close)
	store := openStore(t, nc, 1)
	ctx, cancel := context.WithTimeout(t.Context(), 60*time.Second)
	defer cancel()
	at, err := store.Swap(ctx, topologytest.Topology(t, 1, 0), 0)
	if err != nil {
		t.Fatal(err)
	}
	watching, stop := context.WithCancel(ctx)
	seen, done := make(chan topology.Epoch, 16), make(chan error, 1)
	go func() {
		done <- store.Watch(watching, func(x *topology.Topology, _ topology.Revision) { seen <- x.Epoch })
	}()
	if e := <-seen; e != 1 {
		t.Fatalf("saw epoch %d", e)
	}
	s.Stop()
	short, give := context.WithTimeout(ctx, time.Second)
	defer give()
	if _, _, err := store.Load(short); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("while the server is away: %v", err)
	}
	again := natsdtest.Start(t, cfg)
	// Stored by another connection, before the watch is back perhaps.
	if at, err = openStore(t, again.Client(t), 1).Swap(ctx, topologytest.Topology(t, 2, 0), at); err != nil {
		t.Fatal(err)
	}
	began := time.Now()
	for e := range seen {
		if e == 2 {
			break
		}
	}
	t.Logf("seen %v after it was stored", time.Since(began))
	if _, err := store.Swap(ctx, topologytest.Topology(t, 3, 0), at); err != nil {
		t.Fatal(err)
	}
	if e := <-seen; e != 3 {
		t.Errorf("saw epoch %d", e)
	}
	stop()
	if err := <-done; !errors.Is(err, context.Canceled) {
		t.Error(err)
	}
}

// Three servers: a change gets through when the bucket's leader stops.
func TestStoreCluster(t *testing.T) {
	nodes := natsdtest.Cluster(t, "east")
	ctx, cancel := context.WithTimeout(t.Context(), 60*time.Second)
	defer cancel()
	store := openStore(t, nodes[0].Client(t), 3)
	at, err := store.Swap(ctx, topologytest.Topology(t, 1, 0), 0)
	if err != nil {
		t.Fatal(err)
	}
	js, err := natsjs.New(nodes[0].Client(t))
	if err != nil {
		t.Fatal(err)
	}
	stream, err := js.Stream(ctx, "KV_TOPO_east")
	if err != nil {
		t.Fatal(err)
	}
	leader := stream.CachedInfo().Cluster.Leader
	var left *natsdtest.Node
	for _, n := range nodes {
		if n.Name() == leader {
			n.Stop()
		} else {
			left = n
		}
	}
	began := time.Now()
	if _, err := openStore(t, left.Client(t), 3).Swap(ctx, topologytest.Topology(t, 2, 0), at); err != nil {
		t.Fatal(err)
	}
	t.Logf("swapped %v after the leader %s stopped", time.Since(began), leader)
}

func TestAgree(t *testing.T) {
	s := natsdtest.Solo(t, "east", t.TempDir())
	for _, said := range []string{"one", "two", "one"} {
		if have, err := openStore(t, s.Client(t), 1).Agree(t.Context(), "secret", said); err != nil || have != "one" {
			t.Errorf("told %q: %q, %v", said, have, err)
		}
	}
}

func mustLead(t *testing.T, s *jskv.Store, node topology.NodeID) topology.NodeID {
	t.Helper()
	leader, err := s.Lead(t.Context(), node, time.Hour)
	if err != nil {
		t.Fatal(err)
	}
	return leader
}
