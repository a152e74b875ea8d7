package members

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/atolldb/atoll/node/api"
	"github.com/atolldb/atoll/node/coord"
	"github.com/atolldb/atoll/node/handoff"
	"github.com/atolldb/atoll/node/topology"
)

// patience bounds what one call waits for the store when its caller has set no
// deadline.
const patience = 10 * time.Second

// Deps are what the members of a region are changed by.
type Deps struct {
	Store topology.Store
	// Adopt makes a topology that was stored known to this node at once, so that
	// who asks it for the task that he has just committed finds it. The others
	// learn of it from the store.
	Adopt func(context.Context, *topology.Topology) error
	// CopyBytes is what one copy of a partition takes, about; 0 for unknown.
	CopyBytes func(context.Context) uint64
	View      View
	// Now is the time of day.
	Now func() time.Time
}

// View tells how far tasks are; *handoff.View is one.
type View interface {
	Tasks(context.Context) []handoff.Task
}

// Members implements api.Membership.
type Members struct{ Deps }

var _ api.Membership = (*Members)(nil)

// New returns members that are changed by deps.
func New(deps Deps) *Members { return &Members{deps} }

// Tasks implements api.Membership.
func (m *Members) Tasks(ctx context.Context) ([]api.Task, error) {
	tasks := m.View.Tasks(ctx)
	out := make([]api.Task, len(tasks))
	for i, t := range tasks {
		out[i] = api.Task{
			Task: t.Task, Planned: t.Planned, Copying: t.Copying, Switched: t.Switched, Done: t.Done,
			BytesDone: t.BytesDone, Rate: t.Rate, Left: t.Left, WaitsFor: t.WaitsFor,
			Received: t.Received, Size: t.Size, Copies: t.Copies, Silent: t.Silent,
		}
	}
	return out, ctx.Err()
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
		err = m.swap(ctx, next, at)
		if !errors.Is(err, topology.ErrConflict) {
			return err
		}
	}
}

// swap stores t, and makes it known here. ErrConflict says that it came too
// late.
func (m *Members) swap(ctx context.Context, t *topology.Topology, at topology.Revision) error {
	_, err := m.Store.Swap(ctx, t, at)
	switch {
	case errors.Is(err, topology.ErrConflict):
		return topology.ErrConflict
	case err != nil:
		return &coord.Error{
			Code: coord.CodeUnavailable, Outcome: coord.Unknown,
			Detail: fmt.Sprintf("the region's metadata servers did not confirm the change: %v", err),
		}
	}
	_ = m.Adopt(ctx, t) // it is stored; this node learns of it a moment later then
	return nil
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
