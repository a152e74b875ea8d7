package process

import (
	"github.com/atolldb/atoll/hashring"
	"github.com/atolldb/atoll/node/topology"
)

// world is who is where: what the configuration says, and over it what was
// learned since. Members come and go while the node runs; the configured ones
// are where a node begins to ask.
type world struct {
	region topology.Region
	// own is the configured topology of the own region: what its first start
	// begins with.
	own *topology.Topology
	// seeds are the configured members of all regions.
	seeds map[topology.NodeID]seed
	names map[topology.RegionID]topology.Region
	// current returns the own region's topology in force, nil before there is
	// one.
	current func() *topology.Topology

	// others are the other regions', the newest known.
	others *topology.Book
}

type seed struct {
	region topology.Region
	peer   string
}

// unheard is the epoch of another region's topology that is as the
// configuration has it: whatever that region says is newer.
const unheard = 0

func newWorld(c *Config) (*world, error) {
	w := &world{
		region: c.Region,
		seeds:  map[topology.NodeID]seed{}, names: map[topology.RegionID]topology.Region{},
		current: func() *topology.Topology { return nil },
	}
	var others []*topology.Topology
	rules := hashring.Rules{Partitions: c.Partitions, Replicas: c.Replicas}
	for _, r := range c.Regions {
		members := make([]topology.Member, len(r.Members))
		for i, m := range r.Members {
			members[i] = topology.Member{ID: m.ID, Rack: m.Rack, Weight: m.Weight, PeerAddr: m.Peer, ClientAddr: m.Client}
			w.seeds[m.ID] = seed{r.Name, m.Peer}
		}
		t, err := topology.Static(r.Name, r.ID, members, rules)
		if err != nil {
			return nil, err
		}
		w.names[r.ID] = r.Name
		if r.Name == c.Region {
			w.own = t
		} else {
			t.Epoch = unheard
			others = append(others, t)
		}
	}
	w.others = topology.NewBook(others...)
	return w, nil
}

// find returns where a node is. Who has left is nowhere, whatever the
// configuration says.
func (w *world) find(id topology.NodeID) (seed, bool) {
	if t := w.current(); t != nil {
		if m := t.Member(id); m != nil {
			return seed{t.Region, m.PeerAddr}, m.State != topology.Left
		}
	}
	// A region that was removed may still ask, to be told.
	for _, t := range append(w.others.All(), w.others.Gone()...) {
		if m := t.Member(id); m != nil {
			return seed{t.Region, m.PeerAddr}, m.State != topology.Left
		}
	}
	s, ok := w.seeds[id]
	return s, ok
}

func (w *world) addrOf(id topology.NodeID) (string, bool) {
	s, ok := w.find(id)
	return s.peer, ok
}

func (w *world) regionOf(id topology.NodeID) (topology.Region, bool) {
	s, ok := w.find(id)
	return s.region, ok
}

func (w *world) name(id topology.RegionID) topology.Region { return w.names[id] }
