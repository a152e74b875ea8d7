package regions

import (
	"errors"
	"maps"
	"time"

	"github.com/atolldb/atoll/node/peer"
)

// LeaseStats are what a node holds by the lease of the map of regions, for metrics.
type LeaseStats struct {
	// Lasts is how long a grant holds; 0: there are no leases, and nothing else is told.
	Lasts time.Duration
	// Left is for how long the node's region may go on deciding at SERIAL, as far as
	// this node knows, if nobody grants it anything any more; 0: it may not.
	Left time.Duration
	// Grants are, by region that is counted, for how long its last one holds yet.
	Grants map[string]time.Duration
	// Asked are, by region, what came of all questions since the node was started.
	Asked map[string]Asked
}

// Asked counts questions for a grant.
type Asked struct {
	Granted, Refused, Silent uint64
}

// Lease tells what this node holds now.
func (r *Regions) Lease() LeaseStats {
	m := r.Known().Map
	if m.Lease.Ms == 0 {
		return LeaseStats{}
	}
	out := LeaseStats{Lasts: lasts(m), Grants: map[string]time.Duration{}}
	r.leases.mu.Lock()
	defer r.leases.mu.Unlock()
	out.Asked = maps.Clone(r.leases.asked)
	left := func(name string) time.Duration {
		g := r.leases.grants[name]
		g.lasts = min(g.lasts, out.Lasts)
		if !g.holds() {
			return 0
		}
		return g.lasts - since(g.from)
	}
	for _, region := range m.Regions {
		if region.State.Counts() && region.Name != string(r.cfg.Region) {
			out.Grants[region.Name] = left(region.Name)
		}
	}
	ms := m.Left(string(r.cfg.Region), func(name string) uint64 { return uint64(out.Grants[name].Milliseconds()) })
	out.Left = time.Duration(ms) * time.Millisecond
	return out
}

// count notes what came of a question.
func (l *leases) count(region string, err error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.asked == nil {
		l.asked = map[string]Asked{}
	}
	a := l.asked[region]
	var refusal *peer.Refusal
	switch {
	case err == nil:
		a.Granted++
	case errors.As(err, &refusal):
		a.Refused++
	default:
		a.Silent++
	}
	l.asked[region] = a
}
