package topology

import (
	"errors"
	"fmt"
	"math"

	"github.com/atolldb/atoll/hashring"
)

// The bounds that Validate checks beside hashring's.
const (
	maxNode   = 63
	maxRegion = 32
	// maxText bounds a rack and an address: a name of the domain name system
	// and a port.
	maxText = 260
	// maxMoves bounds the moves of a topology: all copies of the largest table
	// of three replicas, and then some.
	maxMoves = 1 << 18
	// maxSlot bounds the place of a move in its row.
	maxSlot = hashring.MaxReplicas
	// maxTasks bounds the tasks that run, with those that have ended.
	maxTasks = 256 + MaxDone
)

// Validate reports why t cannot be a topology that anybody published: out of
// bounds, ambiguous, or moves that do not fit the table. It returns the first
// few of all reasons.
func (t *Topology) Validate() error {
	v := &validator{t: t, members: make(map[NodeID]bool, len(t.Members)), tasks: make(map[TaskID]bool, len(t.Tasks))}
	v.head()
	v.roster()
	v.table()
	if len(v.errs) == 0 { // what follows looks things up
		v.tasksAndPace()
		v.moves()
	}
	return errors.Join(v.errs...)
}

// maxReasons bounds how much Validate says.
const maxReasons = 8

type validator struct {
	t       *Topology
	members map[NodeID]bool
	tasks   map[TaskID]bool
	errs    []error
}

func (v *validator) bad(format string, args ...any) {
	if len(v.errs) < maxReasons {
		v.errs = append(v.errs, fmt.Errorf(format, args...))
	}
}

// isName reports whether s is 1..limit bytes of [a-z0-9-].
func isName(s string, limit int) bool {
	for i := range len(s) {
		if c := s[i]; (c < 'a' || c > 'z') && (c < '0' || c > '9') && c != '-' {
			return false
		}
	}
	return s != "" && len(s) <= limit
}

func (v *validator) head() {
	t := v.t
	if !isName(string(t.Region), maxRegion) {
		v.bad("region %q is no name", t.Region)
	}
	if t.RegionID < 1 || t.RegionID > 63 {
		v.bad("region id %d is not in 1..63", t.RegionID)
	}
	if t.Epoch < 1 {
		v.bad("epoch 0")
	}
	if err := t.Rules.Validate(); err != nil {
		v.bad("rules: %w", err)
	}
}

func (v *validator) roster() {
	if n := len(v.t.Members); n > hashring.MaxMembers {
		v.bad("%d members are more than %d", n, hashring.MaxMembers)
		return
	}
	for _, m := range v.t.Members {
		switch {
		case !isName(string(m.ID), maxNode):
			v.bad("member %q is no name", m.ID)
		case v.members[m.ID]:
			v.bad("member %s is listed twice", m.ID)
		case m.Weight < 0 || m.Weight > hashring.MaxWeight:
			v.bad("member %s: weight %d is not in 0..%d", m.ID, m.Weight, hashring.MaxWeight)
		case m.State > Left:
			v.bad("member %s: unknown %s", m.ID, m.State)
		case len(m.Rack) > maxText || len(m.PeerAddr) > maxText || len(m.ClientAddr) > maxText:
			v.bad("member %s: a rack or an address above %d bytes", m.ID, maxText)
		}
		v.members[m.ID] = true
	}
}

func (v *validator) table() {
	t := v.t
	if n := t.Table.Partitions(); n != t.Rules.Partitions {
		v.bad("the table has %d partitions, the rules %d", n, t.Rules.Partitions)
		return
	}
	strangers := map[string]bool{}
	for p, owners := range t.Table.All() {
		if len(owners) < 1 || len(owners) > hashring.MaxReplicas {
			v.bad("partition %d has %d owners", p, len(owners))
		}
		for i, o := range owners {
			if !isName(o, maxNode) {
				v.bad("partition %d: owner %q is no name", p, o)
			}
			for _, other := range owners[:i] {
				if o == other {
					v.bad("partition %d names %s twice", p, o)
				}
			}
			if !v.members[NodeID(o)] {
				strangers[o] = true
			}
		}
	}
	if len(strangers) > maxStrangers/2 { // moves and tasks may name others
		v.bad("%d owners are no members: more than %d", len(strangers), maxStrangers/2)
	}
	if n := len(t.Since); n != 0 && n != t.Table.Partitions() {
		v.bad("%d partitions have a since, of %d", n, t.Table.Partitions())
	}
	for p, e := range t.Since {
		if e < 1 || e > t.Epoch {
			v.bad("partition %d: since %d is not in 1..%d", p, e, t.Epoch)
		}
	}
}

func (v *validator) tasksAndPace() {
	if n := len(v.t.Tasks); n > maxTasks {
		v.bad("%d tasks are more than %d", n, maxTasks)
	}
	var last TaskID
	ended, named := 0, 0
	for _, k := range v.t.Tasks {
		switch {
		case k.ID <= last:
			v.bad("task %d follows task %d", k.ID, last)
		case k.Kind > KindReplace:
			v.bad("task %d: unknown %s", k.ID, k.Kind)
		case len(k.Nodes) > hashring.MaxMembers:
			v.bad("task %d: %d nodes", k.ID, len(k.Nodes))
		case k.Moves < 0 || k.Moves > math.MaxInt32:
			v.bad("task %d: %d moves", k.ID, k.Moves)
		}
		for _, id := range k.Nodes {
			if !isName(string(id), maxNode) {
				v.bad("task %d: node %q is no name", k.ID, id)
			}
			if !v.members[id] {
				named++
			}
		}
		if k.Ended != 0 {
			ended++
		}
		last = k.ID
		v.tasks[k.ID] = k.Ended == 0
	}
	if ended > MaxDone {
		v.bad("%d tasks that ended are more than %d", ended, MaxDone)
	}
	if named > maxStrangers/4 {
		v.bad("tasks name %d nodes that are no members: more than %d", named, maxStrangers/4)
	}
	if p := v.t.Pace; p.Concurrent < 0 || p.Concurrent > hashring.MaxPartitions {
		v.bad("pace: %d concurrent moves", p.Concurrent)
	}
}

// moves checks each move by itself, and that no two are under way in one
// partition.
func (v *validator) moves() {
	if n := len(v.t.Moves); n > maxMoves {
		v.bad("%d moves are more than %d", n, maxMoves)
		return
	}
	var last MoveID
	under := map[hashring.Partition]MoveID{}
	strangers := map[NodeID]bool{}
	for _, m := range v.t.Moves {
		if m.ID <= last {
			v.bad("move %d follows move %d", m.ID, last)
		}
		last = m.ID
		if running, known := v.tasks[m.Task]; !known || !running {
			v.bad("move %d is of task %d, which does not run", m.ID, m.Task)
		}
		if m.Stage != Planned {
			if other := under[m.Partition]; other != 0 {
				v.bad("moves %d and %d of partition %d are under way at once", other, m.ID, m.Partition)
			}
			under[m.Partition] = m.ID
		}
		v.move(m)
		for _, id := range []NodeID{m.From, m.To} {
			if id != "" && !v.members[id] {
				strangers[id] = true
			}
		}
	}
	if len(strangers) > maxStrangers/4 {
		v.bad("moves name %d nodes that are no members: more than %d", len(strangers), maxStrangers/4)
	}
}

func (v *validator) move(m Move) {
	t := v.t
	if int(m.Partition) >= t.Table.Partitions() {
		v.bad("move %d: there is no partition %d", m.ID, m.Partition)
		return
	}
	row := t.Table.Owners(m.Partition)
	at := -1 // From's place
	for i, o := range row {
		switch NodeID(o) {
		case m.From:
			at = i
		case m.To:
			v.bad("move %d: %s owns partition %d already", m.ID, m.To, m.Partition)
		}
	}
	started := m.Stage != Planned
	switch {
	case m.Stage > Switched:
		v.bad("move %d: unknown %s", m.ID, m.Stage)
	case m.From == "" && m.To == "" || m.From == m.To:
		v.bad("move %d leads from %q to %q", m.ID, m.From, m.To)
	case m.To != "" && !isName(string(m.To), maxNode):
		v.bad("move %d: node %q is no name", m.ID, m.To)
	case m.From != "" && at < 0:
		v.bad("move %d: %q does not own partition %d", m.ID, m.From, m.Partition)
	case m.Slot < 0 || m.Slot > maxSlot:
		v.bad("move %d: slot %d", m.ID, m.Slot)
	case m.From != "" && started && m.Slot != at:
		v.bad("move %d: %s is in slot %d of partition %d, not %d", m.ID, m.From, at, m.Partition, m.Slot)
	case m.From == "" && started && m.Slot != len(row):
		v.bad("move %d adds slot %d to partition %d, which has %d", m.ID, m.Slot, m.Partition, len(row))
	case m.To == "" && len(row) < 2:
		v.bad("move %d takes the last slot of partition %d", m.ID, m.Partition)
	case m.Began > t.Epoch || started && (m.Began < 1 || t.SinceOf(m.Partition) < m.Began):
		v.bad("move %d: its stage began at epoch %d, partition %d changed at %d of %d", m.ID, m.Began, m.Partition, t.SinceOf(m.Partition), t.Epoch)
	}
}
