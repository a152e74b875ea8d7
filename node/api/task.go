package api

import (
	"errors"
	"runtime/debug"
	"sync/atomic"
	"time"

	"github.com/atolldb/atoll/node/coord"
	"github.com/atolldb/atoll/node/hotkey"
	"github.com/atolldb/atoll/node/overload"
	"github.com/atolldb/atoll/node/quorum"
)

// get is a read on its way through the gate to the coordinator.
type get struct {
	passage
	op   coord.Get
	done func(coord.GetResult, error)
}

// put is a write on the same way.
type put struct {
	passage
	op   coord.Put
	done func(coord.PutResult, error)
}

// passage is what reads and writes have in common.
type passage struct {
	overload.Request
	kv    *KVService
	ended atomic.Bool
}

// end takes the operation out of the gate; it reports false when that was done
// before.
func (p *passage) end(replyBytes int, failed bool) bool {
	if p.ended.Swap(true) {
		return false
	}
	p.kv.limits.leave(&p.Request, replyBytes, failed)
	return true
}

// recovered logs a panic. It reports whether the operation is still to be
// answered.
func (p *passage) recovered(what any) bool {
	p.kv.log.Error("panic while an operation began", "panic", what, "stack", string(debug.Stack()))
	return p.end(-1, true)
}

// get reads, when the gate lets it. It returns at once; done is called exactly
// once, as a Coordinator's. size is what the request holds in bytes.
func (s *KVService) get(now time.Time, conn uint64, size int, op coord.Get, done func(coord.GetResult, error)) {
	at := s.limits.at(now)
	t := &get{op: op, done: done}
	class := overload.Read
	if far(op.Level, op.Regions) {
		class = overload.Far
	}
	t.enter(s, class, false, at, conn, size, op.Bucket, op.Key, op.Deadline, t)
}

// put writes, as get reads.
func (s *KVService) put(now time.Time, conn uint64, size int, op coord.Put, done func(coord.PutResult, error)) {
	at := s.limits.at(now)
	t := &put{op: op, done: done}
	class := overload.Write
	if far(op.Level, op.Regions) {
		class = overload.Far
	}
	t.enter(s, class, true, at, conn, size, op.Bucket, op.Key, op.Deadline, t)
}

// far says that an operation asks to wait for other regions. (One that a bucket's
// policy has wait for them is taken for another.)
func far(l quorum.Level, regions int) bool { return l.Regional() || regions > 1 }

func (p *passage) enter(
	s *KVService, class overload.Class, write bool, at int64, conn uint64, size int,
	bucket string, key []byte, deadline time.Time, owner operation,
) {
	if bucket == "" {
		bucket = coord.DefaultBucket
	}
	hash := hotkey.Hash(bucket, key)
	s.hot.add(at/int64(time.Millisecond), write, hash, bucket, key)
	p.kv = s
	p.Request = overload.Request{
		Class: class, Conn: conn, Key: hash, Bytes: size, Deadline: s.limits.at(deadline), Owner: owner,
	}
	s.limits.enter(at, &p.Request)
}

func (t *get) begin() {
	defer func() {
		if p := recover(); p != nil && t.recovered(p) {
			t.done(coord.GetResult{}, panicked())
		}
	}()
	t.kv.coord.Get(t.op, func(r coord.GetResult, err error) {
		n := -1
		if err == nil {
			n = resultBytes(&r)
		}
		if t.end(n, unable(err)) {
			t.done(r, err)
		}
	})
}

func (t *get) refuse(e *coord.Error) { t.done(coord.GetResult{}, e) }

func (t *put) begin() {
	defer func() {
		if p := recover(); p != nil && t.recovered(p) {
			t.done(coord.PutResult{}, panicked())
		}
	}()
	t.kv.coord.Put(t.op, func(r coord.PutResult, err error) {
		if t.end(0, unable(err)) {
			t.done(r, err)
		}
	})
}

func (t *put) refuse(e *coord.Error) { t.done(coord.PutResult{}, ofRequest(e, t.op.Retry)) }

// unable reports whether an operation failed because those who had to answer did not.
func unable(err error) bool {
	var e *coord.Error
	return errors.As(err, &e) && (e.Code == coord.CodeUnavailable || e.Code == coord.CodeStopping || e.Code == coord.CodeDeadline)
}

// resultBytes is about what a read's result holds.
func resultBytes(r *coord.GetResult) int {
	n := len(r.Context)
	for i := range r.View.Live {
		n += len(r.View.Live[i].Value)
	}
	return n
}
