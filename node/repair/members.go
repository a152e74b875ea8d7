package repair

import (
	"github.com/atolldb/atoll/hashring"
	"github.com/atolldb/atoll/node/topology"
)

// keeps reports whether id answers for p, or has done so until the last stage
// of a move began.
func keeps(t *topology.Topology, p hashring.Partition, id topology.NodeID) bool {
	role := t.Role(p, id)
	return role == topology.Serving || role == topology.Parting
}

// peersOf returns the nodes that self compares itself with, and the partitions
// with each: those that self keeps and the other takes writes of. An owner that
// is still to be is one of them: it may have got a write that nobody else has.
func peersOf(t *topology.Topology, self topology.NodeID) map[topology.NodeID][]hashring.Partition {
	out := map[topology.NodeID][]hashring.Partition{}
	for p := range hashring.Partition(t.Table.Partitions()) {
		if !keeps(t, p, self) {
			continue
		}
		for _, id := range t.Takers(p) {
			if id != self {
				out[id] = append(out[id], p)
			}
		}
	}
	return out
}

// servers of p: who answers reads for its slots.
func servers(t *topology.Topology, p hashring.Partition) []topology.NodeID {
	slots := t.Row(p).Slots
	out := make([]topology.NodeID, len(slots))
	for i, s := range slots {
		out[i] = s.Serves()
	}
	return out
}
