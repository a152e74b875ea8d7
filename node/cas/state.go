package cas

import (
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"

	"github.com/atolldb/atoll/crdt"
	"github.com/atolldb/atoll/internal/strict"
)

// Proposal is what one ballot proposes.
type Proposal struct {
	Ballot Ballot // 0: there is none
	// Dot names the version that it is about; zero for a no-op. Its counter is
	// that of the ballot that proposed it first.
	Dot crdt.Dot
	// ID of the client's request that it carries out, zero for none. A no-op that has
	// one ends the request: nothing is proposed for it any more.
	ID crdt.RequestID
	// Record is the complete record that results; for a no-op, what its
	// proposer saw.
	Record crdt.Record
}

// NoOp reports whether p writes nothing.
func (p *Proposal) NoOp() bool { return p.Dot.IsZero() }

// State is what an acceptor keeps of a key that saw a conditional write, until it is
// Spent.
// The zero State is that of any other key.
type State struct {
	// Promised: nothing below is accepted any more.
	Promised Ballot
	// Accepted and not yet known to be decided; Ballot 0 for nothing.
	Accepted Proposal
	// Committed is the highest ballot that is known to be decided here.
	Committed Ballot
}

// Pending reports whether s holds a proposal of which nobody knows here whether
// it was decided.
func (s *State) Pending() bool { return s.Accepted.Ballot != 0 }

// Spent reports whether s says nothing that its acceptor does not know anyway, when
// no acceptor of the key accepts, or holds undecided, anything below that ballot.
func (s *State) Spent(below Ballot) bool {
	return !s.Pending() && s.Promised < below && s.Committed < below
}

// Same reports whether s and o say the same.
func (s *State) Same(o State) bool {
	return s.Promised == o.Promised && s.Committed == o.Committed && s.Accepted.Ballot == o.Accepted.Ballot
}

// Merge takes in what another acceptor of the same key knows: for one that
// lacks what it once knew, or that takes a slot over.
func (s State) Merge(o State) State {
	s.Promised = max(s.Promised, o.Promised)
	s.Committed = max(s.Committed, o.Committed)
	if o.Accepted.Ballot > s.Accepted.Ballot {
		s.Accepted = o.Accepted
	}
	return s.settled()
}

// Fate of a proposal, as a record tells that holds all that was decided before it.
type Fate uint8

// The fates.
const (
	Open     Fate = iota // it was not decided; if it stands nowhere any more it will not be
	Decided              // it was
	Doubtful             // it was, or something else was after it was passed over
)

// fateOf tells by what is there and in its past. A past names the highest ballot
// that it covers truly, and all below it only for being below.
func fateOf(r crdt.Record, d crdt.Dot) Fate {
	switch n := r.Context().Seen.Get(d.Actor); {
	case r.Find(d) != nil, n == d.N:
		return Decided
	case r.Covers(d):
		return Doubtful
	}
	return Open
}

// Carried returns the proposal of a request that s held and next does not hold any
// more, and what became of it, by record, which goes with next, and by what is
// accepted in its place. Nothing but a note of it can tell that later. There is
// nothing to be noted of one that is Open.
func (s State) Carried(next State, record crdt.Record) (Proposal, Fate) {
	p := s.Accepted
	if p.NoOp() || p.ID.IsZero() || next.Accepted.Dot == p.Dot {
		return Proposal{}, Open
	}
	f := fateOf(record, p.Dot)
	if f != Decided && next.Pending() {
		f = max(f, fateOf(next.Accepted.Record, p.Dot))
		if fateOf(next.Accepted.Record, p.Dot) == Decided {
			f = Decided
		}
	}
	return p, f
}

// Learned takes in a record that was joined here from elsewhere: what it holds
// or covers is decided, and all before it is passed over. A proposal is named by the
// ballot that proposed it first; what was accepted here may have been decided by the later
// one that it was accepted with.
func (s State) Learned(r crdt.Record) State {
	if d := s.Accepted.Dot; !d.IsZero() {
		n := Ballot(r.MaxBallot(d.Actor.Region()))
		if n >= Ballot(d.N) {
			s.Committed = max(s.Committed, n)
			if r.Covers(d) {
				s.Committed = max(s.Committed, s.Accepted.Ballot)
			}
		}
	}
	return s.settled()
}

// settled forgets what is decided or passed over.
func (s State) settled() State {
	if s.Accepted.Ballot <= s.Committed {
		s.Accepted = Proposal{}
	}
	return s
}

// The stored form of a State:
//
//	1 byte    format, 2 (1 is the same without request ids)
//	uvarint   promised
//	uvarint   committed
//	uvarint   accepted ballot, 0 for none; and if there is one
//	  uvarint   the actor of its dot, 0 for a no-op
//	  uvarint   the counter of its dot, 0 for a no-op
//	  1 byte    1 if the id of a request follows, else 0
//	  16 bytes  the id
//	  uvarint   length of the record's canonical encoding, and that
//	4 bytes   CRC-32C, big-endian, over the key hash (8 bytes, big-endian) and
//	          all of the above
//
// It is canonical: uvarints are minimal, what is settled is not kept, and
// nothing accepted is above the promise.

const (
	stateFormat    = 2
	stateWithoutID = 1
)

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// ErrCorrupt says that bytes are not a State that this package wrote for this
// key.
var ErrCorrupt = errors.New("corrupt acceptor state")

func checksum(keyHash uint64, b []byte) uint32 {
	var h [8]byte
	binary.BigEndian.PutUint64(h[:], keyHash)
	return crc32.Update(crc32.Checksum(h[:], castagnoli), castagnoli, b)
}

// AppendState appends the stored form of s, bound to its key by keyHash.
func AppendState(dst []byte, keyHash uint64, s State) []byte {
	start := len(dst)
	dst = append(dst, stateFormat)
	dst = binary.AppendUvarint(dst, uint64(s.Promised))
	dst = binary.AppendUvarint(dst, uint64(s.Committed))
	dst = AppendProposal(dst, keyHash, &s.Accepted)
	return binary.BigEndian.AppendUint32(dst, checksum(keyHash, dst[start:]))
}

// AppendProposal appends p as it stands in a State.
func AppendProposal(dst []byte, keyHash uint64, p *Proposal) []byte {
	dst = binary.AppendUvarint(dst, uint64(p.Ballot))
	if p.Ballot == 0 {
		return dst
	}
	dst = binary.AppendUvarint(dst, uint64(p.Dot.Actor))
	dst = binary.AppendUvarint(dst, p.Dot.N)
	if p.ID.IsZero() {
		dst = append(dst, 0)
	} else {
		dst = append(append(dst, 1), p.ID[:]...)
	}
	record := crdt.AppendRecord(nil, keyHash, p.Record)
	dst = binary.AppendUvarint(dst, uint64(len(record)))
	return append(dst, record...)
}

// DecodeState decodes what AppendState wrote for the same key hash; values
// alias b. Any other bytes give an error that wraps ErrCorrupt.
func DecodeState(keyHash uint64, b []byte) (State, error) {
	if len(b) < 5 {
		return State{}, fmt.Errorf("%w: %d bytes", ErrCorrupt, len(b))
	}
	body, sum := b[:len(b)-4], binary.BigEndian.Uint32(b[len(b)-4:])
	if checksum(keyHash, body) != sum {
		return State{}, fmt.Errorf("%w: checksum", ErrCorrupt)
	}
	d := decoder{strict.Reader{B: body[1:], Bad: body[0] != stateFormat && body[0] != stateWithoutID}, body[0] == stateWithoutID}
	s := State{Promised: d.ballot(), Committed: d.ballot()}
	s.Accepted = d.proposal(keyHash)
	if d.Bad || len(d.B) != 0 || s.Accepted.Ballot > s.Promised ||
		s.Pending() && s.Accepted.Ballot <= s.Committed {
		return State{}, fmt.Errorf("%w: structure", ErrCorrupt)
	}
	return s, nil
}

// DecodeProposal decodes what AppendProposal wrote for the same key hash, and
// nothing behind it.
func DecodeProposal(keyHash uint64, b []byte) (Proposal, error) {
	d := decoder{Reader: strict.Reader{B: b}}
	p := d.proposal(keyHash)
	if d.Bad || len(d.B) != 0 {
		return Proposal{}, fmt.Errorf("%w: proposal", ErrCorrupt)
	}
	return p, nil
}

type decoder struct {
	strict.Reader
	old bool // stateWithoutID
}

func (d *decoder) ballot() Ballot {
	b := Ballot(d.Uvarint())
	d.Bad = d.Bad || b > MaxBallot
	return b
}

// id of a request, zero for none.
func (d *decoder) id() (id crdt.RequestID) {
	if d.old || d.Bad {
		return id
	}
	if len(d.B) == 0 || d.B[0] > 1 || d.B[0] == 1 && len(d.B) < 17 {
		d.Bad = true
		return id
	}
	has := d.B[0] == 1
	d.B = d.B[1:]
	if has {
		id, d.B = crdt.RequestID(d.B[:16]), d.B[16:]
		d.Bad = id.IsZero()
	}
	return id
}

func (d *decoder) proposal(keyHash uint64) Proposal {
	p := Proposal{Ballot: d.ballot()}
	if d.Bad || p.Ballot == 0 {
		return p
	}
	a, n := d.Uvarint(), d.Uvarint()
	p.Dot = crdt.Dot{Actor: crdt.Actor(a), N: n}
	p.ID = d.id()
	named := a <= 1<<32-1 && p.Dot.Actor.IsBallot() && n > 0 && n <= uint64(p.Ballot)
	size := d.Uvarint()
	if d.Bad || !named && !p.Dot.IsZero() || size > uint64(len(d.B)) {
		d.Bad = true
		return p
	}
	r, err := crdt.DecodeRecord(keyHash, d.B[:size:size])
	d.Bad = err != nil
	p.Record, d.B = r, d.B[size:]
	return p
}
