package nodetest

import (
	"context"
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/atolldb/atoll/crdt"
	"github.com/atolldb/atoll/geo/memlog"
	"github.com/atolldb/atoll/hashring"
	"github.com/atolldb/atoll/internal/pause"
	"github.com/atolldb/atoll/node/peer/memnet"
)

// disasters are what befalls whole regions while clients work: one is killed and
// comes back, with its disks, without one, or without any; links between regions
// break, one way or both; its log loses what it had, or takes nothing; its metadata
// store is out, or empty. And people act, who see as little as anybody; see
// operators.go.
//
// What is destroyed befalls one region at a time. What cannot be held then is taken
// note of, and nothing more than that is excused.
type disasters struct {
	w *World
	// over ends it: there is a problem.
	over func()

	mu    sync.Mutex
	count map[string]int
	story []string // what happened, in order
	// cuts of the log's and the nodes' ways, by origin and destination: several may
	// be under way at once.
	logs, ways map[[2]int]int
	// killed and emptied are how often each region was killed, and lost all disks; any
	// disk is counted by wipes.
	killed, emptied, wipes []int
	// forced: a change of the map was; forgotten: a store has lost its part in it.
	forced, forgotten bool
	// homes says why two regions may have decided for one key, "" for not.
	homes   string
	pending map[opID]*promised
	printed map[string]map[string]bool // of the last failover of each region
}

func newDisasters(w *World) *disasters {
	n := len(w.tops)
	return &disasters{w: w, count: map[string]int{}, logs: map[[2]int]int{}, ways: map[[2]int]int{},
		killed: make([]int, n), emptied: make([]int, n), wipes: make([]int, n),
		pending: map[opID]*promised{}, printed: map[string]map[string]bool{}}
}

// note counts one of a kind, and keeps what happened for who looks into a problem.
func (d *disasters) note(kind, format string, args ...any) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.count[kind]++
	d.tellLocked(kind + ": " + fmt.Sprintf(format, args...))
}

func (d *disasters) tell(format string, args ...any) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.tellLocked(fmt.Sprintf(format, args...))
}

func (d *disasters) tellLocked(s string) {
	d.story = append(d.story, fmt.Sprintf("%v %s", time.Since(d.w.start).Round(time.Millisecond), s))
}

func (d *disasters) found(format string, args ...any) {
	d.tell("PROBLEM "+format, args...)
	d.over()
	d.w.hist.found(format, args...)
}

func countsOf(count map[string]int) string {
	var out []string
	for _, kind := range slices.Sorted(maps.Keys(count)) {
		out = append(out, fmt.Sprintf("%s %d", kind, count[kind]))
	}
	return strings.Join(out, ", ")
}

// another region than that one.
func (d *disasters) another(rng *rand.Rand, than int) int {
	return (than + 1 + rng.IntN(len(d.w.tops)-1)) % len(d.w.tops)
}

// links breaks ways between regions, and mends them.
func (d *disasters) links(ctx context.Context, rng *rand.Rand) {
	for pause.For(ctx, time.Duration(200+rng.IntN(3000))*time.Millisecond) {
		a := rng.IntN(len(d.w.tops))
		var broken [][2]int
		kind := [...]string{"cut both ways", "cut one way", "log cut", "region cut off"}[rng.IntN(4)]
		switch b := d.another(rng, a); kind {
		case "cut both ways":
			broken = [][2]int{{a, b}, {b, a}}
		case "region cut off":
			for b := range d.w.tops {
				if b != a {
					broken = append(broken, [2]int{a, b}, [2]int{b, a})
				}
			}
		default:
			broken = [][2]int{{a, b}}
		}
		d.note(kind, "%v", broken)
		for _, l := range broken {
			d.cutLog(l, 1)
			if kind != "log cut" {
				d.cutWay(l, 1)
			}
		}
		pause.For(ctx, time.Duration(300+rng.IntN(5000))*time.Millisecond)
		for _, l := range broken {
			d.cutLog(l, -1)
			if kind != "log cut" {
				d.cutWay(l, -1)
			}
		}
		d.tell("mended %v", broken)
	}
}

func (d *disasters) cutLog(l [2]int, by int) {
	d.mu.Lock()
	d.logs[l] += by
	cut := d.logs[l] > 0
	d.mu.Unlock()
	d.w.cloud.Cut(d.w.name(l[0]), d.w.name(l[1]), cut)
}

func (d *disasters) cutWay(l [2]int, by int) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.ways[l] += by
	for _, from := range d.w.ids(l[0]) {
		for _, to := range d.w.ids(l[1]) {
			if d.ways[l] > 0 {
				d.w.fabric.Cut(from, to)
			} else {
				d.w.fabric.Heal(from, to)
			}
		}
	}
}

// strike has one thing after the other happen to regions: it alone stops and starts
// nodes.
func (d *disasters) strike(ctx context.Context, rng *rand.Rand) {
	w := d.w
	for pause.For(ctx, time.Duration(200+rng.IntN(2500))*time.Millisecond) {
		r := rng.IntN(len(w.tops))
		name := w.name(r)
		switch n := rng.IntN(16); {
		case n < 6:
			d.kill(ctx, rng, r)
		case n < 7:
			m := w.member(w.ids(r)[rng.IntN(w.shape.Nodes)])
			d.note("node crashed", "%s", m.id)
			w.Crash(m)
			pause.For(ctx, time.Duration(rng.IntN(1500))*time.Millisecond)
			w.Start(m)
		case n < 8:
			d.note("log made anew", "%s", name)
			w.cloud.Recreate(name)
		case n < 9:
			keep := rng.IntN(4)
			d.note("log cut short", "%s, to %d", name, keep)
			w.cloud.Truncate(name, keep)
		case n < 11:
			lost := 1 + rng.IntN(4)
			d.note("log's tail lost", "%s, %d", name, lost)
			w.cloud.LoseTail(name, lost)
		case n < 13:
			d.note("log full", "%s", name)
			w.cloud.Outage(name, true)
			pause.For(ctx, time.Duration(300+rng.IntN(3000))*time.Millisecond)
			w.cloud.Outage(name, false)
		case n < 15:
			d.note("metadata out", "%s", name)
			w.stores[r].SetDown(true)
			pause.For(ctx, time.Duration(300+rng.IntN(4000))*time.Millisecond)
			w.stores[r].SetDown(false)
		default:
			d.note("metadata lost", "%s", name)
			d.forget(r)
		}
	}
}

func (d *disasters) forget(r int) {
	d.mu.Lock()
	d.forgotten = true
	d.mu.Unlock()
	d.w.stores[r].Forget()
}

// What of its disks a region that was killed comes back with.
const (
	keptAll = iota
	keptMost
	keptNone
)

// kill kills a region as a whole, with its log and its store, and has it come back.
func (d *disasters) kill(ctx context.Context, rng *rand.Rand, r int) {
	w := d.w
	kept := [...]int{keptAll, keptAll, keptAll, keptMost, keptMost, keptNone}[rng.IntN(6)]
	if kept == keptMost && !d.whole(ctx, r) {
		kept = keptAll // another disk may have been the only witness of something
	}
	if kept == keptNone && !d.recovered(ctx, r) {
		kept = keptAll // what two regions acknowledged is not promised to outlive both
	}
	if rng.IntN(2) == 0 { // what it writes meanwhile is told of, and on its way
		w.cloud.Outage(w.name(r), true)
		pause.For(ctx, time.Duration(300+rng.IntN(1500))*time.Millisecond)
	}
	d.note([...]string{"region killed", "region killed, a disk wiped", "region killed, all disks wiped"}[kept], "%s", w.name(r))
	d.mu.Lock()
	d.killed[r]++
	d.mu.Unlock()
	for b := range w.tops {
		if b != r {
			d.cutLog([2]int{r, b}, 1)
			d.cutLog([2]int{b, r}, 1)
		}
	}
	w.cloud.Outage(w.name(r), true)
	w.stores[r].SetDown(true)
	nodes := w.nodes[r*w.shape.Nodes:][:w.shape.Nodes]
	for _, m := range nodes {
		w.Crash(m)
	}
	pause.For(ctx, time.Duration(1200+rng.IntN(7000))*time.Millisecond)
	switch kept {
	case keptMost:
		d.wipe(nodes[rng.IntN(len(nodes))])
	case keptNone:
		d.lostWith(r)
		for _, m := range nodes {
			d.wipe(m)
		}
		d.forget(r)
		nodes[0].registry.Forget() // as all that the region's own servers kept
		w.cloud.Recreate(w.name(r))
	}
	if kept != keptNone && rng.IntN(3) == 0 {
		d.tell("%s loses the tail of its log", w.name(r))
		w.cloud.LoseTail(w.name(r), 1+rng.IntN(6))
	}
	w.stores[r].SetDown(false)
	w.cloud.Outage(w.name(r), false)
	for b := range w.tops {
		if b != r {
			d.cutLog([2]int{r, b}, -1)
			d.cutLog([2]int{b, r}, -1)
		}
	}
	if kept == keptNone {
		w.makeAnew(ctx, r)
	}
	for _, m := range nodes {
		w.Start(m)
		if rng.IntN(3) == 0 {
			pause.For(ctx, time.Duration(rng.IntN(500))*time.Millisecond)
		}
	}
	d.tell("%s is back", w.name(r))
}

func (d *disasters) wipe(m *member) {
	d.mu.Lock()
	d.wipes[m.region]++
	d.mu.Unlock()
	d.w.faults.wipes++
	m.kept.Store(nil)
	if err := m.disk.Wipe(); err != nil {
		d.w.t.Errorf("wipe %s: %v", m.id, err)
	}
}

// whole waits, for some seconds, until each node of a region has all that the others
// had when it began.
func (d *disasters) whole(ctx context.Context, r int) bool {
	for _, m := range d.w.nodes[r*d.w.shape.Nodes:][:d.w.shape.Nodes] {
		missing := d.w.clocks(m)
		for end := time.Now().Add(4 * time.Second); missing() != "" || m.running.Load().node.Replica().BehindCount() > 0; {
			if time.Now().After(end) || !pause.For(ctx, 100*time.Millisecond) {
				return false
			}
		}
	}
	return true
}

// recovered waits, for some seconds, until each other region that has lost all its
// disks has what region r had when it began.
func (d *disasters) recovered(ctx context.Context, r int) bool {
	due := map[partitionDot]bool{}
	for p := range hashring.Partition(d.w.shape.Partitions) {
		d.w.eachDot(r, p, func(dot crdt.Dot) { due[partitionDot{p, dot}] = true })
	}
	lacks := func(b int) bool {
		left := maps.Clone(due)
		for p := range hashring.Partition(d.w.shape.Partitions) {
			d.w.eachDot(b, p, func(dot crdt.Dot) { delete(left, partitionDot{p, dot}) })
		}
		return len(left) > 0
	}
	for b := range d.w.tops {
		if b == r || d.emptiedOften()[b] == 0 {
			continue
		}
		for end := time.Now().Add(4 * time.Second); lacks(b); {
			if time.Now().After(end) || !pause.For(ctx, 100*time.Millisecond) {
				return false
			}
		}
	}
	return true
}

// emptiedOften is how often each region has lost all its disks.
func (d *disasters) emptiedOften() []int {
	d.mu.Lock()
	defer d.mu.Unlock()
	return slices.Clone(d.emptied)
}

// lostWith notes what is lost with all disks of a region that is down: the writes
// that had not left it. One that was acknowledged by several regions is not among
// them.
func (d *disasters) lostWith(r int) {
	held := map[partitionDot]bool{}
	for b := range d.w.tops {
		if b == r {
			continue
		}
		for p := range hashring.Partition(d.w.shape.Partitions) {
			d.w.eachDot(b, p, func(dot crdt.Dot) { held[partitionDot{p, dot}] = true })
		}
	}
	d.mu.Lock()
	d.emptied[r]++
	d.mu.Unlock()
	d.tell("with all disks of %s %d acknowledged writes are lost", d.w.name(r), d.w.hist.lose(r, held))
}

// lose notes which acknowledged writes nobody has any more, and that a region's own
// quorums owe nothing now.
func (h *history) lose(region int, held map[partitionDot]bool) (lost int) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.gone == nil {
		h.gone = map[partitionDot]bool{}
	}
	for _, w := range h.writes {
		at := partitionDot{h.partition(w.key), w.dot}
		if w.status != acked || held[at] || h.gone[at] {
			continue
		}
		lost++
		h.gone[at] = true
		if w.wide {
			h.problem("I1: write %d (%v of %s, %s) was acknowledged by several regions, and one of them alone had it", w.id, w.dot, w.key, w.at)
		}
	}
	for k := range h.quorum {
		if k.region == region {
			delete(h.quorum, k)
		}
	}
	return lost
}

func (h *history) partition(key string) hashring.Partition {
	return hashring.PartitionOf(hashring.KeyHash(fullKey(key)), h.partitions)
}

// isGone is called with the lock held.
func (h *history) isGone(key string, dot crdt.Dot) bool {
	return len(h.gone) > 0 && h.gone[partitionDot{h.partition(key), dot}]
}

// noise on all links of such a World.
func (d *disasters) noise(rng *rand.Rand) {
	noise := memnet.Faults{MaxDelay: time.Duration(1+rng.IntN(15)) * time.Millisecond}
	logs := memlog.Faults{DelayMin: time.Millisecond, DelayMax: 30 * time.Millisecond}
	if rng.IntN(3) == 0 {
		noise.Drop, noise.Duplicate = rng.Float64()*0.03, rng.Float64()*0.1
		logs.Refuse, logs.Unsure, logs.Duplicate, logs.Lose = rng.Float64()*0.1, rng.Float64()*0.1, rng.Float64()*0.2, rng.Float64()*0.1
		d.note("lossy links", "")
	}
	d.w.noise = noise
	d.w.fabric.SetAll(noise)
	d.w.cloud.SetFaults(logs)
}
