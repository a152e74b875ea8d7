package wire

import (
	"github.com/atolldb/atoll/crdt"
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
	if c.Verb == cas.Accept {
		w.bool(c.Unprepared)
		w.uvarint(uint64(c.Next))
		w.bytes(cas.AppendProposal(nil, hashring.KeyHash(m.Key), &c.Proposal))
	}
	return w.b
}

// DecodeSerial decodes a Serial.
func DecodeSerial(b []byte) (Serial, error) {
	r := reader{b: b}
	var m Serial
	c := &m.Message
	c.Verb = cas.Verb(r.byte())
	m.Key = r.bytes()
	c.Ballot, c.Decided, c.Events = r.ballot(), r.ballot(), r.dots()
	if c.Verb != cas.Commit {
		m.Home = r.epoch()
	}
	switch c.Verb {
	case cas.Prepare:
		r.bad = r.bad || c.Ballot == 0
	case cas.Accept:
		c.Unprepared, c.Next = r.bool(), r.ballot()
		c.Proposal = r.proposal(hashring.KeyHash(m.Key))
		r.bad = r.bad || c.Proposal.Ballot == 0
	case cas.Commit:
		r.bad = r.bad || c.Decided == 0
	default:
		r.bad = true
	}
	r.bad = r.bad || len(m.Key) == 0
	for _, d := range c.Events {
		r.bad = r.bad || d.Actor.IsBallot()
	}
	return m, r.end()
}

// AppendSerialAnswer appends an acceptor's answer: a byte for the verdict, and
// then the promised and the committed ballot, the accepted proposal and the
// record, if they are shown.
func AppendSerialAnswer(dst []byte, keyHash uint64, a *cas.Answer, shows bool) []byte {
	w := writer{append(dst, byte(a.Verdict))}
	if !shows {
		return w.b
	}
	w.uvarint(uint64(a.Promised))
	w.uvarint(uint64(a.Committed))
	w.bytes(cas.AppendProposal(nil, keyHash, &a.Accepted))
	if len(a.Record.Versions) > 0 {
		w.b = crdt.AppendRecord(w.b, keyHash, a.Record)
	}
	return w.b
}

// DecodeSerialAnswer decodes an acceptor's answer about the key of that hash.
func DecodeSerialAnswer(keyHash uint64, b []byte) (cas.Answer, error) {
	r := reader{b: b}
	a := cas.Answer{Verdict: cas.Verdict(r.byte())}
	r.bad = r.bad || a.Verdict < cas.OK || a.Verdict > cas.Missed
	if r.bad || len(r.b) == 0 {
		return a, r.end()
	}
	a.Promised, a.Committed = r.ballot(), r.ballot()
	a.Accepted = r.proposal(keyHash)
	if !r.bad && len(r.b) > 0 {
		rec, err := crdt.DecodeRecord(keyHash, r.b)
		r.bad = err != nil
		a.Record, r.b = rec, nil
	}
	return a, r.end()
}

// epoch of a bucket's home.
func (r *reader) epoch() home.Epoch {
	e := r.uint32()
	r.bad = r.bad || e > uint32(home.MaxEpoch)
	return home.Epoch(e)
}

func (r *reader) ballot() cas.Ballot {
	b := cas.Ballot(r.uvarint())
	r.bad = r.bad || b > cas.MaxBallot
	return b
}

func (r *reader) proposal(keyHash uint64) cas.Proposal {
	b := r.bytes()
	if r.bad {
		return cas.Proposal{}
	}
	p, err := cas.DecodeProposal(keyHash, b)
	r.bad = err != nil
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
	return w.b
}

// DecodeSerialPage decodes a SerialPage.
func DecodeSerialPage(b []byte) (SerialPage, error) {
	r := reader{b: b}
	m := SerialPage{More: r.bool()}
	n := r.count(2)
	for range n {
		s := SerialState{r.bytes(), r.bytes()}
		if r.bad || len(s.Key) == 0 {
			r.bad = true
			break
		}
		m.States = append(m.States, s)
	}
	return m, r.end()
}
