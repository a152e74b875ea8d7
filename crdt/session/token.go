package session

import (
	"encoding/binary"
	"errors"
	"fmt"
	"slices"

	"github.com/atolldb/atoll/crdt"
	"github.com/atolldb/atoll/crdt/hlc"
	"github.com/atolldb/atoll/internal/strict"
)

// The encoding of a token:
//
//	1 byte    format, 1
//	pieces, each:
//	  uvarint   length of what follows
//	  1 byte    what it is, 'S'
//	  1 byte    bits of the partition's place
//	  2 bytes   its prefix, big-endian
//	  uvarint   highest stamp
//	  clock     of the events seen; see crdt.AppendClock
//	  uvarint   number of ballots, then ascending, each:
//	    8 bytes   key hash, big-endian
//	    uvarint   actor, uvarint counter
//	  clock     of the events that the session was told are lost; not there if
//	            there are none and nothing follows it
//	  uvarint   number of soft events, then the latest first, each:
//	    8 bytes   key hash, big-endian
//	    uvarint   actor, uvarint counter of the version
//	    uvarint   actor, uvarint counter of the event; not there if there are none
//	  16 bytes  Tag for "session", over the piece from the 'S' on
//
// The format, the lengths and the places are for everybody: they are what a
// client needs to choose and to put together pieces. The rest is opaque to it.
// The most recent piece is the last. A token of no pieces is that of a session
// which has seen nothing yet, and asks that answers bring one along.

const (
	format  = 1
	kind    = 'S'
	header  = 4 // kind and place
	mac     = crdt.TagSize
	purpose = "session"

	// MaxToken bounds a token that is given out, and MaxPiece a piece with its
	// length, in bytes.
	MaxToken = 8 << 10
	MaxPiece = 2 << 10
	// MaxSent bounds a token that is sent, which may be put together from those of
	// many requests that were under way at once.
	MaxSent = 64 << 10
)

// ErrBad says that bytes are not a session token of this deployment.
var ErrBad = errors.New("not a session token of this deployment")

// Begin is the token of a session that has seen nothing.
func Begin() []byte { return []byte{format} }

// Piece is a sealed Part, as whoever has no secret sees it.
type Piece struct {
	Place Place
	// Sealed is the piece with its length.
	Sealed []byte
}

// Split takes a token apart. The pieces alias it. It checks nothing but the
// frame.
func Split(token []byte) ([]Piece, error) {
	if len(token) == 0 || token[0] != format {
		return nil, fmt.Errorf("%w: malformed", ErrBad)
	}
	var out []Piece
	for b := token[1:]; len(b) > 0; {
		r := strict.Reader{B: b}
		body := r.Bytes(MaxPiece)
		all := len(b) - len(r.B)
		if r.Bad || len(body) < header+mac || all > MaxPiece {
			return nil, fmt.Errorf("%w: malformed", ErrBad)
		}
		p := Place{body[1], binary.BigEndian.Uint16(body[2:])}
		if body[0] != kind || p.Bits > 16 || uint32(p.Prefix)>>p.Bits != 0 {
			return nil, fmt.Errorf("%w: malformed", ErrBad)
		}
		out = append(out, Piece{p, b[:all:all]})
		b = b[all:]
	}
	return out, nil
}

// Compose is the inverse of Split.
func Compose(pieces []Piece) []byte {
	n := 1
	for _, p := range pieces {
		n += len(p.Sealed)
	}
	out := append(make([]byte, 0, n), format)
	for _, p := range pieces {
		out = append(out, p.Sealed...)
	}
	return out
}

// Seal returns the piece of a Part, which it folds; false if it cannot be made
// to fit.
func (p *Part) Seal(keys crdt.Keys) (Piece, bool) {
	p.fold()
	if !p.fits() {
		return Piece{}, false
	}
	s, ok := p.seal(keys)
	if !ok && len(p.Soft) > 0 {
		p.Soft = nil // it asks for their events then
		return p.seal(keys)
	}
	return s, ok
}

func (p *Part) seal(keys crdt.Keys) (Piece, bool) {
	body := make([]byte, 0, 96)
	body = append(body, kind, p.Place.Bits)
	body = binary.BigEndian.AppendUint16(body, p.Place.Prefix)
	body = binary.AppendUvarint(body, uint64(p.Stamp))
	body = crdt.AppendClock(body, &p.Clock)
	body = binary.AppendUvarint(body, uint64(len(p.Ballots)))
	for _, b := range p.Ballots {
		body = binary.BigEndian.AppendUint64(body, b.KeyHash)
		body = binary.AppendUvarint(body, uint64(b.Dot.Actor))
		body = binary.AppendUvarint(body, b.Dot.N)
	}
	if len(p.Told.Actors()) > 0 || len(p.Soft) > 0 {
		body = crdt.AppendClock(body, &p.Told)
	}
	if len(p.Soft) > 0 {
		body = binary.AppendUvarint(body, uint64(len(p.Soft)))
	}
	for _, s := range p.Soft {
		body = binary.BigEndian.AppendUint64(body, s.KeyHash)
		for _, d := range []crdt.Dot{s.Version, s.Event} {
			body = binary.AppendUvarint(binary.AppendUvarint(body, uint64(d.Actor)), d.N)
		}
	}
	tag := keys.Sign(purpose, body)
	body = append(body, tag[:]...)
	sealed := binary.AppendUvarint(make([]byte, 0, len(body)+2), uint64(len(body)))
	sealed = append(sealed, body...)
	return Piece{p.Place, sealed}, len(sealed) <= MaxPiece
}

// verify returns the authentic body, and whether the key that signs now made it.
func (p Piece) verify(keys crdt.Keys) (body []byte, current bool, err error) {
	_, size := binary.Uvarint(p.Sealed)
	body, tag := p.Sealed[size:len(p.Sealed)-mac], p.Sealed[len(p.Sealed)-mac:]
	current = keys[:min(1, len(keys))].Verify(tag, purpose, body)
	if !current && (len(keys) < 2 || !keys[1:].Verify(tag, purpose, body)) {
		return nil, false, fmt.Errorf("%w: not authentic", ErrBad)
	}
	return body, current, nil
}

func decodePart(place Place, b []byte) (*Part, error) {
	bad := fmt.Errorf("%w: malformed", ErrBad)
	r := strict.Reader{B: b}
	stamp := r.Uvarint()
	if r.Bad {
		return nil, bad
	}
	clock, rest, err := crdt.DecodeClock(r.B)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrBad, err)
	}
	r.B = rest
	p := &Part{Place: place, Clock: *clock, Stamp: hlc.Stamp(stamp)}
	for range r.Count(MaxBallots, 10) {
		ballot := Ballot{KeyHash: r.Uint64(), Dot: crdt.Dot{Actor: crdt.Actor(r.Uint32()), N: r.Uvarint()}}
		if k := len(p.Ballots); r.Bad || ballot.Dot.N > crdt.MaxN || k > 0 && p.Ballots[k-1].compare(ballot) >= 0 {
			return nil, bad
		}
		p.Ballots = append(p.Ballots, ballot)
	}
	if !r.Bad && len(r.B) > 0 {
		told, rest, err := crdt.DecodeClock(r.B)
		if err != nil {
			return nil, fmt.Errorf("%w: %w", ErrBad, err)
		}
		if r.B = rest; len(told.Actors()) == 0 && len(r.B) == 0 {
			return nil, bad
		}
		p.Told = *told
	}
	if !r.Bad && len(r.B) > 0 {
		count := r.Count(MaxSoft, 12)
		r.Check(count > 0)
		for range count {
			soft := Soft{KeyHash: r.Uint64()}
			for _, d := range []*crdt.Dot{&soft.Version, &soft.Event} {
				*d = crdt.Dot{Actor: crdt.Actor(r.Uint32()), N: r.Uvarint()}
				r.Check(d.Actor != 0 && d.N != 0 && d.N <= crdt.MaxN)
			}
			if k := len(p.Soft); r.Bad || k > 0 && p.Soft[k-1].compare(soft) >= 0 || !p.Clock.Contains(soft.Event) {
				return nil, bad
			}
			p.Soft = append(p.Soft, soft)
		}
	}
	if !r.Whole() || !p.fits() {
		return nil, bad
	}
	return p, nil
}

// Token is a token that was verified, by a node.
type Token struct {
	keys  crdt.Keys
	place Place
	part  *Part   // of place, joined; nil for none
	rest  []Piece // of other places
	whole Piece   // of place, when there was one only, signed with the key that signs now
}

// Open verifies all of a token and decodes what it knows of one place. The
// result aliases the token.
func Open(keys crdt.Keys, token []byte, place Place) (*Token, error) {
	if len(token) > MaxSent {
		return nil, fmt.Errorf("%w: %d bytes, at most %d", ErrBad, len(token), MaxSent)
	}
	pieces, err := Split(token)
	if err != nil {
		return nil, err
	}
	t := &Token{keys: keys, place: place}
	for _, p := range pieces {
		if p.Place.Bits != place.Bits {
			return nil, fmt.Errorf("%w: of another number of partitions", ErrBad)
		}
		if err := t.take(p); err != nil {
			return nil, err
		}
	}
	return t, nil
}

func (t *Token) take(p Piece) error {
	body, current, err := p.verify(t.keys)
	if err != nil {
		return err
	}
	if p.Place != t.place && current {
		t.rest = append(t.rest, p)
		return nil
	}
	part, err := decodePart(p.Place, body[header:])
	switch {
	case err != nil:
		return err
	case p.Place != t.place:
		// The key that made it will be forgotten.
		if again, ok := part.Seal(t.keys); ok {
			p = again
		}
		t.rest = append(t.rest, p)
	case t.part == nil:
		t.part = part
		if current {
			t.whole = p
		}
	default:
		t.part.Join(part)
		t.whole = Piece{}
	}
	return nil
}

// Part is what the session knows of the place, nil for nothing.
func (t *Token) Part() *Part { return t.part }

// Without returns the token of a session that has accepted that some events are
// lost: it asks for them no more. dropped is as in With.
func (t *Token) Without(lost *crdt.Clock) (token []byte, dropped int) {
	return t.With(&Part{Place: t.place, Told: *lost.Clone()})
}

// With returns the token with what was seen of the place added to it. dropped
// is how many partitions had to be left out, those that were touched longest
// ago first; the session's promises are void there.
func (t *Token) With(seen *Part) (token []byte, dropped int) {
	pieces := slices.Clip(t.rest)
	switch {
	case seen.Empty() && t.part == nil:
	case t.whole.Sealed != nil && (seen.Empty() || t.part.Covers(seen)):
		pieces = append(pieces, t.whole)
	default:
		all := Part{Place: t.place}
		if t.part != nil {
			all.Join(t.part)
		}
		all.Join(seen)
		if p, ok := all.Seal(t.keys); ok {
			pieces = append(pieces, p)
		} else {
			dropped++
		}
	}
	size := 1
	for _, p := range pieces {
		size += len(p.Sealed)
	}
	for size > MaxToken {
		size -= len(pieces[0].Sealed)
		pieces = pieces[1:]
		dropped++
	}
	return Compose(pieces), dropped
}
