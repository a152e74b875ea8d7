package process

import "github.com/atolldb/atoll/node/topology"

// CloseStore closes the engine under the node, as a crash would end it.
func (p *Process) CloseStore() { _ = p.store.Close() }

// Find returns where another node is, "" if it is not known.
func (p *Process) Find(id topology.NodeID) string {
	addr, _ := p.world.addrOf(id)
	return addr
}

// Waits is what the start waits for.
func (p *Process) Waits() string {
	if why := p.waits.Load(); why != nil {
		return *why
	}
	return ""
}
