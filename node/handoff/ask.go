package handoff

import (
	"context"
	"maps"
	"slices"
	"sync"
	"time"

	"github.com/atolldb/atoll/internal/planted"
	"github.com/atolldb/atoll/node/peer"
	"github.com/atolldb/atoll/node/topology"
)

const (
	// askTimeout bounds one question to a node.
	askTimeout = 2 * time.Second
	// askWait is how long a round of questions waits for its answers; what comes
	// later counts in the next one.
	askWait = 250 * time.Millisecond
	// fresh is how old an answer may be and still tell that a node answers.
	fresh = 5 * time.Second
	// ahead is how many moves that have not begun are looked at in one round: not
	// all nodes of a large region are asked before a few of them move.
	ahead = 256
)

// asker asks nodes what they have durable and how far their copies are, and
// remembers the answers. A node has one question at a time.
type asker struct {
	cfg    Config
	deps   Deps
	copier *Copier // of this node
	all    sync.WaitGroup

	mu    sync.Mutex
	nodes map[topology.NodeID]*answers
}

// answers of one node.
type answers struct {
	busy    bool
	asked   time.Time // last
	heard   time.Time // last answer
	silent  time.Time // first question without answer since; zero for none
	durable topology.Epoch
	report  Report
	told    time.Time      // last report
	at      topology.Epoch // durable before the last report
}

func newAsker(cfg Config, deps Deps, copier *Copier) *asker {
	return &asker{cfg: cfg, deps: deps, copier: copier, nodes: map[topology.NodeID]*answers{}}
}

// concerned lists the nodes that must be asked about t's moves, and whether they
// have something to report: that they copy, or keep hints and are to leave.
func concerned(t *topology.Topology) map[topology.NodeID]bool {
	out := map[topology.NodeID]bool{}
	planned := 0
	for _, m := range t.Moves {
		if m.Stage == topology.Planned {
			if planned++; planned > ahead {
				continue
			}
		}
		for _, id := range t.Owners(m.Partition) {
			out[topology.NodeID(id)] = out[topology.NodeID(id)] || false
		}
		if m.To != "" {
			out[m.To] = out[m.To] || false
		}
		if m.Stage == topology.Planned {
			continue
		}
		if copies := t.Guard(m).Copies; copies != nil {
			for _, id := range copies.Sinks {
				out[id] = true
			}
		}
	}
	leaving := t.Leaving()
	for _, id := range leaving {
		out[id] = true
	}
	if len(leaving) > 0 && len(t.Moves) == 0 {
		// And some who stay: a leader that hears nobody leaves the lead to others.
		for _, id := range t.Owners(0) {
			out[topology.NodeID(id)] = out[topology.NodeID(id)] || false
		}
	}
	return out
}

// round offers t, unless it is nil, to nodes that may not have it, asks those
// that have something to report for it, and waits for a while.
func (a *asker) round(ctx context.Context, t *topology.Topology, nodes map[topology.NodeID]bool, wait time.Duration) {
	var these sync.WaitGroup
	for id, reports := range nodes {
		if !a.begin(id) {
			continue
		}
		these.Add(1)
		a.all.Go(func() {
			defer these.Done()
			a.ask(ctx, id, t, reports)
		})
	}
	done := make(chan struct{})
	a.all.Go(func() {
		these.Wait()
		close(done)
	})
	timer := time.NewTimer(wait)
	defer timer.Stop()
	select {
	case <-done:
	case <-timer.C:
	case <-ctx.Done():
	}
}

// begin notes that a node is asked; it reports false if it is being asked.
func (a *asker) begin(id topology.NodeID) bool {
	a.mu.Lock()
	defer a.mu.Unlock()
	n := a.nodes[id]
	if n == nil {
		n = &answers{}
		a.nodes[id] = n
	}
	if n.busy {
		return false
	}
	now := time.Now()
	if now.Sub(n.asked) > a.cfg.DeadAfter/2+fresh {
		n.silent = time.Time{} // it was not asked for long, which is not its fault
	}
	n.busy, n.asked = true, now
	return true
}

func (a *asker) ask(ctx context.Context, id topology.NodeID, t *topology.Topology, reports bool) {
	ctx, stop := context.WithTimeout(ctx, askTimeout)
	defer stop()
	a.mu.Lock()
	n := a.nodes[id]
	offer := t
	if t != nil && n.durable >= t.Epoch && !n.heard.IsZero() {
		offer = nil
	}
	a.mu.Unlock()
	durable, err := a.deps.Exchange(ctx, id, offer)
	var report Report
	told := false
	if err == nil && reports {
		if r, err := a.reportOf(ctx, id); err == nil {
			report, told = r, true
		}
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	n.busy = false
	if err != nil {
		if n.silent.IsZero() && ctx.Err() != context.Canceled {
			n.silent = n.asked
		}
		return
	}
	n.durable, n.heard, n.silent = durable, time.Now(), time.Time{}
	if told {
		n.report, n.told, n.at = report, n.heard, durable
	}
}

func (a *asker) reportOf(ctx context.Context, id topology.NodeID) (Report, error) {
	if id == a.cfg.Self {
		return a.copier.Report(), nil
	}
	b, err := peer.Call(ctx, a.deps.Transport, id, peer.Request{Verb: peer.VerbMoves, Timeout: askTimeout})
	if err != nil {
		return Report{}, err
	}
	return decodeReport(b)
}

// facts puts the answers together.
func (a *asker) facts() topology.Facts {
	a.mu.Lock()
	defer a.mu.Unlock()
	f := topology.Facts{
		Durable: map[topology.NodeID]topology.Epoch{}, Dead: map[topology.NodeID]bool{},
		Synced: map[topology.MoveID][]topology.Synced{}, Keeps: map[topology.NodeID]topology.Keeps{}, Now: time.Now().UnixMilli(),
	}
	now := time.Now()
	for id, n := range a.nodes {
		if !n.heard.IsZero() && now.Sub(n.heard) < fresh {
			f.Durable[id] = n.durable
		}
		if !n.silent.IsZero() && now.Sub(n.silent) > a.cfg.DeadAfter {
			f.Dead[id] = true
		}
		if !n.silent.IsZero() || now.Sub(n.told) >= fresh {
			continue // it may come back empty
		}
		f.Keeps[id] = topology.Keeps{At: n.at, For: n.report.Keeps}
		for _, p := range n.report.Copies {
			if planted.Bug(planted.SwitchUnsynced) {
				p.With = slices.Collect(maps.Keys(a.nodes))
			}
			f.Synced[p.Move] = append(f.Synced[p.Move], topology.Synced{Sink: id, Began: p.Began, With: p.With, Behind: p.Behind})
		}
	}
	return f
}

// reports of all nodes that gave one.
func (a *asker) reports() map[topology.NodeID]Report {
	a.mu.Lock()
	defer a.mu.Unlock()
	out := map[topology.NodeID]Report{}
	for id, n := range a.nodes {
		out[id] = n.report
	}
	return out
}

// forget drops what nodes have said: it is of another time.
func (a *asker) forget() {
	a.mu.Lock()
	defer a.mu.Unlock()
	for id, n := range a.nodes {
		if !n.busy {
			delete(a.nodes, id)
		}
	}
}
