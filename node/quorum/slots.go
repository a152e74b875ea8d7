package quorum

// Slots counts the acknowledgements of one write by slots. A slot is one node,
// or two while it moves from one to the other; then it has acknowledged when
// both did, and failed when one of them failed.
//
// So a write that is met is, for as many slots as it needed, where reads are
// answered now and where they will be answered after the move: Q2 holds across
// the move, in both directions.
type Slots struct {
	tally  Tally
	moving uint64    // bit i: slot i has two nodes
	acks   [2]uint64 // bit i: the first, the second node of slot i acknowledged
}

// NewSlots counts for a write that needs need of slots, at most 64. The bits of
// moving are the slots with two nodes.
func NewSlots(need, slots int, moving uint64) Slots {
	return Slots{tally: NewTally(need, slots), moving: moving}
}

// Ack counts the success of slot i's first node, or of its second.
func (s *Slots) Ack(i int, second bool) Verdict {
	s.acks[at(second)] |= 1 << i
	if s.moving&(1<<i) != 0 && s.acks[0]&s.acks[1]&(1<<i) == 0 {
		return s.tally.Verdict()
	}
	return s.tally.Ack(i)
}

// Fail counts the failure of slot i's first node, or of its second, unless that
// node has acknowledged before.
func (s *Slots) Fail(i int, second bool) Verdict {
	if s.acks[at(second)]&(1<<i) != 0 {
		return s.tally.Verdict()
	}
	return s.tally.Fail(i)
}

func at(second bool) int {
	if second {
		return 1
	}
	return 0
}

// Verdict so far. Once Met it stays Met.
func (s *Slots) Verdict() Verdict { return s.tally.Verdict() }

// Acked reports whether slot i's first node, or its second, has acknowledged,
// which says nothing of the slot.
func (s *Slots) Acked(i int, second bool) bool { return s.acks[at(second)]&(1<<i) != 0 }

// Yes is how many slots have acknowledged, Need how many it takes.
func (s *Slots) Yes() int  { return s.tally.Yes() }
func (s *Slots) Need() int { return s.tally.Need() }
