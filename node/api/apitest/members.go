package apitest

import (
	"context"
	"errors"
	"sync"
	"sync/atomic"
	"time"

	"github.com/atolldb/atoll/node/api"
	"github.com/atolldb/atoll/node/api/members"
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
		Store: adopted{m.Store, r}, Topology: r.Topology, Look: m.look, Now: time.Now,
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
	return m.change(func(t *topology.Topology) *topology.Topology {
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
	return m.change(func(t *topology.Topology) *topology.Topology {
		next, _ := t.Advance(m.look(context.Background(), t).Facts)
		return next
	})
}

// change stores what next makes; nil changes nothing.
func (m *Members) change(next func(*topology.Topology) *topology.Topology) error {
	ctx := context.Background()
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

// Tasks implements api.Membership.
func (m *Members) Tasks(ctx context.Context) ([]api.Task, error) {
	for range m.Auto.Load() {
		if err := m.Step(); err != nil {
			return nil, err
		}
	}
	return m.Members.Tasks(ctx)
}

// look says that every node that is not dead has done what is to be done.
func (m *Members) look(_ context.Context, t *topology.Topology) members.View {
	m.mu.Lock()
	defer m.mu.Unlock()
	v := members.View{
		Facts: topology.Facts{
			Durable: map[topology.NodeID]topology.Epoch{}, Dead: map[topology.NodeID]bool{},
			Synced: map[topology.MoveID][]topology.Synced{}, Now: time.Now().UnixMilli(),
		},
		Copied: map[topology.MoveID]uint64{},
	}
	var alive []topology.NodeID
	for _, member := range t.Members {
		if m.dead[member.ID] {
			v.Facts.Dead[member.ID] = true
			continue
		}
		alive = append(alive, member.ID)
		v.Facts.Durable[member.ID] = t.Epoch
	}
	for _, mv := range t.Moves {
		for _, sink := range alive {
			v.Facts.Synced[mv.ID] = append(v.Facts.Synced[mv.ID], topology.Synced{Sink: sink, Began: mv.Began, With: alive})
		}
		if mv.Stage == topology.Copying {
			v.Copied[mv.ID] = copyBytes / 2
		}
	}
	return v
}

func (m *Members) isDead(id topology.NodeID) bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.dead[id]
}
