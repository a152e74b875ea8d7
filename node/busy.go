package node

// busyBacklog is how many groups wait in the queue of a node that is busy to the
// full: a write waits for as many syncs of others before its own.
const busyBacklog = 2

// busy is how busy this node is, 0 to 1, by what waits to be committed: clients'
// writes, and what others coordinate. Whatever repair itself puts there counts
// too, so that it never fills the queue on its own.
func (n *Node) busy() float64 {
	s := n.replica.Commits()
	return busy(s.Backlog())
}

func busy(backlog float64) float64 { return min(max(backlog/busyBacklog, 0), 1) }
