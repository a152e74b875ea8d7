package nodetest

import (
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"sync"
	"time"

	"github.com/atolldb/atoll/crdt"
	"github.com/atolldb/atoll/geo/failover"
	"github.com/atolldb/atoll/geo/regionmap"
	"github.com/atolldb/atoll/hashring"
	"github.com/atolldb/atoll/internal/pause"
	"github.com/atolldb/atoll/node/peer"
	"github.com/atolldb/atoll/node/regions"
)

// Operators act on regions at any moment, right or wrong, by what the node knows that
// they happen to ask, two of them at a time now and then.

// opID names an operation: two that were forced in regions cut off from each other may
// have one number.
type opID struct {
	id   uint64
	kind failover.Kind
	by   string
}

// promised is what has to hold when an operation has ended.
type promised struct {
	region int
	began  time.Duration
	// survivors is what they had of the lost region when a failover began.
	survivors holdings
	others    []int
	// own is what a region that comes back had of its own.
	own    map[string]bool
	killed int
	wipes  []int
}

// holdings are what each of some regions surely had at a moment, and how often it had
// lost all its disks by then.
type holdings struct {
	had     map[int]map[string]bool
	emptied []int
}

func (d *disasters) holdings(of int, in ...int) holdings {
	h := holdings{map[int]map[string]bool{}, d.emptiedOften()}
	for _, r := range in {
		h.had[r] = d.sure(of, r)
	}
	return h
}

// left is what any of them can still give: one that has lost all its disks since has
// lost what it had, and what it got again comes late.
func (d *disasters) left(h holdings) map[string]bool {
	out, emptied := map[string]bool{}, d.emptiedOften()
	for r, had := range h.had {
		if emptied[r] == h.emptied[r] {
			maps.Copy(out, had)
		}
	}
	return out
}

// operator acts until ctx ends.
func (d *disasters) operator(ctx context.Context, rng *rand.Rand) {
	for pause.For(ctx, time.Duration(200+rng.IntN(2500))*time.Millisecond) {
		by := rng.IntN(len(d.w.tops))
		m := d.someUp(rng, by)
		if m == nil {
			continue
		}
		o, _ := failover.Current(m.running.Load().node.RegionMap().Map)
		if o != nil && !o.Ended {
			switch rng.IntN(6) {
			case 0:
				d.abort(ctx, m, rng.IntN(3) == 0)
				continue
			case 1: // over it
			default:
				continue // waits
			}
		}
		if rng.IntN(8) == 0 {
			d.split(ctx, rng, by)
			continue
		}
		ask, ok := d.choose(rng, m)
		if !ok {
			continue
		}
		ask.Force = ask.Force || o != nil && !o.Ended
		if rng.IntN(6) == 0 { // somebody else acts elsewhere, at the same time
			if other := d.someUp(rng, d.another(rng, by)); other != nil {
				if second, ok := d.choose(rng, other); ok {
					if ask.Force = rng.IntN(2) == 0; ask.Force {
						second.Force = true
					}
					d.note("two at a time", "%s and %s", m.id, other.id)
					done := make(chan struct{})
					go func() { defer close(done); d.begin(ctx, other, second) }()
					d.begin(ctx, m, ask)
					<-done
					continue
				}
			}
		}
		began := d.begin(ctx, m, ask)
		if !began && !ask.Force && rng.IntN(2) == 0 { // does what must not be done without thought
			ask.Force = true
			began = d.begin(ctx, m, ask)
		}
		if began && ask.Kind == failover.Switchover && rng.IntN(3) == 0 {
			d.drill(ctx, m, ask)
		}
	}
}

// split cuts two regions off from each other, and each gives up the other.
func (d *disasters) split(ctx context.Context, rng *rand.Rand, a int) {
	b := d.another(rng, a)
	d.note("regions split", "%s and %s", d.w.name(a), d.w.name(b))
	for _, l := range [][2]int{{a, b}, {b, a}} {
		d.cutLog(l, 1)
		d.cutWay(l, 1)
	}
	pause.For(ctx, time.Duration(rng.IntN(2000))*time.Millisecond)
	var both sync.WaitGroup
	for _, x := range [][2]int{{a, b}, {b, a}} {
		if m := d.someUp(rng, x[0]); m != nil {
			both.Go(func() {
				d.begin(ctx, m, regions.Ask{Kind: failover.Failover, Region: d.w.name(x[1]), Force: true})
			})
		}
	}
	both.Wait()
	pause.For(ctx, time.Duration(rng.IntN(3000))*time.Millisecond)
	for _, l := range [][2]int{{a, b}, {b, a}} {
		d.cutLog(l, -1)
		d.cutWay(l, -1)
	}
}

// drill brings the region back as soon as it is out.
func (d *disasters) drill(ctx context.Context, m *member, ask regions.Ask) {
	for range 40 {
		if !pause.For(ctx, 250*time.Millisecond) {
			return
		}
		up := m.running.Load()
		if up == nil {
			return
		}
		if o, _ := failover.Current(up.node.RegionMap().Map); o == nil || o.Region != ask.Region || !o.Ended {
			continue
		}
		if d.begin(ctx, m, regions.Ask{Kind: failover.Failback, Region: ask.Region}) {
			d.note("drill", "%s", ask.Region)
		}
		return
	}
}

func (d *disasters) someUp(rng *rand.Rand, region int) *member {
	nodes := d.w.nodes[region*d.w.shape.Nodes:][:d.w.shape.Nodes]
	for _, i := range rng.Perm(len(nodes)) {
		if nodes[i].running.Load() != nil {
			return nodes[i]
		}
	}
	return nil
}

// choose says what an operator at m might want.
func (d *disasters) choose(rng *rand.Rand, m *member) (a regions.Ask, ok bool) {
	k := m.running.Load()
	if k == nil {
		return a, false
	}
	r := d.another(rng, m.region)
	for b := range d.w.tops { // who is down is what people look at
		if b != m.region && d.someUp(rng, b) == nil && rng.IntN(3) > 0 {
			r = b
		}
	}
	a.Region, a.Force = d.w.name(r), rng.IntN(3) == 0
	switch s := k.node.RegionMap().Map.State(a.Region); {
	case !s.Counts():
		a.Kind = failover.Failback
	case d.someUp(rng, r) == nil:
		a.Kind = failover.Failover
	case rng.IntN(4) == 0: // of a region that lives: that has to be forced
		a.Kind, a.Force = failover.Failover, true
	default:
		a.Kind = failover.Switchover
	}
	return a, true
}

func (d *disasters) abort(ctx context.Context, m *member, force bool) {
	up := m.running.Load()
	if up == nil {
		return
	}
	ctx, stop := context.WithTimeout(ctx, 20*time.Second)
	defer stop()
	d.doubt(force)
	err := up.node.Operations().Regions.Abort(ctx, force)
	kind := "abort"
	if err != nil {
		kind = "abort refused"
	}
	d.note(kind, "at %s, forced %v: %v", m.id, force, err)
}

// doubt notes what a change may do to what the map promises.
func (d *disasters) doubt(force bool) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.forced = d.forced || force
}

// begin has m begin an operation, and judges what it tells. It reports whether the
// operation has begun.
func (d *disasters) begin(ctx context.Context, m *member, a regions.Ask) bool {
	up := m.running.Load()
	if up == nil {
		return false
	}
	ctx, stop := context.WithTimeout(ctx, 20*time.Second)
	defer stop()
	d.doubt(a.Force)
	lost := d.w.regionOf(a.Region)
	known := up.node.RegionMap().Map
	others := d.others(known, lost)
	if a.Kind == failover.Failover || a.Force { // a switchover leaves one home at a time
		d.mu.Lock()
		d.homes = fmt.Sprintf("%s of %s moves homes", a.Kind, a.Region)
		d.mu.Unlock()
	}
	there, told := d.holdings(lost, others...), d.told(up, m.region, lost)
	own, before := d.sure(lost, lost), d.w.dotsOf(lost, others...)
	plan, err := up.node.Operations().Regions.Begin(ctx, a)
	how := ""
	if a.Force {
		how = ", forced"
	}
	if err != nil {
		d.note(fmt.Sprintf("%s%s refused", a.Kind, how), "of %s at %s: %v", a.Region, m.id, err)
		return false
	}
	alive := ""
	if a.Kind == failover.Failover && d.anyUp(lost) {
		alive = " of a living region"
	}
	o, _ := failover.Current(plan.Known.Map)
	d.note(fmt.Sprintf("%s%s%s", a.Kind, how, alive), "of %s at %s, map %s, %d missing", a.Region, m.id, plan.Known.Map.Version, plan.Missing.Writes)
	if o == nil || o.Kind != a.Kind || o.Region != a.Region || o.By != d.w.name(m.region) {
		return true // somebody else has acted since
	}
	d.promise(o, lost, d.others(plan.Known.Map, lost), own)
	if a.Kind != failover.Failover || !plan.Missing.Counted || plan.Known.Map.N != known.N+1 {
		return true
	}
	got := listed(plan.Missing)
	if both := common(got, d.left(there)); len(both) > 0 {
		d.found("D1: a failover of %s prints as missing what is there: %v", a.Region, both)
	}
	// Whoever had it may have died since it was counted.
	after := d.w.dotsOf(lost, others...)
	maps.Copy(after, before)
	if m.running.Load() == up && plan.Missing.Whole() {
		if left := less(less(told, after), got); len(left) > 0 {
			d.found("D1: a failover of %s does not print what %s was told of and nobody has: %v", a.Region, m.id, left)
		}
	}
	d.mu.Lock()
	d.printed[a.Region] = got
	d.count["writes printed as missing"] += len(got)
	d.mu.Unlock()
	return true
}

// others are the regions that a map counts beside one.
func (d *disasters) others(m *regionmap.Map, than int) (out []int) {
	for r := range d.w.tops {
		if r != than && m.Counts(d.w.name(r)) {
			out = append(out, r)
		}
	}
	return out
}

// promise notes what has to hold when o has ended.
func (d *disasters) promise(o *failover.Operation, lost int, others []int, own map[string]bool) {
	p := &promised{region: lost, began: time.Since(d.w.start), others: others, own: own}
	if o.Kind == failover.Failover {
		p.survivors = d.holdings(lost, others...)
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	p.killed = d.killed[lost]
	p.wipes = append(p.wipes, d.wipes...)
	d.pending[opID{o.ID, o.Kind, o.By}] = p
}

func common(a, b map[string]bool) map[string]bool { return less(a, less(a, b)) }

func (w *World) regionOf(name string) int {
	for r := range w.tops {
		if w.name(r) == name {
			return r
		}
	}
	return -1
}

func (d *disasters) anyUp(region int) bool {
	for _, m := range d.w.all() {
		if m.region == region && m.running.Load() != nil {
			return true
		}
	}
	return false
}

// sure are the dots of a region's actors that two owners in one of some regions have:
// whoever asks a quorum of them hears of those.
func (d *disasters) sure(of int, in ...int) map[string]bool {
	out := map[string]bool{}
	for _, r := range in {
		for dot, n := range d.owners(of, r) {
			if n >= 2 {
				out[dot] = true
			}
		}
	}
	return out
}

// owners counts those in a region that have each dot of another one's actors.
func (d *disasters) owners(of, in int) map[string]int {
	n := map[string]int{}
	for p := range hashring.Partition(d.w.shape.Partitions) {
		d.w.eachDot(in, p, func(dot crdt.Dot) {
			if dot.Actor.Region() == uint8(of+1) {
				n[fmt.Sprint(p, dot)]++
			}
		})
	}
	return n
}

// told is what one node was told that a region's own actors have written.
func (d *disasters) told(up *run, by, of int) map[string]bool {
	out := map[string]bool{}
	body := fmt.Sprintf(`{"Clocks":{"From":0,"Told":%q}}`, d.w.name(of))
	got := make(chan []byte, 1)
	up.node.Handle(d.w.nodes[by*d.w.shape.Nodes].id, peer.Request{Verb: peer.VerbOperate, Body: []byte(body)}, func(b []byte, err error) {
		if err != nil {
			b = nil
		}
		got <- b
	})
	var a struct {
		Clocks struct{ Clocks map[int]string }
	}
	if b := <-got; b == nil || json.Unmarshal(b, &a) != nil {
		return out
	}
	for p, text := range a.Clocks.Clocks {
		b, err := base64.StdEncoding.DecodeString(text)
		if err != nil {
			continue
		}
		c, _, err := crdt.DecodeClock(b)
		if err != nil {
			continue
		}
		for _, run := range c.All() {
			for n := run.Lo; n <= run.Hi; n++ {
				out[fmt.Sprint(hashring.Partition(p), crdt.Dot{Actor: run.Actor, N: n})] = true
			}
		}
	}
	return out
}

// watch follows what all nodes know of the map.
func (d *disasters) watch(ctx context.Context) {
	last := map[*run]regionmap.Known{}
	ended := map[opID]bool{}
	contested := map[uint64]bool{}
	for pause.For(ctx, 50*time.Millisecond) {
		for _, m := range d.w.all() {
			up := m.running.Load()
			if up == nil {
				continue
			}
			k := up.node.RegionMap()
			was, seen := last[up]
			if seen && was.Map == k.Map && was.Contested == k.Contested {
				continue
			}
			last[up] = k
			if seen && (k.Map.N < was.Map.N || k.Map.N == was.Map.N && k.Map.Version.Compare(was.Map.Version) < 0) {
				d.found("M1: %s went back from version %s of the map of regions to %s", m.id, was.Map.Version, k.Map.Version)
			}
			if k.Contested && !contested[k.Map.N] {
				contested[k.Map.N] = true
				d.note("contested map", "%s at %s", k.Map.Version, m.id)
				d.mu.Lock()
				meant := d.forced || d.forgotten
				d.mu.Unlock()
				if !meant {
					d.found("R2: version %s of the map of regions is contested, though nothing was forced and no store lost its state", k.Map.Version)
				}
			}
			o, err := failover.Current(k.Map)
			if err != nil {
				d.found("M1: %s knows an operation that cannot be read: %v", m.id, err)
			} else if o != nil && o.Ended {
				if id := (opID{o.ID, o.Kind, o.By}); !ended[id] {
					ended[id] = true
					d.ended(o, k.Map)
				}
			}
		}
	}
}

// kept is told what map a node keeps on its disk instead of another one. Who goes back
// tells all others at once, who tell it the new one again: so it has to rest.
func (d *disasters) kept(m *member, was, now []byte) {
	a, err := regionmap.DecodeKnown(was)
	b, err2 := regionmap.DecodeKnown(now)
	if err == nil && err2 == nil && b.Map.N < a.Map.N {
		d.found("M1: %s went back from version %s of the map of regions to %s", m.id, a.Map.Version, b.Map.Version)
		time.Sleep(2 * time.Second)
	}
}

// ended judges an operation that has just ended.
func (d *disasters) ended(o *failover.Operation, m *regionmap.Map) {
	d.mu.Lock()
	p := d.pending[opID{o.ID, o.Kind, o.By}]
	printed := d.printed[o.Region]
	d.mu.Unlock()
	if o.Lost.Counted {
		d.note("let go of what was lost", "%s of %s, %d writes", o.Kind, o.Region, o.Lost.Writes)
	}
	if o.Aborted {
		d.note("ended early", "%s of %s", o.Kind, o.Region)
	} else {
		d.note(o.Kind.String()+" ended", "of %s, map %s", o.Region, m.Version)
	}
	if p == nil || o.Aborted {
		return
	}
	d.mu.Lock()
	killed, wipes := d.killed[p.region], append([]int(nil), d.wipes...)
	d.mu.Unlock()
	switch o.Kind {
	case failover.Failover:
		for _, r := range p.others {
			if !m.Counts(d.w.name(r)) || wipes[r] != p.wipes[r] || !d.anyUp(r) {
				continue
			}
			have := d.sure(p.region, r)
			if left := less(d.left(p.survivors), have); len(left) > 0 && d.allUp(r) {
				d.found("D2: after the failover of %s, which began at %v, %s lacks what another survivor had: %v", o.Region, p.began, d.w.name(r), left)
			}
		}
		d.note("levelled", "%s", o.Region)
	case failover.Failback:
		if !o.Had.Whole() || !o.Missing.Whole() || killed != p.killed {
			return
		}
		had, late := listed(o.Had), listed(o.Missing)
		if left := less(less(p.own, had), late); len(left) > 0 {
			d.found("D3: %s came back with %d writes that the survivors did not have, and these are not said to have come late: %v", o.Region, len(p.own), left)
		}
		if left := less(late, less(d.w.dotsOf(p.region, p.region), had)); len(left) > 0 && d.allUp(p.region) {
			d.found("D3: %s is said to have brought what it has not, or what was there: %v", o.Region, left)
		}
		if wipes[p.region] == 0 {
			if left := less(less(printed, had), late); len(left) > 0 {
				d.found("D3: the failover of %s printed as missing what neither the survivors got nor it came back with: %v", o.Region, left)
			}
		}
		d.mu.Lock()
		d.count["writes that came late"] += len(late)
		d.mu.Unlock()
	case failover.Switchover:
	}
}

func (d *disasters) allUp(region int) bool {
	for _, m := range d.w.all() {
		if m.region == region && m.running.Load() == nil {
			return false
		}
	}
	return true
}

var errStuck = errors.New("it has not ended")
