package repair

import (
	"sync"

	"github.com/atolldb/atoll/hashring"
	"github.com/atolldb/atoll/node/topology"
)

// met notes of which partitions this node has had all that another node had.
// That counts for the state in which it was seen: when the partition's row has
// changed, or this node has fallen behind anew, all have to be met again.
type met struct {
	mu sync.Mutex
	at map[topology.NodeID]map[hashring.Partition]meeting
}

type meeting struct {
	since topology.Epoch // of the partition
	mark  uint64         // see replica.BehindMark
}

func (m *met) note(id topology.NodeID, p hashring.Partition, at meeting) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.at == nil {
		m.at = map[topology.NodeID]map[hashring.Partition]meeting{}
	}
	if m.at[id] == nil {
		m.at[id] = map[hashring.Partition]meeting{}
	}
	m.at[id][p] = at
}

func (m *met) forget(id topology.NodeID) {
	m.mu.Lock()
	defer m.mu.Unlock()
	delete(m.at, id)
}

// all reports whether all of the nodes, self excepted, were met so.
func (m *met) all(ids []topology.NodeID, self topology.NodeID, p hashring.Partition, at meeting) bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	for _, id := range ids {
		if id == self {
			continue
		}
		if was, ok := m.at[id][p]; !ok || was != at {
			return false
		}
	}
	return true
}

// hasAll reports whether this node has had all of p that any other server of it
// had, since it fell behind with that mark: or those that answer, where that is
// enough (see replica.MayAnswer).
func (r *Repairer) hasAll(top *topology.Topology, p hashring.Partition, mark uint64) bool {
	ids, at := servers(top, p), meeting{top.SinceOf(p), mark}
	if r.met.all(ids, r.cfg.Self, p, at) {
		return true
	}
	if !r.Replica.MayAnswer(p, mark) {
		return false
	}
	var up []topology.NodeID
	for _, id := range ids {
		if id == r.cfg.Self || r.Alive(id) {
			up = append(up, id)
		}
	}
	return 2*len(up) > len(ids) && r.met.all(up, r.cfg.Self, p, at)
}
