package node

import (
	"slices"
	"time"

	"github.com/atolldb/atoll/node/liveness"
	"github.com/atolldb/atoll/node/topology"
)

// Nodes of other regions are watched by a detector of their own: the way to them
// is longer, so that its patience is, and nobody there is slow by the measure of
// this region. It serves requests that cross regions, which are refused early, or
// give up, when nobody is left to ask.

// farPing bounds the wait for a ping across regions.
const farPing = 2 * time.Second

func (n *Node) watchAfar() *liveness.Detector {
	return liveness.New(liveness.Config{
		Self: n.cfg.ID, Transport: n.deps.Transport, Nodes: n.afarNodes, PingTimeout: farPing,
		Rand: n.chance(), Logger: n.deps.Logger.Named("liveness").Named("afar"),
	})
}

// afarNodes are the nodes of the other regions that have not left them.
func (n *Node) afarNodes() (ids []topology.NodeID) {
	for _, t := range n.deps.Others.All() {
		ids = append(ids, t.Present()...)
	}
	return slices.DeleteFunc(ids, func(id topology.NodeID) bool { return id == n.cfg.ID })
}

// up is this node's opinion of a node of whatever region.
func (n *Node) up(id topology.NodeID) bool { return n.alive.Alive(id) && n.afar.Alive(id) }

// observe learns from how a request to a node of whatever region ended.
// HeardLate says that a node answered a request that was given up already: a node
// that has too much to do answers nothing in time, and to take it for dead would
// leave all of its work to others that have too much to do as well.
func (n *Node) HeardLate(id topology.NodeID) { n.observe(id, nil) }

func (n *Node) observe(id topology.NodeID, err error) {
	n.alive.Observe(id, err)
	n.afar.Observe(id, err)
}
