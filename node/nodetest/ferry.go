package nodetest

import (
	"github.com/atolldb/atoll/crdt"
	"github.com/atolldb/atoll/geo"
	"github.com/atolldb/atoll/geo/memlog"
)

// What crosses between regions is watched at the logs themselves: G1, a region ships
// what its own nodes minted and nothing else; G2, what a region acknowledges a quorum
// of its owners has.

func (d *disasters) ferry() memlog.Observer {
	return memlog.Observer{Appended: d.appended, Handled: d.handled}
}

func (d *disasters) appended(region string, b geo.Batch) {
	entries, err := geo.DecodeBatch(b.Data, b.Header.Codec)
	if err != nil {
		d.found("G1: the log of %s takes what cannot be read: %v", region, err)
		return
	}
	own := uint8(d.w.regionOf(region) + 1)
	for _, e := range entries {
		for _, dot := range e.Dots {
			if dot.Actor.Region() != own {
				d.found("G1: %s ships %v of partition %d, which is not its own", region, dot, e.Partition)
				return
			}
		}
	}
}

// handled is told of an acknowledgement. A node that is down may be one of those that
// had taken it.
func (d *disasters) handled(origin, dst string, b geo.Batch) {
	entries, err := geo.DecodeBatch(b.Data, b.Header.Codec)
	if err != nil {
		return
	}
	r := d.w.regionOf(dst)
	for _, e := range entries {
		if e.To != "" && e.To != dst {
			continue
		}
		n := 0
		for _, m := range d.w.nodes[r*d.w.shape.Nodes:][:d.w.shape.Nodes] {
			if up := m.running.Load(); up == nil || hasAll(up.node.Replica().Clock(e.Partition), e.Dots) {
				n++
			}
		}
		if n < 2 {
			d.found("G2: %s acknowledges %v of partition %d of %s, which %d of its owners have", dst, e.Dots, e.Partition, origin, n)
			return
		}
	}
}

func hasAll(c *crdt.Clock, dots []crdt.Dot) bool {
	for _, dot := range dots {
		if c == nil || !c.Contains(dot) {
			return false
		}
	}
	return true
}
