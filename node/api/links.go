package api

import (
	"context"
	"time"

	"github.com/atolldb/atoll/geo"
	"github.com/atolldb/atoll/hashring"
	"github.com/atolldb/atoll/node/topology"
)

// Links knows what regions lack of each other.
type Links interface {
	// Lag of all pairs of regions, as the nodes of either count it. Nodes that do
	// not answer are named, and left out.
	Lag(ctx context.Context) (Lag, error)
	// Verify compares all partitions of two regions. An error is a *coord.Error, or
	// that of asking.
	Verify(ctx context.Context, s VerifyScope) (Verified, error)
}

// Lag of all pairs of regions.
type Lag struct {
	Links  []Link
	Silent []topology.NodeID
}

// Link is one direction between two regions as one of the two sees it.
type Link struct {
	SeenBy topology.Region
	geo.LagReport
	// CompleteAsOf is up to when the destination has everything, by the origin's
	// clocks; zero for not known, and for what the origin sees.
	CompleteAsOf time.Time
	// NeedFullSync are the nodes of the origin whose index keeps no more what the
	// destination lacks; none for what the destination sees.
	NeedFullSync []topology.NodeID
}

// VerifyScope says what is compared.
type VerifyScope struct {
	A, B topology.Region
	// Deep counts digests anew from the disks.
	Deep bool
	// Wait is how long partitions that differ are looked at again; 0 for once.
	Wait time.Duration
}

// Verified is what was found.
type Verified struct {
	Began             time.Time
	Took              time.Duration
	Partitions, Equal int
	Others            []Verdict
}

// VerdictKind says what is the matter with a partition.
type VerdictKind uint8

// The kinds, as in the protocol.
const (
	Behind  VerdictKind = iota + 1 // owners have not received the same writes
	Differs                        // they have, and hold different records
	Silent                         // one did not answer, or is not known
)

// Verdict on a partition that is not equal.
type Verdict struct {
	Partition hashring.Partition
	Kind      VerdictKind
	// MissingInA counts dots that owners in B have and none in A.
	MissingInA, MissingInB uint64
	// Nodes that do not hold what most do, or are silent.
	Nodes []topology.NodeID
}
