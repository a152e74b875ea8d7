package jetstream

import (
	"context"
	"errors"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/hashicorp/go-hclog"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/atolldb/atoll/geo"
	"github.com/atolldb/atoll/internal/pause"
)

// shared is a twin of a durable consumer with an endless backlog, and of the clients
// that pull from it in turn: each has prefetch messages before it at most and asks for
// more when it has taken half of them, and what is not answered within ackWait comes
// again.
type shared struct {
	mu        sync.Mutex
	last      uint64
	open      map[uint64]*message
	again     []*message
	clients   []*client
	delivered int
	taken     map[uint64]bool
	slowest   time.Duration // from the first delivery until it was taken
}

type client struct {
	run    *feedRun
	wants  int
	buffer chan delivery // of prefetch
}

// message is one that is not acknowledged.
type message struct {
	seq        uint64
	tries      uint64
	first, due time.Time
	queued     bool // to be delivered again
}

// delivery is one of a message.
type delivery struct {
	jetstream.Msg
	of    *shared
	m     *message
	tries uint64
}

func (d delivery) Headers() nats.Header {
	return nats.Header{headerName: {encodeHeader(geo.Header{Origin: "east", Node: "east-1", Number: d.m.seq, Count: 1, Codec: geo.CodecNone})}}
}
func (d delivery) Data() []byte { return nil }
func (d delivery) Metadata() (*jetstream.MsgMetadata, error) {
	return &jetstream.MsgMetadata{NumDelivered: d.tries}, nil
}
func (d delivery) InProgress() error                      { return d.after(ackWait) }
func (d delivery) Nak() error                             { return d.after(0) }
func (d delivery) NakWithDelay(delay time.Duration) error { return d.after(delay) }

func (d delivery) after(delay time.Duration) error {
	d.of.mu.Lock()
	defer d.of.mu.Unlock()
	if !d.m.queued {
		d.m.due = time.Now().Add(delay)
	}
	return nil
}

func (d delivery) Ack() error {
	d.of.mu.Lock()
	defer d.of.mu.Unlock()
	delete(d.of.open, d.m.seq)
	if !d.of.taken[d.m.seq] {
		d.of.taken[d.m.seq] = true
		d.of.slowest = max(d.of.slowest, time.Since(d.m.first))
	}
	return nil
}

// deliver gives what there is to those who want some, in turn.
func (s *shared) deliver(now time.Time) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, m := range s.open {
		if !m.queued && !now.Before(m.due) {
			m.queued = true
			s.again = append(s.again, m)
		}
	}
	for gave := true; gave; {
		gave = false
		for _, c := range s.clients {
			if c.wants == 0 {
				continue
			}
			m := s.next(now)
			if m == nil {
				return
			}
			m.queued, m.due = false, now.Add(ackWait)
			m.tries++
			s.delivered++
			c.wants--
			c.buffer <- delivery{of: s, m: m, tries: m.tries}
			gave = true
		}
	}
}

func (s *shared) next(now time.Time) *message {
	for len(s.again) > 0 {
		m := s.again[0]
		s.again = s.again[1:]
		if s.open[m.seq] != nil {
			return m
		}
	}
	if len(s.open) >= maxAckPending {
		return nil
	}
	s.last++
	m := &message{seq: s.last, first: now}
	s.open[m.seq] = m
	return m
}

// pull hands on what a client gets, one after the other.
func (s *shared) pull(c *client) {
	took := 0
	for {
		select {
		case <-c.run.ctx.Done():
			return
		case d := <-c.buffer:
			c.run.receive(d)
		}
		if took++; took >= prefetch/2 {
			s.mu.Lock()
			c.wants += took
			s.mu.Unlock()
			took = 0
		}
	}
}

// pulling runs a client for each handler for so long.
func pulling(t *testing.T, span time.Duration, handlers ...func(context.Context) error) *shared {
	s := &shared{open: map[uint64]*message{}, taken: map[uint64]bool{}}
	ctx, stop := context.WithCancel(t.Context())
	var all sync.WaitGroup
	for _, h := range handlers {
		c := &client{wants: prefetch, buffer: make(chan delivery, 2*prefetch), run: &feedRun{
			Feed: NewFeed(FeedConfig{Origin: "east", Region: "west"}, hclog.NewNullLogger()),
			ctx:  ctx, on: handler(h), slots: make(chan struct{}, window),
		}}
		s.clients = append(s.clients, c)
		all.Go(func() { c.run.underway.tell(ctx) })
		all.Go(func() { s.pull(c) })
	}
	for began := time.Now(); time.Since(began) < span; time.Sleep(20 * time.Millisecond) {
		s.deliver(time.Now())
	}
	stop()
	all.Wait()
	for _, c := range s.clients {
		c.run.handling.Wait()
	}
	return s
}

type handler func(context.Context) error

func (h handler) Batch(ctx context.Context, _ geo.Batch) error { return h(ctx) }
func (handler) Announced([]byte)                               {}
func (handler) Gap(string)                                     {}
func (handler) Link(bool)                                      {}

// spends so long of something that can be used by one at a time, a region's disks say.
func spends(turn chan struct{}, span time.Duration) func(context.Context) error {
	return func(ctx context.Context) error {
		select {
		case turn <- struct{}{}:
		case <-ctx.Done():
			return ctx.Err()
		}
		defer func() { <-turn }()
		time.Sleep(span)
		return nil
	}
}

// Where a region applies a backlog slowly, each batch comes once, and not again while
// it waits in a client.
func TestSlowRegionGetsEachBatchOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const span = 40 * time.Millisecond // 25 a second, 1.6 MB of a backlog
		slow := spends(make(chan struct{}, 1), span)
		s := pulling(t, 2*time.Minute, slow, slow)
		if most := len(s.taken) + 2*(prefetch+window); s.delivered > most {
			t.Errorf("%d batches were taken, and %d delivered", len(s.taken), s.delivered)
		}
		if least := int(2 * time.Minute / span * 9 / 10); len(s.taken) < least {
			t.Errorf("%d batches were taken where the region can apply %d", len(s.taken), least)
		}
	})
}

// A node that can apply nothing, and finds that out at once or late, does not take the
// batches that others could apply.
func TestNodeThatFailsLeavesBatchesToOthers(t *testing.T) {
	for _, after := range []time.Duration{0, 10 * time.Second} {
		synctest.Test(t, func(t *testing.T) {
			const span = 10 * time.Millisecond
			var failed atomic.Int64
			well := spends(make(chan struct{}, 1), span)
			s := pulling(t, 2*time.Minute, well, func(ctx context.Context) error {
				failed.Add(1)
				pause.For(ctx, after)
				return errors.New("no quorum")
			})
			if least := int(2 * time.Minute / span * 9 / 10); len(s.taken) < least {
				t.Errorf("after %v: %d batches were taken where others can apply %d", after, len(s.taken), least)
			}
			if n := int(failed.Load()); n > len(s.taken)/10 {
				t.Errorf("after %v: %d batches were taken, and %d put off", after, len(s.taken), n)
			}
			if s.slowest > time.Minute {
				t.Errorf("after %v: a batch was taken after %v", after, s.slowest)
			}
		})
	}
}

// What still waits in the client when the end has come goes back, all of it.
func TestEndHandsBackWhatWaits(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx, stop := context.WithCancel(t.Context())
		stop()
		s := &shared{open: map[uint64]*message{}, taken: map[uint64]bool{}}
		r := &feedRun{Feed: NewFeed(FeedConfig{}, hclog.NewNullLogger()), ctx: ctx, slots: make(chan struct{}, window), on: handler(func(context.Context) error {
			t.Error("a batch was handled after the end")
			return nil
		})}
		for range 100 {
			m := s.next(time.Now())
			m.due = time.Now().Add(ackWait)
			r.receive(delivery{of: s, m: m})
			r.handling.Wait()
			if !m.due.Equal(time.Now()) {
				t.Errorf("message %d is not handed back", m.seq)
			}
		}
	})
}

// A place stays taken for longer the longer nothing succeeds, and not at all after a
// success; a long failure is told now and then.
func TestSetback(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var s setback
		var waits []time.Duration
		told := 0
		fails := func() {
			wait, tell := s.ended(time.Now(), errors.New("no quorum"))
			if waits = append(waits, wait); tell {
				told++
			}
		}
		for range 6 {
			fails()
			fails() // at the same time: no longer for that
			if wait, _ := s.ended(time.Now(), geo.ErrCrowded); wait != 0 {
				t.Errorf("a place stays taken for %v where others may do", wait)
			}
			time.Sleep(time.Second)
		}
		time.Sleep(time.Minute)
		fails()
		for _, err := range []error{nil, geo.ErrPoison} {
			if wait, _ := s.ended(time.Now(), err); wait != 0 {
				t.Errorf("a place stays taken for %v after %v", wait, err)
			}
			fails()
		}
		want := []time.Duration{nakMin, nakMin}
		for n := range 4 {
			want = append(want, time.Duration(n+1)*time.Second, time.Duration(n+1)*time.Second)
		}
		if want = append(want, nakMax, nakMax, nakMax, nakMin, nakMin); !slices.Equal(waits, want) {
			t.Errorf("places stay taken for %v, not %v", waits, want)
		}
		if told != 2 {
			t.Errorf("told %d times", told)
		}
	})
}
