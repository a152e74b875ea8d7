package bulk

import (
	"context"
	"sync"
)

// maxBytes of items are under way, and one item more.
const maxBytes = 64 << 20

// Window is the items that are under way, by their numbers from 1.
type Window struct {
	most int

	mu    sync.Mutex
	room  sync.Cond // there is less under way
	open  map[int]int
	bytes int
	read  int
}

// NewWindow bounds what is under way to so many items, 1 or more, and to 64 MiB and
// one item more.
func NewWindow(most int) *Window {
	w := &Window{most: most, open: map[int]int{}}
	w.room.L = &w.mu
	return w
}

// Begin counts an item of size bytes as under way as soon as there is room for it, and
// has also calls, if not nil, in the same instant. Items begin in ascending order, from
// one goroutine. It is false, and nothing was begun, when ctx ended.
func (w *Window) Begin(ctx context.Context, n, size int, also func()) bool {
	defer context.AfterFunc(ctx, w.wake)()
	w.mu.Lock()
	defer w.mu.Unlock()
	for ctx.Err() == nil && (w.bytes > maxBytes || len(w.open) >= w.most) {
		w.room.Wait()
	}
	if ctx.Err() != nil {
		return false
	}
	w.open[n], w.read = size, n
	w.bytes += size
	if also != nil {
		also()
	}
	return true
}

func (w *Window) wake() {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.room.Broadcast()
}

// Pass counts an item as read that nothing is to be done for; also is as with Begin.
func (w *Window) Pass(n int, also func()) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.read = n
	if also != nil {
		also()
	}
}

// Done is the end of an item that had begun. What also counts is counted in the same
// instant: See meets either an item that is under way or one that was counted.
func (w *Window) Done(n int, also func()) {
	w.mu.Lock()
	defer w.mu.Unlock()
	also()
	w.bytes -= w.open[n]
	delete(w.open, n)
	w.room.Signal()
}

// See calls look with the number of the last item that was read, and how many items
// from the start are done with. Nothing begins or ends meanwhile.
func (w *Window) See(look func(read, resume int)) {
	w.mu.Lock()
	defer w.mu.Unlock()
	resume := w.read
	for n := range w.open {
		resume = min(resume, n-1)
	}
	look(w.read, resume)
}
