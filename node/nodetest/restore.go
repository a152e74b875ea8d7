package nodetest

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"time"

	"github.com/atolldb/atoll/crdt"
	"github.com/atolldb/atoll/geo/failover"
	"github.com/atolldb/atoll/geo/regionmap"
	"github.com/atolldb/atoll/internal/pause"
	"github.com/atolldb/atoll/node/coord"
	"github.com/atolldb/atoll/node/quorum"
	"github.com/atolldb/atoll/node/regions"
)

// restoredIn bounds how long one operation takes once everything is whole.
const restoredIn = 60 * time.Second

// restore does what people do when all is whole again, until every region is in
// service: it waits for what is under way, takes out what was left half-way, and brings
// back what is out.
func (d *disasters) restore(ctx context.Context) error {
	rng := rand.New(rand.NewPCG(d.w.seed, 77))
	for range 200 {
		m := d.someUp(rng, rng.IntN(len(d.w.tops)))
		k := m.running.Load().node.RegionMap()
		if err := d.agreed(); err != nil {
			return err
		}
		if k = m.running.Load().node.RegionMap(); !k.Map.Counts(d.w.name(m.region)) {
			continue // who is out drives nothing
		}
		if o, _ := failover.Current(k.Map); o != nil && !o.Ended {
			if err := d.waitFor(o); err != nil {
				return err
			}
			continue
		}
		if open, err := d.undecided(ctx, k.Map); err != nil {
			return err
		} else if open {
			time.Sleep(time.Second)
			continue
		}
		ask := regions.Ask{}
		for _, r := range k.Map.Regions {
			switch {
			case r.State == regionmap.Active || r.Name == d.w.name(m.region):
			case r.State == regionmap.Draining: // the operation that left it so is gone
				ask = regions.Ask{Kind: failover.Switchover, Region: r.Name}
			default:
				ask = regions.Ask{Kind: failover.Failback, Region: r.Name}
			}
		}
		switch {
		case ask.Kind == 0 && !k.Contested && k.Map.State(d.w.name(m.region)) == regionmap.Active:
			return nil
		case ask.Kind == 0 && !k.Contested:
			continue // the own region is asked for elsewhere
		case ask.Kind == 0:
			ask = regions.Ask{Kind: failover.Switchover, Region: d.w.name(d.another(rng, m.region))}
		}
		ask.Force = k.Contested
		d.begin(ctx, m, ask)
		time.Sleep(200 * time.Millisecond)
	}
	return errors.New("two hundred turns have not brought all regions back")
}

// undecided says whether a region's store has accepted a change of the map that nobody has
// decided yet. Who asked for it was told that it may come: it is finished within seconds,
// and may take a region out of service that all see in service now.
func (d *disasters) undecided(ctx context.Context, known *regionmap.Map) (bool, error) {
	for r, store := range d.w.stores {
		b, _, err := store.LoadRegions(ctx)
		if err != nil {
			return false, fmt.Errorf("the store of %s: %w", d.w.name(r), err)
		}
		if len(b) == 0 {
			continue // there was never a change
		}
		reg, err := regionmap.DecodeRegister(b)
		if err != nil {
			return false, fmt.Errorf("the store of %s: %w", d.w.name(r), err)
		}
		if reg.Accepted != nil && reg.Accepted.N > known.N {
			return true, nil
		}
	}
	return false, nil
}

// agreed waits until all nodes know one map.
func (d *disasters) agreed() error {
	var why error
	for range 200 {
		if why = d.differ(); why == nil {
			return nil
		}
		time.Sleep(100 * time.Millisecond)
	}
	return why
}

func (d *disasters) differ() error {
	first := d.w.nodes[0].running.Load().node.RegionMap()
	if first.Map == nil {
		return errors.New("no map of regions")
	}
	for _, m := range d.w.all() {
		k := m.running.Load().node.RegionMap()
		if !bytes.Equal(regionmap.EncodeKnown(first), regionmap.EncodeKnown(k)) {
			return fmt.Errorf("%s knows version %s of the map of regions (contested: %v), %s knows %s (%v)", d.w.nodes[0].id, first.Map.Version, first.Contested, m.id, k.Map.Version, k.Contested)
		}
	}
	return nil
}

// waitFor waits for the end of an operation, or for another one.
func (d *disasters) waitFor(o *failover.Operation) error {
	var now *failover.Operation
	var waits string
	for end := time.Now().Add(restoredIn); time.Now().Before(end); time.Sleep(200 * time.Millisecond) {
		for _, m := range d.w.all() {
			v, err := m.running.Load().node.Operations().Regions.View(context.Background())
			if err != nil {
				return err
			}
			if now = v.Operation; now == nil || now.Ended || now.ID != o.ID {
				return nil
			}
			if m.region == d.w.regionOf(now.By) {
				waits = v.Waits
				break
			}
		}
	}
	return fmt.Errorf("%w: %s of %s by %s is %s for %v, and waits for %q", errStuck, now.Kind, now.Region, now.By, now.At().Name, restoredIn, waits)
}

// probe asks nodes for writes: who knows that its region is out takes none, and who
// knows that it is in service says nothing of a fence.
func (d *disasters) probe(ctx context.Context, rng *rand.Rand) {
	levels := []quorum.Level{quorum.LocalOne, quorum.LocalQuorum, quorum.LocalSerial, quorum.EachQuorum}
	for n := 0; pause.For(ctx, time.Duration(50+rng.IntN(200))*time.Millisecond); n++ {
		m := d.someUp(rng, rng.IntN(len(d.w.tops)))
		if m == nil {
			continue
		}
		up := m.running.Load()
		if up == nil {
			continue
		}
		before := up.node.RegionMap().Map
		level := levels[rng.IntN(len(levels))]
		p := coord.Put{Key: fmt.Appendf(nil, "probe %d", n), Value: []byte("x"), Level: level, Deadline: time.Now().Add(time.Second)}
		done := make(chan error, 1)
		up.node.Coordinator().Put(p, func(_ coord.PutResult, err error) { done <- err })
		err := <-done
		if m.running.Load() != up || up.node.RegionMap().Map != before || before.N == 0 {
			continue
		}
		var e *coord.Error
		fenced := errors.As(err, &e) && e.Code == coord.CodeRegionFenced
		switch out := !before.Counts(d.w.name(m.region)); {
		case out && (!fenced || e.Outcome != coord.NotApplied):
			d.found("F1: %s knows by version %s that its region is %s, and answers a write at %s with %v", m.id, before.Version, before.State(d.w.name(m.region)), level, err)
		case out:
			d.mu.Lock()
			d.count["writes refused by a fenced region"]++
			d.mu.Unlock()
		}
	}
}

// settle reads all that consensus has decided, where it was: what was accepted when its
// proposer was killed is finished by whoever works on the key next.
func (d *disasters) settle() (problems []string) {
	for _, name := range d.w.serial.names() {
		g := coord.Get{Bucket: bucketOf(name), Key: []byte(name), Level: quorum.Serial}
		region := 0
		if g.Bucket != homedBucket {
			g.Level, region = quorum.LocalSerial, d.decidesFor(name)
		}
		var err error
		for range 10 {
			g.Deadline = time.Now().Add(2 * time.Second)
			done := make(chan error, 1)
			up := d.w.nodes[region*d.w.shape.Nodes].running.Load()
			up.node.Coordinator().Get(g, func(_ coord.GetResult, err error) { done <- err })
			if err = <-done; err == nil {
				break
			}
			time.Sleep(500 * time.Millisecond)
		}
		if err != nil {
			problems = append(problems, fmt.Sprintf("I8: a serial read of %s when all is well again: %v", name, err))
		}
	}
	return problems
}

// decidesFor is the region of a key that is decided at LOCAL_SERIAL.
func (d *disasters) decidesFor(key string) int {
	var n, region int
	if _, err := fmt.Sscanf(key, "serial %d of %d", &n, &region); err != nil {
		return 0
	}
	return region
}

// decided checks I1 of what consensus has acknowledged, whatever became of homes: it is
// there, or was replaced by somebody who knew it.
func (d *disasters) decided() (problems []string) {
	for _, name := range d.w.serial.names() {
		if d.doubted(name) == emptiedRegion {
			continue
		}
		rec, err := d.w.record(name)
		if err != nil {
			return append(problems, err.Error())
		}
		for _, op := range d.w.serial.keys[name].ops {
			if op.outcome != serialDone || op.dot.IsZero() || d.w.hist.wasLost(name, op.dot) {
				continue
			}
			if rec.Find(op.dot) == nil && !rec.Covers(op.dot) {
				problems = append(problems, fmt.Sprintf("I1: what consensus decided for %s (%v, %q at %v) is gone:\n%s", name, op.dot, op.value, op.ret, d.w.serial.keys[name].tell()))
				break
			}
		}
	}
	return problems
}

func (h *history) wasLost(key string, dot crdt.Dot) bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.isGone(key, dot)
}

const (
	emptiedRegion = "all disks of a region that decides for it were wiped"
	movedHomes    = "its home has moved, or may have"
)

// doubted says why operations on a key need not be linearizable, "" if they have to.
func (d *disasters) doubted(key string) string {
	d.mu.Lock()
	defer d.mu.Unlock()
	if bucketOf(key) != homedBucket {
		if d.emptied[d.decidesFor(key)] > 0 {
			return emptiedRegion
		}
		return ""
	}
	for r, n := range d.emptied {
		if n > 0 && (r == homeRegion || d.homes != "") {
			return emptiedRegion
		}
	}
	if d.homes != "" {
		return movedHomes
	}
	return ""
}

// troubled reports whether a problem was found.
func (h *history) troubled() bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	return len(h.problems) > 0
}

// behind is a node that is not whole yet, "" for none.
func (w *World) behind() string {
	for _, m := range w.all() {
		if m.running.Load().node.Replica().BehindCount() > 0 {
			return string(m.id)
		}
	}
	return ""
}

func (w *World) doubted(key string) string {
	if w.disasters == nil {
		return ""
	}
	return w.disasters.doubted(key)
}
