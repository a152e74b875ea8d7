package regions

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/atolldb/atoll/geo/regionmap"
	"github.com/atolldb/atoll/internal/planted"
	"github.com/atolldb/atoll/node/peer"
	"github.com/atolldb/atoll/node/topology"
)

// Where the map of regions has a lease (regionmap.Lease), each node of a region has the
// others grant it, by one of their nodes each, and decides at SERIAL only while enough
// of the grants hold. Who grants goes by what its region's store says: it has read that
// by a swap, which no store takes that is cut off from its majority, and a grant counts
// from when that began. So no grant counts from after a store has learnt that the
// region is not counted any more, whichever of the nodes there are silent.
//
// A grant is timed by the monotonic clock and by the wall clock of whoever holds it, and
// has run out when one of them says so: the first stands still while a machine sleeps.

// grant is what a region has granted.
type grant struct {
	from  time.Time     // no later than when it was given
	lasts time.Duration // how long it holds
}

// leases are the grants that this node has, and what it knows of its own store.
type leases struct {
	mu     sync.Mutex
	grants map[string]grant
	// read is when the last swap of the store began that went through.
	read time.Time
	// asked counts questions, by region; see Asked.
	asked map[string]Asked
}

// since is how long ago t was, by the clock that says more.
func since(t time.Time) time.Duration {
	now := time.Now()
	return max(now.Sub(t), now.Round(0).Sub(t.Round(0)))
}

// lasts is how long a grant holds.
func lasts(m *regionmap.Map) time.Duration { return time.Duration(m.Lease.Ms) * time.Millisecond }

func (g grant) holds() bool { return !g.from.IsZero() && since(g.from) < g.lasts }

// Leased reports whether this node's region may decide at SERIAL now as far as leases
// say: there are none, or enough grants hold.
func (r *Regions) Leased() bool {
	m := r.Known().Map
	if m.Lease.Ms == 0 || planted.Bug(planted.NoLease) {
		return true
	}
	r.leases.mu.Lock()
	defer r.leases.mu.Unlock()
	return m.Holds(string(r.cfg.Region), func(name string) bool {
		g := r.leases.grants[name]
		g.lasts = min(g.lasts, lasts(m))
		return g.holds()
	})
}

// renew asks for the grants that are older than a quarter of the time that they hold.
func (r *Regions) renew() {
	m := r.Known().Map
	if m.Lease.Ms == 0 || !m.Counts(string(r.cfg.Region)) {
		return
	}
	for _, t := range r.deps.Others() {
		name := string(t.Region)
		present := t.Present()
		if !m.Counts(name) || len(present) == 0 {
			continue
		}
		r.leases.mu.Lock()
		g := r.leases.grants[name]
		due := g.from.IsZero() || since(g.from) >= lasts(m)/4
		r.leases.mu.Unlock()
		if due {
			r.askGrant(name, r.pick(present), lasts(m))
		}
	}
}

// askGrant asks one node for what its region grants. It does not wait.
func (r *Regions) askGrant(region string, id topology.NodeID, d time.Duration) {
	asked := time.Now()
	body := append([]byte{askGrant, byte(r.cfg.ID)}, regionmap.EncodeKnown(r.told())...)
	r.deps.Transport.Send(id, peer.Request{Verb: peer.VerbRegions, Timeout: grantTimeout, Body: body}, func(b []byte, err error) {
		r.leases.count(region, err)
		if err != nil || len(b) < 8 {
			return // refused, or nobody there: another one, the next time
		}
		k, err := regionmap.DecodeKnown(b[8:])
		if err != nil {
			r.deps.Log.Warn("a node tells a map of regions that cannot be read", "from", string(id), "error", err)
			return
		}
		r.Learn(k)
		// How long ago its region's store had said so. It was asked before it answered.
		age := time.Duration(binary.BigEndian.Uint64(b))
		if age < 0 {
			r.deps.Log.Warn("a node grants a lease that begins later", "from", string(id))
			return
		}
		from := asked.Add(-age)
		r.leases.mu.Lock()
		defer r.leases.mu.Unlock()
		if r.leases.grants == nil {
			r.leases.grants = map[string]grant{}
		}
		if old := r.leases.grants[region]; from.After(old.from) {
			r.leases.grants[region] = grant{from: from, lasts: d}
		}
	})
}

// grantTimeout bounds a question, and what the store may take for it.
const grantTimeout = 2 * time.Second

// told is what is told of the map: what is configured is not.
func (r *Regions) told() regionmap.Known {
	k := r.Known()
	if k.Map.N == 0 {
		k = regionmap.Known{}
	}
	return k
}

var errNoGrant = errors.New("no lease is granted")

// grantTo is the answer to a region that asks for a lease.
func (r *Regions) grantTo(ctx context.Context, id byte, theirs regionmap.Known) ([]byte, error) {
	r.Learn(theirs)
	age, err := r.confirm(ctx)
	if err != nil {
		return nil, err
	}
	k := r.Known() // with what the store has said
	asker := k.Map.ByID(id)
	switch {
	case k.Contested:
		return nil, fmt.Errorf("%w: the map of regions is contested", errNoGrant)
	case k.Map.Lease.Ms == 0:
		return nil, fmt.Errorf("%w: there are none by version %s", errNoGrant, k.Map.Version)
	case asker == nil || !asker.State.Counts():
		return nil, fmt.Errorf("%w: the region is not counted by version %s", errNoGrant, k.Map.Version)
	case !k.Map.Counts(string(r.cfg.Region)):
		return nil, fmt.Errorf("%w: region %s is not counted itself", errNoGrant, r.cfg.Region)
	}
	return append(binary.BigEndian.AppendUint64(nil, uint64(age)), regionmap.EncodeKnown(r.told())...), nil
}

// confirm has the region's store take what it holds once more, unless that was done a
// short while ago, and returns how long ago that began.
func (r *Regions) confirm(ctx context.Context) (time.Duration, error) {
	r.leases.mu.Lock()
	read := r.leases.read
	r.leases.mu.Unlock()
	if !read.IsZero() {
		if age := since(read); age >= 0 && age < lasts(r.Known().Map)/8 {
			return age, nil
		}
	}
	began := time.Now()
	for {
		reg, at, err := r.load(ctx)
		if err != nil {
			return 0, err
		}
		switch err := r.deps.Store.SwapRegions(ctx, regionmap.EncodeRegister(reg), at); {
		case errors.Is(err, topology.ErrConflict):
			continue
		case err != nil:
			return 0, err
		}
		r.Learn(reg.Decided)
		r.leases.mu.Lock()
		defer r.leases.mu.Unlock()
		if began.After(r.leases.read) {
			r.leases.read = began
		}
		return since(began), nil
	}
}

// SetLease has all regions decide at SERIAL only with a lease of that length, or, with
// 0, without one. It binds when all nodes have kept it; see Steer.
func (r *Regions) SetLease(ctx context.Context, d time.Duration, force bool) (regionmap.Known, error) {
	ms := uint64(max(d.Milliseconds(), 0))
	if d != time.Duration(ms)*time.Millisecond {
		return r.Known(), fmt.Errorf("%w: a lease of %v", regionmap.ErrInvalid, d)
	}
	return r.Change(ctx, force, func(m *regionmap.Map) error { return m.SetLease(ms) })
}
