package liveness

import (
	"slices"
	"sync/atomic"
	"time"
)

// Kind of work that latencies are taken of, since nodes are slow at one or the
// other: a slow disk makes writes wait for its syncs, and reads not at all.
type Kind uint8

// The kinds.
const (
	Reads Kind = iota
	Writes
	Kinds
)

func (k Kind) String() string { return [...]string{"read", "write"}[k] }

const (
	// paceBeat is how often latencies are judged.
	paceBeat = 250 * time.Millisecond
	// A node is slow when it has taken slowTimes as long as is typical, and
	// slowLeast at least, in slowBeats beats in a row; and no longer when it
	// has been within fastTimes of what is typical, or fastLeast, in fastBeats.
	// Beats in which it was not asked do not count. The way back is long
	// because each change of who mints a key makes the pasts of its versions
	// longer.
	slowTimes, fastTimes = 3, 1.5
	slowLeast, fastLeast = 20 * time.Millisecond, 10 * time.Millisecond
	slowBeats, fastBeats = 4, 40
	// A slow node that nobody asks is tried once a second.
	probeEvery = time.Second
)

// Pace decides whether one node is slow at one kind of work. The zero value is
// ready. It is pure: the detector feeds it at each beat.
type Pace struct {
	mean  float64 // moving average in ns; 0 not known
	slow  bool
	above int // beats in a row over, or under, what would change it
}

// Beat takes the average latency since the last beat, 0 when there was none,
// and what is typical for the nodes of the region, 0 when that is not known. It
// reports whether the node has become slow, or has ceased to be.
func (p *Pace) Beat(latency, typical time.Duration) (changed bool) {
	if latency <= 0 {
		return false
	}
	if p.mean == 0 {
		p.mean = float64(latency)
	}
	p.mean += (float64(latency) - p.mean) / 4
	mean := time.Duration(p.mean)
	over := mean > max(time.Duration(slowTimes*float64(typical)), slowLeast)
	need := slowBeats
	if p.slow {
		over = mean < max(time.Duration(fastTimes*float64(typical)), fastLeast)
		need = fastBeats
	}
	if !over || typical == 0 {
		p.above = 0
		return false
	}
	p.above++
	if p.above < need {
		return false
	}
	p.slow, p.above = !p.slow, 0
	return true
}

// Slow says that the node is.
func (p *Pace) Slow() bool { return p.slow }

// Mean latency lately; 0 is not known.
func (p *Pace) Mean() time.Duration { return time.Duration(p.mean) }

// Typical is the median of the means that are known, the lower one of two: 0
// when there are fewer than two, since one has nothing to be compared with.
func Typical(means []time.Duration) time.Duration {
	known := slices.DeleteFunc(slices.Clone(means), func(d time.Duration) bool { return d == 0 })
	if len(known) < 2 {
		return 0
	}
	slices.Sort(known)
	return known[(len(known)-1)/2]
}

// meter is a node's latencies of one kind: the sums since the last beat, added
// to by everybody, and what Run makes of them.
type meter struct {
	sum, n  atomic.Int64
	sampled atomic.Int64 // when, on the detector's clock
	probed  atomic.Int64
	slow    atomic.Bool
	mean    atomic.Int64
	turns   atomic.Uint64
	pace    Pace // Run's
}

type meters [Kinds]meter

func (m *meters) took(k Kind, now, took time.Duration) {
	m[k].sum.Add(int64(took))
	m[k].n.Add(1)
	m[k].sampled.Store(int64(now))
}

// avoid says whether to ask others first. One that is slow and was not asked
// for a while is tried.
func (m *meters) avoid(k Kind, now func() time.Duration) bool {
	t := &m[k]
	if !t.slow.Load() {
		return false
	}
	at := int64(now())
	last := t.probed.Load()
	if at-t.sampled.Load() > int64(probeEvery) && at-last > int64(probeEvery) && t.probed.CompareAndSwap(last, at) {
		return false
	}
	return true
}

// beat returns the average since the last beat.
func (t *meter) beat() time.Duration {
	n, sum := t.n.Swap(0), t.sum.Swap(0)
	if n <= 0 || sum <= 0 {
		return 0 // a latency may be added between the two
	}
	return time.Duration(sum / n)
}
