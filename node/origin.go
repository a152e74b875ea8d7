package node

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/atolldb/atoll/crdt"
	"github.com/atolldb/atoll/geo/regionmap"
	"github.com/atolldb/atoll/hashring"
	"github.com/atolldb/atoll/node/peer"
	"github.com/atolldb/atoll/node/topology"
)

// A region whose store is empty is new, or has lost everything. In the latter case
// others hold what it wrote, under the names of its actors, and know its topology:
// what it hands out from now on has to be above both. So whoever makes a region asks
// all nodes of all others first, and its registry begins where Begin says. If they do
// not tell, that is far from where registries begin, by chance.

const (
	// lostEpochs is a bound of the changes of a region's topology that nobody else
	// has heard of; lostActors is that of actors.
	lostEpochs = 1 << 20
	lostActors = 1 << 16
	// byChance and its double bound the actors to begin at when others do not tell.
	byChance = 1 << 23
)

// Origin is what other regions know of one.
type Origin struct {
	// Actor is the highest of the region in any clock, held or told; 0 for none.
	Actor crdt.Actor
	// Epoch of its topology, 0 for as it is configured.
	Epoch topology.Epoch
	// Known of the map of regions.
	Known regionmap.Known
	// Silent are the regions that do not tell.
	Silent []string
}

// Begin is where a region begins that has nothing: the epoch of its first topology,
// which is first where nobody knows of another one, and the actor that all of its own
// come behind, 0 where nobody knows of any. dice are for what is by chance.
func (o Origin) Begin(region topology.RegionID, first topology.Epoch, now time.Time, dice uint32) (topology.Epoch, crdt.Actor) {
	switch {
	case o.Actor != 0 || o.Epoch > first:
		return max(o.Epoch, first) + lostEpochs, crdt.MakeActor(o.Actor.Seq()+lostActors, uint8(region))
	case len(o.Silent) > 0:
		return topology.Epoch(now.Unix()), crdt.MakeActor(byChance+dice%byChance, uint8(region))
	}
	return first, 0
}

// ErrNew says that a node has nothing itself, and so does not know.
var ErrNew = errors.New("the node is new itself")

// AskOrigins asks all nodes of other regions what they know of one, by ask.
func AskOrigins(ctx context.Context, others []*topology.Topology, ask func(context.Context, topology.NodeID) (Origin, error)) (out Origin) {
	var mu sync.Mutex
	var wg sync.WaitGroup
	said, fresh := map[topology.NodeID]bool{}, map[topology.NodeID]bool{}
	for _, t := range others {
		for _, id := range t.Present() {
			wg.Go(func() {
				o, err := ask(ctx, id)
				mu.Lock()
				defer mu.Unlock()
				if fresh[id] = errors.Is(err, ErrNew); err != nil {
					return
				}
				said[id] = true
				out.Actor, out.Epoch = max(out.Actor, o.Actor), max(out.Epoch, o.Epoch)
				out.Known = regionmap.Join(out.Known, o.Known)
			})
		}
	}
	wg.Wait()
	for _, t := range others {
		if !tells(t, said, fresh) {
			out.Silent = append(out.Silent, string(t.Region))
		}
	}
	slices.Sort(out.Silent)
	return out
}

// tells reports whether a region is known to have told all: those who said so are
// most owners of each partition, or all its nodes are new.
func tells(t *topology.Topology, said, fresh map[topology.NodeID]bool) bool {
	if !slices.ContainsFunc(t.Present(), func(id topology.NodeID) bool { return !fresh[id] }) {
		return true
	}
	for p := range t.Table.Partitions() {
		n := 0
		slots := t.Row(hashring.Partition(p)).Slots
		for _, s := range slots {
			if said[s.Serves()] {
				n++
			}
		}
		if n <= len(slots)/2 {
			return false
		}
	}
	return true
}

// AskOrigin asks a node of another region what it knows of one.
func AskOrigin(ctx context.Context, t peer.Transport, id topology.NodeID, region topology.Region) (o Origin, err error) {
	body, err := json.Marshal(order{Origin: string(region)})
	if err != nil {
		return o, err
	}
	b, err := peer.Call(ctx, t, id, peer.Request{Verb: peer.VerbOperate, Timeout: passTimeout, Body: body})
	if err != nil {
		return o, err
	}
	var a answer
	if err := json.Unmarshal(b, &a); err != nil {
		return o, fmt.Errorf("what %s knows of region %s: %w", id, region, err)
	}
	if a.Origin == nil {
		return o, fmt.Errorf("%s does not say what it knows of region %s", id, region)
	}
	o.Actor, o.Epoch = crdt.Actor(a.Origin.Actor), topology.Epoch(a.Origin.Epoch)
	if o.Known, err = regionmap.DecodeKnown(a.Origin.Map); err != nil {
		return o, fmt.Errorf("the map of regions of %s: %w", id, err)
	}
	return o, nil
}

type originAnswer struct {
	Actor uint32
	Epoch uint64
	Map   []byte // regionmap.EncodeKnown
}

// originOf answers AskOrigin.
func (n *Node) originOf(region topology.Region) (*originAnswer, error) {
	t := n.topologyOf(region)
	if t == nil {
		return nil, fmt.Errorf("there is no region %q", region)
	}
	a := &originAnswer{Epoch: uint64(t.Epoch), Map: regionmap.EncodeKnown(n.RegionMap())}
	take := func(c *crdt.Clock) {
		for _, actor := range c.Actors() {
			if actor.Region() == uint8(t.RegionID) {
				a.Actor = max(a.Actor, uint32(actor))
			}
		}
	}
	for _, p := range n.replica.Held() {
		if c := n.replica.Clock(p); c != nil {
			take(c)
		}
	}
	if n.fresh != nil {
		for _, c := range n.fresh.Told(string(region)) {
			take(c)
		}
	}
	return a, nil
}
