//go:build runbooks && linux

package runbooks

import (
	"context"
	"slices"
	"strings"

	"github.com/atolldb/atoll/client"
	"github.com/atolldb/atoll/e2e/chaos/traffic"
)

// following is how the clients that follow the map of regions are called.
const following = "following"

// follows starts clients of a region that go elsewhere when the map says so.
func (r *rehearsal) follows(region string) {
	r.t.Helper()
	all := r.Regions()
	targets := make([]string, len(all))
	for i, one := range all {
		targets[i] = r.Target(one)
	}
	ctx, cancel := context.WithTimeout(r.ctx, startTime)
	defer cancel()
	c, err := client.Open(ctx, strings.Join(targets, ","), client.Region(region), client.DialOptions(r.DialOptions()...),
		client.Fallback(slices.DeleteFunc(slices.Clone(all), func(one string) bool { return one == region })...),
		client.OnRegionChange(func(m client.RegionChange) {
			r.say("clients follow from %s, %s by version %d, to %s", m.From, m.State, m.Version, m.To)
		}))
	r.must(err)
	r.t.Cleanup(func() { _ = c.Close() })
	r.clients[following] = c
	r.load(following, 1+len(all)*workers)
}

// load starts clients of that name, whose numbers begin with first.
func (r *rehearsal) load(name string, first int) {
	c := traffic.New(traffic.Config{
		Clients: r.clients, Regions: []string{name}, Workers: workers, First: first, Rate: rate,
		Sets: 10, Registers: 4, Pad: 500, Seed: uint64(first / workers), History: r.history, Acked: r.missing.ack,
	})
	ctx, cancel := context.WithCancel(r.ctx)
	stopped := make(chan struct{})
	go func() { c.Run(ctx); close(stopped) }()
	l := &load{t: c, stop: func() { cancel(); <-stopped }}
	r.loads[name] = l
	r.t.Cleanup(l.stop)
}
