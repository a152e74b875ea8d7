package fleet

import (
	"io"
	"os"
	"sync"
	"time"
)

// maxInFlight bounds the bytes under way in one direction of a slow link.
const maxInFlight = 8 << 20

// pipe holds bytes for a while: what goes in at t comes out at t + delay, in
// order and without a limit of rate.
type pipe struct {
	delay time.Duration

	mu    sync.Mutex
	room  sync.Cond // the queue became shorter, or the pipe failed
	data  sync.Cond // the queue became longer, its head due, or the pipe failed
	queue []parcel
	bytes int
	err   error
	until time.Time // read deadline
	wake  *time.Timer
}

type parcel struct {
	due  time.Time
	data []byte
}

func newPipe(delay time.Duration) *pipe {
	p := &pipe{delay: delay}
	p.room.L, p.data.L = &p.mu, &p.mu
	return p
}

// put queues a copy of b.
func (p *pipe) put(b []byte) (int, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for p.err == nil && p.bytes > maxInFlight {
		p.room.Wait()
	}
	if p.err != nil {
		return 0, p.err
	}
	p.queue = append(p.queue, parcel{time.Now().Add(p.delay), append([]byte(nil), b...)})
	p.bytes += len(b)
	p.data.Broadcast()
	return len(b), nil
}

// get waits for the head to be due and returns as much of it as fits.
func (p *pipe) get(b []byte) (int, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for {
		now := time.Now()
		if !p.until.IsZero() && !now.Before(p.until) {
			return 0, os.ErrDeadlineExceeded
		}
		if len(p.queue) > 0 {
			head := &p.queue[0]
			if wait := head.due.Sub(now); wait > 0 {
				p.poke(wait)
				p.data.Wait()
				continue
			}
			n := copy(b, head.data)
			if head.data = head.data[n:]; len(head.data) == 0 {
				p.queue = p.queue[1:]
			}
			p.bytes -= n
			p.room.Broadcast()
			return n, nil
		}
		if p.err != nil {
			return 0, p.err
		}
		p.data.Wait()
	}
}

// poke wakes the readers after d. Called with the lock held.
func (p *pipe) poke(d time.Duration) {
	if p.wake == nil {
		p.wake = time.AfterFunc(d, func() {
			p.mu.Lock()
			p.data.Broadcast()
			p.mu.Unlock()
		})
		return
	}
	p.wake.Reset(d)
}

func (p *pipe) deadline(t time.Time) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.until = t
	if !t.IsZero() {
		p.poke(max(time.Until(t), 0))
	}
	p.data.Broadcast()
}

// fail ends the pipe: what is queued can still be read, nothing more is taken.
func (p *pipe) fail(err error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.err == nil {
		p.err = err
	}
	p.room.Broadcast()
	p.data.Broadcast()
}

// fill reads from r until it ends.
func (p *pipe) fill(r io.Reader) {
	buf := make([]byte, 64<<10)
	for {
		n, err := r.Read(buf)
		if n > 0 {
			if _, perr := p.put(buf[:n]); perr != nil {
				return
			}
		}
		if err != nil {
			p.fail(err)
			return
		}
	}
}

// drain writes to w what comes out, until the pipe ends.
func (p *pipe) drain(w io.Writer) {
	buf := make([]byte, 64<<10)
	for {
		n, err := p.get(buf)
		if err != nil {
			return
		}
		if _, err := w.Write(buf[:n]); err != nil {
			p.fail(err)
			return
		}
	}
}
