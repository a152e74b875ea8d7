package bulk

import (
	"context"
	"testing"
	"testing/synctest"

	"pgregory.net/rapid"
)

// begin reports whether an item was begun without waiting for room; one that waits
// gives up when the test has seen it.
func begin(t *testing.T, w *Window, n, size int) (atOnce, ok bool) {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	done := make(chan bool, 1)
	go func() { done <- w.Begin(ctx, n, size, nil) }()
	synctest.Wait()
	select {
	case ok = <-done:
		return true, ok
	default:
		cancel()
		return false, <-done
	}
}

func TestWindowBounds(t *testing.T) {
	for _, tt := range []struct {
		name  string
		most  int
		sizes []int
		enter int // so many of them have room
	}{
		{"by number", 3, []int{1, 1, 1, 1}, 3},
		{"by bytes, and one item more", 10, []int{maxBytes, 1, 1}, 2},
		{"one that is too large enters alone", 10, []int{2 * maxBytes, 1}, 1},
	} {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				w := NewWindow(tt.most)
				entered := 0
				for i, size := range tt.sizes {
					if atOnce, ok := begin(t, w, i+1, size); atOnce && ok {
						entered++
					} else if ok {
						t.Fatalf("item %d began after its context had ended", i+1)
					}
				}
				if entered != tt.enter {
					t.Fatalf("%d items were under way, want %d", entered, tt.enter)
				}
				w.Done(1, func() {})
				if atOnce, ok := begin(t, w, tt.enter+1, 1); !atOnce || !ok {
					t.Error("there was no room after an end")
				}
			})
		})
	}
}

// Who waits for room goes on when another item ends.
func TestWindowWaits(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := NewWindow(1)
		w.Begin(t.Context(), 1, 1, nil)
		began := make(chan bool, 1)
		go func() { began <- w.Begin(t.Context(), 2, 1, nil) }()
		synctest.Wait()
		if len(began) > 0 {
			t.Fatal("two items are under way")
		}
		w.Done(1, func() {})
		if !<-began {
			t.Error("it did not begin")
		}
	})
}

// What See meets is at any time: items behind resume are done or passed, each item
// that is read and was not counted is under way, and the item after resume is one of
// these.
func TestWindowResumes(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		w := NewWindow(1 << 10)
		open := map[int]bool{}
		read, ended := 0, 0
		ctx := context.Background()
		t.Repeat(map[string]func(*rapid.T){
			"pass": func(t *rapid.T) {
				if len(open) > 0 {
					t.Skip("only items at the beginning are passed over")
				}
				read++
				w.Pass(read, func() { ended++ })
			},
			"begin": func(t *rapid.T) {
				read++
				if !w.Begin(ctx, read, rapid.IntRange(0, 1<<10).Draw(t, "size"), func() { open[read] = true }) {
					t.Fatal("it did not begin")
				}
			},
			"done": func(t *rapid.T) {
				for n := range open {
					w.Done(n, func() { delete(open, n); ended++ })
					return
				}
			},
			"": func(t *rapid.T) {
				w.See(func(gotRead, resume int) {
					want := read
					for n := range read {
						if open[n+1] {
							want = n
							break
						}
					}
					if gotRead != read || resume != want || ended+len(open) != read {
						t.Errorf("read %d, resume %d, %d ended; want %d, %d, %d", gotRead, resume, ended, read, want, read-len(open))
					}
				})
			},
		})
	})
}
