// Package geotest is the conformance suite of geo's delivery log: what any
// adapter of geo.Log and geo.Feed must do. It also has the memory ends of the
// path, Outbox and Inbox.
package geotest

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/atolldb/atoll/geo"
)

// World is an adapter under test: regions "east" and "west", east's log seen
// from west. It ends with its test.
type World interface {
	// Log is the log of region east.
	Log() geo.Log
	// Feed returns a new feed of east's log for west.
	Feed() geo.Feed
	// Cut breaks or heals the link from east to west.
	Cut(cut bool)
	// Forget drops all that east's log holds, as retention would.
	Forget()
	// Recreate replaces east's log with an empty one.
	Recreate()
}

// Case is one thing an adapter must do.
type Case struct {
	Name string
	Run  func(t *testing.T, w World)
}

// patience bounds every wait; in a bubble it costs nothing.
const patience = 30 * time.Second

// Cases is the suite. Run each in a world of its own.
func Cases() []Case {
	return []Case{
		{"deliver", deliver},
		{"keep header and data", keepHeader},
		{"again after an error", againAfterError},
		{"poison is dropped", poison},
		{"resume", resume},
		{"share", share},
		{"at most so many at once", bounded},
		{"same id twice", sameID},
		{"for one region", forOneRegion},
		{"answer later", answerLater},
		{"announce", announce},
		{"cut and heal", cutAndHeal},
		{"wanted while somebody takes", wanted},
		{"silent while nobody takes", silent},
		{"gap when forgotten", forgotten},
		{"gap when made anew", madeAnew},
		{"pump to drain", pumpToDrain},
	}
}

func deliver(t *testing.T, w World) {
	h := newHandler(nil)
	start(t, w.Feed(), h)
	for n := uint64(1); n <= 50; n++ {
		appendBatch(t, w.Log(), n)
	}
	await(t, h, "50 batches", func() bool { return len(h.handled) == 50 })
}

// G5.
func forOneRegion(t *testing.T, w World) {
	h := newHandler(nil)
	start(t, w.Feed(), h)
	for n := uint64(1); n <= 9; n++ {
		b := batch(n)
		b.To = [...]string{"", "north", "west"}[n%3]
		appendThis(t, w.Log(), b)
	}
	appendBatch(t, w.Log(), 10)
	await(t, h, "7 batches", func() bool { return h.has(10) && len(h.handled) == 7 })
	for n := uint64(1); n <= 9; n++ {
		if mine := n%3 != 1; h.has(n) != mine {
			t.Errorf("batch %d for this region: %v, came: %v", n, mine, !mine)
		}
	}
}

// answerLater: those whose answer is put off do not take the place of others, and
// are delivered again if it is an error.
func answerLater(t *testing.T, w World) {
	answers := make(chan error)
	h := newHandler(func(b geo.Batch, n int) error {
		if b.Header.Number <= 40 && n == 1 {
			return &geo.Later{Done: answers}
		}
		return nil
	})
	start(t, w.Feed(), h)
	for n := uint64(1); n <= 80; n++ {
		appendBatch(t, w.Log(), n)
	}
	await(t, h, "those behind", func() bool { return len(h.handled) == 40 })
	for n := range 40 {
		var err error
		if n == 0 {
			err = errors.New("no, after all")
		}
		answers <- err
	}
	await(t, h, "one of them again", func() bool { return len(h.handled) == 41 })
}

func keepHeader(t *testing.T, w World) {
	want := batch(7)
	want.Header.Incarnation = 1<<32 - 1
	want.Header.Session = 1<<64 - 1
	var got geo.Batch
	h := newHandler(func(b geo.Batch, _ int) error { got = b; return nil })
	start(t, w.Feed(), h)
	appendThis(t, w.Log(), want)
	await(t, h, "a batch", func() bool { return h.has(7) })
	if got.Header != want.Header || string(got.Data) != string(want.Data) {
		t.Fatalf("sent %+v with %d bytes, came %+v with %d", want.Header, len(want.Data), got.Header, len(got.Data))
	}
}

func againAfterError(t *testing.T, w World) {
	h := newHandler(func(b geo.Batch, n int) error {
		if b.Header.Number%2 == 0 && n < 3 {
			return errors.New("no quorum")
		}
		return nil
	})
	start(t, w.Feed(), h)
	for n := uint64(1); n <= 6; n++ {
		appendBatch(t, w.Log(), n)
	}
	await(t, h, "all after two refusals", func() bool { return h.has(1, 2, 3, 4, 5, 6) })
	h.mu.Lock()
	defer h.mu.Unlock()
	for n := uint64(2); n <= 6; n += 2 {
		if h.came[n] < 3 {
			t.Errorf("batch %d came %d times", n, h.came[n])
		}
	}
}

func poison(t *testing.T, w World) {
	h := newHandler(func(b geo.Batch, _ int) error {
		if b.Header.Number == 1 {
			return fmt.Errorf("decode: %w", geo.ErrPoison)
		}
		return nil
	})
	stop := start(t, w.Feed(), h)
	appendBatch(t, w.Log(), 1)
	appendBatch(t, w.Log(), 2)
	await(t, h, "the good batch", func() bool { return h.has(2) && h.came[1] > 0 })
	stop()
	// A later feed does not get it either.
	later := newHandler(nil)
	start(t, w.Feed(), later)
	appendBatch(t, w.Log(), 3)
	await(t, later, "the next batch", func() bool { return later.has(3) })
	later.mu.Lock()
	defer later.mu.Unlock()
	if later.came[1] > 0 {
		t.Fatal("poison came again")
	}
}

func resume(t *testing.T, w World) {
	first := newHandler(nil)
	stop := start(t, w.Feed(), first)
	for n := uint64(1); n <= 5; n++ {
		appendBatch(t, w.Log(), n)
	}
	await(t, first, "the first five", func() bool { return first.has(1, 2, 3, 4, 5) })
	stop()
	for n := uint64(6); n <= 10; n++ {
		appendBatch(t, w.Log(), n)
	}
	second := newHandler(nil)
	start(t, w.Feed(), second)
	await(t, second, "the second five", func() bool { return second.has(6, 7, 8, 9, 10) })
	second.mu.Lock()
	defer second.mu.Unlock()
	// Acknowledgements may be lost with the first feed, but not all of them.
	if len(second.came) == 10 {
		t.Fatal("the second feed started from the beginning")
	}
}

func share(t *testing.T, w World) {
	one, two := newHandler(nil), newHandler(nil)
	start(t, w.Feed(), one)
	start(t, w.Feed(), two)
	await(t, one, "link", one.isUp)
	await(t, two, "link", two.isUp)
	for n := uint64(1); n <= 200; n++ {
		appendBatch(t, w.Log(), n)
	}
	all := func() bool {
		two.mu.Lock()
		defer two.mu.Unlock()
		return len(one.handled)+len(two.handled) >= 200
	}
	// Either handler's change may be the last one; look at both in turn.
	deadline := time.Now().Add(patience)
	for time.Now().Before(deadline) {
		ctx, cancel := context.WithTimeout(t.Context(), 200*time.Millisecond)
		err := one.wait(ctx, all)
		cancel()
		if err == nil {
			return
		}
	}
	t.Fatalf("%d and %d of 200 batches", len(one.handled), len(two.handled))
}

func bounded(t *testing.T, w World) {
	release := make(chan struct{})
	h := newHandler(func(geo.Batch, int) error { <-release; return nil })
	start(t, w.Feed(), h)
	t.Cleanup(func() {
		select {
		case <-release:
		default:
			close(release)
		}
	})
	for n := uint64(1); n <= 100; n++ {
		appendBatch(t, w.Log(), n)
	}
	await(t, h, "two at once", func() bool { return h.running >= 2 })
	close(release)
	await(t, h, "all", func() bool { return len(h.handled) == 100 })
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.most > 64 {
		t.Fatalf("%d handlers ran at once", h.most)
	}
}

func sameID(t *testing.T, w World) {
	h := newHandler(nil)
	start(t, w.Feed(), h)
	appendBatch(t, w.Log(), 1)
	appendBatch(t, w.Log(), 1)
	appendBatch(t, w.Log(), 2)
	await(t, h, "both", func() bool { return h.has(1, 2) })
}

func announce(t *testing.T, w World) {
	one, two := newHandler(nil), newHandler(nil)
	start(t, w.Feed(), one)
	start(t, w.Feed(), two)
	// Unreliable by contract, so say it until both have heard.
	for _, h := range []*handler{one, two} {
		deadline := time.Now().Add(patience)
		for heard := false; !heard; {
			if time.Now().After(deadline) {
				t.Fatal("announcement never came")
			}
			if err := w.Log().Announce([]byte("here")); err != nil {
				t.Logf("announce: %v", err)
			}
			ctx, cancel := context.WithTimeout(t.Context(), 200*time.Millisecond)
			heard = h.wait(ctx, func() bool { return slices.Contains(h.announced, "here") }) == nil
			cancel()
		}
	}
}

func cutAndHeal(t *testing.T, w World) {
	h := newHandler(nil)
	start(t, w.Feed(), h)
	appendBatch(t, w.Log(), 1)
	await(t, h, "a batch and a link", func() bool { return h.has(1) && h.isUp() })
	w.Cut(true)
	await(t, h, "the link to be down", func() bool { return !h.isUp() })
	for n := uint64(2); n <= 20; n++ {
		appendBatch(t, w.Log(), n) // the origin does not feel it
	}
	h.mu.Lock()
	early := len(h.handled)
	h.mu.Unlock()
	if early != 1 {
		t.Fatalf("%d batches came over a cut link", early)
	}
	w.Cut(false)
	await(t, h, "the link and the backlog", func() bool { return h.isUp() && len(h.handled) == 20 })
}

// A log that nobody takes from says so, and says when that has ended.
func wanted(t *testing.T, w World) {
	h := newHandler(nil)
	start(t, w.Feed(), h)
	appendBatch(t, w.Log(), 1)
	await(t, h, "a batch and a link", func() bool { return h.has(1) && h.isUp() })
	if !w.Log().Wanted() {
		t.Fatal("not wanted while a region takes all there is")
	}
	w.Cut(true)
	await(t, h, "the link to be down", func() bool { return !h.isUp() })
	for n := uint64(2); n <= 100; n++ {
		appendBatch(t, w.Log(), n)
	}
	becomes := func(want bool) {
		t.Helper()
		deadline := time.Now().Add(patience)
		for w.Log().Wanted() != want {
			if time.Now().After(deadline) {
				t.Fatalf("wanted is not %v", want)
			}
			ctx, cancel := context.WithTimeout(t.Context(), 20*time.Millisecond)
			_ = h.wait(ctx, func() bool { return false }) // a pause
			cancel()
		}
	}
	becomes(false)
	w.Cut(false)
	becomes(true)
	await(t, h, "all batches", func() bool { return len(h.handled) == 100 })
}

// A log tells for how long nobody has taken anything, once somebody had.
func silent(t *testing.T, w World) {
	h := newHandler(nil)
	if s := w.Log().Silent(); s != 0 {
		t.Fatalf("silent for %v before there was anything", s)
	}
	start(t, w.Feed(), h)
	within := func(limit time.Duration, ok func(time.Duration) bool) bool {
		for end := time.Now().Add(limit); time.Now().Before(end); {
			if ok(w.Log().Silent()) {
				return true
			}
			ctx, cancel := context.WithTimeout(t.Context(), 20*time.Millisecond)
			_ = h.wait(ctx, func() bool { return false }) // a pause
			cancel()
		}
		return false
	}
	// What was taken last may not have been heard of before the cut, nor does what is
	// lost keep anybody waiting: so it is tried more than once.
	n := uint64(0)
	shown := false
	for range 10 {
		n++
		appendBatch(t, w.Log(), n)
		await(t, h, "a batch and a link", func() bool { return h.has(n) && h.isUp() })
		w.Cut(true)
		await(t, h, "the link to be down", func() bool { return !h.isUp() })
		began := time.Now()
		for range 3 {
			n++
			appendBatch(t, w.Log(), n)
		}
		shown = within(time.Second, func(s time.Duration) bool {
			if s > time.Since(began)+time.Second {
				t.Fatalf("silent for %v, though there was nothing to take %v ago", s, time.Since(began))
			}
			return s >= 150*time.Millisecond
		})
		w.Cut(false)
		await(t, h, "all batches", func() bool { return h.has(n) && h.isUp() })
		if !within(patience, func(s time.Duration) bool { return s == 0 }) {
			t.Fatal("silent though all was taken")
		}
		if shown {
			return
		}
	}
	t.Fatal("a log that nobody takes from is not silent")
}

func forgotten(t *testing.T, w World) {
	h := newHandler(nil)
	start(t, w.Feed(), h)
	appendBatch(t, w.Log(), 1)
	await(t, h, "a batch", func() bool { return h.has(1) && h.isUp() })
	h.update(func() { h.gaps = nil })
	w.Cut(true)
	await(t, h, "the link to be down", func() bool { return !h.isUp() })
	appendBatch(t, w.Log(), 2)
	appendBatch(t, w.Log(), 3)
	w.Forget()
	appendBatch(t, w.Log(), 4)
	w.Cut(false)
	await(t, h, "the batch after and a gap", func() bool { return h.has(4) && len(h.gaps) > 0 })
}

func madeAnew(t *testing.T, w World) {
	h := newHandler(nil)
	start(t, w.Feed(), h)
	appendBatch(t, w.Log(), 1)
	await(t, h, "a batch", func() bool { return h.has(1) })
	h.update(func() { h.gaps = nil })
	w.Recreate()
	appendBatch(t, w.Log(), 2)
	await(t, h, "the batch after and a gap", func() bool { return h.has(2) && len(h.gaps) > 0 })
}

// start runs f until the test ends or stop is called.
func start(t *testing.T, f geo.Feed, h geo.FeedHandler) (stop func()) {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- f.Run(ctx, h) }()
	stopped := false
	stop = func() {
		if stopped {
			return
		}
		stopped = true
		cancel()
		select {
		case err := <-done:
			if err != nil && !errors.Is(err, context.Canceled) {
				t.Errorf("feed: %v", err)
			}
		case <-time.After(patience):
			t.Error("feed does not stop")
		}
	}
	t.Cleanup(stop)
	return stop
}

func batch(n uint64) geo.Batch {
	return geo.Batch{
		Header: geo.Header{Origin: "east", Node: "east-1", Incarnation: 65, Session: 1, Number: n, Count: 1, Codec: geo.CodecNone},
		Data:   fmt.Appendf(nil, "data %d", n),
	}
}

func appendBatch(t *testing.T, l geo.Log, n uint64) {
	t.Helper()
	appendThis(t, l, batch(n))
}

// appendThis offers b until the log confirms, as a pump would.
func appendThis(t *testing.T, l geo.Log, b geo.Batch) {
	t.Helper()
	deadline := time.Now().Add(patience)
	for {
		done := make(chan error, 1)
		l.Append(b, func(err error) { done <- err })
		err := <-done
		if err == nil {
			return
		}
		if time.Now().After(deadline) {
			t.Fatalf("append batch %d: %v", b.Header.Number, err)
		}
	}
}

func await(t *testing.T, h *handler, what string, ok func() bool) {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	if h.wait(ctx, ok) != nil {
		h.mu.Lock()
		defer h.mu.Unlock()
		t.Fatalf("waiting for %s: handled %d of %d batches, links %v, gaps %q", what, len(h.handled), len(h.came), h.links, h.gaps)
	}
}
