package yield

import (
	"math"
	"math/rand/v2"
	"testing"
	"time"

	"pgregory.net/rapid"
)

func TestPhaseAt(t *testing.T) {
	begin := time.Unix(1_700_000_000, 0).Truncate(Cycle)
	for _, c := range []struct {
		at, ends time.Duration
		phase    Phase
	}{
		{0, settle, Settling},
		{settle - 1, settle, Settling},
		{settle, Hold, Probing},
		{Hold - 1, Hold, Probing},
		{Hold, Hold + beat, Working},
		{Hold + beat, Hold + 2*beat, Working},
		{Cycle - 1, Cycle, Working},
		{Cycle, Cycle + settle, Settling},
	} {
		if phase, ends := PhaseAt(begin.Add(c.at)); phase != c.phase || !ends.Equal(begin.Add(c.ends)) {
			t.Errorf("at %v: %v until %v", c.at, phase, ends.Sub(begin))
		}
	}
}

// node is a model of one: what clients wait for grows with the rate of the
// background work, and without clients nothing is measured.
type node struct {
	control  Control
	now      time.Time
	base     time.Duration
	harmless float64 // the rate at which everything takes twice as long
	perBeat  float64 // what clients do in a beat
	work     float64 // how much there is to do, bytes a second
	most     float64
	did      float64 // bytes
	// since the measures were used last
	ops, bytes float64
	span       time.Duration
	// noise makes what is measured that many times as long, for whatever reason; nil
	// for never.
	noise func() float64
}

// cycles lets time pass.
func (n *node) cycles(count int) {
	for range count {
		for at := time.Duration(0); at < Cycle; {
			phase, ends := PhaseAt(n.now)
			span := ends.Sub(n.now)
			rate := 0.
			if phase == Working || !n.control.Holds() {
				rate = min(n.control.Level(), n.work, n.most)
			}
			high := float64(n.base) * (1 + rate/n.harmless)
			if n.noise != nil {
				high *= n.noise()
			}
			n.did += rate * span.Seconds()
			n.ops += n.perBeat * float64(span) / float64(beat)
			n.bytes, n.span = n.bytes+rate*span.Seconds(), n.span+span
			m := [Kinds]Measure{Commits: {N: int(n.ops), High: time.Duration(high)}}
			if n.control.Step(n.now.UnixNano()/int64(Cycle), phase, m, int(n.bytes), n.span) {
				n.ops, n.bytes, n.span = n.ops-float64(int(n.ops)), 0, 0
			}
			n.now, at = ends, at+span
		}
	}
}

func newNode() *node {
	return &node{
		now: time.Unix(1_700_000_000, 0).Truncate(Cycle), base: 4 * time.Millisecond, harmless: 32 << 20,
		perBeat: 100, work: 1 << 40, most: 64 << 20,
	}
}

// mean rate over some cycles.
func (n *node) mean(count int) float64 {
	n.did = 0
	n.cycles(count)
	return n.did / (float64(count) * Cycle.Seconds())
}

// What is tolerated with this base is a rate of 9 MiB/s (1.25 times 4 ms, and
// 0.1 ms): the control stays below it, but for the steps by which it tries, and
// uses most of it.
func TestControlFindsWhatIsHarmless(t *testing.T) {
	n := newNode()
	n.cycles(5)
	if mean := n.mean(20); mean < 5<<20 || mean > 9<<20 {
		t.Errorf("%.1f MiB/s", mean/(1<<20))
	}
	if base := n.control.Base(Commits); base != n.base {
		t.Errorf("it takes %v without background work, not %v", base, n.base)
	}
	n.harmless /= 4
	n.cycles(5)
	if mean := n.mean(20); mean < 1.5*(1<<20) || mean > 3<<20 {
		t.Errorf("on a node that is busier %.1f MiB/s", mean/(1<<20))
	}
	n.harmless *= 16
	n.cycles(5)
	if mean := n.mean(20); mean < 25<<20 {
		t.Errorf("when it is not any more %.1f MiB/s", mean/(1<<20))
	}
}

// When clients' load grows, so does what things take without background work.
func TestControlLearnsAnew(t *testing.T) {
	n := newNode()
	n.cycles(10)
	n.base *= 5
	n.cycles(bases)
	if mean := n.mean(20); mean < 6<<20 {
		t.Errorf("after the load has grown %.1f MiB/s", mean/(1<<20))
	}
}

// What makes operations longer now and then, and is not the background work (a disk that
// stands still, others on the machine), does not make it slower than half of what it is
// without: TestControlFindsWhatIsHarmless.
func TestControlBearsNoise(t *testing.T) {
	for name, noise := range map[string]func(*rand.Rand) float64{
		"a little":     func(r *rand.Rand) float64 { return math.Exp(.2 * r.NormFloat64()) },
		"more":         func(r *rand.Rand) float64 { return math.Exp(.4 * r.NormFloat64()) },
		"much":         func(r *rand.Rand) float64 { return math.Exp(.8 * r.NormFloat64()) },
		"stands still": func(r *rand.Rand) float64 { return []float64{1, 10}[r.IntN(100)/90] },
	} {
		t.Run(name, func(t *testing.T) {
			r := rand.New(rand.NewPCG(1, 2))
			n := newNode()
			n.noise = func() float64 { return noise(r) }
			n.cycles(5)
			mean := n.mean(100)
			t.Logf("%.1f MiB/s", mean/(1<<20))
			if mean < 4<<20 {
				t.Errorf("%.1f MiB/s", mean/(1<<20))
			}
		})
	}
}

// A node that does not answer for all of its partitions goes on faster, but not
// regardless of what clients feel: of 17 MiB/s (1.5 times 4 ms, and 0.1 ms).
func TestControlUrged(t *testing.T) {
	n := newNode()
	n.control.Urge(true)
	n.cycles(5)
	if mean := n.mean(20); mean < 9<<20 || mean > 17<<20 {
		t.Errorf("%.1f MiB/s", mean/(1<<20))
	}
	n.harmless = 1 << 20
	n.cycles(5)
	if mean := n.mean(20); mean < 3<<20 || mean > 5<<20 { // it is held for an eighth of the time
		t.Errorf("where nothing is harmless %.1f MiB/s", mean/(1<<20))
	}
	n.control.Urge(false)
	n.cycles(5)
	if mean := n.mean(20); mean > 1.5*(1<<20) {
		t.Errorf("when it is not urgent any more %.1f MiB/s", mean/(1<<20))
	}
}

// A request now and then, as of who looks after the nodes, is no client's. Ten in a second
// are.
func TestControlWithoutClients(t *testing.T) {
	for name, perBeat := range map[string]float64{"none": 0, "one in two seconds": .12, "one a second": .25} {
		t.Run(name, func(t *testing.T) {
			n := newNode()
			n.perBeat = perBeat
			n.cycles(2)
			if mean := n.mean(2); mean < 63<<20 {
				t.Errorf("%.1f MiB/s", mean/(1<<20))
			}
			if n.control.Holds() {
				t.Error("it holds for nobody")
			}
		})
	}
	n := newNode()
	n.perBeat = 2.5
	n.cycles(20)
	if !n.control.Holds() || n.control.Level() > 32<<20 {
		t.Errorf("of ten requests a second: holds %t, %.1f MiB/s", n.control.Holds(), n.control.Level()/(1<<20))
	}
}

// Clients that stop, as an application that is done, are not waited for until the cycle
// is over.
func TestControlWhenClientsStop(t *testing.T) {
	n := newNode()
	n.cycles(1)
	cycle, level := n.now.UnixNano()/int64(Cycle), n.control.Level()
	step := func(requests int, span time.Duration) bool {
		return n.control.Step(cycle, Working, [Kinds]Measure{Commits: {requests, n.base}}, int(level*span.Seconds()), span)
	}
	looks := 1
	for ; !step(enough-1, time.Duration(looks)*beat); looks++ {
		if looks > 2*rests {
			t.Fatal("it waits for clients that have stopped")
		}
	}
	if looks < rests {
		t.Errorf("it does not wait for more after %d looks", looks)
	}
	for range 8 {
		step(0, beat)
		level = n.control.Level()
	}
	if level < 4<<20 {
		t.Errorf("level %.0f", level)
	}
}

// A rest makes it careful again.
func TestControlStartsAnew(t *testing.T) {
	n := newNode()
	n.harmless = 1 << 40
	n.cycles(3)
	if n.control.Level() < 60<<20 {
		t.Fatalf("%.1f MiB/s", n.control.Level()/(1<<20))
	}
	n.work = 0
	n.cycles(3)
	if n.control.Level() != start {
		t.Errorf("%.1f MiB/s after a rest", n.control.Level()/(1<<20))
	}
}

// Y1, Y4: whatever is measured, there is a floor, and without clients the level
// grows out of anything.
func TestControlLaws(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		var c Control
		cycle := int64(0)
		for range rapid.IntRange(0, 60).Draw(t, "steps") {
			cycle += rapid.Int64Range(0, 3).Draw(t, "later")
			var m [Kinds]Measure
			for k := range m {
				m[k] = Measure{rapid.IntRange(0, 100).Draw(t, "n"), time.Duration(rapid.Int64Range(0, int64(time.Minute)).Draw(t, "high"))}
			}
			phase := Phase(rapid.IntRange(0, int(Working)).Draw(t, "phase"))
			c.Step(cycle, phase, m, rapid.IntRange(0, 1<<30).Draw(t, "bytes"), time.Duration(rapid.Int64Range(0, int64(time.Hour)).Draw(t, "span")))
			urgent := rapid.Bool().Draw(t, "urgent")
			c.Urge(urgent)
			if l := c.Level(); l < patientFloor || urgent && l < UrgentFloor || l > ceiling {
				t.Fatalf("level %v", l)
			}
		}
		for range 2 * Cycle / beat {
			cycle++
			c.Step(cycle, Working, [Kinds]Measure{}, int(c.Level()/4), beat)
		}
		if c.Holds() || c.Level() < 8<<20 {
			t.Fatalf("without clients: holds %t, level %v", c.Holds(), c.Level())
		}
	})
}
