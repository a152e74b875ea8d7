package topology

import (
	"fmt"
	"slices"
	"strings"
)

// Facts are what is known of the region's nodes when a stage is to change. A
// fact is a lower bound that stays true: a node that has an epoch durable never
// goes back, and what a copy has it keeps. (A node that lost its disk begins
// with the topology that its region's store has, which is no older than any
// that it was offered, and so it refuses what it once promised to refuse; it is
// behind, and answers no reads. Who sets a store back to an older topology and
// wipes a node at the same time can break that. A copy that was lost with the
// disk is reported no more: Synced must be of a node that answers now.)
type Facts struct {
	// Durable is the epoch that each node has durable. Who has not answered
	// lately is not in it.
	Durable map[NodeID]Epoch
	// Dead nodes have not answered for long. That opinion may be wrong; what
	// rests on it holds for levels of a quorum and above all the same.
	Dead map[NodeID]bool
	// Synced is how far each move's copies are.
	Synced map[MoveID][]Synced
	// Keeps is what nodes that leave stand in for; who has not told lately is not in it.
	Keeps map[NodeID]Keeps
	// Now in Unix milliseconds is noted in tasks that end; it decides nothing.
	Now int64
}

// Synced says what one node's copy has.
type Synced struct {
	// Sink is the node that copies.
	Sink NodeID
	// Began is the epoch of the move's stage that this is about: a report of an
	// earlier stage or try says nothing of this one.
	Began Epoch
	// With lists nodes of whom Sink has everything that they had at some time
	// after they were durable at Began.
	With []NodeID
	// Behind lists nodes that answered Sink, and have nothing to give before they have
	// caught up themselves.
	Behind []NodeID
}

// Keeps says for which owners a node keeps hints. A node that has an epoch durable by
// which it leaves takes no more of them, so what it said after that only shrinks.
type Keeps struct {
	// At is an epoch that the node had durable before it said so.
	At  Epoch
	For []NodeID
}

// Guard is what must hold before a move leaves its stage.
type Guard struct {
	// Epoch that is to be durable at more than half of the nodes of each group
	// of Majorities, and at each of Each that is not dead.
	Epoch      Epoch
	Majorities [][]NodeID
	Each       []NodeID
	// Copies that must be there; nil for none.
	Copies *Copies
	// AcceptLoss leaves dead nodes out of the counts; and where others gave what they
	// have, those that have to catch up themselves: they may be waiting for the dead one.
	AcceptLoss bool
}

// Copies says who must have what of whom.
type Copies struct {
	// Sinks copy: the new owner, or those that stay when a slot goes away. More
	// than half of them must be through, and each that is not dead.
	Sinks []NodeID
	// From is the owner that gives up its slot, and the only source while it is
	// not dead: it has every write that ever counted it. Empty for a new slot.
	From NodeID
	// Others hold the other slots. Need of them, the sink included if it is one,
	// stand in for a From that is dead: they meet every write of a quorum, and
	// that they know of the stage keeps a quorum from being met with From by
	// those who do not.
	Others []NodeID
	Need   int
}

// meeting is how many of n slots meet every quorum of n.
func meeting(n int) int { return n - (n/2 + 1) + 1 }

// Guard of the stage that m is in; the zero Guard for one that is planned.
//
// What it preserves: whatever was acknowledged by a quorum of an earlier row
// is held by a quorum of this one, and nobody who goes by an earlier row meets
// a quorum any more of which this one knows nothing.
//
// Slot by slot: an operation that counts another slot meets the same node
// before and after. The moving slot's writes count before the move where From
// took them, during it where both did, and after it where To did. From has
// stopped counting alone when it knows of the move, so a copy that is made
// later has all of the first kind (Copies); and From has stopped answering when
// it knows of the switch (Each). When From is dead, or is cut off and only
// believed to be, no quorum may be met with it by those who do not know better:
// hence the majorities.
//
// When the number of slots changes, so does that of a quorum, and writes by the
// earlier stage may be held by one slot too few, until the copies are made once
// more from those who do not take such writes any longer. Without that, two
// changes in a row lose writes.
//
// exhaustive_test.go visits every state of small regions, and shows of each of
// these rules that it is needed.
func (t *Topology) Guard(m Move) Guard {
	g := Guard{Epoch: m.Began}
	if task := t.Task(m.Task); task != nil {
		g.AcceptLoss = task.AcceptLoss
	}
	var owners []NodeID
	for _, o := range t.Owners(m.Partition) {
		owners = append(owners, NodeID(o))
	}
	others := slices.DeleteFunc(slices.Clone(owners), func(id NodeID) bool { return id == m.From })
	copies := &Copies{Sinks: []NodeID{m.To}, From: m.From, Others: others, Need: meeting(len(owners))}
	if m.To == "" {
		copies.Sinks = others
	}
	switch m.Stage {
	case Copying:
		g.Majorities = [][]NodeID{owners}
		g.Copies = copies
	case Switched:
		var serving []NodeID
		for _, s := range t.Row(m.Partition).Slots {
			serving = append(serving, s.Serves())
		}
		g.Majorities = [][]NodeID{owners, serving}
		for _, id := range []NodeID{m.From, m.To} {
			if id != "" {
				g.Each = append(g.Each, id)
			}
		}
		if m.From == "" || m.To == "" {
			g.Copies = copies
		}
	}
	return g
}

// Lacks says what of the guard does not hold, for people; empty when all does.
func (g Guard) Lacks(f Facts, synced []Synced) []string {
	var out []string
	knows := func(id NodeID) bool { return f.Durable[id] >= g.Epoch }
	for _, group := range g.Majorities {
		if g.AcceptLoss {
			group = f.living(group)
		}
		missing := slices.DeleteFunc(slices.Clone(group), knows)
		if have := len(group) - len(missing); len(group) > 0 && have < len(group)/2+1 {
			out = append(out, fmt.Sprintf("%d of %s to know of epoch %d: waiting for %s",
				len(group)/2+1, join(group), g.Epoch, join(missing)))
		}
	}
	for _, id := range g.Each {
		if !f.Dead[id] && !knows(id) {
			out = append(out, fmt.Sprintf("%s to know of epoch %d", id, g.Epoch))
		}
	}
	if g.Copies != nil {
		out = append(out, g.lacksCopies(f, synced)...)
	}
	slices.Sort(out)
	return slices.Compact(out)
}

func (g Guard) lacksCopies(f Facts, synced []Synced) []string {
	var out []string
	done := 0
	for _, sink := range g.Copies.Sinks {
		lack := g.lacksCopy(f, sink, synced)
		if lack == "" {
			done++
		} else if !f.Dead[sink] {
			out = append(out, lack)
		}
	}
	if need := len(g.Copies.Sinks)/2 + 1; done < need && len(out) == 0 {
		out = append(out, fmt.Sprintf("%d of %s to have a copy, %d do and the others are dead", need, join(g.Copies.Sinks), done))
	}
	return out
}

// lacksCopy says why sink's copy is not enough, "" if it is.
func (g Guard) lacksCopy(f Facts, sink NodeID, synced []Synced) string {
	c := g.Copies
	var with, behind []NodeID
	for _, s := range synced {
		if s.Sink == sink && s.Began == g.Epoch {
			with, behind = s.With, s.Behind
		}
	}
	if c.From != "" {
		if slices.Contains(with, c.From) {
			return ""
		}
		if !f.Dead[c.From] {
			lack := fmt.Sprintf("%s to have what %s has", sink, c.From)
			if _, answers := f.Durable[c.From]; !answers {
				lack += fmt.Sprintf(", which does not answer: after half a minute of that what %d of %s have will do", c.Need, join(c.Others))
			}
			return lack
		}
	}
	need, have := c.Need, 0
	for _, id := range c.Others {
		if id == sink || slices.Contains(with, id) {
			have++
		}
	}
	if g.AcceptLoss {
		living := f.living(c.Others)
		need = min(need, len(living))
		if ready := slices.DeleteFunc(living, func(id NodeID) bool { return slices.Contains(behind, id) }); len(ready) > 0 {
			need = min(need, len(ready))
		}
	}
	switch {
	case have >= need:
		return ""
	case need > len(c.Others):
		return fmt.Sprintf("%s, which is dead and held what nobody else holds", c.From)
	}
	return fmt.Sprintf("%s to have what %d of %s have, it has that of %d", sink, need, join(c.Others), have)
}

// living leaves out the dead.
func (f Facts) living(ids []NodeID) []NodeID {
	return slices.DeleteFunc(slices.Clone(ids), func(id NodeID) bool { return f.Dead[id] })
}

func join(ids []NodeID) string {
	if len(ids) == 0 {
		return "nobody"
	}
	var b strings.Builder
	for i, id := range ids {
		if i > 0 {
			b.WriteString(", ")
		}
		b.WriteString(string(id))
	}
	return b.String()
}
