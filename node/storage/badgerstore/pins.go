package badgerstore

import (
	"sync"
	"sync/atomic"
	"time"
)

// pins keeps the versions that somebody reads from being dropped. Badger may
// drop every version that is hidden by another one at or below the discard
// timestamp. So that timestamp
//
//	P1 never passes the timestamp of a pin (snapshots and scans), and
//	P2 is stored here before Badger is told: a single Get, which takes no pin,
//	   looks after its read whether the timestamp it read at was passed
//	   meanwhile, and if so reads again.
//
// It is moved at most once an interval, which makes the second read rare.
type pins struct {
	discard atomic.Uint64
	tell    func(ts uint64) // Badger's SetDiscardTs

	mu    sync.Mutex
	open  map[uint64]int
	moved time.Time
}

const discardInterval = 100 * time.Millisecond

// pin pins what durable is now, and returns it.
func (p *pins) pin(durable *atomic.Uint64) uint64 {
	p.mu.Lock()
	defer p.mu.Unlock()
	ts := durable.Load()
	p.open[ts]++
	return ts
}

func (p *pins) unpin(ts uint64) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.open[ts]--; p.open[ts] == 0 {
		delete(p.open, ts)
	}
}

// advance moves the discard timestamp towards durable, as far as it may go.
func (p *pins) advance(durable uint64, now time.Time) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if now.Sub(p.moved) < discardInterval {
		return
	}
	p.moved = now
	for ts := range p.open {
		durable = min(durable, ts)
	}
	if durable > p.discard.Load() {
		p.discard.Store(durable)
		p.tell(durable)
	}
}
