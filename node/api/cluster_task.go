package api

import (
	"context"
	"strconv"

	"github.com/atolldb/atoll/node/coord"
	"github.com/atolldb/atoll/node/topology"
	adminv1 "github.com/atolldb/atoll/proto/atoll/admin/v1"
)

// The bounds of a pace. (To stop altogether, a task is paused.)
const (
	minPaceBytes      = 1 << 10
	maxPaceBytes      = 1 << 40
	maxPaceConcurrent = 4096
)

// ListTasks serves Cluster.ListTasks.
func (s *ClusterService) ListTasks(
	ctx context.Context, _ *adminv1.ListTasksRequest,
) (*adminv1.ListTasksResponse, error) {
	tasks, err := s.ops.Membership.Tasks(ctx)
	if err != nil {
		return nil, readStatus(ctx, err).Err()
	}
	res := &adminv1.ListTasksResponse{Pace: encodePace(s.cluster.Topology().Pace)}
	for i := range tasks {
		res.Tasks = append(res.Tasks, encodeTask(&tasks[i]))
	}
	return res, nil
}

// GetTask serves Cluster.GetTask.
func (s *ClusterService) GetTask(ctx context.Context, q *adminv1.GetTaskRequest) (*adminv1.GetTaskResponse, error) {
	t, err := s.task(ctx, q.Id)
	if err != nil {
		return nil, err
	}
	return &adminv1.GetTaskResponse{Task: t}, nil
}

// PauseTask serves Cluster.PauseTask.
func (s *ClusterService) PauseTask(ctx context.Context, q *adminv1.PauseTaskRequest) (*adminv1.PauseTaskResponse, error) {
	t, err := s.control(ctx, q.Id, Membership.Pause)
	if err != nil {
		return nil, err
	}
	return &adminv1.PauseTaskResponse{Task: t}, nil
}

// ResumeTask serves Cluster.ResumeTask.
func (s *ClusterService) ResumeTask(ctx context.Context, q *adminv1.ResumeTaskRequest) (*adminv1.ResumeTaskResponse, error) {
	t, err := s.control(ctx, q.Id, Membership.Resume)
	if err != nil {
		return nil, err
	}
	return &adminv1.ResumeTaskResponse{Task: t}, nil
}

// AbortTask serves Cluster.AbortTask.
func (s *ClusterService) AbortTask(ctx context.Context, q *adminv1.AbortTaskRequest) (*adminv1.AbortTaskResponse, error) {
	t, err := s.control(ctx, q.Id, Membership.Abort)
	if err != nil {
		return nil, err
	}
	return &adminv1.AbortTaskResponse{Task: t}, nil
}

// SetPace serves Cluster.SetPace.
func (s *ClusterService) SetPace(ctx context.Context, q *adminv1.SetPaceRequest) (*adminv1.SetPaceResponse, error) {
	if bad := checkPace(q); bad != nil {
		return nil, ToStatus(bad).Err()
	}
	set := topology.Pace{BytesPerSecond: q.BytesPerSecond, Concurrent: int(q.Concurrent)}
	if err := s.ops.Membership.SetPace(ctx, set); err != nil {
		return nil, writeStatus(err).Err()
	}
	// What was not set is what this node knows, which may be about to change.
	known := encodePace(s.cluster.Topology().Pace)
	if q.BytesPerSecond > 0 {
		known.BytesPerSecond = q.BytesPerSecond
	}
	if q.Concurrent > 0 {
		known.Concurrent = q.Concurrent
	}
	return &adminv1.SetPaceResponse{Pace: known}, nil
}

func checkPace(q *adminv1.SetPaceRequest) *coord.Error {
	switch {
	case q.BytesPerSecond == 0 && q.Concurrent == 0:
		return invalid("pace", "nothing to set", "bytes_per_second or concurrent", "neither")
	case q.BytesPerSecond != 0 && (q.BytesPerSecond < minPaceBytes || q.BytesPerSecond > maxPaceBytes):
		return invalid("bytes_per_second", "the pace is out of bounds; to stop a task, pause it",
			strconv.Itoa(minPaceBytes)+".."+strconv.Itoa(maxPaceBytes), strconv.FormatUint(q.BytesPerSecond, 10))
	case q.Concurrent > maxPaceConcurrent:
		return invalid("concurrent", "the pace is out of bounds",
			"1.."+strconv.Itoa(maxPaceConcurrent), strconv.FormatUint(uint64(q.Concurrent), 10))
	}
	return nil
}

// control does one of Pause, Resume and Abort, and tells what became of it.
func (s *ClusterService) control(
	ctx context.Context, id uint64, do func(Membership, context.Context, topology.TaskID) error,
) (*adminv1.Task, error) {
	if err := do(s.ops.Membership, ctx, topology.TaskID(id)); err != nil {
		return nil, writeStatus(err).Err()
	}
	return s.task(ctx, id)
}

func (s *ClusterService) task(ctx context.Context, id uint64) (*adminv1.Task, error) {
	tasks, err := s.ops.Membership.Tasks(ctx)
	if err != nil {
		return nil, readStatus(ctx, err).Err()
	}
	for i := range tasks {
		if uint64(tasks[i].ID) == id {
			return encodeTask(&tasks[i]), nil
		}
	}
	return nil, ToStatus(invalid("task", "no such task",
		"a task that runs, or one of the last "+strconv.Itoa(topology.MaxDone)+" that ended",
		strconv.FormatUint(id, 10))).Err()
}

func encodeTask(t *Task) *adminv1.Task {
	w := &adminv1.Task{
		Id: uint64(t.ID), Kind: taskKind(t.Kind), Nodes: names(t.Nodes),
		Paused: t.Paused, Aborted: t.Aborted, AcceptLoss: t.AcceptLoss, BegunMs: t.Begun, EndedMs: t.Ended,
		Moves: uint32(t.Moves), Planned: uint32(t.Planned), Copying: uint32(t.Copying),
		Switched: uint32(t.Switched), Done: uint32(t.Done),
		Bytes: t.Bytes, BytesDone: t.BytesDone, BytesPerSecond: t.Rate, EtaMs: t.Left.Milliseconds(), WaitsFor: t.WaitsFor,
		Received: t.Received, Size: t.Size, Copies: t.Copies, Silent: names(t.Silent),
	}
	if t.Left < 0 {
		w.EtaMs = -1
	}
	return w
}

func taskKind(k topology.Kind) adminv1.TaskKind {
	switch k {
	case topology.KindRebalance:
		return adminv1.TaskKind_TASK_KIND_REBALANCE
	case topology.KindJoin:
		return adminv1.TaskKind_TASK_KIND_JOIN
	case topology.KindDrain:
		return adminv1.TaskKind_TASK_KIND_DRAIN
	case topology.KindReplace:
		return adminv1.TaskKind_TASK_KIND_REPLACE
	}
	return adminv1.TaskKind_TASK_KIND_UNSPECIFIED
}
