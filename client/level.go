package client

import (
	"fmt"
	"slices"
	"strings"

	atollv1 "github.com/atolldb/atoll/proto/atoll/v1"
)

// Level says who takes part. What is called Local never leaves the serving
// region, Each means every region, and Quorum is a quorum of regional quorums,
// not a majority of all replicas. A read at R and a write at W see each other when R + W is more
// than the number of owners, as LocalQuorum and LocalQuorum do.
type Level uint8

// The levels. Without one, LocalQuorum.
const (
	LocalOne    = Level(atollv1.Level_LEVEL_LOCAL_ONE)
	LocalTwo    = Level(atollv1.Level_LEVEL_LOCAL_TWO)
	LocalThree  = Level(atollv1.Level_LEVEL_LOCAL_THREE)
	LocalQuorum = Level(atollv1.Level_LEVEL_LOCAL_QUORUM)
	LocalAll    = Level(atollv1.Level_LEVEL_LOCAL_ALL)
	Quorum      = Level(atollv1.Level_LEVEL_QUORUM)
	EachQuorum  = Level(atollv1.Level_LEVEL_EACH_QUORUM)
	All         = Level(atollv1.Level_LEVEL_ALL)
	LocalSerial = Level(atollv1.Level_LEVEL_LOCAL_SERIAL)
	Serial      = Level(atollv1.Level_LEVEL_SERIAL)
)

var levelNames = []string{"default", "local-one", "local-two", "local-three", "local-quorum", "local-all", "quorum", "each-quorum", "all", "local-serial", "serial"}

func (l Level) String() string {
	if int(l) < len(levelNames) {
		return levelNames[l]
	}
	return fmt.Sprintf("level(%d)", uint8(l))
}

// ParseLevel returns the level of a name as String gives it.
func ParseLevel(name string) (Level, error) {
	if i := slices.Index(levelNames, name); i >= 0 {
		return Level(i), nil
	}
	return 0, fmt.Errorf("unknown consistency level %q: one of %s", name, strings.Join(levelNames[1:], ", "))
}
