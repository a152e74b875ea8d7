package geo

import (
	"context"
	"errors"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"
)

// Who is there first gets room first, all of it at most, and who gives up is not in
// the way of others.
func TestRoom(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRoom(10)
		var mu sync.Mutex
		var order []string
		used, most := 0, 0
		var all sync.WaitGroup
		work := func(name string, bytes int, patience time.Duration) {
			all.Go(func() {
				ctx, cancel := context.WithTimeout(t.Context(), patience)
				defer cancel()
				if err := r.take(ctx, bytes); err != nil {
					if !errors.Is(err, context.DeadlineExceeded) {
						t.Errorf("%s: %v", name, err)
					}
					return
				}
				mu.Lock()
				order = append(order, name)
				used += min(bytes, 10)
				most = max(most, used)
				mu.Unlock()
				time.Sleep(time.Second)
				mu.Lock()
				used -= min(bytes, 10)
				mu.Unlock()
				r.give(bytes)
			})
			synctest.Wait()
		}
		work("a", 6, time.Minute)
		work("b", 4, time.Minute)
		work("gives up", 9, time.Millisecond)
		work("larger than all", 1000, time.Minute)
		work("c", 1, time.Minute)
		work("d", 10, time.Minute)
		all.Wait()
		if want := []string{"a", "b", "larger than all", "c", "d"}; !slices.Equal(order, want) {
			t.Errorf("room was given in the order %v, not %v", order, want)
		}
		if most != 10 || r.used != 0 || len(r.waiting) != 0 {
			t.Errorf("%d bytes of 10 were used at once; %d are at the end, %d wait", most, r.used, len(r.waiting))
		}
	})
}

// Whoever gives up in the moment in which its turn comes leaves the room to others.
func TestRoomOfWhoGivesUp(t *testing.T) {
	r := newRoom(1)
	for range 1000 {
		ctx, cancel := context.WithCancel(t.Context())
		if err := r.take(ctx, 1); err != nil {
			t.Fatal(err)
		}
		waits := make(chan error, 1)
		go func() { waits <- r.take(ctx, 1) }()
		go cancel()
		r.give(1)
		if <-waits == nil {
			r.give(1)
		}
	}
	if r.used != 0 || len(r.waiting) != 0 {
		t.Errorf("%d bytes are used, %d wait", r.used, len(r.waiting))
	}
}
