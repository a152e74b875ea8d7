package grpcpeer

import (
	"context"
	"errors"
	"io"
	"runtime"

	"github.com/atolldb/atoll/node/peer"
)

// lane is the queue before one stream. Its owner's lock guards all but wake.
type lane[T any] struct {
	limit int // of bytes
	items []T
	bytes int
	// idle says that the sender found nothing and waits on wake.
	idle bool
	wake chan struct{} // 1
	// asked says that an empty frame is to be sent.
	asked bool
}

func newLane[T any](limit int) lane[T] { return lane[T]{limit: limit, wake: make(chan struct{}, 1)} }

// fits says whether size more bytes may be queued; one message always may.
func (l *lane[T]) fits(size int) bool { return l.bytes == 0 || l.bytes+size <= l.limit }

// push queues item, and says whether rouse must be called once the lock is
// free.
func (l *lane[T]) push(item T, size int) (rouse bool) {
	l.items = append(l.items, item)
	l.bytes += size
	return l.stir()
}

// ask queues an empty frame.
func (l *lane[T]) ask() (rouse bool) {
	l.asked = true
	return l.stir()
}

func (l *lane[T]) stir() bool {
	rouse := l.idle
	l.idle = false
	return rouse
}

func (l *lane[T]) rouse() {
	select {
	case l.wake <- struct{}{}:
	default: // it is waking up
	}
}

// take moves up to limit bytes of queued items, at least one, to out. The size
// of an item is what push was told.
func (l *lane[T]) take(out []T, limit int, size func(*T) int) []T {
	taken, n := 0, 0
	for n < len(l.items) {
		s := size(&l.items[n])
		if n > 0 && taken+s > limit {
			break
		}
		taken += s
		n++
	}
	out = append(out, l.items[:n]...)
	rest := copy(l.items, l.items[n:])
	clear(l.items[rest:])
	l.items = l.items[:rest]
	l.bytes -= taken
	return out
}

func (l *lane[T]) reset() {
	clear(l.items)
	l.items, l.bytes, l.asked = l.items[:0], 0, false
}

// stream is what the two ends of gRPC's streams share.
type stream interface {
	Context() context.Context
	SendMsg(m any) error
	RecvMsg(m any) error
}

// send writes frames until the stream ends. next returns the next frame; false
// if there is none, and then a wake-up follows once there is.
func send(s stream, wake <-chan struct{}, c *counters, next func(*frame) (messages int, ok bool)) error {
	var f frame
	for {
		// Let those who are about to queue do so: it makes frames fuller, and
		// costs nothing when nobody is.
		runtime.Gosched()
		messages, ok := next(&f)
		if !ok {
			select {
			case <-wake:
				continue
			case <-s.Context().Done():
				return context.Cause(s.Context())
			}
		}
		c.out(messages, f.packed.Len())
		if err := s.SendMsg(&f); err != nil {
			return err
		}
		f = frame{}
	}
}

// receive hands on frames until the stream ends.
func receive(s stream, take func(frame []byte) error) error {
	var f frame
	for {
		if err := s.RecvMsg(&f); errors.Is(err, io.EOF) {
			return errClosed
		} else if err != nil {
			return err
		}
		if err := take(f.body); err != nil {
			return err
		}
		f.body = nil
	}
}

func isLarge(size int) bool { return size > peer.LargeMessage }
