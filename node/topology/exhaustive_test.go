package topology

import (
	"fmt"
	"slices"

	"github.com/atolldb/atoll/hashring"
)

// The safety of moves, proved by visiting every state of a small region: one
// partition, one move, one write, and one read that begins after the write was
// acknowledged. (Writes do not take anything from each other, so that a second
// one adds nothing.) In each state anything may happen that can: a node learns
// of a newer epoch, or does not; the write or the read, whose coordinators know
// any epoch at all, reaches a node, or does not, or goes on by a newer epoch;
// the copy takes what a source has; the old owner dies; the stage changes, if
// the guard lets it. Who takes part, who counts and what the guards ask are the
// real functions, and the topologies are made by the real Advance.
//
// What must hold: R answers contain the write.

// levels are numbers of slots, by the length of the row.
type levels struct {
	name string
	w, r func(n int) int
	// all: the write wants every node that takes writes.
	all bool
	// below a quorum nothing is promised while the steward is wrong about who
	// is dead.
	below bool
}

func one(int) int        { return 1 }
func every(n int) int    { return n }
func majority(n int) int { return n/2 + 1 }

var (
	quorums  = levels{"W=quorum R=quorum", majority, majority, false, false}
	writeAll = levels{"W=all R=one", every, one, true, true}
	readAll  = levels{"W=one R=all", one, every, false, true}
)

// fault is a rule that a variant of the protocol breaks.
type fault int

const (
	correct fault = iota
	pendingUncounted
	pendingAlone
	noFence
	noSync
	syncOnce
	noMajority
	syncEarly
	oneSource
	keepAnswers
	noEach
)

// region is the arithmetic of one case, on bits: node i is bit i.
type region struct {
	levels
	fault   fault
	ids     []NodeID
	tops    []*Topology // by epoch - 1
	moves   []*Move     // the first of each, nil when all are done
	from    []int       // node of that move, -1 for none
	to      []int
	sinks   []uint8 // of the copies that are asked for
	sources []uint8
	mayDie  bool // the old owner of the first move

	takers  []uint8
	slots   [][]slotBits
	serving []uint8
	accepts [][]uint8 // [durable][asked]: nodes that take a write
	answers [][]uint8 // [durable][asked]: nodes that answer a read
	allowed map[uint64]bool
}

type slotBits struct{ owner, next, serves uint8 }

// newRegion makes the topologies from the first on; again has the copy taken
// back once and begun anew.
func newRegion(c smallCase, lv levels, f fault) *region {
	r := &region{levels: lv, fault: f, allowed: map[uint64]bool{}}
	for _, o := range c.owners {
		r.ids = append(r.ids, NodeID(o))
	}
	t := &Topology{Region: "a", RegionID: 1, Epoch: 1, Rules: hashring.Rules{Partitions: 1, Replicas: 3},
		Table: hashring.MakeTable([][]string{c.owners}), Tasks: []Task{{ID: 1}}}
	for i, m := range c.moves {
		if m.To != "" && r.bit(m.To) == 0 {
			r.ids = append(r.ids, m.To)
		}
		m.ID, m.Task, m.Began = MoveID(i+1), 1, 1
		t.Moves = append(t.Moves, m)
	}
	for _, id := range r.ids {
		t.Members = append(t.Members, Member{ID: id, Rack: "r", Weight: 1})
	}
	r.add(t)
	for len(t.Moves) > 0 {
		f := Facts{Durable: map[NodeID]Epoch{}, Dead: map[NodeID]bool{}, Synced: map[MoveID][]Synced{}, Now: 1}
		for _, id := range r.ids {
			f.Durable[id] = t.Epoch
		}
		if c.again && t.Epoch == 2 {
			f.Dead[c.moves[0].To] = true
		} else {
			for _, sink := range r.ids {
				f.Synced[t.Moves[0].ID] = append(f.Synced[t.Moves[0].ID], Synced{Sink: sink, Began: t.Moves[0].Began, With: r.ids})
			}
		}
		next, _ := t.Advance(f)
		if next == nil {
			panic(fmt.Sprintf("stuck at epoch %d", t.Epoch))
		}
		t = next
		r.add(t)
	}
	r.calculate()
	return r
}

func (r *region) add(t *Topology) {
	r.tops = append(r.tops, t)
	var m *Move
	from, to := -1, -1
	if len(t.Moves) > 0 {
		m = &t.Moves[0]
		from, to = slices.Index(r.ids, m.From), slices.Index(r.ids, m.To)
	}
	r.moves, r.from, r.to = append(r.moves, m), append(r.from, from), append(r.to, to)
	sinks, sources := uint8(0), uint8(0)
	if m != nil {
		if g := t.Guard(*m); g.Copies != nil {
			sources = r.bit(g.Copies.From)
			for _, id := range g.Copies.Others {
				sources |= r.bit(id)
			}
			for _, id := range g.Copies.Sinks {
				sinks |= r.bit(id)
			}
		}
	}
	r.sinks, r.sources = append(r.sinks, sinks), append(r.sources, sources)
}

func (r *region) bit(id NodeID) uint8 {
	for i, x := range r.ids {
		if x == id {
			return 1 << i
		}
	}
	return 0
}

func (r *region) calculate() {
	n := len(r.tops)
	r.accepts, r.answers = make([][]uint8, n), make([][]uint8, n)
	for e, t := range r.tops {
		takers, serving := uint8(0), uint8(0)
		for _, id := range t.Takers(0) {
			takers |= r.bit(id)
		}
		var slots []slotBits
		for _, s := range t.Row(0).Slots {
			slots = append(slots, slotBits{r.bit(s.Owner), r.bit(s.Next), r.bit(s.Serves())})
			serving |= r.bit(s.Serves())
		}
		r.takers, r.serving, r.slots = append(r.takers, takers), append(r.serving, serving), append(r.slots, slots)
		r.accepts[e], r.answers[e] = make([]uint8, n), make([]uint8, n)
		for asked := range n {
			if Epoch(asked+1) < t.SinceOf(0) && r.fault != noFence {
				continue
			}
			for i, id := range r.ids {
				if role := t.Role(0, id); role != None {
					r.accepts[e][asked] |= 1 << i
					if role == Serving {
						r.answers[e][asked] |= 1 << i
					}
				}
			}
		}
	}
}

// counted is whether the write is acknowledged by the row of epoch w.
func (r *region) counted(s state) bool {
	slots := 0
	for _, x := range r.slots[s.by] {
		both := x.owner | x.next
		switch {
		case x.next != 0 && r.fault == pendingUncounted:
			both = x.owner
		case x.next != 0 && r.fault == pendingAlone:
			both = x.next
		}
		if s.heard&both == both {
			slots++
		}
	}
	if r.all && s.heard&r.takers[s.by] != r.takers[s.by] {
		return false
	}
	return slots >= r.levels.w(len(r.slots[s.by]))
}

// missed is whether the read is answered, without the write.
func (r *region) missed(s state) bool {
	slots := 0
	for _, x := range r.slots[s.by] {
		if s.heard&x.serves != 0 {
			slots++
		}
	}
	return s.reading && slots >= r.levels.r(len(r.slots[s.by]))
}

// next calls each with every state that s can become.
func (r *region) next(s state, each func(state)) {
	alive := func(i int) bool { return !s.dead || i != r.from[0] }
	if r.mayDie && !s.dead && r.from[0] >= 0 {
		n := s
		n.dead = true
		each(n)
	}
	if r.mayAdvance(s) {
		n := s
		n.now++
		n.copied = [5]uint8{}
		each(n)
	}
	for i := range r.ids {
		if !alive(i) {
			continue
		}
		for e := s.durable[i] + 1; e <= s.now; e++ {
			n := s
			n.durable[i] = e
			each(n)
		}
	}
	r.copies(s, alive, each)
	if !s.acked {
		r.writes(s, alive, each)
	} else {
		r.reads(s, alive, each)
	}
}

func (r *region) writes(s state, alive func(int) bool, each func(state)) {
	r.upgrade(s, each)
	for i := range r.ids {
		bit := uint8(1) << i
		if s.heard&bit != 0 || !alive(i) || r.takers[s.by]&bit == 0 || r.accepts[s.durable[i]][s.by]&bit == 0 {
			continue
		}
		n := s
		n.has |= bit
		n.heard |= bit
		each(n)
	}
	if r.counted(s) {
		n := s
		n.acked, n.heard, n.by = true, 0, 0 // what is still on its way only helps
		each(n)
	}
}

// upgrade: the coordinator has learnt of a newer epoch. What a write has been
// acknowledged by, has it. What a read has been answered may have been true
// for a row of more slots only: it is asked anew.
func (r *region) upgrade(s state, each func(state)) {
	for e := s.by + 1; e <= s.now; e++ {
		n := s
		n.by = e
		if s.reading && r.fault != keepAnswers {
			n.heard = 0
		}
		each(n)
	}
}

func (r *region) reads(s state, alive func(int) bool, each func(state)) {
	if !s.reading {
		for e := uint8(0); e <= s.now; e++ {
			n := s
			n.reading, n.by = true, e
			each(n)
		}
		return
	}
	r.upgrade(s, each)
	for i := range r.ids {
		bit := uint8(1) << i
		// An answer with the write ends the read well.
		if alive(i) && r.serving[s.by]&bit != 0 && r.answers[s.durable[i]][s.by]&bit != 0 && s.has&bit == 0 && s.heard&bit == 0 {
			n := s
			n.heard |= bit
			each(n)
		}
	}
}

// copies: a sink takes what a source has.
func (r *region) copies(s state, alive func(int) bool, each func(state)) {
	m := r.moves[s.now]
	if m == nil {
		return
	}
	for sink := range r.ids {
		if r.sinks[s.now]&(1<<sink) == 0 || !alive(sink) || Epoch(s.durable[sink]+1) < m.Began {
			continue
		}
		for source := range r.ids {
			bit := uint8(1) << source
			if source == sink || r.sources[s.now]&bit == 0 || !alive(source) ||
				Epoch(s.durable[source]+1) < m.Began && r.fault != syncEarly {
				continue
			}
			n := s
			n.copied[sink] |= bit
			if s.has&bit != 0 {
				n.has |= 1 << sink
			}
			if n != s {
				each(n)
			}
		}
	}
}

// mayAdvance asks the guard.
func (r *region) mayAdvance(s state) bool {
	if int(s.now)+1 >= len(r.tops) {
		return false
	}
	m, after := r.moves[s.now], r.moves[s.now+1]
	if m.Stage == Planned || after != nil && after.Stage == Planned {
		return true // a start, or an abort, asks nothing
	}
	key := state{now: s.now, durable: s.durable, copied: s.copied, dead: s.dead}.pack()
	if ok, known := r.allowed[key]; known {
		return ok
	}
	f := Facts{Durable: map[NodeID]Epoch{}, Dead: map[NodeID]bool{}}
	for i, id := range r.ids {
		f.Durable[id] = Epoch(s.durable[i] + 1)
	}
	if s.dead {
		delete(f.Durable, r.ids[r.from[0]])
		f.Dead[r.ids[r.from[0]]] = true
	}
	if !r.below && m.From != "" {
		f.Dead[m.From] = true // believed to be, at any time
	}
	g := r.tops[s.now].Guard(*m)
	var synced []Synced
	for i, sink := range r.ids {
		x := Synced{Sink: sink, Began: m.Began}
		for j, id := range r.ids {
			if s.copied[i]&(1<<j) != 0 {
				x.With = append(x.With, id)
			}
		}
		synced = append(synced, x)
	}
	switch r.fault {
	case noSync:
		g.Copies = nil
	case syncOnce:
		if m.Stage == Switched {
			g.Copies = nil
		}
	case noMajority:
		g.Majorities = nil
	case oneSource:
		if g.Copies != nil {
			g.Copies.Need = 1
		}
	case noEach:
		g.Each = nil
	}
	ok := len(g.Lacks(f, synced)) == 0
	r.allowed[key] = ok
	return ok
}

// explore visits every state and returns their number, and the shortest way to
// one in which the read has missed the write, nil if there is none.
func (r *region) explore() (int, []state) {
	type visit struct {
		s      uint64
		parent int32
	}
	seen := &set{}
	queue := []visit{{state{}.pack(), -1}}
	seen.add(queue[0].s)
	for i := 0; i < len(queue); i++ {
		s := unpack(queue[i].s)
		if r.missed(s) {
			var way []state
			for j := int32(i); j >= 0; j = queue[j].parent {
				way = append([]state{unpack(queue[j].s)}, way...)
			}
			return len(queue), way
		}
		r.next(s, func(n state) {
			if p := n.pack(); seen.add(p) {
				queue = append(queue, visit{p, int32(i)})
			}
		})
	}
	return len(queue), nil
}
