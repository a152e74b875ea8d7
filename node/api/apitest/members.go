package apitest

import (
	"context"
	"errors"
	"sync"
	"sync/atomic"
	"time"

	"github.com/atolldb/atoll/node/api/members"
	"github.com/atolldb/atoll/node/handoff"
	"github.com/atolldb/atoll/node/topology"
	"github.com/atolldb/atoll/node/topology/memtopo"
)

// copyBytes is what one copy of a partition takes here.
const copyBytes = 1 << 20

// Members changes the topology of a region as a real one does, over a store in
// memory. Nothing is copied: moves go on by Step, as if all nodes that are not
// dead had done what the moves wait for.
type Members struct {
	*members.Members
	// Store of the topology.
	Store *memtopo.Store
	// Auto makes so many steps whenever somebody asks for the tasks.
	Auto atomic.Int32

	region *Region
	mu     sync.Mutex
	dead   map[topology.NodeID]bool
}

func newMembers(r *Region) *Members {
	m := &Members{Store: memtopo.NewStore(), region: r, dead: map[topology.NodeID]bool{}}
	m.Members = members.New(members.Deps{
		Store: adopted{m.Store, r}, View: view{m}, Now: time.Now,
		Adopt:     func(context.Context, *topology.Topology) error { return nil },
		CopyBytes: func(context.Context) uint64 { return copyBytes },
	})
	return m
}

// adopted is a store whose region goes by what was swapped in at once.
type adopted struct {
	*memtopo.Store
	region *Region
}

// Swap implements topology.Store.
func (a adopted) Swap(ctx context.Context, t *topology.Topology, at topology.Revision) (topology.Revision, error) {
	rev, err := a.Store.Swap(ctx, t, at)
	if err == nil {
		a.region.topology.Store(t)
	}
	return rev, err
}

// begin anew with t.
func (m *Members) begin(t *topology.Topology) {
	m.Store.Forget()
	if _, err := m.Store.Swap(context.Background(), t, 0); err != nil {
		panic(err) // a test's own topology is wrong
	}
}

// Register makes a node known, as one that starts does; it waits to join. No
// server runs for it.
func (m *Members) Register(id topology.NodeID) error {
	return m.change(context.Background(), func(t *topology.Topology) *topology.Topology {
		next := t.Clone()
		next.Epoch++
		next.Members = append(next.Members, topology.Member{
			ID: id, Weight: 1, ClientAddr: "127.0.0.1:1", State: topology.Joining,
		})
		return next
	})
}

// SetDead says that a node does not answer any more, or does again.
func (m *Members) SetDead(id topology.NodeID, dead bool) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.dead[id] = dead
}

// Step brings every move that may go on to its next stage.
func (m *Members) Step() error {
	ctx, cancel := context.WithTimeout(context.Background(), time.Second)
	defer cancel()
	return m.change(ctx, func(t *topology.Topology) *topology.Topology {
		next, _ := t.Advance(m.facts(t))
		return next
	})
}

// change stores what next makes; nil changes nothing.
func (m *Members) change(ctx context.Context, next func(*topology.Topology) *topology.Topology) error {
	store := adopted{m.Store, m.region}
	for {
		t, at, err := store.Load(ctx)
		if err != nil {
			return err
		}
		to := next(t)
		if to == nil {
			return nil
		}
		if _, err := store.Swap(ctx, to, at); !errors.Is(err, topology.ErrConflict) {
			return err
		}
	}
}

// view tells how far tasks are: what is under way is half copied.
type view struct{ members *Members }

// Tasks implements members.View.
func (v view) Tasks(context.Context) []handoff.Task {
	for range v.members.Auto.Load() {
		if v.members.Step() != nil {
			break // the store is down
		}
	}
	t := v.members.region.Topology()
	out := make([]handoff.Task, len(t.Tasks))
	for i, task := range t.Tasks {
		moves := t.MovesOf(task.ID)
		one := handoff.Task{Task: task, Left: -1, Done: task.Moves - len(moves)}
		one.BytesDone = uint64(one.Done) * copyBytes
		for _, mv := range moves {
			switch mv.Stage {
			case topology.Planned:
				one.Planned++
			case topology.Copying:
				one.Copying++
				one.BytesDone += copyBytes / 2
			case topology.Switched:
				one.Switched++
				one.BytesDone += copyBytes
			}
			if v.members.isDead(mv.To) {
				one.WaitsFor = []string{string(mv.To) + " to answer"}
			}
		}
		if one.Copying > 0 && !task.Paused {
			one.Rate, one.Left = copyBytes, time.Minute
		}
		out[i] = one
	}
	return out
}

// facts say that every node that is not dead has done what is to be done.
func (m *Members) facts(t *topology.Topology) topology.Facts {
	f := topology.Facts{
		Durable: map[topology.NodeID]topology.Epoch{}, Dead: map[topology.NodeID]bool{},
		Synced: map[topology.MoveID][]topology.Synced{}, Keeps: map[topology.NodeID]topology.Keeps{}, Now: time.Now().UnixMilli(),
	}
	var alive []topology.NodeID
	for _, member := range t.Members {
		if m.isDead(member.ID) {
			f.Dead[member.ID] = true
			continue
		}
		alive = append(alive, member.ID)
		f.Durable[member.ID], f.Keeps[member.ID] = t.Epoch, topology.Keeps{At: t.Epoch}
	}
	for _, mv := range t.Moves {
		for _, sink := range alive {
			f.Synced[mv.ID] = append(f.Synced[mv.ID], topology.Synced{Sink: sink, Began: mv.Began, With: alive})
		}
	}
	return f
}

func (m *Members) isDead(id topology.NodeID) bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.dead[id]
}
