package topology

import (
	"fmt"
	"strings"
)

// state is all that can differ, packed into 64 bits.
type state struct {
	now     uint8    // the stored epoch - 1
	durable [5]uint8 // of each node, - 1
	has     uint8    // nodes that have the write
	acked   bool
	reading bool
	// by is the epoch - 1 that the write's coordinator goes by until it is
	// acknowledged, and the read's from then on.
	by uint8
	// heard are the nodes that have acknowledged the write to its coordinator,
	// or answered the read without it.
	heard  uint8
	copied [5]uint8 // by sink: the sources
	dead   bool     // the first old owner
}

func (s state) pack() uint64 {
	b := uint64(s.now)
	for _, d := range s.durable {
		b = b<<3 | uint64(d)
	}
	b = b<<5 | uint64(s.has)
	b = b<<3 | uint64(s.by)
	b = b<<5 | uint64(s.heard)
	for _, c := range s.copied {
		b = b<<5 | uint64(c)
	}
	for _, f := range []bool{s.acked, s.reading, s.dead} {
		b <<= 1
		if f {
			b |= 1
		}
	}
	return b
}

func unpack(b uint64) state {
	var s state
	take := func(bits int) uint8 {
		v := uint8(b & (1<<bits - 1))
		b >>= bits
		return v
	}
	s.dead, s.reading, s.acked = take(1) == 1, take(1) == 1, take(1) == 1
	for i := 4; i >= 0; i-- {
		s.copied[i] = take(5)
	}
	s.heard, s.by, s.has = take(5), take(3), take(5)
	for i := 4; i >= 0; i-- {
		s.durable[i] = take(3)
	}
	s.now = take(3)
	return s
}

// set of packed states, none of which is all ones.
type set struct {
	slots []uint64
	n     int
}

func (x *set) add(v uint64) bool {
	if x.n*2 >= len(x.slots) {
		old := x.slots
		x.slots, x.n = make([]uint64, max(1<<16, 2*len(old))), 0
		for _, o := range old {
			if o != 0 {
				x.add(o - 1)
			}
		}
	}
	mask := uint64(len(x.slots) - 1)
	h := v * 0x9e3779b97f4a7c15
	h = (h ^ h>>32) * 0x9e3779b97f4a7c15
	for i := h >> 32 & mask; ; i = (i + 1) & mask {
		switch x.slots[i] {
		case 0:
			x.slots[i] = v + 1
			x.n++
			return true
		case v + 1:
			return false
		}
	}
}

func story(way []state) string {
	var b strings.Builder
	for _, s := range way {
		what, durable := "write", s.durable
		if s.reading {
			what = "read"
		}
		for i := range durable {
			durable[i]++
		}
		fmt.Fprintf(&b, "\n  epoch %d, durable %v, held by %05b; copies %05b; %s by epoch %d, heard %05b, acked %v, dead %v",
			s.now+1, durable, s.has, s.copied, what, s.by+1, s.heard, s.acked, s.dead)
	}
	return b.String()
}
