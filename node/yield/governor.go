package yield

import (
	"sync"
	"sync/atomic"
	"time"
)

// Governor is the control of one node, and what feeds it. A nil one yields to
// nobody.
type Governor struct {
	// Urgent tells whether this node does not answer for all of its partitions; nil
	// for never. It is not set once the governor is used, and must not block.
	Urgent func() bool

	hists [Kinds]histogram
	bytes atomic.Int64 // of background work since began
	ends  atomic.Int64 // when to look again, in ns on the wall clock

	mu      sync.Mutex
	control Control
	phase   Phase
	cycle   int64
	began   time.Time // of what is measured
}

// New returns a governor that knows nothing yet.
func New() *Governor { return &Governor{} }

// Observe takes how long something of a kind took that a client waits for.
func (g *Governor) Observe(k Kind, took time.Duration) {
	if g == nil {
		return
	}
	g.look(time.Now())
	g.hists[k].add(took)
}

// look moves the control on when a phase is over.
func (g *Governor) look(now time.Time) {
	if now.UnixNano() < g.ends.Load() {
		return
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	if now.UnixNano() < g.ends.Load() {
		return
	}
	phase, ends := PhaseAt(now)
	if !g.began.IsZero() {
		g.step(now)
	} else {
		g.began = now
	}
	g.phase, g.cycle = phase, now.UnixNano()/int64(Cycle)
	g.ends.Store(ends.UnixNano())
}

// step ends the phase that was. Called with mu held.
func (g *Governor) step(now time.Time) {
	var m [Kinds]Measure
	for k := range g.hists {
		m[k] = g.hists[k].measure()
	}
	g.control.Urge(g.urgent())
	if !g.control.Step(g.cycle, g.phase, m, int(g.bytes.Load()), now.Sub(g.began)) && g.phase == Working && now.UnixNano()/int64(Cycle) == g.cycle {
		return // more of the same
	}
	for k := range g.hists {
		g.hists[k].clear()
	}
	g.bytes.Store(0)
	g.began = now
}

func (g *Governor) urgent() bool { return g.Urgent != nil && g.Urgent() }

// leastShare is the divisor of what the caller allows that he gets in any case:
// who allows more is in a hurry, whatever it does to clients.
const leastShare = 64

// Rate is how many bytes a second background work may have now: most at most,
// and a 64th of it and Floor at least.
func (g *Governor) Rate(most uint64) uint64 { return g.rate(most, Floor, leastShare) }

// rate is Rate with another floor and divisor.
func (g *Governor) rate(most, floor, share uint64) uint64 {
	if g == nil {
		return most
	}
	return min(most, max(g.Level(), floor, most/share))
}

// Level is the rate that harms nobody, as far as is known, in bytes a second.
func (g *Governor) Level() uint64 {
	if g == nil {
		return ceiling
	}
	now := time.Now()
	g.look(now)
	g.mu.Lock()
	defer g.mu.Unlock()
	g.control.Urge(g.urgent())
	return uint64(g.control.Level())
}

// Page is how many bytes are to be asked for, or given, at once, most at most. A
// page is applied in one go, and clients' writes wait for its end: where there are
// clients it is what may be done in 2 ms at the rate of now, but 4 KiB at least,
// else 8 ms and 64 KiB.
func (g *Governor) Page(most int) int {
	if g == nil {
		return most
	}
	level := g.Level()
	g.mu.Lock()
	clients := g.control.Holds()
	g.mu.Unlock()
	if clients && !g.urgent() {
		return int(min(uint64(most), max(level/512, 4<<10)))
	}
	return int(min(uint64(most), max(level/128, 64<<10)))
}

// held returns for how long background work is held from now on.
func (g *Governor) held(now time.Time) time.Duration {
	if g == nil {
		return 0
	}
	g.look(now)
	if p, _ := PhaseAt(now); p == Working {
		return 0
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	if !g.control.Holds() {
		return 0
	}
	return now.Truncate(Cycle).Add(Hold).Sub(now)
}

func (g *Governor) did(bytes int) {
	if g != nil {
		g.bytes.Add(int64(bytes))
	}
}
