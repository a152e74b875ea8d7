package regions

import (
	"context"
	"strings"

	"github.com/atolldb/atoll/geo/failover"
	"github.com/atolldb/atoll/geo/regionmap"
)

// checkRemove looks at what would be lost for good if a region were removed.
func (s *Steer) checkRemove(ctx context.Context, m *regionmap.Map, p *Plan, lives bool, others []string, add func(bool, string, string, ...any)) {
	region := p.Ask.Region
	kept := s.deps.Kept(region)
	add(len(kept) == 0, "buckets", "kept in %s alone, and lost with it: %d %s", region, len(kept), strings.Join(kept, ", "))
	o := s.operation(p.Ask, failover.Missing{})
	switch last, err := failover.Current(m); {
	case lives:
		add(true, "stopped", "nodes of %s answer: they serve nothing from then on, stop them when it is done", region)
		id := idOf(m, region)
		if c, err := s.deps.Clocks(ctx, region, id); err == nil {
			if seen, err := s.seen(ctx, others, id); err == nil {
				p.Missing = s.tallied(ctx, region, failover.Compare(c.Seen(), seen))
			}
		}
	case err == nil && last != nil && last.Ended && !last.Aborted && last.Region == region && last.Kind == failover.Switchover:
		p.Missing = failover.Missing{Counted: true} // the others had all of it then, and it took no more
	default:
		p.Missing = s.missing(ctx, m, &o, others)
	}
	add(p.Missing.Counted && p.Missing.Writes == 0, "lost", "%d writes of %s are known to be missing, counted: %v; they are lost for good then", p.Missing.Writes, region, p.Missing.Counted)
}
