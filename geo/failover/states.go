package failover

import (
	"fmt"
	"strings"

	"github.com/atolldb/atoll/geo/regionmap"
)

// StateDiagram draws which operations can begin for a region in which state, and through
// which states each then takes it when nobody aborts it.
func StateDiagram() string {
	var b strings.Builder
	for s := regionmap.Active; s <= regionmap.Rebuilding; s++ {
		from := s.String()
		for k := Switchover; k <= Rebuild; k++ {
			if !begins(k, s) {
				continue
			}
			fmt.Fprintf(&b, "%-10s  %-10s", from, k)
			for _, stage := range Stages(k) {
				if stage.State != 0 && stage.State != s {
					fmt.Fprintf(&b, " -> %s", stage.State)
				}
			}
			b.WriteByte('\n')
			from = ""
		}
		if from != "" {
			fmt.Fprintf(&b, "%-10s  nothing, for ever\n", from)
		}
	}
	return b.String()
}

// begins reports whether an operation of a kind begins for a region in a state, where two
// others are in service.
func begins(k Kind, s regionmap.State) bool {
	m := regionmap.First([]regionmap.Region{{Name: "subject", ID: 1}, {Name: "other", ID: 2}, {Name: "third", ID: 3}})
	m.Regions[0].State = s
	return Begin(m, Operation{Kind: k, Region: "subject", To: "other", By: "other"}) == nil
}
