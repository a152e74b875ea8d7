package process

// CloseStore closes the engine under the node, as a crash would end it.
func (p *Process) CloseStore() { _ = p.store.Close() }
