package crdt

import (
	"encoding/binary"
	"fmt"

	"github.com/atolldb/atoll/internal/strict"
)

// The encoding of a clock:
//
//	1 byte    format, 1
//	uvarint   number of actors, then the actors ascending:
//	  uvarint   difference to the actor before (the first: to 0)
//	  uvarint   base
//	  uvarint   number of spans, then ascending:
//	    uvarint   Lo minus the end before it (base or the last Hi) minus 2
//	    uvarint   Hi minus Lo
//
// Equal clocks have equal bytes. Whoever stores or sends it guards it with a
// checksum of his own.

const clockFormat = 1

// AppendClock appends the encoding of c.
func AppendClock(dst []byte, c *Clock) []byte {
	dst = append(dst, clockFormat)
	dst = binary.AppendUvarint(dst, uint64(len(c.actors)))
	var last Actor
	for i := range c.actors {
		x := &c.actors[i]
		dst = binary.AppendUvarint(dst, uint64(x.actor-last))
		last = x.actor
		dst = binary.AppendUvarint(dst, x.base)
		dst = binary.AppendUvarint(dst, uint64(len(x.spans)))
		at := x.base
		for _, s := range x.spans {
			dst = binary.AppendUvarint(dst, s.Lo-at-2)
			dst = binary.AppendUvarint(dst, s.Hi-s.Lo)
			at = s.Hi
		}
	}
	return dst
}

// DecodeClock decodes what AppendClock wrote and returns the bytes after it.
func DecodeClock(b []byte) (*Clock, []byte, error) {
	d := decoder{strict.Reader{B: b}}
	c := d.clock()
	if d.Bad {
		return nil, nil, fmt.Errorf("%w: clock", ErrCorrupt)
	}
	return c, d.B, nil
}

func (d *decoder) clock() *Clock {
	c := &Clock{}
	if d.Byte() != clockFormat {
		d.Bad = true
		return c
	}
	n := d.count(3)
	if n > 0 {
		c.actors = make([]actorClock, n)
	}
	var last uint64
	for i := range c.actors {
		x := &c.actors[i]
		diff := d.Uvarint()
		last += diff
		x.actor = Actor(last)
		x.base = d.Uvarint()
		spans := d.count(2)
		if d.Bad || diff == 0 || diff > 1<<32-1 || last > 1<<32-1 || x.base > MaxN || x.base == 0 && spans == 0 {
			d.Bad = true
			return c
		}
		at := x.base
		for range spans {
			gap, length := d.Uvarint(), d.Uvarint()
			if gap > MaxN || length > MaxN || at+gap+2+length > MaxN {
				d.Bad = true
				return c
			}
			lo := at + gap + 2
			hi := lo + length
			x.spans = append(x.spans, Span{lo, hi})
			at = hi
		}
	}
	return c
}
