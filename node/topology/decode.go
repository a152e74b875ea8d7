package topology

import (
	"math"

	"github.com/atolldb/atoll/hashring"
	"github.com/atolldb/atoll/internal/strict"
)

// reader takes an encoding apart.
type reader struct {
	strict.Reader
	names []NodeID
}

// below reads a number that is at most limit.
func (r *reader) below(limit uint64) uint64 {
	n := r.Uvarint()
	if n > limit {
		r.Bad = true
		return 0
	}
	return n
}

func (r *reader) time() int64 { return int64(r.Uint64()) }

func (r *reader) text(limit int) string { return string(r.Bytes(limit)) }

func (r *reader) name() NodeID {
	n := r.Uvarint()
	if r.Bad || n >= uint64(len(r.names)) {
		r.Bad = true
		return ""
	}
	return r.names[n]
}

func (r *reader) maybe() NodeID {
	n := r.Uvarint()
	switch {
	case n == 0:
		return ""
	case n > uint64(len(r.names)):
		r.Bad = true
		return ""
	}
	return r.names[n-1]
}

func (r *reader) topology() *Topology {
	t := &Topology{
		Region: Region(r.text(maxRegion)), RegionID: RegionID(r.Byte()), Epoch: Epoch(r.Uvarint()),
		Rules: hashring.Rules{
			Partitions: int(r.below(hashring.MaxPartitions)), Replicas: int(r.below(hashring.MaxReplicas)),
			ZonePolicy: hashring.ZonePolicy(r.Byte()),
		},
	}
	for range r.Count(hashring.MaxMembers, 6) {
		m := Member{
			ID: NodeID(r.text(maxNode)), Rack: r.text(maxText), Weight: int(r.below(hashring.MaxWeight)),
			PeerAddr: r.text(maxText), ClientAddr: r.text(maxText), State: State(r.Byte()),
		}
		t.Members = append(t.Members, m)
		r.names = append(r.names, m.ID)
	}
	for range r.Count(maxStrangers, 1) {
		r.names = append(r.names, NodeID(r.text(maxNode)))
	}
	r.table(t)
	t.Moves = r.moves()
	t.Tasks = r.tasks()
	t.Pace.BytesPerSecond = r.Uvarint()
	t.Pace.Concurrent = int(r.below(hashring.MaxPartitions))
	return t
}

func (r *reader) table(t *Topology) {
	if t.Rules.Partitions > len(r.B) {
		r.Bad = true
		return
	}
	rows := make([][]string, t.Rules.Partitions)
	for p := range rows {
		row := make([]string, r.Count(hashring.MaxReplicas, 1))
		for i := range row {
			row[i] = string(r.name())
		}
		rows[p] = row
	}
	t.Table = hashring.MakeTable(rows)
	if r.Flags(1) == 0 {
		return
	}
	t.Since = make([]Epoch, len(rows))
	for p := range t.Since {
		t.Since[p] = t.Epoch - Epoch(r.below(uint64(t.Epoch)))
	}
}

func (r *reader) moves() []Move {
	var moves []Move
	var last MoveID
	for range r.Count(maxMoves, 8) {
		m := Move{
			ID: last + MoveID(r.Uvarint()), Task: TaskID(r.Uvarint()),
			Partition: hashring.Partition(r.below(hashring.MaxPartitions - 1)), Slot: int(r.below(maxSlot)),
			From: r.maybe(), To: r.maybe(), Stage: Stage(r.Byte()), Began: Epoch(r.Uvarint()),
		}
		if r.Bad {
			return nil
		}
		last = m.ID
		moves = append(moves, m)
	}
	return moves
}

func (r *reader) tasks() []Task {
	var tasks []Task
	var last TaskID
	for range r.Count(maxTasks, 22) {
		k := Task{ID: last + TaskID(r.Uvarint()), Kind: Kind(r.Byte())}
		last = k.ID
		for range r.Count(hashring.MaxMembers, 1) {
			k.Nodes = append(k.Nodes, r.name())
		}
		k.Moves, k.Bytes = int(r.below(math.MaxInt32)), r.Uvarint()
		k.Begun, k.Ended = r.time(), r.time()
		flags := r.Flags(flagsKnown)
		k.Paused, k.Aborted, k.AcceptLoss = flags&flagPaused != 0, flags&flagAborted != 0, flags&flagAcceptLoss != 0
		if r.Bad {
			return nil
		}
		tasks = append(tasks, k)
	}
	return tasks
}
