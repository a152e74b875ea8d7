package regionmap

import (
	"cmp"
	"errors"
	"fmt"
)

// Ballot orders the proposals for the next content. The nonce keeps two nodes of a
// region apart.
type Ballot struct {
	Round uint64
	By    uint8
	Nonce uint32
}

// Compare orders ballots.
func (b Ballot) Compare(o Ballot) int {
	return cmp.Or(cmp.Compare(b.Round, o.Round), cmp.Compare(b.By, o.By), cmp.Compare(b.Nonce, o.Nonce))
}

// Register is what one region's store keeps: the acceptor's state, and what is
// decided. Methods return the state that follows; it counts once it is stored in
// the place of the one before.
type Register struct {
	Promised Ballot
	// Accepted at ballot At, nil for none. It may be decided already.
	At       Ballot
	Accepted *Map
	Decided  Known
}

// ErrOutbid says that a region has promised a higher ballot, or knows of a later
// decision: begin again.
var ErrOutbid = errors.New("somebody else is changing the map of regions")

// Prepare promises to accept nothing below b.
func (r Register) Prepare(b Ballot) (Register, error) {
	if b.Compare(r.Promised) < 0 {
		return r, fmt.Errorf("%w: ballot %v, promised %v", ErrOutbid, b, r.Promised)
	}
	r.Promised = b
	return r, nil
}

// Accept accepts m at b.
func (r Register) Accept(b Ballot, m *Map) (Register, error) {
	if b.Compare(r.Promised) < 0 {
		return r, fmt.Errorf("%w: ballot %v, promised %v", ErrOutbid, b, r.Promised)
	}
	if d := r.Decided.Map; d != nil && d.N >= m.N && !d.Equal(m) {
		return r, fmt.Errorf("%w: number %d is decided, this is %d", ErrOutbid, d.N, m.N)
	}
	r.Promised, r.At, r.Accepted = b, b, m
	return r, nil
}

// Decide takes what was decided elsewhere.
func (r Register) Decide(k Known) Register {
	r.Decided = Join(r.Decided, k)
	if d := r.Decided.Map; d != nil && r.Accepted != nil && r.Accepted.N <= d.N {
		r.Accepted, r.At = nil, Ballot{}
	}
	return r
}

// Base is what a proposer has to go by, from the registers of a majority that have
// promised its ballot, and what it knows itself: the newest decision, and what has to
// be proposed before anything new is, since it may be decided; nil for nothing.
func Base(known Known, promises []Register) (Known, *Map) {
	for _, r := range promises {
		known = Join(known, r.Decided)
	}
	var finish *Map
	var at Ballot
	for _, r := range promises {
		if r.Accepted == nil || known.Map != nil && r.Accepted.N <= known.Map.N {
			continue
		}
		if finish == nil || r.At.Compare(at) > 0 {
			finish, at = r.Accepted, r.At
		}
	}
	return known, finish
}
