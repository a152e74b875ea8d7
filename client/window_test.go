package client

import (
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
	answers := 0
	for ; w.size < linkWindow; answers += 10 {
		w.grow(10)
	}
	if answers > 40*linkWindow {
		t.Errorf("takes %d answers to grow back", answers)
	}
}

// TestCallsThatCameLastGoFirst when others have waited long; in order
// otherwise.
func TestCallsThatCameLastGoFirst(t *testing.T) {
	for _, waited := range []time.Duration{0, 2 * linkPatience} {
		l := newLink(nil, func(bool) {})
		l.state = linkUp
		l.window.size = 3
		now := time.Now()
		var calls []*call
		for range 8 {
			c := &call{done: make(chan struct{}, 1), deadline: now.Add(time.Second), size: 1}
			if err := l.submit(c, false); err != nil {
				t.Fatal(err)
			}
			calls = append(calls, c)
		}
		calls[0].queuedAt = now.Add(-waited)
		calls[6].abandoned = true
		calls[1].deadline = now.Add(-1)
		var msg atollv1.StreamRequest
		if !l.take(&msg) || len(msg.Calls) != 3 {
			t.Fatalf("%d calls were sent", len(msg.Calls))
		}
		want := []int{0, 2, 3}
		left := 4 // the abandoned one has not been met
		if waited > 0 {
			want, left = []int{7, 5, 4}, 4
		}
		for _, i := range want {
			if !calls[i].sent {
				t.Errorf("waited %v: call %d was not sent", waited, i)
			}
		}
		if len(l.queue) != left {
			t.Errorf("waited %v: %d calls are left", waited, len(l.queue))
		}
		if done := len(calls[1].done) == 1; done != (waited == 0) {
			t.Errorf("waited %v: the overdue call is finished: %v", waited, done)
		}
	}
}
