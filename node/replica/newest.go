package replica

// newest tells where in the outbox's list of what is fresh the last event of a key
// is: the one that keeps the key's record. The zero value is empty.
type newest struct {
	seq  map[string]int
	base int // how many items were taken from the front of the list
}

// put says that the key's last event is at i of the list.
func (n *newest) put(key []byte, i int) {
	if n.seq == nil {
		n.seq = map[string]int{}
	}
	n.seq[string(key)] = n.base + i
}

// at returns where the key's last event is.
func (n *newest) at(key []byte) (int, bool) {
	seq, ok := n.seq[string(key)]
	return seq - n.base, ok
}

// gone says that the list's first item, of that key, is taken from it.
func (n *newest) gone(key []byte) {
	if n.seq[string(key)] == n.base {
		delete(n.seq, string(key))
	}
	n.base++
}
