package api

import (
	"context"
	"fmt"
	"strconv"
	"time"

	"github.com/atolldb/atoll/hashring"
	"github.com/atolldb/atoll/node/coord"
	"github.com/atolldb/atoll/node/hotkey"
	"github.com/atolldb/atoll/node/topology"
)

// Operations are what operators may do besides looking; all of them are set.
type Operations struct {
	Membership  Membership
	Repairs     Repairs
	HotKeys     HotKeys
	Collections Collections
	Links       Links
	Regions     Regions
	// Directory is what clients find other regions by; nil for none.
	Directory func() Directory
}

// Membership changes who is in the region and who owns what. Its errors are
// *coord.Error: CodeInvalid with field, limit and seen for what makes no sense,
// CodeInvalid of field "plan" (StalePlan) for what was planned on a topology
// that has changed, CodeInvalid of field "task" (NoTask) for a task that does
// not run, and CodeUnavailable when the topology's store does not answer, with
// outcome Unknown where it may have stored the change all the same.
type Membership interface {
	// Plan calculates what a change takes, and changes nothing.
	Plan(ctx context.Context, c Change) (Plan, error)
	// Commit plans again and stores the result as a task, if that is the plan
	// that id names.
	Commit(ctx context.Context, id PlanID, c Change) (topology.TaskID, error)
	// Tasks that run, and those that ended last, by id.
	Tasks(ctx context.Context) ([]Task, error)
	// Pause, Resume and Abort a task that runs. To ask for what is so already is
	// no error.
	Pause(ctx context.Context, id topology.TaskID) error
	Resume(ctx context.Context, id topology.TaskID) error
	Abort(ctx context.Context, id topology.TaskID) error
	// SetPace of all moves; what is 0 stays as it is.
	SetPace(ctx context.Context, pace topology.Pace) error
}

// StalePlan says that the topology is not the one that a plan was made from, or
// that the same change makes another plan now.
func StalePlan(made, now PlanID) *coord.Error {
	return &coord.Error{
		Code: coord.CodeInvalid, Detail: "the topology has changed since the plan was made: plan again",
		Field: "plan", Limit: now.String(), Seen: made.String(),
	}
}

// NoTask says that a task cannot be controlled, and why.
func NoTask(id topology.TaskID, detail string) *coord.Error {
	return &coord.Error{
		Code: coord.CodeInvalid, Detail: detail,
		Field: "task", Limit: "a task that runs", Seen: strconv.FormatUint(uint64(id), 10),
	}
}

// ChangeKind says what a change is about.
type ChangeKind uint8

// The kinds of changes.
const (
	ChangeJoin      ChangeKind = iota + 1 // Nodes get their share
	ChangeDrain                           // Nodes give all away and leave
	ChangeReplace                         // By takes what Nodes[0], which is dead, owns
	ChangeWeight                          // Nodes get Weight
	ChangeRack                            // Nodes are in Rack
	ChangeReplicas                        // every partition gets Replicas owners
	ChangeRebalance                       // nothing but who owns what, as after an abort
)

// Change is a decision about the members. The fields that its kind does not
// name are zero.
type Change struct {
	Kind     ChangeKind
	Nodes    []topology.NodeID
	By       topology.NodeID
	Weight   int
	Rack     string
	Replicas int
	// AcceptLoss lets a copy be made from fewer sources than safety asks for.
	AcceptLoss bool
}

// PlanID names what a plan was made from, and what it says.
type PlanID struct {
	Epoch    topology.Epoch
	Revision topology.Revision
	Digest   uint64 // of the moves
}

func (id PlanID) String() string {
	return fmt.Sprintf("%d-%d-%08x", id.Epoch, id.Revision, id.Digest)
}

// Plan is what a change takes.
type Plan struct {
	ID    PlanID
	Moves []PlannedMove
	// Copies that the moves make, and the least that any plan would need if
	// racks forbade nothing.
	Copies, Minimum int
	Bytes           uint64 // estimated
	Nodes           []NodePlan
	// Lasts at least, by the pace.
	Lasts    time.Duration
	Pace     topology.Pace
	Warnings []string
}

// PlannedMove is a move before it is one.
type PlannedMove struct {
	Partition hashring.Partition
	Slot      int
	From, To  topology.NodeID
	Bytes     uint64
}

// NodePlan is what a plan means for one member.
type NodePlan struct {
	ID                          topology.NodeID
	OwnedBefore, OwnedAfter     int
	PrimaryBefore, PrimaryAfter int
	// FairBefore and FairAfter are what it would own if partitions could be
	// split; 0 for a member that is to own nothing.
	FairBefore, FairAfter float64
	BytesIn, BytesOut     uint64
}

// Task is a committed plan, and how far it is.
type Task struct {
	topology.Task
	// Moves at each stage; with those done they are Task.Moves.
	Planned, Copying, Switched, Done int
	// BytesDone of Task.Bytes: what was copied by now.
	BytesDone uint64
	// Rate in bytes a second, 0 when nothing is copied now.
	Rate uint64
	// Left at this rate; negative when that is not known.
	Left time.Duration
	// WaitsFor says what moves that are under way, or cannot begin, wait for.
	WaitsFor []string
	// Received bytes for this task, and the Size of the Copies that are complete:
	// Received is above Size by what runs, and by what came more than once. They
	// count since the nodes were started that received.
	Received, Size, Copies uint64
	// Silent nodes did not answer: what they received is not counted.
	Silent []topology.NodeID
}

// Repairs compares the region's partitions on demand.
type Repairs interface {
	// StartRepair on every node of the region; one that runs there goes on if it
	// is at least as deep, and begins anew otherwise.
	StartRepair(ctx context.Context, scope RepairScope) (RepairProgress, error)
	// RepairProgress of the repair that was started last.
	RepairProgress(ctx context.Context) (RepairProgress, error)
}

// RepairScope says what to repair.
type RepairScope struct {
	// Deep recounts every record from the disk first.
	Deep bool
	// Partition alone; nil for all.
	Partition *hashring.Partition
}

// RepairProgress of a region.
type RepairProgress struct {
	Nodes []NodeRepair
}

// NodeRepair is the last repair that one node was asked for.
type NodeRepair struct {
	ID topology.NodeID
	// Error is set when the node did not answer, or its repair broke off.
	Error         string
	Running, Deep bool
	// Begun and Ended are zero when there was none yet, or when it runs.
	Begun, Ended time.Time
	// Partitions in all, those that are through, and those of them that another
	// owner could not be asked about.
	Partitions, Done, Skipped int
	// RepairedKeys changed; Unreadable partitions have a record that could
	// neither be read nor be fetched from another owner.
	RepairedKeys, Unreadable uint64
}

// HotKeys knows what takes the most of the region's operations.
type HotKeys interface {
	// HotKeys returns up to limit keys, the hottest first.
	HotKeys(ctx context.Context, limit int) (Hot, error)
}

// Hot keys of a region.
type Hot struct {
	hotkey.Report
	// Silent nodes did not answer: what they served is not counted.
	Silent []topology.NodeID
}
