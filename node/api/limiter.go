package api

import (
	"context"
	"encoding/binary"
	"net"
	"sync"
	"sync/atomic"
	"time"

	"github.com/cespare/xxhash/v2"
	"google.golang.org/grpc/peer"

	"github.com/atolldb/atoll/node/coord"
	"github.com/atolldb/atoll/node/overload"
)

// limiter drives the gate that every operation of a client passes, however it
// came: unary, on a stream, or as an item of a batch.
//
// What is admitted at once starts on its caller's goroutine. What has waited
// starts on a runner, because the end of another operation, which made room
// for it, may be told on a goroutine that must not do its work. Runners end
// when nothing is to be started. What has waited for too long is refused by a
// timer's goroutine.
type limiter struct {
	epoch time.Time
	// replyBytes is what a read's reply takes, on a moving average.
	replyBytes atomic.Int64

	mu       sync.Mutex
	gate     *overload.Gate
	timer    *time.Timer // nil: nothing waits
	ready    []decided   // bounded by what may be in flight
	runners  int
	refusals [overload.Classes]refusal
}

// operation is what passes the gate. Exactly one of the methods is called,
// once.
type operation interface {
	// begin starts it; leave must follow when it has ended.
	begin()
	refuse(e *coord.Error)
}

type decided struct {
	op      operation
	refusal *coord.Error // nil: begin
}

func (d decided) carryOut() {
	if d.refusal != nil {
		d.op.refuse(d.refusal)
	} else {
		d.op.begin()
	}
}

// maxRunners may block, for instance in a read of the disk.
const maxRunners = 8

const sweepEvery = time.Duration(overload.SweepEvery)

// refusal is the last error that was made of a refusal: most are equal.
type refusal struct {
	retryMs int
	err     *coord.Error
}

func newLimiter(cfg overload.Config) *limiter {
	return &limiter{epoch: time.Now(), gate: overload.New(cfg)}
}

// clock is the time since the limiter was made, in nanoseconds.
func (l *limiter) clock() int64 { return int64(time.Since(l.epoch)) }

// at is t on the limiter's clock.
func (l *limiter) at(t time.Time) int64 { return int64(t.Sub(l.epoch)) }

// enter offers an operation. r.Owner must be the operation.
func (l *limiter) enter(now int64, r *overload.Request) {
	if r.Class == overload.Read {
		r.Bytes += int(l.replyBytes.Load())
	}
	l.mu.Lock()
	v := l.gate.Offer(now, r)
	var e *coord.Error
	switch v {
	case overload.Admitted:
	case overload.Waiting:
		l.step(now)
		if l.timer == nil {
			l.timer = time.AfterFunc(sweepEvery, l.tick)
		}
	default:
		e = l.refused(r, v)
	}
	l.mu.Unlock()
	op := r.Owner.(operation)
	switch {
	case e != nil:
		op.refuse(e)
	case v == overload.Admitted:
		op.begin()
	}
}

// leave ends an operation that has begun. replyBytes of a read that failed are
// negative; failed says that it could not be carried out.
func (l *limiter) leave(r *overload.Request, replyBytes int, failed bool) {
	if r.Class == overload.Read && replyBytes >= 0 {
		// Lost updates do no harm to an average.
		old := l.replyBytes.Load()
		l.replyBytes.Store(old + (int64(replyBytes)-old)/16)
	}
	now := l.clock()
	l.mu.Lock()
	if failed {
		l.gate.Failed(now, r)
	} else {
		l.gate.Done(now, r)
	}
	l.step(now)
	l.mu.Unlock()
}

// tick runs while something waits.
func (l *limiter) tick() {
	now := l.clock()
	l.mu.Lock()
	var late []decided
	for _, s := range l.gate.Sweep(now) {
		late = append(late, decided{s.Owner.(operation), l.refused(s.Request, s.Verdict)})
	}
	l.step(now)
	if l.gate.Waiting() {
		l.timer.Reset(sweepEvery)
	} else {
		l.timer = nil
	}
	l.mu.Unlock()
	for _, d := range late {
		d.carryOut()
	}
}

// step takes what is decided now to the runners. Called with mu held.
func (l *limiter) step(now int64) {
	for {
		r, v := l.gate.Next(now)
		if r == nil {
			break
		}
		d := decided{op: r.Owner.(operation)}
		if v != overload.Admitted {
			d.refusal = l.refused(r, v)
		}
		l.ready = append(l.ready, d)
	}
	if len(l.ready) > l.runners && l.runners < maxRunners {
		l.runners++
		go l.run()
	}
}

// run is a runner: it takes turns of some operations each.
func (l *limiter) run() {
	var turn [16]decided
	l.mu.Lock()
	for len(l.ready) > 0 {
		n := copy(turn[:max(1, len(turn)/l.runners)], l.ready)
		rest := copy(l.ready, l.ready[n:])
		clear(l.ready[rest:])
		l.ready = l.ready[:rest]
		l.mu.Unlock()
		for i := range turn[:n] {
			turn[i].carryOut()
			turn[i] = decided{}
		}
		l.mu.Lock()
	}
	l.runners--
	l.mu.Unlock()
}

// refused is the error of a verdict. Called with mu held.
func (l *limiter) refused(r *overload.Request, v overload.Verdict) *coord.Error {
	if v == overload.RefusedExpired && r.Deadline <= l.clock() {
		return &coord.Error{Code: coord.CodeDeadline, Detail: "the deadline passed before the operation began"}
	}
	last := &l.refusals[r.Class]
	if ms := l.gate.RetryAfter(r.Class); last.err == nil || last.retryMs != ms {
		*last = refusal{ms, &coord.Error{
			Code: coord.CodeOverloaded, RetryAfterMs: ms,
			Detail: "the node is asked for more " + r.Class.String() + "s than it can do",
		}}
	}
	return last.err
}

// LimiterStats tell how busy the rim is. Classes are indexed by
// overload.Class.
type LimiterStats struct {
	Classes [overload.Classes]overload.Stats
	// Bytes held by operations that run or wait.
	Bytes int
}

// Limits returns what the rim lets through now.
func (s *KVService) Limits() LimiterStats {
	l := s.limits
	l.mu.Lock()
	defer l.mu.Unlock()
	var st LimiterStats
	for c := range overload.Classes {
		st.Classes[c] = l.gate.Stats(c)
	}
	st.Bytes = l.gate.Bytes()
	return st
}

// connection identifies the connection that a call came by.
func connection(ctx context.Context) uint64 {
	p, ok := peer.FromContext(ctx)
	if !ok || p.Addr == nil {
		return 0
	}
	if tcp, ok := p.Addr.(*net.TCPAddr); ok {
		var b [18]byte
		at := tcp.AddrPort()
		ip := at.Addr().As16()
		copy(b[:], ip[:])
		binary.BigEndian.PutUint16(b[16:], at.Port())
		return xxhash.Sum64(b[:])
	}
	return xxhash.Sum64String(p.Addr.String())
}
