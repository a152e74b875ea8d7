package wire

import "github.com/atolldb/atoll/crdt"

// Forward is a client's write on its way to the node that mints it.
type Forward struct {
	Bucket     string
	Key, Value []byte
	// Context is the client's token, empty for a blind write.
	Context []byte
	Level   uint8
	W       uint32
	// TTL in milliseconds, 0 for never.
	TTL                       uint64
	Delete, Overwrite, Sloppy bool
	// Regions is how many regions must have it, 0 for by level.
	Regions uint32
	// RequestID names the write in all its attempts, nil for none; Retry: there
	// may have been an earlier one, and Attempt is the ballot of this one.
	RequestID *[16]byte
	Retry     bool
	Attempt   uint64
	// TriedIn are the regions of earlier attempts, none for any; of a retry only,
	// at most maxNodes.
	TriedIn []string
	// Session is the client's session token, empty for none.
	Session   []byte
	Condition crdt.Condition
}

// The flags of a Forward, one byte.
const (
	forwardDelete    = 1
	forwardOverwrite = 2
	forwardSloppy    = 4
	forwardRetry     = 8  // the ballot follows the request id, 8 bytes, and where it was tried
	forwardID        = 16 // the request id follows, 16 bytes
	forwardExtras    = 32 // regions, session and condition follow

	forwardFlags = 63
)

// AppendForward appends the encoding of m.
func AppendForward(dst []byte, m *Forward) []byte {
	w := writer{dst}
	w.string(m.Bucket)
	w.bytes(m.Key)
	w.bytes(m.Value)
	w.bytes(m.Context)
	w.byte(m.Level)
	w.uvarint(uint64(m.W))
	w.uvarint(m.TTL)
	var flags byte
	if m.Delete {
		flags |= forwardDelete
	}
	if m.Overwrite {
		flags |= forwardOverwrite
	}
	if m.Sloppy {
		flags |= forwardSloppy
	}
	if m.Retry {
		flags |= forwardRetry
	}
	if m.RequestID != nil {
		flags |= forwardID
	}
	extras := m.Regions != 0 || len(m.Session) > 0 || m.Condition != (crdt.Condition{})
	if extras {
		flags |= forwardExtras
	}
	w.byte(flags)
	if m.RequestID != nil {
		w.b = append(w.b, m.RequestID[:]...)
	}
	if m.Retry {
		w.uint64(m.Attempt)
		w.strings(m.TriedIn)
	}
	if extras {
		w.uvarint(uint64(m.Regions))
		w.bytes(m.Session)
		w.byte(byte(m.Condition.Kind))
		w.dot(m.Condition.Version)
	}
	return w.b
}

// DecodeForward decodes a Forward.
func DecodeForward(b []byte) (Forward, error) {
	r := newReader(b)
	m := Forward{
		Bucket: r.string(), Key: r.bytes(), Value: r.bytes(), Context: r.bytes(),
		Level: r.Byte(), W: r.Uint32(), TTL: r.Uvarint(),
	}
	flags := r.Byte()
	m.Delete, m.Overwrite, m.Sloppy = flags&forwardDelete != 0, flags&forwardOverwrite != 0, flags&forwardSloppy != 0
	r.Bad = r.Bad || flags&^forwardFlags != 0
	m.Retry = flags&forwardRetry != 0
	if flags&forwardID != 0 {
		m.RequestID = new([16]byte)
		r.id((*crdt.RequestID)(m.RequestID))
	}
	if m.Retry {
		m.Attempt, m.TriedIn = r.Uint64(), r.strings()
	}
	if flags&forwardExtras != 0 {
		m.Regions, m.Session = r.Uint32(), r.bytes()
		m.Condition.Kind = crdt.ConditionKind(r.Byte())
		m.Condition.Version = r.dot()
		r.Bad = r.Bad || !m.Condition.Valid()
	}
	return m, r.end()
}

// Forwarded is what became of a Forward: a byte that is 0, and then
// ForwardDone's fields, or a byte that is 1, and then ForwardFailed's.
type Forwarded struct {
	Done   ForwardDone
	Failed *ForwardFailed // nil for a success
}

// ForwardDone is a write that was acknowledged.
type ForwardDone struct {
	Version crdt.Dot
	// Event is the dot that clocks know the write by.
	Event   crdt.Dot
	Stamp   uint64
	Context []byte
	Level   uint8
	Needed  uint32
	// Degraded: some of those who should have it were not asked.
	Degraded bool
	// MaybeDuplicate and Replayed are about retries.
	MaybeDuplicate, Replayed bool
	// ManySiblings: the key has as many versions as its bucket warns of. And the
	// context was too large to hand out.
	ManySiblings, ContextOmitted bool
	// Session is the client's token with this write, empty for none.
	Session     []byte
	Coordinator string
	// Replicas are the owners that have it, Hinted those who keep it for
	// others; at most maxNodes each.
	Replicas, Hinted []string
	// Reached is the strongest level that is fulfilled, Regions what each region
	// had to do with it; at most maxNodes.
	Reached uint8
	Regions []ForwardRegion
}

// ForwardRegion is what a region had to do with a write.
type ForwardRegion struct {
	Region           string
	State            uint8
	Replicas, Needed uint32
	Detail           string
}

// ForwardFailed is a write that was not.
type ForwardFailed struct {
	Code, Outcome uint8
	// Again: another owner may do better. Newcomer: this one may not mint a request's
	// first attempt.
	Again, Newcomer bool
	// MaybeDuplicate: a retry of unknown outcome may have been a second event.
	MaybeDuplicate             bool
	Detail, Field, Limit, Seen string
	Needed, Acks, RetryAfterMs uint32
	// Lacks is what too few of answered, 0 for owners.
	Lacks uint8
	// Current is the record that is there, for a condition that did not hold.
	Current []byte
	// Applied is what was achieved nevertheless, nil for nothing.
	Applied *ForwardDone
	// Lost, nil for nothing, is what the write's session knew and is lost.
	Lost *crdt.Clock
}

// maxNodes bounds the lists of nodes in a message.
const maxNodes = 128

// AppendForwarded appends the encoding of m.
func AppendForwarded(dst []byte, m *Forwarded) []byte {
	w := writer{dst}
	w.bool(m.Failed != nil)
	if e := m.Failed; e != nil {
		w.byte(e.Code)
		w.byte(e.Outcome)
		w.bool(e.Again)
		w.bool(e.Newcomer)
		w.bool(e.MaybeDuplicate)
		for _, s := range []string{e.Detail, e.Field, e.Limit, e.Seen} {
			w.string(s)
		}
		w.uvarint(uint64(e.Needed))
		w.uvarint(uint64(e.Acks))
		w.uvarint(uint64(e.RetryAfterMs))
		w.byte(e.Lacks)
		w.bytes(e.Current)
		w.bool(e.Applied != nil)
		if e.Applied != nil {
			w.done(e.Applied)
		}
		w.bool(e.Lost != nil)
		if e.Lost != nil {
			w.clock(e.Lost)
		}
		return w.b
	}
	w.done(&m.Done)
	return w.b
}

func (w *writer) done(d *ForwardDone) {
	w.uvarint(uint64(d.Version.Actor))
	w.uvarint(d.Version.N)
	w.uvarint(d.Stamp)
	w.bytes(d.Context)
	w.byte(d.Level)
	w.uvarint(uint64(d.Needed))
	w.bool(d.Degraded)
	w.dot(d.Event)
	w.bool(d.MaybeDuplicate)
	w.bool(d.Replayed)
	w.bool(d.ManySiblings)
	w.bool(d.ContextOmitted)
	w.bytes(d.Session)
	w.string(d.Coordinator)
	w.strings(d.Replicas)
	w.strings(d.Hinted)
	w.byte(d.Reached)
	w.uvarint(uint64(len(d.Regions)))
	for _, g := range d.Regions {
		w.string(g.Region)
		w.byte(g.State)
		w.uvarint(uint64(g.Replicas))
		w.uvarint(uint64(g.Needed))
		w.string(g.Detail)
	}
}

func (r *reader) done() ForwardDone {
	d := ForwardDone{
		Version: crdt.Dot{Actor: crdt.Actor(r.Uint32()), N: r.Uvarint()},
		Stamp:   r.Uvarint(), Context: r.bytes(), Level: r.Byte(), Needed: r.Uint32(),
		Degraded: r.bool(), Event: r.dot(), MaybeDuplicate: r.bool(), Replayed: r.bool(),
		ManySiblings: r.bool(), ContextOmitted: r.bool(), Session: r.bytes(),
		Coordinator: r.string(), Replicas: r.strings(), Hinted: r.strings(), Reached: r.Byte(),
	}
	n := r.count(5)
	if n > maxNodes {
		r.Bad = true
	}
	if r.Bad || n == 0 {
		return d
	}
	d.Regions = make([]ForwardRegion, n)
	for i := range d.Regions {
		d.Regions[i] = ForwardRegion{Region: r.string(), State: r.Byte(), Replicas: r.Uint32(), Needed: r.Uint32(), Detail: r.string()}
	}
	return d
}

// DecodeForwarded decodes a Forwarded.
func DecodeForwarded(b []byte) (Forwarded, error) {
	r := newReader(b)
	if r.bool() {
		e := &ForwardFailed{Code: r.Byte(), Outcome: r.Byte(), Again: r.bool(), Newcomer: r.bool(), MaybeDuplicate: r.bool()}
		for _, s := range []*string{&e.Detail, &e.Field, &e.Limit, &e.Seen} {
			*s = r.string()
		}
		e.Needed, e.Acks, e.RetryAfterMs = r.Uint32(), r.Uint32(), r.Uint32()
		e.Lacks = r.Byte()
		e.Current = r.bytes()
		if r.bool() {
			d := r.done()
			e.Applied = &d
		}
		if r.bool() {
			e.Lost = r.clock()
		}
		return Forwarded{Failed: e}, r.end()
	}
	m := Forwarded{Done: r.done()}
	return m, r.end()
}
