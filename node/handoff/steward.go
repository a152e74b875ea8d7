package handoff

import (
	"context"
	"errors"
	"sync/atomic"
	"time"

	"github.com/atolldb/atoll/internal/pause"
	"github.com/atolldb/atoll/node/topology"
)

// Steward leads the region's moves from stage to stage, on whichever node the
// store lets lead.
type Steward struct {
	cfg   Config
	deps  Deps
	store topology.Store
	asks  *asker

	leading atomic.Bool
	until   time.Time // when to say again that this node leads
	// good is when this node last could do something as the leader; rests is
	// until when it leaves the lead to others.
	good, rests time.Time
}

// NewSteward returns a steward. copier is that of this node.
func NewSteward(cfg Config, deps Deps, store topology.Store, copier *Copier) *Steward {
	cfg = cfg.filled()
	return &Steward{cfg: cfg, deps: deps, store: store, asks: newAsker(cfg, deps, copier)}
}

// Leads reports whether this node led when it last asked.
func (s *Steward) Leads() bool { return s.leading.Load() }

// Run leads, or stands by, until ctx ends.
func (s *Steward) Run(ctx context.Context) error {
	asking, stop := context.WithCancel(ctx)
	defer func() {
		stop()
		s.asks.all.Wait()
	}()
	for {
		rest := s.turn(asking)
		if !pause.For(ctx, rest) {
			return nil
		}
	}
}

// retry is how long the steward rests after the store did not do what it was
// asked, and idle how often it looks whether there is something to do. soon is
// between two steps.
const (
	retry = time.Second
	idle  = time.Second
	soon  = 10 * time.Millisecond
)

// turn does the next thing and returns how long to rest.
func (s *Steward) turn(ctx context.Context) time.Duration {
	leads, err := s.lead(ctx)
	if err != nil {
		s.deps.Log.Debug("no word on who leads the topology's changes", "error", err)
		return retry
	}
	if !leads {
		return s.cfg.Lease / 3
	}
	bound, stop := context.WithTimeout(ctx, s.cfg.Lease/2)
	defer stop()
	top, rev, err := s.store.Load(bound)
	if err != nil {
		s.deps.Log.Debug("topology could not be loaded, moves rest", "error", err)
		return retry
	}
	if top == nil || len(top.Moves) == 0 && !unsettled(top) {
		s.good = time.Now()
		return idle
	}
	nodes := concerned(top)
	s.asks.round(ctx, top, nodes, askWait)
	facts := s.asks.facts()
	next, steps := top.Advance(facts)
	if next == nil {
		s.resign(nodes, facts)
		return s.cfg.Beat
	}
	s.good = time.Now()
	switch _, err := s.store.Swap(bound, next, rev); {
	case errors.Is(err, topology.ErrConflict):
		return soon
	case err != nil:
		s.deps.Log.Debug("next stages could not be stored, or it is not known", "error", err)
		return retry
	}
	s.told(top, next, steps)
	// Spread it now; the answers count in the next turn.
	s.asks.round(ctx, next, concerned(next), askWait)
	return soon
}

// resign leaves the lead to others when this node may be why nothing goes on:
// when it hears nobody, or, for longer, so few that they are no majority. When
// the others really are dead they are so for the next leader, too, and this one
// has had time to do without them.
func (s *Steward) resign(nodes map[topology.NodeID]bool, facts topology.Facts) {
	heard, others := 0, 0
	for id := range nodes {
		if id == s.cfg.Self {
			continue
		}
		others++
		if _, ok := facts.Durable[id]; ok {
			heard++
		}
	}
	patience := s.cfg.DeadAfter + 3*s.cfg.Lease
	switch {
	case 2*heard >= others:
		s.good = time.Now()
		return
	case heard == 0:
		patience = s.cfg.Lease
	}
	if time.Since(s.good) > patience {
		s.rests = time.Now().Add(3 * s.cfg.Lease)
		s.deps.Log.Warn("too few nodes answer this one, another one may lead the topology's changes", "answer", heard, "of", others)
	}
}

// lead says to the store that this node leads, or would.
func (s *Steward) lead(ctx context.Context) (bool, error) {
	now := time.Now()
	if now.Before(s.rests) || s.left() {
		s.leading.Store(false)
		return false, nil
	}
	if s.leading.Load() && now.Before(s.until) {
		return true, nil
	}
	bound, stop := context.WithTimeout(ctx, s.cfg.Lease/2)
	defer stop()
	leader, err := s.store.Lead(bound, s.cfg.Self, s.cfg.Lease)
	leads := err == nil && leader == s.cfg.Self
	if s.leading.Swap(leads) != leads {
		s.asks.forget()
		if leads {
			s.good = now
			s.deps.Log.Info("this node leads the topology's changes now")
		} else {
			s.deps.Log.Info("another node leads the topology's changes, or nobody can tell", "leader", string(leader))
		}
	}
	s.until = now.Add(s.cfg.Lease / 3)
	return leads, err
}

// left reports whether this node is no member any more. Its process goes on
// until somebody stops it, and the store answers it; but nodes that came later
// do not, and so no move to them would ever go on.
func (s *Steward) left() bool {
	m := s.deps.Replica.Topology().Member(s.cfg.Self)
	return m == nil || m.State == topology.Left
}

// unsettled reports whether a task has no moves and has not ended.
func unsettled(t *topology.Topology) bool {
	for _, task := range t.Tasks {
		if task.Ended == 0 {
			return true
		}
	}
	return false
}

// told logs what was stored.
func (s *Steward) told(was, is *topology.Topology, steps []topology.Step) {
	for _, step := range steps {
		m := step.Move
		s.deps.Log.Debug("move goes on", "what", step.What.String(), "partition", int(m.Partition),
			"from", string(m.From), "to", string(m.To), "epoch", uint64(is.Epoch))
		if step.What == topology.Retired {
			s.deps.Log.Warn("a copy was taken back since its receiver does not answer", "partition", int(m.Partition), "to", string(m.To))
		}
	}
	for _, task := range is.Tasks {
		if before := was.Task(task.ID); task.Ended != 0 && before != nil && before.Ended == 0 {
			s.deps.Log.Info("task has ended", "task", uint64(task.ID), "kind", task.Kind.String(), "aborted", task.Aborted)
		}
	}
}
