package capacity

import (
	"context"
	"fmt"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/hashicorp/go-hclog"

	"github.com/atolldb/atoll/crdt"
	"github.com/atolldb/atoll/crdt/hlc"
	"github.com/atolldb/atoll/geo"
	"github.com/atolldb/atoll/geo/memlog"
	"github.com/atolldb/atoll/hashring"
	"github.com/atolldb/atoll/node"
	"github.com/atolldb/atoll/node/peer"
	"github.com/atolldb/atoll/node/peer/memnet"
	"github.com/atolldb/atoll/node/storage/memstore"
	"github.com/atolldb/atoll/node/topology"
	"github.com/atolldb/atoll/node/topology/memtopo"
)

// traffic is what nodes send while they are idle, counted on their way out.
type traffic struct {
	mu sync.Mutex
	// Compares in the own region and in others, and their bytes: bodies, heads
	// and what carries them, of requests and replies.
	near, far           int
	nearBytes, farBytes float64
	pings               int
	heartbeats          int
	heartbeatBytes      float64
}

type meter struct {
	peer.Transport
	self topology.NodeID
	to   *traffic
}

func (m meter) Send(to topology.NodeID, req peer.Request, done peer.Done) {
	m.Transport.Send(to, req, func(reply []byte, err error) {
		m.to.count(m.self[0] == to[0], req, reply)
		done(reply, err)
	})
}

func (t *traffic) count(near bool, req peer.Request, reply []byte) {
	t.mu.Lock()
	defer t.mu.Unlock()
	size := float64(len(req.Body) + len(reply) + requestHead + replyHead + 2*frameFixed)
	switch {
	case req.Verb == peer.VerbPing:
		t.pings++
	case req.Verb == peer.VerbCompare && near:
		t.near++
		t.nearBytes += size
	case req.Verb == peer.VerbCompare:
		t.far++
		t.farBytes += size
	}
}

type countedLog struct {
	geo.Log
	to *traffic
}

func (l countedLog) Announce(data []byte) error {
	l.to.mu.Lock()
	l.to.heartbeats++
	l.to.heartbeatBytes += float64(len(data) + heartbeatFrame)
	l.to.mu.Unlock()
	return l.Log.Announce(data)
}

// idle runs real nodes without load for so many seconds of fake time, after
// they have settled.
func idle(t *testing.T, in Input, seconds int) *traffic {
	fabric := memnet.New(1, memnet.Config{})
	cloud := memlog.New(1, memlog.Faults{})
	var tops []*topology.Topology
	for g := range in.Regions {
		name := topology.Region(string(rune('a' + g)))
		var members []topology.Member
		for i, m := range in.members() {
			members = append(members, topology.Member{ID: topology.NodeID(fmt.Sprint(name, "-", i)), Rack: m.Rack, Weight: 1})
		}
		top, err := topology.Static(name, topology.RegionID(g+1), members, hashring.Rules{Partitions: in.Partitions, Replicas: in.Replicas})
		if err != nil {
			t.Fatal(err)
		}
		tops = append(tops, top)
	}
	seen := new(traffic)
	ctx, stop := context.WithCancel(t.Context())
	var running sync.WaitGroup
	for g, top := range tops {
		registry := memtopo.New(topology.RegionID(g + 1))
		for i, m := range top.Members {
			engine, err := memstore.NewDisk(memstore.Config{}).Open()
			if err != nil {
				t.Fatal(err)
			}
			var n atomic.Pointer[node.Node]
			transport := fabric.Node(m.ID, func(from topology.NodeID, req peer.Request, reply peer.Done) {
				if n := n.Load(); n != nil {
					n.Handle(from, req, reply)
					return
				}
				reply(nil, &peer.Refusal{Code: peer.CodeStopping})
			})
			cfg := node.Config{ID: m.ID, Topology: top, Keys: crdt.Keys{crdt.Secret("capacity")}}
			deps := node.Deps{
				Engine: engine, Registry: registry, Transport: meter{transport, m.ID, seen},
				HLC: hlc.New(time.Now), Rand: rand.New(rand.NewPCG(uint64(g), uint64(i))), Logger: hclog.NewNullLogger(),
			}
			if in.Regions > 1 {
				deps.GeoLog = countedLog{cloud.Log(string(top.Region)), seen}
				deps.Feeds = map[topology.Region]geo.Feed{}
				var others []*topology.Topology
				for _, other := range tops {
					if other == top {
						continue
					}
					others = append(others, other)
					if i < drainers {
						deps.Feeds[other.Region] = cloud.Feed(string(other.Region), string(top.Region))
					}
				}
				deps.Others = topology.NewBook(others...)
			}
			made, err := node.New(cfg, deps)
			if err != nil {
				t.Fatal(err)
			}
			n.Store(made)
			running.Go(func() {
				if err := made.Run(ctx); err != nil && ctx.Err() == nil {
					t.Errorf("%s: %v", m.ID, err)
				}
				engine.Close()
			})
		}
	}
	time.Sleep(20 * time.Second)
	seen.mu.Lock()
	seen.near, seen.far, seen.pings, seen.heartbeats = 0, 0, 0, 0
	seen.nearBytes, seen.farBytes, seen.heartbeatBytes = 0, 0, 0
	seen.mu.Unlock()
	time.Sleep(time.Duration(seconds) * time.Second)
	seen.mu.Lock()
	out := &traffic{
		near: seen.near, far: seen.far, pings: seen.pings, heartbeats: seen.heartbeats,
		nearBytes: seen.nearBytes, farBytes: seen.farBytes, heartbeatBytes: seen.heartbeatBytes,
	}
	seen.mu.Unlock()
	stop()
	running.Wait()
	return out
}

// Idle nodes compare, ping and announce as often, and send as many bytes, as
// the formulas say.
func TestIdleNodes(t *testing.T) {
	for _, c := range []struct{ regions, nodes, racks, partitions int }{{1, 3, 3, 64}, {1, 9, 3, 256}, {2, 3, 3, 256}, {3, 6, 3, 128}} {
		t.Run(fmt.Sprintf("%d regions of %d nodes", c.regions, c.nodes), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				const seconds = 60
				in := Default()
				in.Regions, in.Nodes, in.Racks, in.Partitions = c.regions, c.nodes, c.racks, c.partitions
				in.Incarnations = 1
				report, err := Plan(in)
				if err != nil {
					t.Fatal(err)
				}
				seen := idle(t, report.Input, seconds)
				nodes := float64(seconds * c.nodes * c.regions)
				per := func(n int) float64 { return float64(n) / nodes }
				r := report.Repair
				near(t, "comparisons in the region", r.Messages/2, per(seen.near), 0.10)
				near(t, "their bytes", r.IdleBytes, seen.nearBytes/nodes, 0.10)
				if c.regions > 1 {
					// Tables of regions that are alike are alike, so that a
					// node's partitions meet fewer nodes there than they might.
					asked := per(seen.far)
					if asked > r.FarMessages/2*1.05 || asked < float64(c.regions-1)/repairRegionBeat*0.95 {
						t.Errorf("%.2f comparisons with other regions, formula %.2f", asked, r.FarMessages/2)
					}
					heads := (r.FarMessages/2 - asked) * (requestHead + replyHead + 2*frameFixed + 2)
					near(t, "their bytes", r.FarIdleBytes-heads, seen.farBytes/nodes, 0.05)
				}
				if pings, most := per(seen.pings), report.Liveness.Pings; pings > most*1.05 || pings < most*0.85 {
					t.Errorf("%.1f pings, formula at most %.1f", pings, most)
				}
				if c.regions > 1 {
					near(t, "heartbeats", 1/announceBeat, per(seen.heartbeats), 0.05)
					// There are no clocks to tell yet, and names are shorter.
					bare := float64(heartbeatFixed+heartbeatFrame) / announceBeat
					if got := seen.heartbeatBytes / nodes; got > bare*1.5 || got < bare*0.6 {
						t.Errorf("heartbeats of %.0f B/s a node, formula %.0f", got, bare)
					}
				}
				t.Logf("a node and second: %.1f comparisons near, %.1f far, %.1f pings, %.0f B near, %.0f B far",
					per(seen.near), per(seen.far), per(seen.pings), seen.nearBytes/nodes, seen.farBytes/nodes)
			})
		})
	}
}

// clocks of one node that are written to at an even rate.
type writtenClocks struct {
	mu     sync.Mutex
	owned  []hashring.Partition
	clocks map[hashring.Partition]*crdt.Clock
}

func (w *writtenClocks) Owned() []hashring.Partition { return w.owned }

func (w *writtenClocks) Clock(p hashring.Partition) *crdt.Clock {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.clocks[p].Clone()
}

// A real announcer sends, idle and under writes, what the formulas say, less
// what packing saves.
func TestHeartbeats(t *testing.T) {
	for _, writes := range []float64{0, 20, 500} {
		t.Run(fmt.Sprintf("%g writes a second", writes), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				in := Default()
				in.Regions, in.Nodes, in.Partitions, in.Incarnations = 2, 3, 256, 2
				in.Keys, in.WriteRate = 1e9, writes
				report, err := Plan(in)
				if err != nil {
					t.Fatal(err)
				}
				w := &writtenClocks{clocks: map[hashring.Partition]*crdt.Clock{}}
				own := in.copies() * in.Incarnations
				rng := rand.New(rand.NewPCG(1, 2))
				for p := range hashring.Partition(in.Partitions) {
					w.owned = append(w.owned, p)
					w.clocks[p] = new(crdt.Clock)
					for seq := range own * in.Regions {
						// Counters that do not repeat from clock to clock.
						n := uint64(in.counter()) / 3 * (500 + rng.Uint64N(1000)) / 1000
						actor := crdt.MakeActor(uint32(seq/in.Regions+1), uint8(seq%in.Regions+1))
						w.clocks[p].AddSpan(crdt.Dots{Actor: actor, Span: crdt.Span{Lo: 1, Hi: n}})
					}
				}
				ctx, stop := context.WithCancel(t.Context())
				defer stop()
				seen := new(traffic)
				log := countedLog{memlog.New(1, memlog.Faults{}).Log("east"), seen}
				a := geo.NewAnnouncer(geo.AnnouncerConfig{Region: "east", Node: "node-000001", RegionID: 1}, w, log, hclog.NewNullLogger())
				ended := make(chan struct{})
				go func() {
					defer close(ended)
					_ = a.Run(ctx)
				}()
				var writing sync.WaitGroup
				if writes > 0 {
					writing.Go(func() {
						for ctx.Err() == nil {
							time.Sleep(time.Duration(rng.ExpFloat64() * float64(time.Second) / (writes * float64(in.Regions))))
							p, actor := w.owned[rng.IntN(len(w.owned))], crdt.MakeActor(1, uint8(1+rng.IntN(in.Regions)))
							w.mu.Lock()
							w.clocks[p].Add(crdt.Dot{Actor: actor, N: w.clocks[p].Max(actor) + 1})
							w.mu.Unlock()
						}
					})
				}
				const seconds = 100
				time.Sleep(seconds*time.Second - time.Millisecond)
				stop()
				<-ended
				writing.Wait()
				got := seen.heartbeatBytes / seconds
				// The formula is for all nodes of a region to all pullers.
				formula := report.Geo.HeartbeatsLoaded / float64(drainers*in.Nodes)
				t.Logf("%.0f B/s a node, formula %.0f", got, formula)
				if got > formula*1.1 || got < formula*0.4 {
					t.Errorf("heartbeats of %.0f B/s a node, formula %.0f", got, formula)
				}
			})
		})
	}
}

// A batch of the log holds what the formulas say.
func TestBatch(t *testing.T) {
	in := Default()
	in.Regions, in.Partitions, in.Keys, in.WriteRate = 2, 1024, 1e9, 100_000
	report, err := Plan(in)
	if err != nil {
		t.Fatal(err)
	}
	g := report.Geo
	rng := rand.New(rand.NewPCG(1, 2))
	var entries []geo.Entry
	for i := range int(g.MessageEntries) {
		record := make([]byte, int(report.Disk.RecordBytes))
		for j := range record {
			record[j] = byte(rng.Uint32())
		}
		entries = append(entries, geo.Entry{
			Partition: hashring.Partition(i * 13 % 1024), Key: make([]byte, in.KeySize), Record: record,
			Dots: []crdt.Dot{{Actor: crdt.MakeActor(12, 1), N: uint64(report.Input.counter())}},
			IDs:  []crdt.EventID{{Dot: crdt.Dot{Actor: crdt.MakeActor(12, 1), N: uint64(report.Input.counter())}}},
		})
	}
	data, codec, err := geo.EncodeBatch(entries)
	if err != nil || codec != geo.CodecNone {
		t.Fatal(codec, err)
	}
	near(t, "batch", batchFixed+float64(len(entries))*g.EntryBytes, float64(len(data)), 0.005)
	if len(entries) < 50 || len(data) < flushBytes || len(data) > flushBytes+int(g.EntryBytes)+100 {
		t.Errorf("%d entries of %d bytes do not just fill a message", len(entries), len(data))
	}
	head := geo.Header{Origin: "east", Node: "node-000001", Incarnation: crdt.MakeActor(12, 1), Session: 1 << 60, Number: 1e6, Count: 60, Codec: "none"}
	// Twice, as id and as header, and the names of headers and subjects.
	if n := 2*len(head.ID()) + 160; float64(n) > messageFixed || n < messageFixed/2 {
		t.Errorf("a message has some %d bytes beside its data, formula %d", n, messageFixed)
	}
}
