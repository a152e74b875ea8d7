package replica_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/hashicorp/go-hclog"

	"github.com/atolldb/atoll/crdt"
	"github.com/atolldb/atoll/crdt/hlc"
	"github.com/atolldb/atoll/hashring"
	"github.com/atolldb/atoll/node/replica"
	"github.com/atolldb/atoll/node/storage"
	"github.com/atolldb/atoll/node/storage/memstore"
	"github.com/atolldb/atoll/node/topology"
	"github.com/atolldb/atoll/node/topology/memtopo"
	"github.com/atolldb/atoll/node/wire"
)

const partitions = 4

// place is where a replica lives: what survives its restarts. All of it runs in
// a bubble.
type place struct {
	t        testing.TB
	cfg      replica.Config
	disk     *memstore.Disk
	registry *memtopo.Registry
	// wrap, if not nil, stands between replica and engine.
	wrap func(storage.Engine) storage.Engine
	// witness of late messages, if not nil.
	witness replica.Witness

	*replica.Replica // nil while stopped
	engine           *memstore.Engine
	end              context.CancelFunc
	ended            chan error
}

func newPlace(t testing.TB, node string, registry *memtopo.Registry, disk memstore.Config) *place {
	cfg := replica.Config{Node: topology.NodeID(node), DigestSeed: 7}
	cfg.Topology = rows(1, node, node, node, node)
	p := &place{t: t, cfg: cfg, disk: memstore.NewDisk(disk), registry: registry}
	t.Cleanup(func() {
		if p.Replica != nil { // the test has failed
			p.crash(false)
		}
	})
	return p
}

// rows is a topology at an epoch: the owners of each partition, with spaces
// between them.
func rows(epoch topology.Epoch, owners ...string) *topology.Topology {
	t := &topology.Topology{Region: "east", RegionID: 1, Epoch: epoch, Rules: hashring.Rules{Partitions: len(owners), Replicas: 1}}
	table := make([][]string, len(owners))
	for p := range table {
		table[p] = strings.Fields(owners[p])
	}
	t.Table = hashring.MakeTable(table)
	return t
}

// onlyOwner is the topology in which n1 owns one partition and n9 the others.
func onlyOwner(part hashring.Partition) *topology.Topology {
	owners := []string{"n9", "n9", "n9", "n9"}
	owners[part] = "n1"
	return rows(1, owners...)
}

// owner is a replica that has its actor.
func owner(t testing.TB) *place {
	p := newPlace(t, "n1", memtopo.New(1), memstore.Config{})
	p.start()
	return p
}

// start opens and runs a replica, and waits until it has settled.
func (p *place) start() {
	p.t.Helper()
	if err := p.tryStart(); err != nil {
		p.t.Fatal(err)
	}
}

func (p *place) tryStart() error {
	err := p.run()
	if err == nil {
		p.settle()
	}
	return err
}

// startNow does not wait until the replica has settled.
func (p *place) startNow() {
	p.t.Helper()
	if err := p.run(); err != nil {
		p.t.Fatal(err)
	}
}

func (p *place) run() error {
	engine, err := p.disk.Open()
	if err != nil {
		return err
	}
	var e storage.Engine = engine
	if p.wrap != nil {
		e = p.wrap(engine)
	}
	r, err := replica.Open(p.cfg, e, p.registry, hlc.New(time.Now), hclog.NewNullLogger())
	if err != nil {
		engine.Close()
		return err
	}
	if p.witness != nil {
		r.SetWitness(p.witness)
	}
	p.Replica, p.engine = r, engine
	var ctx context.Context
	ctx, p.end = context.WithCancel(context.Background())
	p.ended = make(chan error, 1)
	go func(ended chan error) { ended <- r.Run(ctx) }(p.ended)
	return nil
}

// stored is the topology in the store of a replica that is stopped.
func (p *place) stored() (*topology.Topology, error) {
	engine, err := p.disk.Open()
	if err != nil {
		return nil, err
	}
	defer engine.Close()
	return replica.Stored(engine)
}

// settle waits until nothing moves any more, syncs included.
func (p *place) settle() {
	time.Sleep(20 * time.Millisecond)
	synctest.Wait()
}

// stop is a clean one.
func (p *place) stop() {
	p.t.Helper()
	p.end()
	err := <-p.ended
	p.engine.Close()
	p.Replica = nil
	if err != nil {
		p.t.Fatalf("stop: %v", err)
	}
}

// crash loses what is not synced, unless survives says otherwise.
func (p *place) crash(survives bool) {
	p.disk.Crash(func() bool { return survives })
	p.end()
	<-p.ended
	p.Replica = nil
}

func (p *place) restart() {
	p.t.Helper()
	p.stop()
	p.start()
}

// write mints and waits.
func (p *place) write(m replica.Mint) (*replica.Minted, error) {
	type outcome struct {
		m   *replica.Minted
		err error
	}
	ch := make(chan outcome, 1)
	m.KeyHash = hashring.KeyHash(m.Key)
	m.Done = func(m *replica.Minted, err error) { ch <- outcome{m, err} }
	p.Mint(m)
	o := <-ch
	return o.m, o.err
}

// put is a blind write that succeeds.
func (p *place) put(key, value string) *replica.Minted {
	p.t.Helper()
	m, err := p.write(replica.Mint{Key: []byte(key), Value: []byte(value)})
	if err != nil {
		p.t.Fatalf("put %q: %v", key, err)
	}
	return m
}

// follow writes after having read.
func (p *place) follow(key, value string) *replica.Minted {
	p.t.Helper()
	m, err := p.write(replica.Mint{Key: []byte(key), Value: []byte(value), Context: p.record(key).Context()})
	if err != nil {
		p.t.Fatalf("put %q: %v", key, err)
	}
	return m
}

func (p *place) apply(entries ...wire.Entry) (int, error) { return p.applyAt(0, entries...) }

func (p *place) applyAt(epoch topology.Epoch, entries ...wire.Entry) (int, error) {
	type outcome struct {
		changed int
		err     error
	}
	ch := make(chan outcome, 1)
	p.ApplyAt(epoch, entries, func(changed int, err error) { ch <- outcome{changed, err} })
	o := <-ch
	return o.changed, o.err
}

func (p *place) mustApply(entries ...wire.Entry) int {
	p.t.Helper()
	changed, err := p.apply(entries...)
	if err != nil {
		p.t.Fatalf("apply: %v", err)
	}
	return changed
}

func (p *place) joinClock(part hashring.Partition, c *crdt.Clock) error {
	ch := make(chan error, 1)
	p.JoinClock(part, c, func(err error) { ch <- err })
	return <-ch
}

func (p *place) record(key string) crdt.Record {
	p.t.Helper()
	hash := hashring.KeyHash([]byte(key))
	b, err := p.Read(0, hash, []byte(key))
	if err != nil {
		p.t.Fatalf("read %q: %v", key, err)
	}
	if b == nil {
		return crdt.Record{}
	}
	rec, err := crdt.DecodeRecord(hash, b)
	if err != nil {
		p.t.Fatalf("read %q: %v", key, err)
	}
	return rec
}

// entry is what p sends of a key.
func (p *place) entry(key string, dots ...crdt.Dot) wire.Entry {
	p.t.Helper()
	return wire.Entry{Key: []byte(key), Record: crdt.AppendRecord(nil, hashring.KeyHash([]byte(key)), p.record(key)), Dots: dots}
}

// digests fails unless every kept digest is that of the records.
func (p *place) digests() {
	p.t.Helper()
	for _, part := range p.Owned() {
		fromStore, err := p.DigestFromStore(part)
		if kept := p.Sum(part).Digest; err != nil || kept != fromStore {
			p.t.Errorf("partition %d: kept digest %x, records give %x, %v", part, kept, fromStore, err)
		}
	}
}

func partOf(key string) hashring.Partition {
	return hashring.PartitionOf(hashring.KeyHash([]byte(key)), partitions)
}

// keysIn returns n keys of a partition.
func keysIn(part hashring.Partition, n int) []string {
	var out []string
	for i := 0; len(out) < n; i++ {
		if k := fmt.Sprintf("b\x00k%d", i); partOf(k) == part {
			out = append(out, k)
		}
	}
	return out
}

func recordKey(key string) []byte {
	h := hashring.KeyHash([]byte(key))
	return append([]byte{'r', byte(h >> 56), byte(h >> 48), byte(h >> 40), byte(h >> 32), byte(h >> 24), byte(h >> 16), byte(h >> 8), byte(h)}, key...)
}

func indexKey(part hashring.Partition, d crdt.Dot) []byte {
	k := []byte{'i', byte(part >> 8), byte(part), byte(d.Actor >> 24), byte(d.Actor >> 16), byte(d.Actor >> 8), byte(d.Actor)}
	for shift := 56; shift >= 0; shift -= 8 {
		k = append(k, byte(d.N>>shift))
	}
	return k
}

// foreign is a record that another actor wrote: one version.
func foreign(key string, actor crdt.Actor, n uint64, past crdt.VV, value string) wire.Entry {
	hash := hashring.KeyHash([]byte(key))
	v := crdt.Version{Dot: crdt.Dot{Actor: actor, N: n}, Stamp: hlc.FromMillis(int64(n)), Value: []byte(value)}
	return wire.Entry{Key: []byte(key), Record: crdt.AppendRecord(nil, hash, crdt.Write(crdt.Record{}, past, v))}
}

func values(rec crdt.Record) (out []string) {
	for i := range rec.Versions {
		out = append(out, string(rec.Versions[i].Value))
	}
	return out
}

func wantError(t testing.TB, err, want error) {
	t.Helper()
	if !errors.Is(err, want) {
		t.Errorf("got %v, want %v", err, want)
	}
}
