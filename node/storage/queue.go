package storage

import "sync"

type queued struct {
	op   Op
	size int
}

// queue is the bounded queue before the committer. The bounds are on ops and
// on bytes; a batch that alone exceeds them is still taken by an empty queue.
type queue struct {
	maxOps, maxBytes int
	wake             chan struct{} // holds one token while something waits

	mu      sync.Mutex
	waiting []queued
	head    int
	bytes   int
	closed  error
	group   []queued // the buffer that take hands out
}

func (q *queue) init(maxOps, maxBytes int) {
	q.maxOps, q.maxBytes = maxOps, maxBytes
	q.wake = make(chan struct{}, 1)
}

// put takes all of batch or none of it. It does not keep the slice.
func (q *queue) put(batch []queued) error {
	if len(batch) == 0 {
		return nil
	}
	bytes := 0
	for _, b := range batch {
		bytes += b.size
	}
	q.mu.Lock()
	n := len(q.waiting) - q.head
	switch {
	case q.closed != nil:
		err := q.closed
		q.mu.Unlock()
		return err
	case n > 0 && (n+len(batch) > q.maxOps || q.bytes+bytes > q.maxBytes):
		q.mu.Unlock()
		return ErrOverloaded
	}
	q.waiting = append(q.waiting, batch...)
	q.bytes += bytes
	q.mu.Unlock()
	select {
	case q.wake <- struct{}{}:
	default:
	}
	return nil
}

// take removes the next group: at least one op if any waits, at most maxOps,
// and not more than maxBytes unless the first op alone is larger. The slice is
// valid until the next take.
func (q *queue) take(maxOps, maxBytes int) []queued {
	q.mu.Lock()
	defer q.mu.Unlock()
	clear(q.group)
	q.group = q.group[:0]
	bytes := 0
	for q.head < len(q.waiting) && len(q.group) < maxOps {
		next := q.waiting[q.head]
		if len(q.group) > 0 && bytes+next.size > maxBytes {
			break
		}
		bytes += next.size
		q.group = append(q.group, next)
		q.waiting[q.head] = queued{}
		q.head++
	}
	q.bytes -= bytes
	switch {
	case q.head == len(q.waiting):
		q.waiting, q.head = q.waiting[:0], 0
	case q.head > len(q.waiting)/2:
		// Half is gone: move the rest down, which costs O(1) per op.
		n := copy(q.waiting, q.waiting[q.head:])
		clear(q.waiting[n:])
		q.waiting, q.head = q.waiting[:n], 0
	}
	return q.group
}

// close makes put return err from now on; the first error stays.
func (q *queue) close(err error) {
	q.mu.Lock()
	defer q.mu.Unlock()
	if q.closed == nil {
		q.closed = err
	}
}

func (q *queue) depth() (ops, bytes int) {
	q.mu.Lock()
	defer q.mu.Unlock()
	return len(q.waiting) - q.head, q.bytes
}
