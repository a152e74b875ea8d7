package coord

import (
	"encoding/binary"
	"time"

	"github.com/atolldb/atoll/crdt"
	"github.com/atolldb/atoll/crdt/hlc"
	"github.com/atolldb/atoll/node/peer"
	"github.com/atolldb/atoll/node/quorum"
	"github.com/atolldb/atoll/node/topology"
	"github.com/atolldb/atoll/node/wire"
)

// A forwarded write and its reply, packed: uvarints, length-prefixed bytes and
// single bytes in the order written here.

const (
	putDelete    = 1
	putOverwrite = 2
)

func appendPut(dst []byte, p *Put) []byte {
	dst = appendBytes(dst, []byte(p.Bucket))
	dst = appendBytes(dst, p.Key)
	dst = appendBytes(dst, p.Value)
	dst = appendBytes(dst, p.Context)
	dst = append(dst, byte(p.Level))
	dst = binary.AppendUvarint(dst, uint64(p.W))
	dst = binary.AppendUvarint(dst, uint64(p.TTL/time.Millisecond))
	var flags byte
	if p.Delete {
		flags |= putDelete
	}
	if p.Overwrite {
		flags |= putOverwrite
	}
	return append(dst, flags)
}

func decodePut(b []byte) (Put, error) {
	u := unpacker{b: b}
	p := Put{
		Bucket:  string(u.bytes()),
		Key:     u.bytes(),
		Value:   u.bytes(),
		Context: u.bytes(),
		Level:   quorum.Level(u.byte()),
		W:       int(min(u.uvarint(), 1<<16)),
		TTL:     time.Duration(min(u.uvarint(), uint64(maxTTL/time.Millisecond))) * time.Millisecond,
	}
	flags := u.byte()
	p.Delete, p.Overwrite = flags&putDelete != 0, flags&putOverwrite != 0
	u.bad = u.bad || flags&^(putDelete|putOverwrite) != 0
	return p, u.end()
}

func appendPutReply(dst []byte, r PutResult, e *Error) []byte {
	if e != nil {
		dst = append(dst, 1, byte(e.Code), byte(e.Outcome))
		var again byte
		if e.again {
			again = 1
		}
		dst = append(dst, again)
		for _, s := range []string{e.Detail, e.Field, e.Limit, e.Seen} {
			dst = appendBytes(dst, []byte(s))
		}
		dst = binary.AppendUvarint(dst, uint64(e.Needed))
		dst = binary.AppendUvarint(dst, uint64(e.Acks))
		return binary.AppendUvarint(dst, uint64(e.RetryAfterMs))
	}
	dst = append(dst, 0)
	dst = binary.AppendUvarint(dst, uint64(r.Version.Actor))
	dst = binary.AppendUvarint(dst, r.Version.N)
	dst = binary.AppendUvarint(dst, uint64(r.Stamp))
	dst = appendBytes(dst, r.Context)
	dst = append(dst, byte(r.Achieved.Level))
	dst = binary.AppendUvarint(dst, uint64(r.Achieved.Needed))
	var degraded byte
	if r.Achieved.Degraded {
		degraded = 1
	}
	dst = append(dst, degraded)
	dst = appendBytes(dst, []byte(r.Achieved.Coordinator))
	dst = binary.AppendUvarint(dst, uint64(len(r.Achieved.Replicas)))
	for _, id := range r.Achieved.Replicas {
		dst = appendBytes(dst, []byte(id))
	}
	return dst
}

func decodePutReply(b []byte) (PutResult, *Error, error) {
	u := unpacker{b: b}
	if u.bool() {
		e := &Error{Code: Code(u.byte()), Outcome: Outcome(u.byte()), again: u.bool()}
		for _, s := range []*string{&e.Detail, &e.Field, &e.Limit, &e.Seen} {
			*s = string(u.bytes())
		}
		for _, n := range []*int{&e.Needed, &e.Acks, &e.RetryAfterMs} {
			*n = int(min(u.uvarint(), 1<<30))
		}
		return PutResult{}, e, u.end()
	}
	r := PutResult{
		Version: crdt.Dot{Actor: crdt.Actor(u.uvarint()), N: u.uvarint()},
		Stamp:   hlc.Stamp(u.uvarint()),
		Context: u.bytes(),
		Achieved: Achieved{
			Level:    quorum.Level(u.byte()),
			Needed:   int(min(u.uvarint(), 1<<16)),
			Degraded: u.bool(),
		},
	}
	r.Achieved.Coordinator = topology.NodeID(u.bytes())
	for range min(u.uvarint(), 64) {
		r.Achieved.Replicas = append(r.Achieved.Replicas, topology.NodeID(u.bytes()))
	}
	return r, nil, u.end()
}

func appendBytes(dst, b []byte) []byte {
	dst = binary.AppendUvarint(dst, uint64(len(b)))
	return append(dst, b...)
}

// unpacker reads strictly; the first violation sets bad.
type unpacker struct {
	b   []byte
	bad bool
}

func (u *unpacker) uvarint() uint64 {
	n, size := binary.Uvarint(u.b)
	if size <= 0 {
		u.bad, u.b = true, nil
		return 0
	}
	u.b = u.b[size:]
	return n
}

func (u *unpacker) byte() byte {
	if len(u.b) == 0 {
		u.bad = true
		return 0
	}
	c := u.b[0]
	u.b = u.b[1:]
	return c
}

func (u *unpacker) bool() bool {
	c := u.byte()
	u.bad = u.bad || c > 1
	return c == 1
}

func (u *unpacker) bytes() []byte {
	n := u.uvarint()
	if n > uint64(len(u.b)) {
		u.bad, u.b = true, nil
		return nil
	}
	p := u.b[:n:n]
	u.b = u.b[n:]
	return p
}

func (u *unpacker) end() error {
	if u.bad || len(u.b) != 0 {
		return wire.ErrMalformed
	}
	return nil
}

// Handle serves forwarded writes; it reports whether req was one.
func (c *Coordinator) Handle(req peer.Request, reply peer.Done) bool {
	if req.Verb != peer.VerbForward {
		return false
	}
	p, err := decodePut(req.Body)
	if err != nil {
		reply(nil, &peer.Refusal{Code: peer.CodeInvalid, Detail: err.Error()})
		return true
	}
	p.Deadline = time.Now().Add(req.Timeout)
	answer := func(r PutResult, e *Error) { reply(appendPutReply(nil, r, e), nil) }
	w, e := c.prepare(p)
	if e != nil {
		answer(PutResult{}, e)
		return true
	}
	w.done, w.forwarded = answer, true
	w.route(0)
	return true
}
