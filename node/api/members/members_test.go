package members_test

import (
	"context"
	"errors"
	"fmt"
	"reflect"
	"slices"
	"testing"
	"time"

	"github.com/atolldb/atoll/hashring"
	"github.com/atolldb/atoll/node/api"
	"github.com/atolldb/atoll/node/api/members"
	"github.com/atolldb/atoll/node/coord"
	"github.com/atolldb/atoll/node/handoff"
	"github.com/atolldb/atoll/node/topology"
	"github.com/atolldb/atoll/node/topology/memtopo"
)

const copyBytes = 10 << 20

// region is a topology in a store, and what its nodes would say.
type region struct {
	*members.Members
	t     *testing.T
	store *memtopo.Store
	known *topology.Topology // in force at the node
	tasks []handoff.Task
	now   time.Time
}

// newRegion has n nodes that own 16 partitions, and one, "new", that has
// registered.
func newRegion(t *testing.T, n int) *region {
	rules := hashring.Rules{Partitions: 16, Replicas: 3}
	top := &topology.Topology{Region: "eu", RegionID: 1, Epoch: 1, Rules: rules}
	var ring []hashring.Member
	for i := range n {
		id := fmt.Sprintf("n%d", i+1)
		top.Members = append(top.Members, topology.Member{ID: topology.NodeID(id), Weight: 1})
		ring = append(ring, hashring.Member{ID: id, Weight: 1})
	}
	top.Members = append(top.Members, topology.Member{ID: "new", Weight: 1, State: topology.Joining})
	plan, err := hashring.Plan(hashring.Table{}, ring, rules)
	if err != nil {
		t.Fatal(err)
	}
	top.Table = plan.Next
	r := &region{t: t, store: memtopo.NewStore(), known: top, now: time.UnixMilli(1_000_000)}
	if _, err := r.store.Swap(t.Context(), top, 0); err != nil {
		t.Fatal(err)
	}
	r.Members = members.New(members.Deps{
		Store: r.store, View: r, Now: func() time.Time { return r.now },
		CopyBytes: func(context.Context) uint64 { return copyBytes },
		Adopt:     func(_ context.Context, t *topology.Topology) error { r.known = t; return nil },
	})
	return r
}

// Tasks implements members.View.
func (r *region) Tasks(context.Context) []handoff.Task { return r.tasks }

func (r *region) load() (*topology.Topology, topology.Revision) {
	r.t.Helper()
	t, at, err := r.store.Load(r.t.Context())
	if err != nil {
		r.t.Fatal(err)
	}
	return t, at
}

// step is what the steward does when all nodes but the dead have done all.
func (r *region) step(dead ...topology.NodeID) {
	r.t.Helper()
	t, at := r.load()
	f := topology.Facts{
		Durable: map[topology.NodeID]topology.Epoch{}, Dead: map[topology.NodeID]bool{},
		Synced: map[topology.MoveID][]topology.Synced{}, Keeps: map[topology.NodeID]topology.Keeps{}, Now: r.now.UnixMilli(),
	}
	var alive []topology.NodeID
	for _, m := range t.Members {
		if slices.Contains(dead, m.ID) {
			f.Dead[m.ID] = true
			continue
		}
		alive = append(alive, m.ID)
		f.Durable[m.ID], f.Keeps[m.ID] = t.Epoch, topology.Keeps{At: t.Epoch}
	}
	for _, m := range t.Moves {
		for _, sink := range alive {
			f.Synced[m.ID] = append(f.Synced[m.ID], topology.Synced{Sink: sink, Began: m.Began, With: alive})
		}
	}
	if next, _ := t.Advance(f); next != nil {
		if _, err := r.store.Swap(r.t.Context(), next, at); err != nil {
			r.t.Fatal(err)
		}
	}
}

func (r *region) commit(c api.Change) topology.TaskID {
	r.t.Helper()
	p, err := r.Plan(r.t.Context(), c)
	if err != nil {
		r.t.Fatal(err)
	}
	id, err := r.Commit(r.t.Context(), p.ID, c)
	if err != nil {
		r.t.Fatal(err)
	}
	return id
}

// task as it is stored.
func (r *region) task(id topology.TaskID) topology.Task {
	r.t.Helper()
	t, _ := r.load()
	if t.Task(id) == nil {
		r.t.Fatalf("no task %d", id)
	}
	return *t.Task(id)
}

var join = api.Change{Kind: api.ChangeJoin, Nodes: []topology.NodeID{"new"}}

func TestPlanSaysWhatItTakes(t *testing.T) {
	r := newRegion(t, 3)
	p, err := r.Plan(t.Context(), join)
	if err != nil {
		t.Fatal(err)
	}
	if p.Copies != 12 || p.Minimum != 12 || p.Bytes != 12*copyBytes || len(p.Moves) != 12 || len(p.Nodes) != 4 {
		t.Errorf("%d copies of %d, %d bytes, %d moves, %d nodes", p.Copies, p.Minimum, p.Bytes, len(p.Moves), len(p.Nodes))
	}
	owned := func(before bool) (sum int, fair float64) {
		for _, n := range p.Nodes {
			if before {
				sum, fair = sum+n.OwnedBefore, fair+n.FairBefore
			} else {
				sum, fair = sum+n.OwnedAfter, fair+n.FairAfter
			}
		}
		return sum, fair
	}
	for _, before := range []bool{true, false} {
		if sum, fair := owned(before); sum != 48 || fair < 47.99 || fair > 48.01 {
			t.Errorf("before %t: %d owned, %f fair", before, sum, fair)
		}
	}
	last := p.Nodes[3]
	if last.ID != "new" || last.OwnedBefore != 0 || last.OwnedAfter != 12 || last.BytesIn != 12*copyBytes || last.BytesOut != 0 {
		t.Errorf("%+v", last)
	}
	// 120 MiB at 64 MiB a second.
	if want := 1875 * time.Millisecond; p.Lasts != want {
		t.Errorf("it lasts %v, want %v", p.Lasts, want)
	}
	if now, _ := r.load(); now.Epoch != 1 {
		t.Errorf("planning made epoch %d", now.Epoch)
	}
}

func TestCommitStoresWhatWasShown(t *testing.T) {
	r := newRegion(t, 3)
	p, err := r.Plan(t.Context(), join)
	if err != nil {
		t.Fatal(err)
	}
	// The pace is none of the plan's business.
	if err := r.SetPace(t.Context(), topology.Pace{Concurrent: 3}); err != nil {
		t.Fatal(err)
	}
	id, err := r.Commit(t.Context(), p.ID, join)
	if err != nil {
		t.Fatal(err)
	}
	now, _ := r.load()
	if len(now.Moves) != 12 || now.Task(id) == nil || now.Pace.Concurrent != 3 {
		t.Errorf("task %d: %v", id, now)
	}
	for i, m := range now.Moves {
		if m.Partition != p.Moves[i].Partition || m.From != p.Moves[i].From || m.To != p.Moves[i].To {
			t.Errorf("move %d is %+v, shown was %+v", i, m, p.Moves[i])
		}
	}
	// A second time other moves come out: none.
	_, err = r.Commit(t.Context(), p.ID, join)
	var e *coord.Error
	if !errors.As(err, &e) || e.Outcome == coord.Unknown {
		t.Errorf("%v", err)
	}
}

func TestCommitRefusesAnotherPlan(t *testing.T) {
	r := newRegion(t, 3)
	p, err := r.Plan(t.Context(), join)
	if err != nil {
		t.Fatal(err)
	}
	r.commit(api.Change{Kind: api.ChangeWeight, Nodes: []topology.NodeID{"new"}, Weight: 2})
	_, err = r.Commit(t.Context(), p.ID, join)
	var e *coord.Error
	if !errors.As(err, &e) || e.Field != "plan" || e.Seen != p.ID.String() || e.Limit == e.Seen {
		t.Errorf("%+v", e)
	}
}

func TestRefusals(t *testing.T) {
	r := newRegion(t, 3)
	nodes := func(ids ...topology.NodeID) []topology.NodeID { return ids }
	for name, c := range map[string]struct {
		change api.Change
		field  string
	}{
		"a stranger joins":     {api.Change{Kind: api.ChangeJoin, Nodes: nodes("x")}, "nodes"},
		"an owner joins":       {api.Change{Kind: api.ChangeJoin, Nodes: nodes("n1")}, "nodes"},
		"too few remain":       {api.Change{Kind: api.ChangeDrain, Nodes: nodes("n1")}, "nodes"},
		"too many replicas":    {api.Change{Kind: api.ChangeReplicas, Replicas: 9}, "replicas"},
		"too heavy":            {api.Change{Kind: api.ChangeWeight, Nodes: nodes("n1"), Weight: 1 << 30}, "weight"},
		"no rack":              {api.Change{Kind: api.ChangeRack, Nodes: nodes("n1")}, "rack"},
		"replaced by an owner": {api.Change{Kind: api.ChangeReplace, Nodes: nodes("n1"), By: "n2"}, "nodes"},
		"replaces two":         {api.Change{Kind: api.ChangeReplace, Nodes: nodes("n1", "n2"), By: "new"}, "change"},
		"no kind":              {api.Change{}, "change"},
	} {
		_, err := r.Plan(t.Context(), c.change)
		var e *coord.Error
		if !errors.As(err, &e) || e.Code != coord.CodeInvalid || e.Field != c.field || e.Limit == "" {
			t.Errorf("%s: %v (%+v)", name, err, e)
		}
	}
	for _, do := range []func(context.Context, topology.TaskID) error{r.Pause, r.Resume, r.Abort} {
		var e *coord.Error
		if err := do(t.Context(), 9); !errors.As(err, &e) || e.Field != "task" || e.Seen != "9" {
			t.Errorf("%v", err)
		}
	}
}

func TestTasksAreTheView(t *testing.T) {
	r := newRegion(t, 3)
	r.tasks = []handoff.Task{{
		Task: topology.Task{ID: 3, Moves: 10}, Planned: 1, Copying: 2, Switched: 3, Done: 4, BytesDone: 5, Rate: 6, Left: 7,
		WaitsFor: []string{"n1"}, Received: 8, Size: 9, Copies: 10, Silent: []topology.NodeID{"n2"},
	}}
	got, err := r.Members.Tasks(t.Context())
	want := api.Task{
		Task: topology.Task{ID: 3, Moves: 10}, Planned: 1, Copying: 2, Switched: 3, Done: 4, BytesDone: 5, Rate: 6, Left: 7,
		WaitsFor: []string{"n1"}, Received: 8, Size: 9, Copies: 10, Silent: []topology.NodeID{"n2"},
	}
	if err != nil || len(got) != 1 || !reflect.DeepEqual(got[0], want) {
		t.Errorf("%+v, %v", got, err)
	}
}

func TestPauseResumeAbort(t *testing.T) {
	r := newRegion(t, 3)
	id := r.commit(join)
	if r.known.Task(id) == nil {
		t.Error("this node does not know of the task")
	}
	r.step()
	for range 2 { // a second time changes nothing
		if err := r.Pause(t.Context(), id); err != nil {
			t.Fatal(err)
		}
	}
	before, at := r.load()
	r.step()
	if after, rev := r.load(); rev != at || !before.Task(id).Paused || !r.known.Task(id).Paused {
		t.Errorf("a paused task went on to %v", after)
	}
	if err := r.Resume(t.Context(), id); err != nil {
		t.Fatal(err)
	}
	r.step()
	for range 2 {
		if err := r.Abort(t.Context(), id); err != nil {
			t.Fatal(err)
		}
	}
	now, _ := r.load()
	if task := r.task(id); !task.Aborted || task.Ended != 0 || len(now.Moves) == 0 {
		t.Errorf("%+v with %d moves", task, len(now.Moves))
	}
	for range 3 {
		r.step()
	}
	if now, _ := r.load(); len(now.Moves) != 0 || r.task(id).Ended == 0 {
		t.Errorf("moves %v", now.Moves)
	}
}

func TestStoreIsDown(t *testing.T) {
	r := newRegion(t, 3)
	id := r.commit(join)
	r.store.SetDown(true)
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	var e *coord.Error
	if err := r.Pause(ctx, id); !errors.As(err, &e) || e.Code != coord.CodeUnavailable || e.Outcome == coord.Unknown {
		t.Errorf("%v", err)
	}
	if _, err := r.Plan(ctx, join); !errors.As(err, &e) || e.Code != coord.CodeUnavailable {
		t.Errorf("%v", err)
	}
}

// A change that was stored, and whose confirmation got lost.
func TestOutcomeIsUnknown(t *testing.T) {
	r := newRegion(t, 3)
	p, err := r.Plan(t.Context(), join)
	if err != nil {
		t.Fatal(err)
	}
	r.store.SetMute(true)
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	go func() {
		_ = r.store.Watch(ctx, func(now *topology.Topology, _ topology.Revision) {
			if len(now.Tasks) == 1 { // it is stored: its confirmation is all that is waited for
				cancel()
			}
		})
	}()
	_, err = r.Commit(ctx, p.ID, join)
	var e *coord.Error
	if !errors.As(err, &e) || e.Outcome != coord.Unknown {
		t.Errorf("%v", err)
	}
	r.store.SetMute(false)
	if now, _ := r.load(); len(now.Tasks) != 1 {
		t.Errorf("tasks %v", now.Tasks)
	}
}

// rival swaps something else in before each of the first n swaps.
type rival struct {
	*memtopo.Store
	t *testing.T
	n int
}

func (s *rival) Swap(ctx context.Context, t *topology.Topology, at topology.Revision) (topology.Revision, error) {
	if s.n > 0 {
		s.n--
		now, rev, err := s.Load(ctx)
		if err != nil {
			s.t.Fatal(err)
		}
		other, err := now.SetPace(topology.Pace{Concurrent: 100 + s.n})
		if err != nil {
			s.t.Fatal(err)
		}
		if _, err := s.Store.Swap(ctx, other, rev); err != nil {
			s.t.Fatal(err)
		}
	}
	return s.Store.Swap(ctx, t, at)
}

// Others change the topology all the time; nobody's change gets lost.
func TestRivals(t *testing.T) {
	r := newRegion(t, 3)
	s := &rival{r.store, t, 3}
	r.Deps.Store = s
	id := r.commit(join)
	s.n = 3
	if err := r.Pause(t.Context(), id); err != nil {
		t.Fatal(err)
	}
	now, _ := r.load()
	if !now.Task(id).Paused || len(now.Moves) != 12 || now.Pace.Concurrent != 100 || s.n != 0 {
		t.Errorf("paused %t, %d moves, pace %+v", now.Task(id).Paused, len(now.Moves), now.Pace)
	}
}

// A node that waits to join still does after its weight was set.
func TestWeightOfOneThatJoins(t *testing.T) {
	r := newRegion(t, 3)
	weight := r.commit(api.Change{Kind: api.ChangeWeight, Nodes: []topology.NodeID{"new"}, Weight: 3})
	if task := r.task(weight); task.Ended == 0 || task.Moves != 0 {
		t.Errorf("%+v", task)
	}
	if p, err := r.Plan(t.Context(), join); err != nil || p.Copies != 16 {
		t.Errorf("%d copies, %v", p.Copies, err)
	}
}
