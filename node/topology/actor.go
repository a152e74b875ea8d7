package topology

import (
	"fmt"

	"github.com/atolldb/atoll/crdt"
)

// maxSeq is the last actor that a region can allocate; those above name no node.
const maxSeq = crdt.BallotEpochs - 1

// NextActor returns the actor to allocate after last, the highest sequence the
// registry has handed out, and floor, the highest actor of the region that the
// asking node has seen (0: none). Registries use it.
func NextActor(region RegionID, last uint32, floor crdt.Actor) (crdt.Actor, error) {
	if floor != 0 && floor.Region() != uint8(region) {
		return 0, fmt.Errorf("floor %s is not an actor of region %d", floor, region)
	}
	seq := max(last, floor.Seq())
	if seq >= maxSeq {
		return 0, fmt.Errorf("region %d has no actors left", region)
	}
	return crdt.MakeActor(seq+1, uint8(region)), nil
}
