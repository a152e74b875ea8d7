package grpcpeer

import (
	"github.com/atolldb/atoll/node/peer"
)

// pending holds the requests that wait for their reply. Its owner's lock
// guards it.
//
// An id is the number of a slot, and how often that slot was used: looking it
// up is indexing, and a reply that comes after its request was given up finds
// a slot that is used for another or for none.
type pending struct {
	slots []slot
	free  []uint32
}

type slot struct {
	use  uint64 // of this slot, from 1
	done peer.Done
	// deadline is on the owner's clock, in ns.
	deadline int64
	// handed says that the request was given to a stream.
	handed bool
}

const slotBits = 16 // 1<<slotBits == maxPending

// ending is an outcome to be told without the lock.
type ending struct {
	done  peer.Done
	reply []byte
	err   error
}

func tell(endings []ending) {
	for i := range endings {
		endings[i].done(endings[i].reply, endings[i].err)
		endings[i] = ending{}
	}
}

func (p *pending) count() int { return len(p.slots) - len(p.free) }

// add returns false if there are maxPending already.
func (p *pending) add(done peer.Done, deadline int64) (id uint64, ok bool) {
	var i uint32
	if n := len(p.free); n > 0 {
		i, p.free = p.free[n-1], p.free[:n-1]
	} else {
		if len(p.slots) == maxPending {
			return 0, false
		}
		i = uint32(len(p.slots))
		p.slots = append(p.slots, slot{})
	}
	s := &p.slots[i]
	s.use++
	s.done, s.deadline, s.handed = done, deadline, false
	return s.use<<slotBits | uint64(i), true
}

// find returns the slot of an id that still waits, or nil.
func (p *pending) find(id uint64) *slot {
	i := id & (1<<slotBits - 1)
	if i >= uint64(len(p.slots)) {
		return nil
	}
	if s := &p.slots[i]; s.done != nil && s.use == id>>slotBits {
		return s
	}
	return nil
}

// take ends the wait of an id, and returns nil if it did not wait.
func (p *pending) take(id uint64) peer.Done {
	s := p.find(id)
	if s == nil {
		return nil
	}
	done := s.done
	s.done = nil
	p.free = append(p.free, uint32(id&(1<<slotBits-1)))
	return done
}

// each calls end for every request that waits; one for which it returns an
// error is over.
func (p *pending) each(endings []ending, end func(*slot) error) []ending {
	for i := range p.slots {
		s := &p.slots[i]
		if s.done == nil {
			continue
		}
		if err := end(s); err != nil {
			endings = append(endings, ending{done: p.take(s.use<<slotBits | uint64(i)), err: err})
		}
	}
	return endings
}

// expire ends what is due, and says when the next is (0: never).
func (p *pending) expire(now int64, endings []ending) (_ []ending, next int64) {
	endings = p.each(endings, func(s *slot) error {
		switch {
		case s.deadline > now:
			if next == 0 || s.deadline < next {
				next = s.deadline
			}
			return nil
		case s.handed:
			return peer.ErrTimeout
		}
		return errQueued
	})
	return endings, next
}

// fail ends everything: with lost what was handed over, with unsent what was
// not.
func (p *pending) fail(endings []ending, lost, unsent error) []ending {
	return p.each(endings, func(s *slot) error {
		if s.handed {
			return lost
		}
		return unsent
	})
}
