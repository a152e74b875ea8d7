package grpcpeer

import (
	"context"
	"errors"
	"fmt"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/atolldb/atoll/node/peer"
	"github.com/atolldb/atoll/node/topology"
)

type state uint8

const (
	dialling state = iota // for the first time, or after a session: queue
	up
	failing // the last attempt to dial failed: refuse all but pings
	closed
)

// link is all that goes to one peer, over one session after the other.
type link struct {
	cfg *Config
	to  topology.NodeID

	waiters // its lock guards the rest
	state   state
	small   lane[outgoing]
	large   lane[outgoing]

	kick chan struct{} // 1; a ping wants a fresh attempt
	counters
}

func newLink(cfg *Config, to topology.NodeID) *link {
	l := &link{
		cfg: cfg, to: to,
		small: newLane[outgoing](maxQueuedSmall), large: newLane[outgoing](maxQueuedLarge),
		kick: make(chan struct{}, 1),
	}
	l.init()
	return l
}

func (l *link) send(req peer.Request, done peer.Done) {
	size := len(req.Body)
	lane := &l.small
	if isLarge(size) {
		lane = &l.large
	}
	l.mu.Lock()
	kick := l.state == failing && req.Verb == peer.VerbPing
	if l.state == closed || l.state == failing && !kick {
		l.mu.Unlock()
		refuse(done, errNoLink)
		return
	}
	var id uint64
	ok := lane.fits(size)
	if ok {
		id, ok = l.wait(l.now(), req.Timeout, done)
	}
	if !ok {
		l.mu.Unlock()
		l.refused.Add(1)
		refuse(done, errFull)
		return
	}
	rouse := lane.push(outgoing{id, req}, size)
	l.mu.Unlock()
	if rouse {
		lane.rouse()
	}
	if kick {
		select {
		case l.kick <- struct{}{}:
		default:
		}
	}
}

// run dials, and keeps one session after the other, until ctx ends or the peer
// is no longer known.
func (l *link) run(ctx context.Context) {
	ctx, cancel := context.WithCancel(ctx)
	swept := make(chan struct{})
	go func() {
		defer close(swept)
		l.sweep(ctx)
	}()
	defer func() {
		cancel()
		<-swept
	}()
	var told string // the last failure that was logged
	for failures := 0; ; {
		addr, known := l.cfg.Addrs(l.to)
		if !known || ctx.Err() != nil {
			l.end(closed, errStopped, errNotSentStopped)
			return
		}
		s, err := l.dial(ctx, addr)
		if err == nil {
			failures, told = 0, ""
			l.cfg.Logger.Info("peer link up", "peer", l.to, "addr", addr)
			err = l.session(ctx, s)
			if ctx.Err() == nil {
				l.cfg.Logger.Info("peer link lost", "peer", l.to, "error", err)
			}
			l.end(dialling, fmt.Errorf("%w: %v", peer.ErrLinkLost, err), fmt.Errorf("%w: link lost: %v", peer.ErrNotSent, err))
			continue
		}
		if ctx.Err() == nil && err.Error() != told {
			told = err.Error()
			l.logFailure(addr, err)
		}
		l.end(failing, nil, fmt.Errorf("%w: dial %s: %v", peer.ErrNotSent, addr, err))
		l.pause(ctx, failures)
		failures++
	}
}

// logFailure tells a failure to dial. One that waiting does not cure is an error.
func (l *link) logFailure(addr string, err error) {
	if errors.Is(err, errMismatch) || status.Code(err) == codes.FailedPrecondition {
		l.cfg.Logger.Error("peer link refused", "peer", l.to, "addr", addr, "error", err)
		return
	}
	l.cfg.Logger.Info("peer not reachable", "peer", l.to, "addr", addr, "error", err)
}

// pause waits before the next attempt: minBackoff, doubled by each failure up
// to maxBackoff, of which a random half is taken off. A ping ends it.
func (l *link) pause(ctx context.Context, failures int) {
	d := min(minBackoff<<min(failures, 10), maxBackoff)
	d -= time.Duration(l.cfg.Rand() * float64(d/2))
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-ctx.Done():
	case <-l.kick:
	case <-t.C:
	}
}

// end gives all that waits its outcome, and enters the next state. (The errors
// hold their cause as text: a caller must not take the end of a stream's ctx
// for that of its own.)
func (l *link) end(next state, lost, unsent error) {
	l.mu.Lock()
	l.state = next
	l.small.reset()
	l.large.reset()
	endings := l.fail(nil, lost, unsent)
	l.mu.Unlock()
	tell(endings)
}

func (l *link) statsNow() Stats {
	s := l.stats()
	l.mu.Lock()
	defer l.mu.Unlock()
	s.Pending, s.Up = l.count(), l.state == up
	return s
}
