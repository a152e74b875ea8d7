package memlog

import (
	"context"
	"errors"
	"sync"
	"time"

	"github.com/atolldb/atoll/geo"
	"github.com/atolldb/atoll/internal/pause"
)

const (
	// window is how many batches a run handles at once.
	window = 32
	// inboxSize bounds the announcements on their way; more are dropped.
	inboxSize = 256
	nakDelay  = 200 * time.Millisecond
)

// consumer is how far one destination has come in one log.
type consumer struct {
	next    int // sequence to deliver next
	again   map[int]struct{}
	flying  map[int]struct{}
	tries   map[int]int
	pending string // a gap not yet told
}

func newConsumer(gap string) *consumer {
	return &consumer{
		next: 1, pending: gap,
		again: make(map[int]struct{}), flying: make(map[int]struct{}), tries: make(map[int]int),
	}
}

// fellOff moves past batches that are gone.
func (k *consumer) fellOff(first int) {
	gone := k.next < first
	k.next = max(k.next, first)
	for seq := range k.again {
		if seq < first {
			delete(k.again, seq)
			gone = true
		}
	}
	if gone {
		k.pending = "fell off the log"
	}
}

func (k *consumer) open(s *stream, dst string) int {
	n := len(k.again) + len(k.flying)
	for i := max(k.next-s.first, 0); i < len(s.batches); i++ {
		if s.batches[i].For(dst) {
			n++
		}
	}
	return n
}

// take picks what to deliver next: the oldest to be repeated, else the next.
func (k *consumer) take(s *stream, dst string) (seq int, ok bool) {
	for n := range k.again {
		if !ok || n < seq {
			seq, ok = n, true
		}
	}
	if !ok {
		for k.next < s.first+len(s.batches) && !s.batches[k.next-s.first].For(dst) {
			k.next++
		}
		if k.next >= s.first+len(s.batches) {
			return 0, false
		}
		seq = k.next
		k.next++
	}
	delete(k.again, seq)
	k.flying[seq] = struct{}{}
	k.tries[seq]++
	return seq, true
}

// Feed is one region's log as another region sees it.
type Feed struct {
	cloud       *Cloud
	origin, dst string
}

var _ geo.Feed = (*Feed)(nil)

// Feed returns the log of origin as seen from dst. Several may run at once:
// they share the work.
func (c *Cloud) Feed(origin, dst string) *Feed { return &Feed{c, origin, dst} }

// run is one Run of a feed.
type run struct {
	feed  *Feed
	on    geo.FeedHandler
	inbox chan announcement
	slots chan struct{}
	wg    sync.WaitGroup
}

type announcement struct {
	data []byte
	at   time.Time
}

// delivery is one batch on its way to a handler.
type delivery struct {
	batch geo.Batch
	seq   int
	epoch int
	try   int
	delay time.Duration
}

// Run delivers until ctx ends; see geo.Feed.
func (f *Feed) Run(ctx context.Context, on geo.FeedHandler) error {
	r := &run{
		feed: f, on: on,
		inbox: make(chan announcement, inboxSize),
		slots: make(chan struct{}, window),
	}
	c := f.cloud
	c.mu.Lock()
	s := c.stream(f.origin)
	s.listeners[r] = struct{}{}
	if s.consumers[f.dst] == nil {
		s.consumers[f.dst] = newConsumer("consumer was made anew")
	}
	c.mu.Unlock()
	r.wg.Go(func() { r.listen(ctx) })
	r.pull(ctx)
	c.mu.Lock()
	delete(s.listeners, r)
	c.mu.Unlock()
	r.wg.Wait()
	return nil
}

func (r *run) pull(ctx context.Context) {
	up := false
	for ctx.Err() == nil {
		select {
		case r.slots <- struct{}{}:
		case <-ctx.Done():
			return
		}
		d, ok, gap, linked, changed := r.next()
		if linked != up {
			up = linked
			r.on.Link(up)
		}
		if gap != "" {
			r.on.Gap(gap)
		}
		if ok {
			r.wg.Go(func() { r.deliver(ctx, d) })
			continue
		}
		<-r.slots
		select {
		case <-changed:
		case <-ctx.Done():
		}
	}
}

// next looks what there is to do.
func (r *run) next() (d delivery, ok bool, gap string, linked bool, changed <-chan struct{}) {
	c, f := r.feed.cloud, r.feed
	c.mu.Lock()
	defer c.mu.Unlock()
	s := c.stream(f.origin)
	linked, changed = !c.cut[link{f.origin, f.dst}], c.changed
	if !linked {
		return d, false, "", linked, changed
	}
	k := s.consumers[f.dst]
	gap, k.pending = k.pending, ""
	seq, ok := k.take(s, f.dst)
	if ok {
		d = delivery{batch: s.batches[seq-s.first], seq: seq, epoch: s.epoch, try: k.tries[seq]}
		d.delay = c.delay("deliver", f.origin, f.dst, d.batch.Header.ID(), d.try)
	}
	return d, ok, gap, linked, changed
}

func (r *run) deliver(ctx context.Context, d delivery) {
	defer func() { <-r.slots }()
	f := r.feed
	if !pause.For(ctx, d.delay) || f.isCut() {
		r.finish(d, false) // never arrived
		return
	}
	err := r.on.Batch(ctx, d.batch)
	var later *geo.Later
	if errors.As(err, &later) {
		r.wg.Go(func() { r.answer(d, <-later.Done) })
		return
	}
	r.answer(d, err)
}

func (r *run) answer(d delivery, err error) {
	c, f := r.feed.cloud, r.feed
	switch {
	case f.isCut():
		r.finish(d, false) // the acknowledgement never arrived
	case err == nil:
		c.mu.Lock()
		observe := c.observe.Handled
		c.mu.Unlock()
		if observe != nil {
			observe(f.origin, f.dst, d.batch)
		}
		c.mu.Lock()
		again := d.try == 1 && c.chance("duplicate", f.origin, f.dst, d.batch.Header.ID()) < c.faults.Duplicate
		c.mu.Unlock()
		r.finish(d, !again)
	case errors.Is(err, geo.ErrPoison):
		r.finish(d, true)
	default:
		time.AfterFunc(nakDelay, func() { r.finish(d, false) })
	}
}

// finish settles a delivery: handled, or to be delivered again.
func (r *run) finish(d delivery, handled bool) {
	r.feed.cloud.change(func() {
		s := r.feed.cloud.stream(r.feed.origin)
		if s.epoch != d.epoch {
			return
		}
		k := s.consumers[r.feed.dst]
		delete(k.flying, d.seq)
		switch {
		case handled, !s.has(d.seq):
			if handled {
				s.silence.Taken()
			}
			delete(k.tries, d.seq)
		case d.seq < s.first:
			k.pending = "fell off the log"
		default:
			k.again[d.seq] = struct{}{}
		}
	})
}

// listen hands over announcements when their time has come.
func (r *run) listen(ctx context.Context) {
	for {
		select {
		case <-ctx.Done():
			return
		case a := <-r.inbox:
			if pause.For(ctx, time.Until(a.at)) && !r.feed.isCut() {
				r.on.Announced(a.data)
			}
		}
	}
}

func (f *Feed) isCut() bool {
	f.cloud.mu.Lock()
	defer f.cloud.mu.Unlock()
	return f.cloud.cut[link{f.origin, f.dst}]
}
