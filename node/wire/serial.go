package wire

import (
	"github.com/atolldb/atoll/crdt"
	"github.com/atolldb/atoll/crdt/hlc"
	"github.com/atolldb/atoll/hashring"
	"github.com/atolldb/atoll/node/cas"
	"github.com/atolldb/atoll/node/home"
)

// Serial is a step of a key's consensus on its way to an acceptor:
//
//	1 byte    verb
//	bytes     full key
//	uvarint   ballot, of a Prepare
//	uvarint   a ballot that was decided, 0 for none
//	dots      the write events that it is
//	          and unless it is a Commit:
//	uvarint   epoch of the bucket's home, 0 for what the region decides for itself
//	          for a Prepare:
//	bytes     the id of the request that it asks for, empty or 16 bytes
//	          and for an Accept:
//	bool      unprepared
//	uvarint   the ballot to promise with it
//	bytes     the proposal, as it is stored
type Serial struct {
	Key     []byte
	Home    home.Epoch
	Message cas.Message
}

// AppendSerial appends the encoding of m.
func AppendSerial(dst []byte, m *Serial) []byte {
	w := writer{dst}
	c := &m.Message
	w.byte(byte(c.Verb))
	w.bytes(m.Key)
	w.uvarint(uint64(c.Ballot))
	w.uvarint(uint64(c.Decided))
	w.dots(c.Events)
	if c.Verb != cas.Commit {
		w.uvarint(uint64(m.Home))
	}
	if c.Verb == cas.Prepare {
		if id := c.Proposal.ID; id.IsZero() {
			w.bytes(nil)
		} else {
			w.bytes(id[:])
		}
	}
	if c.Verb == cas.Accept {
		w.bool(c.Unprepared)
		w.uvarint(uint64(c.Next))
		w.bytes(cas.AppendProposal(nil, hashring.KeyHash(m.Key), &c.Proposal))
	}
	return w.b
}

// DecodeSerial decodes a Serial.
func DecodeSerial(b []byte) (Serial, error) {
	r := newReader(b)
	var m Serial
	c := &m.Message
	c.Verb = cas.Verb(r.Byte())
	m.Key = r.bytes()
	c.Ballot, c.Decided, c.Events = r.ballot(), r.ballot(), r.dots()
	if c.Verb != cas.Commit {
		m.Home = r.epoch()
	}
	switch c.Verb {
	case cas.Prepare:
		if id := r.bytes(); len(id) == 16 {
			c.Proposal.ID = crdt.RequestID(id)
			r.Bad = r.Bad || c.Proposal.ID.IsZero()
		} else if len(id) != 0 {
			r.Bad = true
		}
		r.Bad = r.Bad || c.Ballot == 0
	case cas.Accept:
		c.Unprepared, c.Next = r.bool(), r.ballot()
		c.Proposal = r.proposal(hashring.KeyHash(m.Key))
		r.Bad = r.Bad || c.Proposal.Ballot == 0
	case cas.Commit:
		r.Bad = r.Bad || c.Decided == 0
	default:
		r.Bad = true
	}
	r.Bad = r.Bad || len(m.Key) == 0
	for _, d := range c.Events {
		r.Bad = r.Bad || d.Actor.IsBallot()
	}
	return m, r.end()
}

// The flags of a SerialAnswer.
const (
	answerUnsure  = 1
	answerCarried = 2
	answerDoubt   = 4 // only with answerCarried
	answerEnded   = 8 // also
)

// AppendSerialAnswer appends an acceptor's answer: a byte for the verdict, and
// then, if they are shown, the promised and the committed ballot, the accepted
// proposal, what is known of the request (a byte of flags, and with
// answerCarried its version, event and stamp), and the record.
func AppendSerialAnswer(dst []byte, keyHash uint64, a *cas.Answer, shows bool) []byte {
	w := writer{append(dst, byte(a.Verdict))}
	if !shows {
		return w.b
	}
	w.uvarint(uint64(a.Promised))
	w.uvarint(uint64(a.Committed))
	w.bytes(cas.AppendProposal(nil, keyHash, &a.Accepted))
	var flags byte
	if a.Unsure {
		flags |= answerUnsure
	}
	if !a.Carried.IsZero() {
		flags |= answerCarried
		if a.Carried.Doubt {
			flags |= answerDoubt
		}
		if a.Carried.Ended {
			flags |= answerEnded
		}
	}
	w.byte(flags)
	if c := &a.Carried; !c.IsZero() {
		w.dot(c.Version)
		w.dot(c.Event)
		w.uint64(uint64(c.Stamp))
	}
	if len(a.Record.Versions) > 0 {
		w.b = crdt.AppendRecord(w.b, keyHash, a.Record)
	}
	return w.b
}

// DecodeSerialAnswer decodes an acceptor's answer about the key of that hash.
func DecodeSerialAnswer(keyHash uint64, b []byte) (cas.Answer, error) {
	r := newReader(b)
	a := cas.Answer{Verdict: cas.Verdict(r.Byte())}
	r.Bad = r.Bad || a.Verdict < cas.OK || a.Verdict > cas.Missed
	if r.Bad || len(r.B) == 0 {
		return a, r.end()
	}
	a.Promised, a.Committed = r.ballot(), r.ballot()
	a.Accepted = r.proposal(keyHash)
	flags := r.Byte()
	a.Unsure = flags&answerUnsure != 0
	if flags&answerCarried != 0 {
		a.Carried = cas.Carried{Version: r.dot(), Event: r.dot(), Stamp: hlc.Stamp(r.Uint64()), Doubt: flags&answerDoubt != 0, Ended: flags&answerEnded != 0}
		r.Bad = r.Bad || a.Carried.IsZero()
	}
	r.Bad = r.Bad || flags > answerUnsure|answerCarried|answerDoubt|answerEnded || flags&(answerDoubt|answerEnded) != 0 && flags&answerCarried == 0
	if !r.Bad && len(r.B) > 0 {
		rec, err := crdt.DecodeRecord(keyHash, r.B)
		r.Bad = err != nil
		a.Record, r.B = rec, nil
	}
	return a, r.end()
}

// epoch of a bucket's home.
func (r *reader) epoch() home.Epoch {
	e := r.Uint32()
	r.Bad = r.Bad || e > uint32(home.MaxEpoch)
	return home.Epoch(e)
}

func (r *reader) ballot() cas.Ballot {
	b := cas.Ballot(r.Uvarint())
	r.Bad = r.Bad || b > cas.MaxBallot
	return b
}

func (r *reader) proposal(keyHash uint64) cas.Proposal {
	b := r.bytes()
	if r.Bad {
		return cas.Proposal{}
	}
	p, err := cas.DecodeProposal(keyHash, b)
	r.Bad = err != nil
	return p
}

// SerialStates asks for a page of the acceptor states whose key hash is in
// First..Last, in the store's order, behind the full key After.
type SerialStates struct {
	Partition   hashring.Partition
	First, Last uint64
	After       []byte
	MaxBytes    int
}

// AppendSerialStates appends the encoding of m.
func AppendSerialStates(dst []byte, m SerialStates) []byte {
	return AppendScan(dst, Scan{Partition: m.Partition, First: m.First, Last: m.Last, After: m.After, MaxBytes: m.MaxBytes})
}

// DecodeSerialStates decodes a SerialStates.
func DecodeSerialStates(b []byte) (SerialStates, error) {
	m, err := DecodeScan(b)
	if err == nil && m.Afar != (Afar{}) {
		err = ErrMalformed
	}
	return SerialStates{Partition: m.Partition, First: m.First, Last: m.Last, After: m.After, MaxBytes: m.MaxBytes}, err
}

// SerialPage answers a SerialStates.
type SerialPage struct {
	// More: there is a next page behind the last state.
	More   bool
	States []SerialState
	// Min is the ballot below which who answers accepts nothing in the partition.
	Min uint64
}

// SerialState is the state of one key, in its stored form.
type SerialState struct {
	Key, State []byte
}

// AppendSerialPage appends the encoding of m.
func AppendSerialPage(dst []byte, m *SerialPage) []byte {
	w := writer{dst}
	w.bool(m.More)
	w.uvarint(uint64(len(m.States)))
	for _, s := range m.States {
		w.bytes(s.Key)
		w.bytes(s.State)
	}
	w.uvarint(m.Min)
	return w.b
}

// DecodeSerialPage decodes a SerialPage.
func DecodeSerialPage(b []byte) (SerialPage, error) {
	r := newReader(b)
	m := SerialPage{More: r.bool()}
	n := r.count(2)
	for range n {
		s := SerialState{r.bytes(), r.bytes()}
		if r.Bad || len(s.Key) == 0 {
			r.Bad = true
			break
		}
		m.States = append(m.States, s)
	}
	m.Min = r.Uvarint()
	return m, r.end()
}
