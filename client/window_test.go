package client

import (
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	atollv1 "github.com/atolldb/atoll/proto/atoll/v1"
)

func TestWindowAdapts(t *testing.T) {
	now := time.Now()
	w := window{size: linkWindow}
	w.grow(10 * linkWindow)
	if w.size != linkWindow {
		t.Fatalf("grew to %d", w.size)
	}
	for range 100 { // all at once
		w.shrink(now)
	}
	if w.size != linkWindow*3/4 {
		t.Fatalf("a burst of refusals makes it %d", w.size)
	}
	for range 100 {
		now = now.Add(linkShrink)
		w.shrink(now)
	}
	if w.size != linkWindowMin {
		t.Fatalf("shrinks to %d", w.size)
	}
	for range 100 {
		now = now.Add(linkShrink)
		w.refused = now
		w.shrink(now)
	}
	if n := w.now(now); n != linkRefused {
		t.Fatalf("%d while calls are refused", n)
	}
	if n := w.now(now.Add(linkRefuses)); n != linkWindowMin {
		t.Fatalf("%d when they are not any more", n)
	}
	answers := 0
	for ; w.size < linkWindow; answers += 10 {
		w.grow(10)
	}
	if answers > 40*linkWindow {
		t.Errorf("takes %d answers to grow back", answers)
	}
}

// TestCallsThatCameLastGoFirst when many others have waited long; in order
// otherwise.
func TestCallsThatCameLastGoFirst(t *testing.T) {
	for _, c := range []struct {
		waited time.Duration
		others int // that wait in between
		last   bool
	}{{0, linkSpare, false}, {2 * linkPatience, 0, false}, {2 * linkPatience, linkSpare, true}} {
		waited := c.waited
		l := newLink(nil, func(bool) {})
		l.state = linkUp
		l.window = window{size: linkRefused, refused: time.Now()}
		l.pending[1<<40] = &call{} // 3 may be sent
		now := time.Now()
		var calls []*call
		submit := func() *call {
			c := &call{done: make(chan struct{}, 1), deadline: now.Add(time.Second), size: 1}
			if err := l.submit(c, false); err != nil {
				t.Fatal(err)
			}
			return c
		}
		for len(calls) < 8 {
			if calls = append(calls, submit()); len(calls) == 4 {
				for range c.others {
					submit()
				}
			}
		}
		calls[0].queuedAt = now.Add(-waited)
		calls[6].abandoned = true
		calls[1].deadline = now.Add(-1)
		var msg atollv1.StreamRequest
		if !l.take(&msg) || len(msg.Calls) != 3 {
			t.Fatalf("%d calls were sent", len(msg.Calls))
		}
		want := []int{0, 2, 3}
		left := 4 + c.others // the abandoned one has not been met
		if c.last {
			want = []int{7, 5, 4}
		}
		for _, i := range want {
			if !calls[i].sent {
				t.Errorf("waited %v: call %d was not sent", waited, i)
			}
		}
		if len(l.queue) != left {
			t.Errorf("waited %v: %d calls are left", waited, len(l.queue))
		}
		if done := len(calls[1].done) == 1; done == c.last {
			t.Errorf("waited %v: the overdue call is finished: %v", waited, done)
		}
	}
}

// TestFewWaitForTheirTurn: no more callers than linkSpare are told that a node refuses
// calls as long as it answers others; they wait.
func TestFewWaitForTheirTurn(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		turn := 0
		cc := &wireConn{serve: func(s *wireStream, c *atollv1.StreamCall) {
			if turn++; turn%200 == 0 {
				s.fail(c, &atollv1.Error{Reason: atollv1.Reason_REASON_OVERLOADED})
				return
			}
			time.AfterFunc(50*time.Millisecond, func() { s.ok(c) })
		}}
		c := region(t, cc)
		c.cluster.view.Load().nodes[0].link.window.size = linkRefused
		var under sync.WaitGroup
		for w := range linkSpare {
			under.Go(func() {
				for i := range 20 {
					if _, err := c.Get(t.Context(), fmt.Sprint(w, i)); err != nil {
						t.Error(err)
					}
				}
			})
		}
		under.Wait()
	})
}

// TestRefusalsBoundWhatIsAsked: a node that refuses everything is asked little, however
// much its client is asked for, and callers are told soon, not at their deadlines. When
// it refuses no more, all is served.
func TestRefusalsBoundWhatIsAsked(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		const takes = 20 * time.Millisecond
		var asked atomic.Int64
		cc := &wireConn{serve: func(s *wireStream, c *atollv1.StreamCall) {
			asked.Add(1)
			time.AfterFunc(takes, func() {
				s.fail(c, &atollv1.Error{Reason: atollv1.Reason_REASON_OVERLOADED, RetryAfterMs: 50})
			})
		}}
		c := region(t, cc)
		var under sync.WaitGroup
		ask := func(i int, check func(err error, took time.Duration)) {
			under.Go(func() {
				began := time.Now()
				_, err := c.Get(t.Context(), fmt.Sprint(i))
				check(err, time.Since(began))
			})
			time.Sleep(time.Second / 2000)
		}
		for i := range 6000 {
			if i == 4000 {
				asked.Store(0)
			}
			ask(i, func(err error, took time.Duration) {
				if !errors.Is(err, ErrThrottled) {
					t.Errorf("call %d: %v", i, err)
				}
				// The last ones wait for no one.
				if i > 4000 && i < 5500 && took > linkWait+takes+2*sweepEvery {
					t.Errorf("call %d is told after %v", i, took)
				}
			})
		}
		// In the third second the budget of retries is spent and the window small.
		if n, most := asked.Load(), int64(linkRefused*time.Second/takes); n > most+linkRefused {
			t.Errorf("asked %d times in a second, %d is what the window lets through", n, most)
		}
		under.Wait()
		cc.set(func() { cc.serve = answer })
		time.Sleep(linkRefuses)
		for i := range 2000 {
			ask(i, func(err error, _ time.Duration) {
				if err != nil {
					t.Errorf("afterwards: %v", err)
				}
			})
		}
		under.Wait()
	})
}
