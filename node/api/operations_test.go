package api_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"testing"
	"time"

	"google.golang.org/protobuf/proto"

	"github.com/atolldb/atoll/hashring"
	"github.com/atolldb/atoll/node/api"
	"github.com/atolldb/atoll/node/coord"
	"github.com/atolldb/atoll/node/hotkey"
	"github.com/atolldb/atoll/node/topology"
	adminv1 "github.com/atolldb/atoll/proto/atoll/admin/v1"
)

// scripted answers what it was given, and remembers what it was asked.
type scripted struct {
	err     error
	plan    api.Plan
	tasks   []api.Task
	repair  api.RepairProgress
	collect api.CollectProgress
	aside   []api.Aside
	hot     api.Hot
	asked   []string

	lag      api.Lag
	verified api.Verified
}

func (s *scripted) note(format string, args ...any) error {
	s.asked = append(s.asked, fmt.Sprintf(format, args...))
	return s.err
}

func (s *scripted) Plan(_ context.Context, c api.Change) (api.Plan, error) {
	return s.plan, s.note("plan %+v", c)
}

func (s *scripted) Commit(_ context.Context, id api.PlanID, c api.Change) (topology.TaskID, error) {
	return 7, s.note("commit %s %d", id, c.Kind)
}
func (s *scripted) Tasks(context.Context) ([]api.Task, error)         { return s.tasks, s.err }
func (s *scripted) Pause(_ context.Context, id topology.TaskID) error { return s.note("pause %d", id) }
func (s *scripted) Resume(_ context.Context, id topology.TaskID) error {
	return s.note("resume %d", id)
}
func (s *scripted) Abort(_ context.Context, id topology.TaskID) error { return s.note("abort %d", id) }
func (s *scripted) SetPace(_ context.Context, p topology.Pace) error  { return s.note("pace %+v", p) }
func (s *scripted) HotKeys(_ context.Context, limit int) (api.Hot, error) {
	return s.hot, s.note("hot %d", limit)
}
func (s *scripted) RepairProgress(context.Context) (api.RepairProgress, error) {
	return s.repair, s.err
}
func (s *scripted) StartRepair(_ context.Context, c api.RepairScope) (api.RepairProgress, error) {
	if c.Partition != nil {
		return s.repair, s.note("repair %v %d", c.Deep, *c.Partition)
	}
	return s.repair, s.note("repair %v all", c.Deep)
}

func (s *scripted) StartCollect(_ context.Context, grace time.Duration) (api.CollectProgress, error) {
	return s.collect, s.note("collect %v", grace)
}
func (s *scripted) CollectProgress(context.Context) (api.CollectProgress, error) {
	return s.collect, s.err
}
func (s *scripted) ListAside(_ context.Context, node topology.NodeID, after []byte) ([]api.Aside, bool, error) {
	return s.aside, true, s.note("aside %s %q", node, after)
}
func (s *scripted) ForgetAside(_ context.Context, node topology.NodeID, ids [][]byte) (int, error) {
	return len(ids), s.note("forget %s %q", node, ids)
}

func (s *scripted) Lag(context.Context) (api.Lag, error) { return s.lag, s.err }
func (s *scripted) Verify(_ context.Context, v api.VerifyScope) (api.Verified, error) {
	return s.verified, s.note("verify %s %s %v %s", v.A, v.B, v.Deep, v.Wait)
}

func service(s *scripted) *api.ClusterService {
	top := &topology.Topology{
		Region: "eu", Epoch: 3, Members: []topology.Member{{ID: "a"}, {ID: "b"}},
		Table: hashring.MakeTable([][]string{{"a", "b"}, {"b", "a"}}), Pace: topology.Pace{Concurrent: 2},
	}
	return api.NewClusterService(&fixed{top: top}, api.Operations{Membership: s, Repairs: s, HotKeys: s, Collections: s, Links: s})
}

func TestChangeIsChecked(t *testing.T) {
	join := func() *adminv1.Change {
		return &adminv1.Change{Kind: adminv1.ChangeKind_CHANGE_KIND_JOIN, Nodes: []string{"n4", "n5"}}
	}
	many := make([]string, 257)
	for i := range many {
		many[i] = fmt.Sprint("n", i)
	}
	for _, c := range []struct {
		name  string
		spoil func(*adminv1.Change)
		field string
	}{
		{"fine", func(*adminv1.Change) {}, ""},
		{"no kind", func(c *adminv1.Change) { c.Kind = 0 }, "kind"},
		{"unknown kind", func(c *adminv1.Change) { c.Kind = 99 }, "kind"},
		{"kind of another size", func(c *adminv1.Change) { c.Kind = 257 }, "kind"},
		{"no nodes", func(c *adminv1.Change) { c.Nodes = nil }, "nodes"},
		{"too many nodes", func(c *adminv1.Change) { c.Nodes = many }, "nodes"},
		{"a node twice", func(c *adminv1.Change) { c.Nodes[1] = "n4" }, "nodes"},
		{"not a name", func(c *adminv1.Change) { c.Nodes[1] = "N4\n" }, "nodes"},
		{"a field too many", func(c *adminv1.Change) { c.Weight = 3 }, "weight"},
		{"replace two", func(c *adminv1.Change) { c.Kind, c.By = adminv1.ChangeKind_CHANGE_KIND_REPLACE, "n6" }, "nodes"},
		{"replace by nobody", func(c *adminv1.Change) {
			c.Kind, c.Nodes = adminv1.ChangeKind_CHANGE_KIND_REPLACE, []string{"n4"}
		}, "by"},
		{"replace by itself", func(c *adminv1.Change) {
			c.Kind, c.Nodes, c.By = adminv1.ChangeKind_CHANGE_KIND_REPLACE, []string{"n4"}, "n4"
		}, "by"},
		{"no weight", func(c *adminv1.Change) { c.Kind = adminv1.ChangeKind_CHANGE_KIND_WEIGHT }, "weight"},
		{"too heavy", func(c *adminv1.Change) {
			c.Kind, c.Weight = adminv1.ChangeKind_CHANGE_KIND_WEIGHT, 1<<20+1
		}, "weight"},
		{"no rack", func(c *adminv1.Change) { c.Kind = adminv1.ChangeKind_CHANGE_KIND_RACK }, "rack"},
		{"no replicas", func(c *adminv1.Change) {
			c.Kind, c.Nodes = adminv1.ChangeKind_CHANGE_KIND_REPLICAS, nil
		}, "replicas"},
	} {
		s := &scripted{}
		change := join()
		c.spoil(change)
		_, planErr := service(s).Plan(t.Context(), &adminv1.PlanRequest{Change: change})
		_, commitErr := service(s).Commit(t.Context(), &adminv1.CommitRequest{Id: &adminv1.PlanID{Epoch: 1}, Change: change})
		if c.field == "" {
			if planErr != nil || commitErr != nil || len(s.asked) != 2 {
				t.Errorf("%s: %v, %v", c.name, planErr, commitErr)
			}
			continue
		}
		for _, err := range []error{planErr, commitErr} {
			if e := statusError(t, err); e.Code != coord.CodeInvalid || e.Field != c.field || e.Limit == "" || e.Seen == "" {
				t.Errorf("%s: %+v", c.name, e)
			}
		}
		if len(s.asked) > 0 {
			t.Errorf("%s: went through: %v", c.name, s.asked)
		}
	}
	_, err := service(&scripted{}).Plan(t.Context(), &adminv1.PlanRequest{})
	if e := statusError(t, err); e.Field != "kind" {
		t.Errorf("no change at all: %+v", e)
	}
	_, err = service(&scripted{}).Commit(t.Context(), &adminv1.CommitRequest{Change: join()})
	if e := statusError(t, err); e.Field != "plan" {
		t.Errorf("no plan: %+v", e)
	}
}

func TestPlanAndCommit(t *testing.T) {
	s := &scripted{plan: api.Plan{
		ID:    api.PlanID{Epoch: 3, Revision: 5, Digest: 0xabc},
		Moves: []api.PlannedMove{{Partition: 1, Slot: 1, From: "a", To: "n4", Bytes: 100}},
		Nodes: []api.NodePlan{{ID: "n4", OwnedAfter: 1, PrimaryAfter: 1, FairBefore: 0.5, FairAfter: 0.75, BytesIn: 100}},
		Bytes: 100, Copies: 1, Minimum: 1, Lasts: 90 * time.Second, Warnings: []string{"one rack"},
	}}
	change := &adminv1.Change{Kind: adminv1.ChangeKind_CHANGE_KIND_DRAIN, Nodes: []string{"a"}, AcceptLoss: true}
	got, err := service(s).Plan(t.Context(), &adminv1.PlanRequest{Change: change})
	if err != nil {
		t.Fatal(err)
	}
	want := &adminv1.PlanResponse{
		Id: &adminv1.PlanID{Epoch: 3, Revision: 5, Digest: 0xabc}, Change: change,
		Moves: []*adminv1.PlannedMove{{Partition: 1, Slot: 1, From: "a", To: "n4", Bytes: 100}},
		Nodes: []*adminv1.NodePlan{{Id: "n4", OwnedAfter: 1, PrimaryAfter: 1, FairBefore: 0.5, FairAfter: 0.75, BytesIn: 100}},
		Bytes: 100, Copies: 1, Minimum: 1, Seconds: 90, Warnings: []string{"one rack"},
		Pace: &adminv1.Pace{BytesPerSecond: 64 << 20, Concurrent: 16},
	}
	if !proto.Equal(got, want) {
		t.Errorf("got %v\nwant %v", got, want)
	}
	done, err := service(s).Commit(t.Context(), &adminv1.CommitRequest{Id: got.Id, Change: got.Change})
	if err != nil || done.Task != 7 {
		t.Errorf("%v, %v", done, err)
	}
	if want := []string{"plan {Kind:2 Nodes:[a] By: Weight:0 Rack: Replicas:0 AcceptLoss:true}", "commit 3-5-00000abc 2"}; !slices.Equal(s.asked, want) {
		t.Errorf("asked %q", s.asked)
	}

	s.err = api.StalePlan(api.PlanID{Epoch: 3, Revision: 5, Digest: 0xabc}, api.PlanID{Epoch: 4, Revision: 6})
	_, err = service(s).Commit(t.Context(), &adminv1.CommitRequest{Id: got.Id, Change: got.Change})
	if e := statusError(t, err); e.Field != "plan" || e.Seen != "3-5-00000abc" || e.Limit != "4-6-00000000" || e.Outcome == coord.Unknown {
		t.Errorf("%+v", e)
	}
	// The store did not answer: it may have stored the task.
	s.err = errors.New("no answer")
	_, err = service(s).Commit(t.Context(), &adminv1.CommitRequest{Id: got.Id, Change: got.Change})
	if e := statusError(t, err); e.Outcome != coord.Unknown {
		t.Errorf("%+v", e)
	}
}

func TestTasks(t *testing.T) {
	s := &scripted{tasks: []api.Task{
		{Task: topology.Task{ID: 6, Kind: topology.KindRebalance, Ended: 9, Aborted: true}, Left: -1},
		{
			Task:    topology.Task{ID: 7, Kind: topology.KindReplace, Nodes: []topology.NodeID{"a"}, Moves: 10, Bytes: 100, Begun: 5, Paused: true, AcceptLoss: true},
			Planned: 4, Copying: 3, Switched: 2, Done: 1, BytesDone: 30, Rate: 10, Left: 7 * time.Second, WaitsFor: []string{"b"},
			Received: 35, Size: 30, Copies: 3, Silent: []topology.NodeID{"b"},
		},
	}}
	c := service(s)
	list, err := c.ListTasks(t.Context(), nil)
	if err != nil {
		t.Fatal(err)
	}
	want := &adminv1.ListTasksResponse{
		Pace: &adminv1.Pace{BytesPerSecond: 64 << 20, Concurrent: 2},
		Tasks: []*adminv1.Task{
			{Id: 6, Kind: adminv1.TaskKind_TASK_KIND_REBALANCE, EndedMs: 9, Aborted: true, EtaMs: -1},
			{
				Id: 7, Kind: adminv1.TaskKind_TASK_KIND_REPLACE, Nodes: []string{"a"}, Moves: 10, Bytes: 100, BegunMs: 5,
				Paused: true, AcceptLoss: true, Planned: 4, Copying: 3, Switched: 2, Done: 1, BytesDone: 30,
				BytesPerSecond: 10, EtaMs: 7000, WaitsFor: []string{"b"},
				Received: 35, Size: 30, Copies: 3, Silent: []string{"b"},
			},
		},
	}
	if !proto.Equal(list, want) {
		t.Errorf("got %v\nwant %v", list, want)
	}
	if one, err := c.GetTask(t.Context(), &adminv1.GetTaskRequest{Id: 7}); err != nil || !proto.Equal(one.Task, want.Tasks[1]) {
		t.Errorf("%v, %v", one, err)
	}
	_, err = c.GetTask(t.Context(), &adminv1.GetTaskRequest{Id: 8})
	if e := statusError(t, err); e.Field != "task" || e.Seen != "8" {
		t.Errorf("%+v", e)
	}
	paused, err1 := c.PauseTask(t.Context(), &adminv1.PauseTaskRequest{Id: 7})
	resumed, err2 := c.ResumeTask(t.Context(), &adminv1.ResumeTaskRequest{Id: 7})
	aborted, err3 := c.AbortTask(t.Context(), &adminv1.AbortTaskRequest{Id: 7})
	if err := errors.Join(err1, err2, err3); err != nil || paused.Task.Id != 7 || resumed.Task.Id != 7 || aborted.Task.Id != 7 {
		t.Errorf("%v", err)
	}
	if want := []string{"pause 7", "resume 7", "abort 7"}; !slices.Equal(s.asked, want) {
		t.Errorf("asked %q", s.asked)
	}
	s.err = api.NoTask(6, "it has ended")
	_, err = c.PauseTask(t.Context(), &adminv1.PauseTaskRequest{Id: 6})
	if e := statusError(t, err); e.Field != "task" || e.Seen != "6" || e.Outcome == coord.Unknown {
		t.Errorf("%+v", e)
	}
}

func TestPace(t *testing.T) {
	s := &scripted{}
	got, err := service(s).SetPace(t.Context(), &adminv1.SetPaceRequest{BytesPerSecond: 1 << 20})
	if want := (&adminv1.Pace{BytesPerSecond: 1 << 20, Concurrent: 2}); err != nil || !proto.Equal(got.Pace, want) {
		t.Errorf("%v, %v", got, err)
	}
	if want := []string{"pace {BytesPerSecond:1048576 Concurrent:0}"}; !slices.Equal(s.asked, want) {
		t.Errorf("asked %q", s.asked)
	}
	for field, q := range map[string]*adminv1.SetPaceRequest{
		"pace":             {},
		"bytes_per_second": {BytesPerSecond: 1},
		"concurrent":       {Concurrent: 5000},
	} {
		_, err := service(s).SetPace(t.Context(), q)
		if e := statusError(t, err); e.Field != field {
			t.Errorf("%v: %+v", q, e)
		}
	}
}

func TestRepair(t *testing.T) {
	begun := time.UnixMilli(1000)
	s := &scripted{repair: api.RepairProgress{Nodes: []api.NodeRepair{
		{ID: "a", Running: true, Deep: true, Begun: begun, Partitions: 8, Done: 4, Skipped: 1, RepairedKeys: 3, Unreadable: 2},
		{ID: "b", Begun: begun, Ended: begun.Add(time.Second), Partitions: 8, Done: 8},
		{ID: "c", Begun: begun, Ended: begun.Add(time.Second)}, // owns nothing
		{ID: "d", Error: "connection refused"},
	}}}
	c := service(s)
	two := uint32(2)
	for _, q := range []*adminv1.RepairRequest{{}, {Deep: true}, {Partition: new(uint32)}} {
		if _, err := c.Repair(t.Context(), q); err != nil {
			t.Error(err)
		}
	}
	if want := []string{"repair false all", "repair true all", "repair false 0"}; !slices.Equal(s.asked, want) {
		t.Errorf("asked %q", s.asked)
	}
	_, err := c.Repair(t.Context(), &adminv1.RepairRequest{Partition: &two})
	if e := statusError(t, err); e.Field != "partition" || e.Limit != "0..1" || e.Seen != "2" {
		t.Errorf("%+v", e)
	}
	got, err := c.RepairStatus(t.Context(), nil)
	if err != nil {
		t.Fatal(err)
	}
	want := &adminv1.RepairProgress{
		Progress: 0.625, Running: true,
		Nodes: []*adminv1.NodeRepair{
			{Id: "a", Running: true, Deep: true, BegunMs: 1000, Partitions: 8, Done: 4, Skipped: 1, RepairedKeys: 3, Unreadable: 2},
			{Id: "b", BegunMs: 1000, EndedMs: 2000, Partitions: 8, Done: 8},
			{Id: "c", BegunMs: 1000, EndedMs: 2000},
			{Id: "d", Error: "connection refused"},
		},
	}
	if !proto.Equal(got.Repair, want) {
		t.Errorf("got %v\nwant %v", got.Repair, want)
	}
}

func TestHotKeys(t *testing.T) {
	s := &scripted{hot: api.Hot{
		Report: hotkey.Report{
			Entries: []hotkey.Entry{{Bucket: "b", Key: []byte("k"), Reads: 10, Writes: 2, Error: 1}, {Bucket: "b", Key: []byte("l")}},
			Reads:   100, Writes: 20, Floor: 3,
		},
		Silent: []topology.NodeID{"b"},
	}}
	got, err := service(s).HotKeys(t.Context(), &adminv1.HotKeysRequest{Limit: 1})
	if err != nil {
		t.Fatal(err)
	}
	p := uint32(hashring.PartitionOf(hashring.KeyHash([]byte("b\x00k")), 2))
	owners := [][]string{{"a", "b"}, {"b", "a"}}[p]
	want := &adminv1.HotKeysResponse{
		Keys:           []*adminv1.HotKey{{Bucket: "b", Key: []byte("k"), ReadsPerSecond: 10, WritesPerSecond: 2, Error: 1, Partition: p, Owners: owners}},
		ReadsPerSecond: 100, WritesPerSecond: 20, Floor: 3, Silent: []string{"b"},
	}
	if !proto.Equal(got, want) {
		t.Errorf("got %v\nwant %v", got, want)
	}
	_, err = service(s).HotKeys(t.Context(), &adminv1.HotKeysRequest{Limit: 1001})
	if e := statusError(t, err); e.Field != "limit" {
		t.Errorf("%+v", e)
	}
	if _, err := service(s).HotKeys(t.Context(), &adminv1.HotKeysRequest{}); err != nil || s.asked[1] != "hot 20" {
		t.Errorf("%v, asked %q", err, s.asked)
	}
}
