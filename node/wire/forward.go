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
}

// The flags of a Forward, one byte.
const (
	forwardDelete    = 1
	forwardOverwrite = 2
	forwardSloppy    = 4
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
	w.byte(flags)
	return w.b
}

// DecodeForward decodes a Forward.
func DecodeForward(b []byte) (Forward, error) {
	r := reader{b: b}
	m := Forward{
		Bucket: r.string(), Key: r.bytes(), Value: r.bytes(), Context: r.bytes(),
		Level: r.byte(), W: r.uint32(), TTL: r.uvarint(),
	}
	flags := r.byte()
	m.Delete, m.Overwrite, m.Sloppy = flags&forwardDelete != 0, flags&forwardOverwrite != 0, flags&forwardSloppy != 0
	r.bad = r.bad || flags&^(forwardDelete|forwardOverwrite|forwardSloppy) != 0
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
	Stamp   uint64
	Context []byte
	Level   uint8
	Needed  uint32
	// Degraded: some of those who should have it were not asked.
	Degraded    bool
	Coordinator string
	// Replicas are the owners that have it, Hinted those who keep it for
	// others; at most maxNodes each.
	Replicas, Hinted []string
}

// ForwardFailed is a write that was not.
type ForwardFailed struct {
	Code, Outcome uint8
	// Again: another owner may do better.
	Again                      bool
	Detail, Field, Limit, Seen string
	Needed, Acks, RetryAfterMs uint32
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
		for _, s := range []string{e.Detail, e.Field, e.Limit, e.Seen} {
			w.string(s)
		}
		w.uvarint(uint64(e.Needed))
		w.uvarint(uint64(e.Acks))
		w.uvarint(uint64(e.RetryAfterMs))
		return w.b
	}
	d := &m.Done
	w.uvarint(uint64(d.Version.Actor))
	w.uvarint(d.Version.N)
	w.uvarint(d.Stamp)
	w.bytes(d.Context)
	w.byte(d.Level)
	w.uvarint(uint64(d.Needed))
	w.bool(d.Degraded)
	w.string(d.Coordinator)
	w.strings(d.Replicas)
	w.strings(d.Hinted)
	return w.b
}

// DecodeForwarded decodes a Forwarded.
func DecodeForwarded(b []byte) (Forwarded, error) {
	r := reader{b: b}
	if r.bool() {
		e := &ForwardFailed{Code: r.byte(), Outcome: r.byte(), Again: r.bool()}
		for _, s := range []*string{&e.Detail, &e.Field, &e.Limit, &e.Seen} {
			*s = r.string()
		}
		e.Needed, e.Acks, e.RetryAfterMs = r.uint32(), r.uint32(), r.uint32()
		return Forwarded{Failed: e}, r.end()
	}
	m := Forwarded{Done: ForwardDone{
		Version: crdt.Dot{Actor: crdt.Actor(r.uint32()), N: r.uvarint()},
		Stamp:   r.uvarint(), Context: r.bytes(), Level: r.byte(), Needed: r.uint32(),
		Degraded: r.bool(), Coordinator: r.string(), Replicas: r.strings(), Hinted: r.strings(),
	}}
	return m, r.end()
}
