package repair

import (
	"context"
	"fmt"
	"sync"
	"time"

	"github.com/atolldb/atoll/crdt"
	"github.com/atolldb/atoll/hashring"
	"github.com/atolldb/atoll/internal/pause"
	"github.com/atolldb/atoll/node/peer"
	"github.com/atolldb/atoll/node/wire"
)

// Somebody waits for dots that this node lacks (replica.Await): they are fetched
// at once, by the index of who has them, rather than at the next beat. One fetch
// runs for a partition, whoever waits there, from the peers and from the regions
// that minted what is missing at the same time. Of the owners here the first live
// one asks another region, and the others only when that has not helped.

const (
	// wantedAtOnce partitions are fetched for at a time.
	wantedAtOnce = 8
	// wantedFor is how long a fetch is tried again after it was last asked for,
	// and wantedPause between the tries.
	wantedFor, wantedPause = 5 * time.Second, 500 * time.Millisecond
	// afterFirst is how long the other owners leave another region to the first.
	afterFirst = 300 * time.Millisecond
)

// wanted is what is waited for, by partition.
type wanted struct {
	mu    sync.Mutex
	parts map[hashring.Partition]*want
	wake  chan struct{} // capacity 1: there is a new one
}

type want struct {
	dots    *crdt.Clock
	asked   time.Time
	running bool
}

// Want has dots of p fetched that somebody here waits for. It does not block.
func (r *Repairer) Want(p hashring.Partition, missing *crdt.Clock) {
	w := &r.wanted
	w.mu.Lock()
	defer w.mu.Unlock()
	x := w.parts[p]
	if x == nil {
		x = &want{dots: &crdt.Clock{}}
		w.parts[p] = x
	}
	x.dots.Join(missing)
	x.asked = time.Now()
	if !x.running {
		select {
		case w.wake <- struct{}{}:
		default:
		}
	}
}

// wantLoop fetches what is wanted until ctx ends.
func (r *Repairer) wantLoop(ctx context.Context) {
	var running sync.WaitGroup
	defer running.Wait()
	slots := make(chan struct{}, wantedAtOnce)
	for {
		select {
		case <-ctx.Done():
			return
		case <-r.wanted.wake:
		}
		r.wanted.mu.Lock()
		var due []hashring.Partition
		for p, x := range r.wanted.parts {
			if !x.running {
				x.running = true
				due = append(due, p)
			}
		}
		r.wanted.mu.Unlock()
		for _, p := range due {
			running.Go(func() {
				select {
				case slots <- struct{}{}:
					defer func() { <-slots }()
					r.satisfy(ctx, p)
				case <-ctx.Done():
				}
			})
		}
	}
}

// satisfy fetches until nothing wanted of p is missing, or nobody has asked for
// it for a while.
func (r *Repairer) satisfy(ctx context.Context, p hashring.Partition) {
	r.stats.Wanted.Add(1)
	for missing := r.stillWanted(p); missing != nil; missing = r.stillWanted(p) {
		var sources sync.WaitGroup
		for _, list := range r.sources(p, missing) {
			sources.Go(func() { r.fetchWanted(ctx, p, list) })
		}
		sources.Wait()
		if r.Replica.Missing(p, missing) != nil && !pause.For(ctx, wantedPause) {
			return
		}
	}
}

// stillWanted is what of p is wanted and missing; with nil the want has ended.
func (r *Repairer) stillWanted(p hashring.Partition) *crdt.Clock {
	r.wanted.mu.Lock()
	defer r.wanted.mu.Unlock()
	x := r.wanted.parts[p]
	missing := r.Replica.Missing(p, x.dots)
	if missing == nil || time.Since(x.asked) > wantedFor || !r.Replica.Owns(p) {
		delete(r.wanted.parts, p)
		return nil
	}
	return missing
}

// lacking reports whether something wanted of p is missing. It is for those whom
// satisfy waits for.
func (r *Repairer) lacking(p hashring.Partition) bool {
	r.wanted.mu.Lock()
	defer r.wanted.mu.Unlock()
	return r.Replica.Missing(p, r.wanted.parts[p].dots) != nil
}

// sources are who may have what is missing: the peers, and each region that
// minted some of it.
func (r *Repairer) sources(p hashring.Partition, missing *crdt.Clock) [][]link {
	top := r.Topology()
	var near []link
	for _, id := range servers(top, p) {
		if id != r.cfg.Self && r.Alive(id) {
			near = append(near, link{id: id})
		}
	}
	out := [][]link{near}
	minted := map[uint8]bool{}
	for _, a := range missing.Actors() {
		minted[a.Region()] = true
	}
	for _, g := range r.Regions() {
		if g.Topology == nil || !minted[uint8(g.Topology.RegionID)] || int(p) >= g.Topology.Table.Partitions() {
			continue
		}
		var far []link
		for _, id := range servers(g.Topology, p) {
			far = append(far, link{id: id, region: g.Name})
		}
		out = append(out, far)
	}
	return out
}

// fetchWanted asks one after the other until nothing wanted is missing.
func (r *Repairer) fetchWanted(ctx context.Context, p hashring.Partition, from []link) {
	for i, l := range from {
		if l.region != "" && i == 0 && !r.firstLive(r.Topology(), p) && !pause.For(ctx, afterFirst) {
			return
		}
		if !r.lacking(p) {
			return
		}
		if err := r.pullWanted(ctx, l, p); err != nil && ctx.Err() == nil {
			r.Log.Debug("what is waited for could not be fetched", "peer", string(l.id), "partition", int(p), "error", err)
		}
	}
}

// pullWanted is pull, but for full syncs, which somebody who waits does not wait
// for.
func (r *Repairer) pullWanted(ctx context.Context, l link, p hashring.Partition) error {
	release, err := r.claimsOf(l).take(ctx, p)
	if err != nil {
		return err
	}
	defer release()
	left := leftOut{}
	for r.lacking(p) {
		ask := wire.Pull{Partition: p, Clock: r.Replica.Clock(p), MaxBytes: r.cfg.PageBytes, Afar: r.afar(l)}
		if ask.Clock == nil {
			return nil
		}
		left.addTo(ask.Clock)
		b, err := r.fetch(ctx, l, peer.VerbPull, wire.AppendPull(nil, ask))
		if err != nil {
			return fmt.Errorf("pull partition %d: %w", p, err)
		}
		got, err := wire.DecodePulled(b)
		if err != nil {
			return fmt.Errorf("pull partition %d: %w", p, err)
		}
		told := len(got.Entries)
		got.Entries = r.unskip(ctx, l, p, got.Entries, &left)
		if _, err := r.apply(ctx, l, l.from(got.Floors), got.Entries); err != nil {
			return fmt.Errorf("apply %d pulled records of partition %d: %w", len(got.Entries), p, err)
		}
		r.count(l.task, len(got.Entries), pulledKeys)
		if got.Full || !got.More || told == 0 {
			return nil
		}
	}
	return nil
}
