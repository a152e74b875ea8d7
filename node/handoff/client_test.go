package handoff_test

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"sync"
	"testing/synctest"
	"time"

	"github.com/atolldb/atoll/crdt"
	"github.com/atolldb/atoll/hashring"
	"github.com/atolldb/atoll/node/peer"
	"github.com/atolldb/atoll/node/replica"
	"github.com/atolldb/atoll/node/topology"
	"github.com/atolldb/atoll/node/wire"
)

// traffic writes and reads by quorums while things move, as simply as it can be
// done by the rules: a twin of the real coordinator. Each key is written once.
type traffic struct {
	w    *world
	stop chan struct{}
	halt func()
	wg   sync.WaitGroup

	mu     sync.Mutex
	acked  []string
	failed int // writes and reads that did not get their quorum in time
	reads  int
}

const opTimeout = 3 * time.Second

func (w *world) traffic() *traffic {
	x := &traffic{w: w, stop: make(chan struct{})}
	x.halt = sync.OnceFunc(func() {
		close(x.stop)
		x.wg.Wait()
	})
	w.t.Cleanup(x.halt) // before the nodes'
	for i := range 3 {
		x.wg.Go(func() { x.write(fmt.Sprint("c", i, "-"), rand.New(rand.NewPCG(7, uint64(i)))) })
		x.wg.Go(func() { x.read(rand.New(rand.NewPCG(8, uint64(i)))) })
	}
	return x
}

func (x *traffic) rest(d time.Duration) bool {
	select {
	case <-x.stop:
		return false
	case <-time.After(d):
		return true
	}
}

func (x *traffic) write(prefix string, rng *rand.Rand) {
	for i := 0; x.rest(100 * time.Millisecond); i++ {
		key := fmt.Sprint(prefix, i)
		ok := x.w.put(x.w.pick(rng), key)
		x.mu.Lock()
		if ok {
			x.acked = append(x.acked, key)
		} else {
			x.failed++
		}
		x.mu.Unlock()
	}
}

func (x *traffic) read(rng *rand.Rand) {
	for x.rest(100 * time.Millisecond) {
		x.mu.Lock()
		if len(x.acked) == 0 {
			x.mu.Unlock()
			continue
		}
		// The latest, or any.
		key := x.acked[len(x.acked)-1]
		if rng.IntN(2) == 0 {
			key = x.acked[rng.IntN(len(x.acked))]
		}
		x.mu.Unlock()
		found, ok := x.w.get(x.w.pick(rng), key)
		x.mu.Lock()
		x.reads++
		if !ok {
			x.failed++
		} else if !found {
			x.w.t.Errorf("a quorum does not know %s, which was acknowledged", key)
		}
		x.mu.Unlock()
	}
}

// end stops the traffic and checks that all that was acknowledged is there.
func (x *traffic) end() {
	x.w.t.Helper()
	x.halt()
	x.w.pass(10 * time.Second)
	if len(x.acked) == 0 || x.reads == 0 {
		x.w.t.Fatal("nothing was written or read")
	}
	rng := rand.New(rand.NewPCG(9, 9))
	for _, key := range x.acked {
		if found, ok := x.w.get(x.w.pick(rng), key); !ok || !found {
			x.w.t.Errorf("%s was acknowledged: found %t, answered %t", key, found, ok)
		}
	}
}

// pick a node that is up and has partitions.
func (w *world) pick(rng *rand.Rand) *member {
	var up []*member
	for _, m := range w.order {
		if m.up() {
			up = append(up, m)
		}
	}
	return up[rng.IntN(len(up))]
}

// put writes key through a node and reports whether a quorum has it.
func (w *world) put(via *member, key string) bool {
	full := []byte("b\x00" + key)
	hash := hashring.KeyHash(full)
	p := hashring.PartitionOf(hash, partitions)
	deadline := time.Now().Add(opTimeout)
	var record []byte
	acks := map[topology.NodeID]bool{}
	for time.Now().Before(deadline) {
		r := via.run.Load()
		if r == nil {
			return false
		}
		top := r.Topology()
		if record == nil {
			id, minted := w.mint(top, p, hash, full)
			if minted == nil {
				time.Sleep(20 * time.Millisecond)
				continue
			}
			record, acks[id] = minted.Record, true
		}
		w.fanOut(r, via.id, top, p, wire.Entry{Key: full, Record: record}, acks)
		if counted(top.Row(p), acks) {
			return true
		}
		time.Sleep(20 * time.Millisecond)
	}
	return false
}

// mint has one server decide the write.
func (w *world) mint(top *topology.Topology, p hashring.Partition, hash uint64, full []byte) (topology.NodeID, *replica.Minted) {
	for _, slot := range top.Row(p).Slots {
		id := slot.Serves()
		r := w.nodes[id].run.Load()
		if r == nil {
			continue
		}
		done := make(chan *replica.Minted, 1)
		r.Mint(replica.Mint{Key: full, KeyHash: hash, Epoch: top.Epoch, Value: make([]byte, 200), Done: func(m *replica.Minted, err error) {
			if err != nil {
				m = nil
			}
			done <- m
		}})
		if m := <-done; m != nil {
			return id, m
		}
	}
	return "", nil
}

// fanOut has everybody take the write that has not yet.
func (w *world) fanOut(r *run, self topology.NodeID, top *topology.Topology, p hashring.Partition, e wire.Entry, acks map[topology.NodeID]bool) {
	type outcome struct {
		id topology.NodeID
		ok bool
	}
	ch := make(chan outcome, 8)
	sent := 0
	for _, id := range top.Takers(p) {
		if acks[id] {
			continue
		}
		sent++
		done := func(err error) { ch <- outcome{id, err == nil} }
		if id == self {
			r.ApplyAt(top.Epoch, []wire.Entry{e}, func(_ int, err error) { done(err) })
			continue
		}
		r.wire.Send(id, peer.Request{
			Verb: peer.VerbApply, Epoch: top.Epoch, Timeout: 500 * time.Millisecond, Body: wire.AppendApply(nil, wire.Apply{Entries: []wire.Entry{e}}),
		}, func(_ []byte, err error) { done(err) })
	}
	for range sent {
		if o := <-ch; o.ok {
			acks[o.id] = true
		}
	}
}

func counted(row topology.Row, acks map[topology.NodeID]bool) bool {
	n := 0
	for _, s := range row.Slots {
		if acks[s.Owner] && (s.Next == "" || acks[s.Next]) {
			n++
		}
	}
	return n > len(row.Slots)/2
}

// get reads key through a node: whether a quorum answered, and knows it.
func (w *world) get(via *member, key string) (found, ok bool) {
	full := []byte("b\x00" + key)
	p := hashring.PartitionOf(hashring.KeyHash(full), partitions)
	deadline := time.Now().Add(opTimeout)
	for time.Now().Before(deadline) {
		r := via.run.Load()
		if r == nil {
			return false, false
		}
		top := r.Topology()
		slots := top.Row(p).Slots
		type answer struct {
			b   []byte
			err error
		}
		ch := make(chan answer, len(slots))
		for _, s := range slots {
			if s.Serves() == via.id {
				b, err := r.Read(top.Epoch, hashring.KeyHash(full), full)
				ch <- answer{b, err}
				continue
			}
			r.wire.Send(s.Serves(), peer.Request{Verb: peer.VerbRead, Epoch: top.Epoch, Timeout: 500 * time.Millisecond, Body: wire.AppendRead(nil, wire.Read{Key: full})},
				func(b []byte, err error) {
					var held wire.Held
					if err == nil {
						held, err = wire.DecodeHeld(b)
					}
					ch <- answer{held.Record, err}
				})
		}
		answered := 0
		for range slots {
			a := <-ch
			if a.err != nil {
				continue
			}
			// What a quorum knows is what the first ones know that make one.
			if answered++; answered <= len(slots)/2+1 && len(a.b) > 0 {
				if rec, err := crdt.DecodeRecord(hashring.KeyHash(full), a.b); err == nil && len(rec.Versions) > 0 {
					found = true
				}
			}
		}
		if answered > len(slots)/2 {
			return found, true
		}
		found = false
		time.Sleep(20 * time.Millisecond)
	}
	return false, false
}

// balanced checks what must be so when all moves are over: the table is the
// planner's, all servers are equal, and nobody keeps what is not his.
func (w *world) balanced(top *topology.Topology) {
	w.t.Helper()
	var ring []hashring.Member
	for _, m := range top.Members {
		if m.State == topology.Up {
			ring = append(ring, hashring.Member{ID: string(m.ID), Rack: m.Rack, Weight: m.Weight})
		}
	}
	plan, err := hashring.Plan(top.Table, ring, top.Rules)
	if err != nil || len(plan.Moves) != 0 {
		w.t.Errorf("the table is not balanced: %d moves, %v", len(plan.Moves), err)
	}
	w.pass(3 * time.Minute) // for the sweepers
	for _, m := range w.order {
		r := m.run.Load()
		if r == nil {
			continue
		}
		if r.Topology().Epoch != top.Epoch {
			w.t.Errorf("%s has epoch %d of %d", m.id, r.Topology().Epoch, top.Epoch)
		}
		if left := r.Leftovers(); len(left) > 0 {
			w.t.Errorf("%s keeps %v", m.id, left)
		}
	}
	for p := range hashring.Partition(partitions) {
		var sums []wire.Sum
		for _, o := range top.Owners(p) {
			if r := w.nodes[topology.NodeID(o)].run.Load(); r != nil {
				if !slices.Contains(r.Owned(), p) || r.Behind(p) {
					w.t.Errorf("%s does not serve %d", o, p)
				}
				sums = append(sums, r.Sum(p))
			}
		}
		for _, s := range sums[1:] {
			if s != sums[0] {
				w.t.Errorf("owners of %d differ: %+v", p, sums)
				break
			}
		}
	}
	synctest.Wait()
}
