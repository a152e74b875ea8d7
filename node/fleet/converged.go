package fleet

import (
	"fmt"

	"github.com/atolldb/atoll/hashring"
	"github.com/atolldb/atoll/node/topology"
	"github.com/atolldb/atoll/node/wire"
)

// Converged returns nil when all owners in all regions have equal clocks, and
// equal digests of what their regions have in common, else an error that names the
// first difference. While writes go on it hardly ever does.
func (f *Fleet) Converged() error {
	type common struct {
		p    hashring.Partition
		a, b topology.Region // in order
	}
	first := map[common]wire.Sum{}
	clocks := map[hashring.Partition]uint64{}
	for _, id := range f.order {
		p := f.Process(id)
		if p == nil {
			return fmt.Errorf("node %s is down", id)
		}
		n := p.Node()
		if n == nil {
			return fmt.Errorf("node %s is starting", id)
		}
		for _, part := range n.Replica().Owned() {
			here := n.Topology().Region
			for _, region := range f.cfg.Regions {
				by := wire.Afar{}
				if region != here {
					by = n.Replica().Afar(region)
					by.Region = string(region)
				}
				sum, known := n.Replica().SumFor(part, by)
				at := common{part, min(here, region), max(here, region)}
				if was, ok := first[at]; !known || ok && was != sum {
					return fmt.Errorf("partition %d of node %s differs", part, id)
				}
				if was, ok := clocks[part]; ok && was != sum.Clock {
					return fmt.Errorf("clock of partition %d of node %s differs", part, id)
				}
				first[at], clocks[part] = sum, sum.Clock
			}
		}
	}
	return nil
}
