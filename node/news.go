package node

import (
	"context"
	"sync/atomic"
	"time"

	"github.com/atolldb/atoll/node/topology"
)

// A node that is cut off does not learn that others own its partitions by now.
// Levels of a quorum are safe all the same, since no quorum answers by an old
// topology; below a quorum nothing protects but time: such a node must stop
// before the region goes on without it (handoff.Config.DeadAfter, 30 s).
const (
	// staleAfter is how long a node serves levels below a quorum without news.
	staleAfter = 20 * time.Second
	newsBeat   = 4 * time.Second
)

// news is when this node last knew that its topology was the newest: by the
// store, or by a majority of the members.
type news struct {
	n  *Node
	at atomic.Pointer[time.Time]
	// store is when the store last answered, whatever it said.
	store atomic.Pointer[time.Time]
}

// newNews begins isolated: a disk may have been away for any time.
func newNews(n *Node) *news {
	s := &news{n: n}
	s.at.Store(&time.Time{})
	began := time.Now()
	s.store.Store(&began)
	return s
}

// heard notes news of a time. Answers overtake each other: what was asked for
// earlier and comes later takes nothing back.
func (s *news) heard(at time.Time) {
	for {
		old := s.at.Load()
		if !old.Before(at) || s.at.CompareAndSwap(old, &at) {
			return
		}
	}
}

func (s *news) age() time.Duration { return time.Since(*s.at.Load()) }

// isolated says that there was no news for too long. Where membership never
// changes there is none to have.
func (s *news) isolated() bool { return s.n.deps.Store != nil && s.age() > staleAfter }

// storeSilence is for how long the store has not answered, or this node has not been
// there; 0 where membership never changes.
func (s *news) storeSilence() time.Duration {
	if s.n.deps.Store == nil {
		return 0
	}
	return time.Since(*s.store.Load())
}

// Run asks the other members while the store does not tell, until ctx ends.
func (s *news) Run(ctx context.Context) error {
	beat := time.NewTicker(newsBeat)
	defer beat.Stop()
	was := true
	for {
		if s.age() >= newsBeat {
			s.ask(ctx)
		}
		if is := s.isolated(); is != was && ctx.Err() == nil {
			was = is
			s.n.log.Info("whether this node's topology may be old, so that levels below a quorum are refused", "old", is)
		}
		select {
		case <-ctx.Done():
			return nil
		case <-beat.C:
		}
	}
}

// ask asks all other members for a newer topology.
func (s *news) ask(ctx context.Context) {
	began := time.Now()
	ctx, stop := context.WithTimeout(ctx, exchangeTimeout)
	defer stop()
	if _, most := s.n.survey(ctx); most {
		s.heard(began)
	}
}

// heardStore notes when the store has answered.
type heardStore struct {
	topology.Store
	news *news
}

// Load implements topology.Store.
func (h heardStore) Load(ctx context.Context) (*topology.Topology, topology.Revision, error) {
	began := time.Now()
	t, at, err := h.Store.Load(ctx)
	if err == nil {
		now := time.Now()
		h.news.store.Store(&now)
	}
	if err == nil && t != nil && t.Epoch <= h.news.n.Topology().Epoch {
		h.news.heard(began) // what is newer is adopted first
	}
	return t, at, err
}
