package hashring

import (
	"errors"
	"fmt"
	"math/bits"
)

// Bounds that Plan and Optimum check.
const (
	MaxPartitions = 1 << 16
	MaxReplicas   = 32
	MaxMembers    = 2048
	MaxWeight     = 1 << 20
)

// ZonePolicy says how far racks may bend the balance of nodes.
type ZonePolicy uint8

const (
	// Strict keeps the owners of a partition in distinct racks while there
	// are as many racks as replicas, whatever that does to the balance: with
	// three replicas in three racks each rack holds one copy of everything,
	// so the only node of a rack holds all of it.
	Strict ZonePolicy = iota
	// Balanced is Strict until some node would hold more than 1.25 times its
	// part by weight. Then a rack may hold more of a partition's owners, as
	// few as bring the excess below that, and never all of them: with three
	// replicas two racks then suffice.
	Balanced
)

func (z ZonePolicy) String() string {
	switch z {
	case Strict:
		return "strict"
	case Balanced:
		return "balanced"
	}
	return fmt.Sprintf("ZonePolicy(%d)", uint8(z))
}

// ParseZonePolicy reads "strict" or "balanced"; "" is strict.
func ParseZonePolicy(s string) (ZonePolicy, error) {
	switch s {
	case "", "strict":
		return Strict, nil
	case "balanced":
		return Balanced, nil
	}
	return 0, fmt.Errorf("zone policy %q: want strict or balanced", s)
}

// Rules are what a table must satisfy. They are fixed for a ring but for
// Replicas and ZonePolicy, which a plan may change.
type Rules struct {
	Partitions int // a power of two, 1..65536; never changes once a ring holds data
	Replicas   int // owners per partition, 1..32; fewer members give fewer owners
	ZonePolicy ZonePolicy
}

// Validate reports every violated bound at once.
func (r Rules) Validate() error {
	var errs []error
	if r.Partitions < 1 || r.Partitions > MaxPartitions || bits.OnesCount(uint(r.Partitions)) != 1 {
		errs = append(errs, fmt.Errorf("partitions %d: want a power of two in 1..%d", r.Partitions, MaxPartitions))
	}
	if r.Replicas < 1 || r.Replicas > MaxReplicas {
		errs = append(errs, fmt.Errorf("replicas %d: want 1..%d", r.Replicas, MaxReplicas))
	}
	if r.ZonePolicy > Balanced {
		errs = append(errs, fmt.Errorf("zone policy %d is unknown", r.ZonePolicy))
	}
	return errors.Join(errs...)
}

// validateTable reports why t cannot be the table of a ring of so many
// partitions. Owners that are no members any more are fine.
func validateTable(t Table, partitions int) error {
	if t.Partitions() == 0 {
		return nil
	}
	if t.Partitions() != partitions {
		return fmt.Errorf("current table has %d partitions, the rules %d: the count of a ring never changes", t.Partitions(), partitions)
	}
	for p, owners := range t.All() {
		for i, id := range owners {
			if id == "" {
				return fmt.Errorf("current table: partition %d has an owner without a name", p)
			}
			for _, other := range owners[:i] {
				if other == id {
					return fmt.Errorf("current table: partition %d names %s twice", p, id)
				}
			}
		}
	}
	return nil
}
