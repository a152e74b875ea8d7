package topology

import (
	"encoding/binary"
	"math"

	"github.com/atolldb/atoll/hashring"
)

// reader takes an encoding apart. After the first thing that cannot be it
// returns zeros. What a count says is not reserved before as many bytes are
// there.
type reader struct {
	b     []byte
	bad   bool
	names []NodeID
}

func (r *reader) number() uint64 {
	n, size := binary.Uvarint(r.b)
	if r.bad || size <= 0 {
		r.bad = true
		return 0
	}
	r.b = r.b[size:]
	return n
}

// below reads a number that is at most limit.
func (r *reader) below(limit uint64) uint64 {
	n := r.number()
	if n > limit {
		r.bad = true
		return 0
	}
	return n
}

// count reads the length of a list of at most limit elements, each of at least
// size bytes.
func (r *reader) count(limit, size int) int {
	n := r.below(uint64(limit))
	if n > uint64(len(r.b)/size) {
		r.bad = true
		return 0
	}
	return int(n)
}

func (r *reader) take(n int) []byte {
	if r.bad || len(r.b) < n {
		r.bad = true
		return make([]byte, n)
	}
	b := r.b[:n]
	r.b = r.b[n:]
	return b
}

func (r *reader) byte() byte { return r.take(1)[0] }

func (r *reader) time() int64 { return int64(binary.BigEndian.Uint64(r.take(8))) }

func (r *reader) text(limit int) string { return string(r.take(r.count(limit, 1))) }

func (r *reader) name() NodeID {
	n := r.number()
	if r.bad || n >= uint64(len(r.names)) {
		r.bad = true
		return ""
	}
	return r.names[n]
}

func (r *reader) maybe() NodeID {
	n := r.number()
	switch {
	case n == 0:
		return ""
	case n > uint64(len(r.names)):
		r.bad = true
		return ""
	}
	return r.names[n-1]
}

func (r *reader) topology() *Topology {
	t := &Topology{
		Region: Region(r.text(maxRegion)), RegionID: RegionID(r.byte()), Epoch: Epoch(r.number()),
		Rules: hashring.Rules{
			Partitions: int(r.below(hashring.MaxPartitions)), Replicas: int(r.below(hashring.MaxReplicas)),
			ZonePolicy: hashring.ZonePolicy(r.byte()),
		},
	}
	for range r.count(hashring.MaxMembers, 6) {
		m := Member{
			ID: NodeID(r.text(maxNode)), Rack: r.text(maxText), Weight: int(r.below(hashring.MaxWeight)),
			PeerAddr: r.text(maxText), ClientAddr: r.text(maxText), State: State(r.byte()),
		}
		t.Members = append(t.Members, m)
		r.names = append(r.names, m.ID)
	}
	for range r.count(maxStrangers, 1) {
		r.names = append(r.names, NodeID(r.text(maxNode)))
	}
	r.table(t)
	t.Moves = r.moves()
	t.Tasks = r.tasks()
	t.Pace.BytesPerSecond = r.number()
	t.Pace.Concurrent = int(r.below(hashring.MaxPartitions))
	return t
}

func (r *reader) table(t *Topology) {
	if t.Rules.Partitions > len(r.b) {
		r.bad = true
		return
	}
	rows := make([][]string, t.Rules.Partitions)
	for p := range rows {
		row := make([]string, r.count(hashring.MaxReplicas, 1))
		for i := range row {
			row[i] = string(r.name())
		}
		rows[p] = row
	}
	t.Table = hashring.MakeTable(rows)
	switch r.byte() {
	case 0:
		return
	case 1:
	default:
		r.bad = true
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
	for range r.count(maxMoves, 8) {
		m := Move{
			ID: last + MoveID(r.number()), Task: TaskID(r.number()),
			Partition: hashring.Partition(r.below(hashring.MaxPartitions - 1)), Slot: int(r.below(maxSlot)),
			From: r.maybe(), To: r.maybe(), Stage: Stage(r.byte()), Began: Epoch(r.number()),
		}
		if r.bad {
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
	for range r.count(maxTasks, 22) {
		k := Task{ID: last + TaskID(r.number()), Kind: Kind(r.byte())}
		last = k.ID
		for range r.count(hashring.MaxMembers, 1) {
			k.Nodes = append(k.Nodes, r.name())
		}
		k.Moves, k.Bytes = int(r.below(math.MaxInt32)), r.number()
		k.Begun, k.Ended = r.time(), r.time()
		flags := r.byte()
		if flags > flagsKnown {
			r.bad = true
		}
		k.Paused, k.Aborted, k.AcceptLoss = flags&flagPaused != 0, flags&flagAborted != 0, flags&flagAcceptLoss != 0
		if r.bad {
			return nil
		}
		tasks = append(tasks, k)
	}
	return tasks
}
