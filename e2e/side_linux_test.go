//go:build e2e && linux

package e2e

import (
	"context"
	"strings"
	"testing"
	"time"

	"github.com/atolldb/atoll/client"
	"github.com/atolldb/atoll/crdt"
	"github.com/atolldb/atoll/hashring"
	"github.com/atolldb/atoll/node/fleet"
	"github.com/atolldb/atoll/node/topology"
)

// side is one region with its clients, in this process or in one of its own.
type side interface {
	// Steady works at cutRate for so long; see steadily.
	Steady(span time.Duration) []time.Duration
	// Begin works so until End, which returns how long the operations took.
	Begin()
	End() []time.Duration
	// FlatOut writes as fast as it can, or as -cut.rate says, and returns how many.
	FlatOut(span time.Duration) int
	// Cut cuts the region off from the other one, and Heal ends that.
	Cut()
	Heal()
	// Minted is what the region's owners have, and Has whether all of them have that.
	Minted() clocks
	Has(made clocks) bool
	// Crossed counts the bytes to and from the other region, on connections that
	// were made from here.
	Crossed() uint64
	// Spent is the processor time of the side's process.
	Spent() time.Duration
}

type clocks map[hashring.Partition]*crdt.Clock

// fleetSide is a region of a fleet in this process.
type fleetSide struct {
	t      *testing.T
	ctx    context.Context
	fleet  *fleet.Fleet
	region topology.Region
	client *client.Client

	stop chan struct{}
	took chan []time.Duration
}

func newSide(t *testing.T, ctx context.Context, f *fleet.Fleet, region topology.Region) *fleetSide {
	t.Helper()
	c, err := client.Open(ctx, strings.Join(f.Endpoints(region), ","), client.Pin())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	return &fleetSide{t: t, ctx: ctx, fleet: f, region: region, client: c}
}

func (s *fleetSide) Steady(span time.Duration) []time.Duration {
	return steadily(s.t, s.ctx, s.client, span)
}

func (s *fleetSide) Begin() {
	const most = 1 << 40 // it ends before
	s.stop, s.took = make(chan struct{}), make(chan []time.Duration, 1)
	go func() { s.took <- steadilyUntil(s.t, s.ctx, s.client, most, s.stop) }()
}

func (s *fleetSide) End() []time.Duration {
	close(s.stop)
	return <-s.took
}

func (s *fleetSide) FlatOut(span time.Duration) int {
	return flatOut(s.t, s.ctx, s.client, span)
}

func (s *fleetSide) Cut() {
	if err := s.fleet.Partition("eu", "us"); err != nil {
		s.t.Error(err)
	}
}

func (s *fleetSide) Heal() { s.fleet.HealAll() }

func (s *fleetSide) Minted() clocks {
	made := clocks{}
	s.each(func(p hashring.Partition, c *crdt.Clock) {
		if was := made[p]; was != nil {
			c.Join(was)
		}
		made[p] = c
	})
	return made
}

func (s *fleetSide) Has(made clocks) bool {
	all := true
	s.each(func(p hashring.Partition, c *crdt.Clock) { all = all && c.Covers(made[p]) })
	return all
}

func (s *fleetSide) each(do func(hashring.Partition, *crdt.Clock)) {
	for _, id := range s.fleet.Nodes() {
		n := s.fleet.Process(id).Node()
		if n.Topology().Region != s.region {
			continue
		}
		for _, p := range n.Replica().Owned() {
			do(p, n.Replica().Clock(p))
		}
	}
}

func (s *fleetSide) Crossed() uint64 { return s.fleet.Crossed() }

func (s *fleetSide) Spent() time.Duration { return processorTime(s.t) }
