package members

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/atolldb/atoll/node/api"
	"github.com/atolldb/atoll/node/coord"
	"github.com/atolldb/atoll/node/topology"
)

// patience bounds what one call waits for the store when its caller has set no
// deadline.
const patience = 10 * time.Second

// Deps are what the members of a region are changed by.
type Deps struct {
	Store topology.Store
	// Topology in force at this node; tasks are told from it when the store does
	// not answer.
	Topology func() *topology.Topology
	// CopyBytes is what one copy of a partition takes, about; 0 for unknown.
	CopyBytes func(context.Context) uint64
	// Look asks the nodes how far they are with the moves under way.
	Look func(context.Context, *topology.Topology) View
	// Now is the time of day.
	Now func() time.Time
}

// View is what the nodes say of the moves under way.
type View struct {
	// Facts as the steward gathers them, by who answered this node.
	Facts topology.Facts
	// Copied bytes of each move.
	Copied map[topology.MoveID]uint64
}

// Members implements api.Membership.
type Members struct {
	Deps
	mu    sync.Mutex
	speed map[topology.TaskID]sample
}

var _ api.Membership = (*Members)(nil)

// New returns members that are changed by deps.
func New(deps Deps) *Members {
	return &Members{Deps: deps, speed: map[topology.TaskID]sample{}}
}

// Pause implements api.Membership.
func (m *Members) Pause(ctx context.Context, id topology.TaskID) error {
	return m.update(ctx, func(t *topology.Topology) (*topology.Topology, error) { return t.Pause(id) })
}

// Resume implements api.Membership.
func (m *Members) Resume(ctx context.Context, id topology.TaskID) error {
	return m.update(ctx, func(t *topology.Topology) (*topology.Topology, error) { return t.Resume(id) })
}

// Abort implements api.Membership.
func (m *Members) Abort(ctx context.Context, id topology.TaskID) error {
	return m.update(ctx, func(t *topology.Topology) (*topology.Topology, error) {
		if task := t.Task(id); task != nil && task.Aborted {
			return t, nil
		}
		return t.Abort(id, m.Now().UnixMilli())
	})
}

// SetPace implements api.Membership.
func (m *Members) SetPace(ctx context.Context, p topology.Pace) error {
	return m.update(ctx, func(t *topology.Topology) (*topology.Topology, error) { return t.SetPace(p) })
}

// update swaps in what change makes of the stored topology, again when that has
// changed meanwhile. A change that returns what it was given changes nothing.
func (m *Members) update(ctx context.Context, change func(*topology.Topology) (*topology.Topology, error)) error {
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	for {
		t, at, err := m.load(ctx)
		if err != nil {
			return err
		}
		next, err := change(t)
		switch {
		case err != nil:
			return refused(err)
		case next == t:
			return nil
		}
		_, err = m.Store.Swap(ctx, next, at)
		if errors.Is(err, topology.ErrConflict) {
			continue
		}
		return unknown(err)
	}
}

// load returns what is stored.
func (m *Members) load(ctx context.Context) (*topology.Topology, topology.Revision, error) {
	t, at, err := m.Store.Load(ctx)
	switch {
	case err != nil:
		return nil, 0, unavailable(fmt.Sprintf("the region's metadata servers do not answer: %v", err))
	case t == nil:
		return nil, 0, unavailable("the region's metadata servers hold no topology yet")
	}
	return t, at, nil
}

func unavailable(detail string) *coord.Error {
	return &coord.Error{Code: coord.CodeUnavailable, Detail: detail}
}

// refused is how the rim says that a change makes no sense.
func refused(err error) error {
	var r *topology.Refused
	if errors.As(err, &r) {
		return &coord.Error{Code: coord.CodeInvalid, Detail: r.Detail, Field: r.Field, Limit: r.Limit, Seen: r.Seen}
	}
	return &coord.Error{Code: coord.CodeInvalid, Detail: err.Error(), Field: "change", Limit: "what can be planned", Seen: "this"}
}

// unknown is the error of a Swap that was not answered.
func unknown(err error) error {
	if err == nil {
		return nil
	}
	return &coord.Error{
		Code: coord.CodeUnavailable, Outcome: coord.Unknown,
		Detail: fmt.Sprintf("the region's metadata servers did not confirm the change: %v", err),
	}
}
