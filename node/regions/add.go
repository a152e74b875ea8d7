package regions

import (
	"cmp"
	"context"
	"fmt"
	"net/url"
	"slices"
	"strings"
	"sync"

	"github.com/atolldb/atoll/geo/failover"
	"github.com/atolldb/atoll/geo/regionmap"
	"github.com/atolldb/atoll/node/topology"
)

// Newcomer is a region that is to come in, as it told of itself.
type Newcomer struct {
	ID uint8
	// Partitions that its keys are in.
	Partitions int
	Contact    regionmap.Contact
}

// newcomer puts the region of an add into a map that nobody else sees.
func (s *Steer) newcomer(m *regionmap.Map, a Ask) error {
	refuse := func(format string, args ...any) error {
		return fmt.Errorf("%w: %s", failover.ErrRefused, fmt.Sprintf(format, args...))
	}
	if a.Add == nil {
		return refuse("nothing is said of where region %s is", a.Region)
	}
	c := a.Add.Contact
	if state := m.State(a.Region); state != 0 && state != regionmap.Removed {
		return refuse("region %s is %s already", a.Region, state)
	}
	if len(c.NATS) == 0 || len(c.Members) == 0 {
		return refuse("a new region needs the URLs of its NATS servers and its nodes")
	}
	for _, text := range c.NATS {
		if u, err := url.Parse(text); err != nil || u.Host == "" || u.Scheme != "nats" && u.Scheme != "tls" || u.User != nil {
			return refuse("a URL of NATS is nats://HOST:PORT or tls://HOST:PORT, without a user: the map of regions is kept in plain text")
		}
	}
	if err := m.Add(a.Region, a.Add.ID, c); err != nil {
		return refuse("%v", err)
	}
	return nil
}

// checkAdd looks whether the nodes of a region can come in.
func (s *Steer) checkAdd(ctx context.Context, m *regionmap.Map, n *Newcomer, add func(bool, string, string, ...any)) {
	if len(s.r.Known().Map.Voters()) == 1 { // who does not keep the map would go on alone
		bare := s.unprepared(ctx)
		add(len(bare) == 0, "prepared", "nodes of %s that do not answer, or run without geo.others in their configuration: %s", s.r.cfg.Region, cmp.Or(strings.Join(bare, ", "), "none"))
	}
	add(n.Partitions == s.deps.Partitions, "keys", "%d partitions there, %d here", n.Partitions, s.deps.Partitions)
	var taken, bad []string
	for _, seed := range n.Contact.Members {
		if s.deps.Taken(topology.NodeID(seed.ID)) {
			taken = append(taken, seed.ID)
		}
	}
	add(len(taken) == 0, "nodes", "ids that nodes of other regions have, or had in one that was removed: %s", cmp.Or(strings.Join(taken, ", "), "none"))
	var mu sync.Mutex
	var ask sync.WaitGroup
	try := func(at string) {
		ask.Go(func() {
			if err := s.deps.Reach(ctx, at); err != nil {
				mu.Lock()
				defer mu.Unlock()
				bad = append(bad, err.Error())
			}
		})
	}
	for _, seed := range n.Contact.Members {
		try(seed.Peer)
	}
	for _, text := range n.Contact.NATS {
		if u, err := url.Parse(text); err == nil {
			try(u.Host)
		}
	}
	ask.Wait()
	add(len(bad) == 0, "reach", "nodes and NATS servers of it that are not reached from here: %s", cmp.Or(strings.Join(bad, "; "), "none"))
}

// unprepared are the nodes of the own region that do not keep a map of regions.
func (s *Steer) unprepared(ctx context.Context) (out []string) {
	var mu sync.Mutex
	var ask sync.WaitGroup
	for _, id := range s.deps.Nodes(string(s.r.cfg.Region)) {
		if id == s.r.cfg.Self {
			continue
		}
		ask.Go(func() {
			if _, err := s.r.call(ctx, id, []byte{askKept}); err != nil {
				mu.Lock()
				defer mu.Unlock()
				out = append(out, string(id))
			}
		})
	}
	ask.Wait()
	slices.Sort(out)
	return out
}
