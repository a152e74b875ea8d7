package yield

import (
	"math/bits"
	"slices"
	"time"
)

// Kind of what clients wait for.
type Kind uint8

// The kinds.
const (
	// Commits of clients' writes on this node, from when they are there until
	// they are durable.
	Commits Kind = iota
	// Reads that this node has asked other nodes for.
	Reads
	Kinds
)

const (
	// Cycle is how often background work is held, and Hold how long. The first
	// settle of it is for what is under way to end.
	Cycle  = 6 * time.Second
	Hold   = 750 * time.Millisecond
	settle = 250 * time.Millisecond
	// beat is how often the rate is looked at, at most.
	beat = 250 * time.Millisecond

	// Floor of the rate, in bytes a second, and that of patient work, with which it
	// starts; ceiling is beyond what anybody allows.
	Floor        = 1 << 20
	patientFloor = 256 << 10
	start        = patientFloor
	ceiling      = 4 << 30
	// UrgentFloor is Floor for a node that does not answer for all of its partitions.
	UrgentFloor = 4 << 20

	// enough samples to judge by, and few by which a whole cycle is judged.
	enough, few = 32, 8
	// tolerance and slack: what may be added to what things take without
	// background work.
	tolerance = 1.25
	slack     = 100 * time.Microsecond
	// urgentTolerance is that of a node that does not answer for all of its partitions.
	urgentTolerance = 1.5
	// Of the last lately looks tooMany must be too long for the rate to shrink: one
	// that is not has other causes, such as a disk that stands still for a moment.
	lately, tooMany = 5, 4
	// rests is after how many looks without a request clients have stopped.
	rests = 4
	// bases is from how many cycles that is known; the median counts.
	bases = 5
)

// Measure is how often something was measured, and a high quantile of it.
type Measure struct {
	N    int
	High time.Duration
}

// Control decides on the rate. It is pure: the driver tells it what was
// measured, and is told for how long to measure. The zero value is ready.
type Control struct {
	level float64 // bytes a second; 0 is start
	until float64 // where the level stops growing fast; 0 is nowhere
	known [Kinds][]time.Duration
	seen  [2]bool // clients, in this cycle and the last one
	asked int     // how often something was measured in this cycle, before the last use
	// waited is how often something was measured since, at the last look, and still for how
	// many looks nothing has been added.
	waited, still int
	// urgent: this node does not answer for all of its partitions, which costs more
	// than that clients wait a little.
	urgent bool
	// long has a bit for each of the last looks, the last one lowest: 1 if it took
	// too long.
	long uint8
	// The numbers of this cycle, and of the last one with background work.
	cycle, worked int64
}

// Phase of a cycle.
type Phase uint8

// The phases.
const (
	Settling Phase = iota // held, not measured
	Probing               // held, and measured
	Working
)

// PhaseAt returns the phase of a time on the wall clock, and when it ends.
func PhaseAt(now time.Time) (Phase, time.Time) {
	begin := now.Truncate(Cycle)
	switch at := now.Sub(begin); {
	case at < settle:
		return Settling, begin.Add(settle)
	case at < Hold:
		return Probing, begin.Add(Hold)
	default:
		return Working, begin.Add(min((at-Hold)/beat*beat+beat+Hold, Cycle))
	}
}

// Level is the rate that harms nobody, in bytes a second.
func (c *Control) Level() float64 {
	if c.level == 0 {
		return max(start, c.floor())
	}
	return max(c.level, c.floor())
}

func (c *Control) floor() float64 {
	if c.urgent {
		return UrgentFloor
	}
	return patientFloor
}

// Urge says whether this node answers for all of its partitions: while it does not,
// the floor is higher and more is tolerated.
func (c *Control) Urge(urgent bool) { c.urgent = urgent }

// Holds reports whether background work is held in the phases for that: only
// where there are clients.
func (c *Control) Holds() bool { return c.seen[0] || c.seen[1] }

// Base is what a kind takes without background work; 0 is not known.
func (c *Control) Base(k Kind) time.Duration {
	n := len(c.known[k])
	if n == 0 {
		return 0
	}
	sorted := slices.Sorted(slices.Values(c.known[k]))
	return sorted[n/2]
}

// Step takes what was measured in a phase of the cycle of that number, or since
// the last Step that used it, and how many bytes of background work there were
// in how long. It reports whether the measures are used: otherwise they are to
// be added to.
func (c *Control) Step(cycle int64, p Phase, m [Kinds]Measure, bytes int, span time.Duration) (used bool) {
	if cycle != c.cycle {
		if cycle == c.cycle+1 {
			c.seen = [2]bool{false, c.seen[0]}
		} else {
			c.seen = [2]bool{}
		}
		c.cycle, c.asked = cycle, 0
	}
	n := 0
	for _, one := range m {
		n = max(n, one.N)
	}
	c.seen[0] = c.seen[0] || c.asked+n >= few
	if c.still++; n != c.waited {
		c.waited, c.still = n, 0
	}
	if used = c.use(cycle, p, n, m, bytes, span); used {
		c.asked += n
		c.waited, c.still = 0, 0
	}
	return used
}

// use decides by what was measured, unless there is to be more of it first.
func (c *Control) use(cycle int64, p Phase, n int, m [Kinds]Measure, bytes int, span time.Duration) bool {
	switch p {
	case Settling:
		return true
	case Probing:
		for k, one := range m {
			if one.N >= few {
				c.learn(Kind(k), one.High)
			}
		}
		return true
	}
	if bytes > 0 {
		c.worked = cycle
	} else if cycle > c.worked+1 {
		// It rests: what was harmless then need not be.
		c.level, c.until = min(c.Level(), start), 0
	}
	if n > 0 && n < enough && c.Holds() && c.still < rests && span < Cycle-Hold-beat {
		return false // whoever asks now and then: more of it
	}
	c.judge(m, float64(bytes)/max(span.Seconds(), 1e-3))
	return true
}

func (c *Control) learn(k Kind, high time.Duration) {
	c.known[k] = append(c.known[k], high)
	if len(c.known[k]) > bases {
		c.known[k] = slices.Delete(c.known[k], 0, 1)
	}
}

// tolerated is how long what takes so long without background work may take.
func (c *Control) tolerated(base time.Duration) time.Duration {
	by := tolerance
	if c.urgent {
		by = urgentTolerance
	}
	return time.Duration(by*float64(base)) + slack
}

// judge changes the level after a time in which work went at a rate.
func (c *Control) judge(m [Kinds]Measure, rate float64) {
	level, need, unknown, long := c.Level(), few, false, false
	for _, one := range m {
		if one.N >= enough {
			need = enough
		}
	}
	for k, one := range m {
		base := c.Base(Kind(k))
		switch {
		case one.N < need:
		case base == 0:
			unknown = true
		default:
			long = long || rate > 0 && one.High > c.tolerated(base)
		}
	}
	if c.long <<= 1; long {
		if c.long |= 1; bits.OnesCount8(c.long&(1<<lately-1)) >= tooMany {
			c.level = max(min(level, max(rate, c.floor()))*.7, c.floor())
			c.until = c.level
		}
		return
	}
	if unknown || rate < level/2 {
		return // nobody can tell whether more would do harm
	}
	if c.until == 0 || level < c.until {
		level *= 1.5
	} else {
		level += max(level/20, 128<<10)
	}
	c.level = min(level, ceiling)
}
