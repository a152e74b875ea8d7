package repair_test

import (
	"context"
	"fmt"
	"math/rand/v2"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/hashicorp/go-hclog"

	"github.com/atolldb/atoll/crdt"
	"github.com/atolldb/atoll/crdt/hlc"
	"github.com/atolldb/atoll/hashring"
	"github.com/atolldb/atoll/node/peer"
	"github.com/atolldb/atoll/node/repair"
	"github.com/atolldb/atoll/node/replica"
	"github.com/atolldb/atoll/node/storage/memstore"
	"github.com/atolldb/atoll/node/topology"
	"github.com/atolldb/atoll/node/topology/memtopo"
	"github.com/atolldb/atoll/node/wire"
)

const manyRecords = 200_000

// pair is two replicas with the same records, in real time, whose repairers run
// only when they are asked.
type pair struct {
	tb    testing.TB
	nodes [2]*half
	keys  []string
}

type half struct {
	*replica.Replica
	repair *repair.Repairer
	disk   *memstore.Disk
	wire   *meter
}

// meter hands requests over at once and counts what would be on the wire.
type meter struct {
	to *replica.Replica

	mu sync.Mutex
	// bytes of requests and replies; those of them that are records, and the
	// number of requests.
	bytes, records, requests int
}

func (m *meter) Send(_ topology.NodeID, req peer.Request, done peer.Done) {
	m.note(len(req.Body), entriesIn(req.Verb, req.Body, false))
	go m.to.Handle(req, func(b []byte, err error) {
		m.note(len(b), entriesIn(req.Verb, b, true))
		done(b, err)
	})
}

func (m *meter) note(bytes, records int) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.bytes += bytes
	m.records += records
	m.requests++
}

// reset returns what was counted, and forgets it.
func (m *meter) reset() (bytes, records, requests int) {
	m.mu.Lock()
	defer m.mu.Unlock()
	bytes, records, requests = m.bytes, m.records, m.requests/2
	m.bytes, m.records, m.requests = 0, 0, 0
	return bytes, records, requests
}

// entriesIn is the size of keys and records in a message.
func entriesIn(verb peer.Verb, body []byte, reply bool) (n int) {
	var entries []wire.Entry
	switch {
	case verb == peer.VerbApply && !reply:
		m, _ := wire.DecodeApply(body)
		entries = m.Entries
	case verb == peer.VerbPull && reply:
		m, _ := wire.DecodePulled(body)
		entries = m.Entries
	case verb == peer.VerbScan && reply:
		m, _ := wire.DecodePage(body)
		entries = m.Entries
	}
	for _, e := range entries {
		n += len(e.Key) + len(e.Record)
	}
	return n
}

func newPair(tb testing.TB) *pair {
	top, err := topology.Static("a", 1, []topology.Member{{ID: "a1", Rack: "x", Weight: 1}, {ID: "a2", Rack: "y", Weight: 1}},
		hashring.Rules{Partitions: 256, Replicas: 2})
	if err != nil {
		tb.Fatal(err)
	}
	p, registry := &pair{tb: tb}, memtopo.New(1)
	ctx, stop := context.WithCancel(context.Background())
	repairing, stopRepair := context.WithCancel(ctx)
	var replicas, repairs sync.WaitGroup
	for i := range p.nodes {
		h := &half{disk: memstore.NewDisk(memstore.Config{History: 1}), wire: &meter{}}
		p.nodes[i] = h
		id := topology.NodeID(fmt.Sprint("a", i+1))
		engine, err := h.disk.Open()
		if err != nil {
			tb.Fatal(err)
		}
		if h.Replica, err = replica.Open(replica.Config{Node: id, Topology: top, DigestSeed: 7}, engine, registry, hlc.New(time.Now), hclog.NewNullLogger()); err != nil {
			tb.Fatal(err)
		}
		h.repair = repair.New(repair.Config{Self: id, Beat: time.Hour, ScrubPass: 10_000 * time.Hour}, repair.Deps{
			Replica: h.Replica, Transport: h.wire, Topology: h.Topology, Alive: func(topology.NodeID) bool { return false },
			Rand: rand.New(rand.NewPCG(1, 2)), Log: hclog.NewNullLogger(),
		})
		replicas.Go(func() { _ = h.Run(ctx) })
		repairs.Go(func() { _ = h.repair.Run(repairing) })
	}
	p.nodes[0].wire.to, p.nodes[1].wire.to = p.nodes[1].Replica, p.nodes[0].Replica
	tb.Cleanup(func() {
		stopRepair()
		repairs.Wait()
		stop()
		replicas.Wait()
	})
	p.fill()
	return p
}

func (p *pair) fill() {
	counts := map[hashring.Partition]uint64{}
	var entries []wire.Entry
	for i := range manyRecords {
		k := fmt.Sprint("key", i)
		p.keys = append(p.keys, k)
		full := fullKey(k)
		part := hashring.PartitionOf(hashring.KeyHash(full), 256)
		counts[part]++
		v := crdt.Version{Dot: crdt.Dot{Actor: crdt.MakeActor(9, 1), N: counts[part]}, Stamp: hlc.Stamp(i + 1), Value: make([]byte, 100)}
		entries = append(entries, wire.Entry{Key: full, Record: recordOf(k, v)})
	}
	for some := range slices.Chunk(entries, 5000) {
		for _, h := range p.nodes {
			h.take(p.tb, some...)
		}
	}
}

func (h *half) take(tb testing.TB, entries ...wire.Entry) {
	tb.Helper()
	done := make(chan error, 1)
	h.Apply(entries, func(_ int, err error) { done <- err })
	if err := <-done; err != nil {
		tb.Fatal(err)
	}
}

// repaired runs a repair when the repairer is there for it.
func (h *half) repaired(tb testing.TB, deep bool) {
	tb.Helper()
	for {
		err := h.repair.Repair(tb.Context(), nil, deep)
		if err == nil {
			return
		}
		if err != repair.ErrNotRunning {
			tb.Fatal(err)
		}
	}
}

func (p *pair) equal(tb testing.TB) {
	tb.Helper()
	for q := range hashring.Partition(256) {
		if a, b := p.nodes[0].Sum(q), p.nodes[1].Sum(q); a != b {
			tb.Fatalf("partition %d: %+v and %+v", q, a, b)
		}
	}
}

// TestDifferencesAreCheap: two equal replicas of 200,000 records are compared within
// 100 ms (it takes a fraction of one), and ten differences cost less than 10 KB beside
// the records, whether clocks show them or only digests do.
func TestDifferencesAreCheap(t *testing.T) {
	if testing.Short() {
		t.Skip("fills two replicas with 200,000 records")
	}
	p := newPair(t)
	a, b := p.nodes[0], p.nodes[1]
	cost := func(what string, records int) time.Duration {
		t.Helper()
		b.wire.reset()
		began := time.Now()
		b.repaired(t, false)
		took := time.Since(began)
		bytes, carried, requests := b.wire.reset()
		t.Logf("%s: %d bytes and %d bytes of records in %d requests, %v", what, bytes-carried, carried, requests, took.Round(10*time.Microsecond))
		if bytes-carried >= 10_000 {
			t.Errorf("%s: %d bytes beside the records", what, bytes-carried)
		}
		if n := b.repair.Progress().Repaired; n != uint64(records) {
			t.Errorf("%s: %d records repaired, want %d", what, n, records)
		}
		p.equal(t)
		return took
	}
	if took := cost("no difference", 0); took > 100*time.Millisecond {
		t.Errorf("equal replicas are compared in %v", took)
	}

	for i := range 10 {
		k := fmt.Sprint("fresh", i)
		v := crdt.Version{Dot: crdt.Dot{Actor: crdt.MakeActor(8, 1), N: uint64(i + 1)}, Stamp: 1, Value: make([]byte, 100)}
		a.take(t, wire.Entry{Key: fullKey(k), Record: recordOf(k, v)})
	}
	cost("ten writes that were missed", 10)

	for i := range 10 {
		k := p.keys[i*17_771]
		if !b.disk.LoseRecord(recordKey(fullKey(k))) {
			t.Fatalf("no record of %s", k)
		}
		if _, err := b.Recount(hashring.PartitionOf(hashring.KeyHash(fullKey(k)), 256)); err != nil {
			t.Fatal(err)
		}
	}
	cost("ten records that a disk has lost", 10)
}

// BenchmarkCompareEqual compares two equal replicas of 200,000 records in 256
// partitions: one whole round trip of sums, without a network.
func BenchmarkCompareEqual(b *testing.B) {
	p := newPair(b)
	node := p.nodes[1]
	node.repaired(b, false)
	node.wire.reset()
	for b.Loop() {
		node.repaired(b, false)
	}
	bytes, _, _ := node.wire.reset()
	b.ReportMetric(float64(bytes)/float64(b.N), "wire-B/op")
}

// BenchmarkCompareStores compares them record by record, from both stores.
func BenchmarkCompareStores(b *testing.B) {
	p := newPair(b)
	node := p.nodes[1]
	node.repaired(b, false)
	node.wire.reset()
	for b.Loop() {
		node.repaired(b, true)
	}
	bytes, _, _ := node.wire.reset()
	b.ReportMetric(float64(bytes)/float64(b.N), "wire-B/op")
}
