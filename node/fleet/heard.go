package fleet

import "fmt"

// Heard returns nil when all nodes that run hear all other regions, else an error that
// names the first that does not.
func (f *Fleet) Heard() error {
	for _, id := range f.Nodes() {
		p := f.Process(id)
		if p == nil {
			continue
		}
		n := p.Node()
		if n == nil {
			return fmt.Errorf("node %s is starting", id)
		}
		links, _ := n.Lag()
		for _, l := range links {
			if !l.Alive {
				return fmt.Errorf("node %s has not heard region %s", id, l.Origin)
			}
		}
	}
	return nil
}
