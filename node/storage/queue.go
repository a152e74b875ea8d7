package storage

import (
	"slices"
	"sync"
)

type queued struct {
	op   Op
	size int
	bulk bool
}

// queue is the bounded queue before the committer: two lanes, each first in, first
// out. The bounds are on ops and on bytes, for both lanes together; the bulk lane
// takes no more than half of each, so that what is urgent finds the other half. A
// batch that alone exceeds them is still taken by a lane that is empty.
type queue struct {
	maxOps, maxBytes int
	wake             chan struct{} // holds one token while something waits

	mu           sync.Mutex
	urgent, bulk line
	closed       error
	group        []queued // the buffer that take hands out
}

// line is one lane.
type line struct {
	waiting []queued
	head    int
	bytes   int
}

func (l *line) len() int { return len(l.waiting) - l.head }

func (q *queue) init(maxOps, maxBytes int) {
	q.maxOps, q.maxBytes = maxOps, maxBytes
	q.wake = make(chan struct{}, 1)
}

// put takes all of batch or none of it. It does not keep the slice. All of a batch is
// urgent if one of its ops is: what is submitted together is decided in order.
func (q *queue) put(batch []queued) error {
	if len(batch) == 0 {
		return nil
	}
	bytes, bulk := 0, true
	for _, b := range batch {
		bytes += b.size
		bulk = bulk && b.bulk
	}
	q.mu.Lock()
	lane, ops, most := &q.urgent, q.urgent.len()+q.bulk.len(), q.urgent.bytes+q.bulk.bytes
	maxOps, maxBytes := q.maxOps, q.maxBytes
	if bulk {
		lane, ops, most = &q.bulk, q.bulk.len(), q.bulk.bytes
		maxOps, maxBytes = maxOps/2, maxBytes/2
	}
	switch {
	case q.closed != nil:
		err := q.closed
		q.mu.Unlock()
		return err
	case lane.len() > 0 && (ops+len(batch) > maxOps || most+bytes > maxBytes):
		q.mu.Unlock()
		return ErrOverloaded
	}
	from := len(lane.waiting)
	lane.waiting = append(lane.waiting, batch...)
	for i := range lane.waiting[from:] {
		lane.waiting[from+i].bulk = bulk
	}
	lane.bytes += bytes
	q.mu.Unlock()
	select {
	case q.wake <- struct{}{}:
	default:
	}
	return nil
}

// take removes the next group: what is urgent, at least one op if any waits, at most
// maxOps, and not more than maxBytes unless the first op alone is larger; and behind
// it, where bulk ops wait, one of them, and more while they are not more than maxBulk
// bytes and the bounds have room for them. The slice is valid until the next take.
func (q *queue) take(maxOps, maxBytes, maxBulk int) []queued {
	q.mu.Lock()
	defer q.mu.Unlock()
	clear(q.group)
	var bytes int
	q.group, bytes = q.urgent.take(q.group[:0], maxOps, maxBytes)
	q.group, _ = q.bulk.take(q.group, max(maxOps-len(q.group), 1), min(maxBytes-bytes, maxBulk))
	return q.group
}

// late removes what is urgent and has come since the last take, within the bounds. It
// leaves what take gave as it is.
func (q *queue) late(maxOps, maxBytes int) (ops []queued) {
	q.mu.Lock()
	defer q.mu.Unlock()
	if q.urgent.len() == 0 || maxOps <= 0 || q.urgent.waiting[q.urgent.head].size > maxBytes {
		return nil
	}
	ops, _ = q.urgent.take(nil, maxOps, maxBytes)
	return ops
}

// take moves ops to the end of group: one at least if there is any, and no more than
// the bounds say. It returns the bytes of those.
func (l *line) take(group []queued, maxOps, maxBytes int) (_ []queued, bytes int) {
	for n := 0; l.head < len(l.waiting) && n < maxOps; n++ {
		next := l.waiting[l.head]
		if n > 0 && bytes+next.size > maxBytes {
			break
		}
		bytes += next.size
		group = append(group, next)
		l.waiting[l.head] = queued{}
		l.head++
	}
	l.bytes -= bytes
	switch {
	case l.head == len(l.waiting):
		l.waiting, l.head = l.waiting[:0], 0
	case l.head > len(l.waiting)/2:
		// Half is gone: move the rest down, which costs O(1) per op.
		l.waiting = slices.Delete(l.waiting, 0, l.head)
		l.head = 0
	}
	return group, bytes
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
	return q.urgent.len() + q.bulk.len(), q.urgent.bytes + q.bulk.bytes
}
