package client

import (
	atollv1 "github.com/atolldb/atoll/proto/atoll/v1"
)

// RegionCount is Regions' option.
type RegionCount uint32

// Regions asks for n regions, 1 or more, to take part, the one that the client is connected
// to among them, whatever the level says of regions: each with as many owners as
// the level, or R and W, say.
func Regions(n int) RegionCount { return RegionCount(countOf(n)) }

func (n RegionCount) applyRead(c *readConfig)   { c.regions = uint32(n) }
func (n RegionCount) applyWrite(c *writeConfig) { c.regions = uint32(n) }
func (n RegionCount) applyUpdate(r *readConfig, w *writeConfig) {
	r.regions, w.regions = uint32(n), uint32(n)
}

// leaves reports whether a level, or a number of regions, has the node wait for
// other regions.
func leaves(l Level, regions uint32) bool {
	return l == Quorum || l == EachQuorum || l == All || regions > 1
}

// RegionState is how far a region took part in an operation.
type RegionState uint8

// The states.
const (
	RegionReached RegionState = RegionState(atollv1.RegionAchieved_STATE_REACHED) // it has the write, or answered the read
	RegionFailed  RegionState = RegionState(atollv1.RegionAchieved_STATE_FAILED)  // it could not, or nobody there can be reached
	RegionUnknown RegionState = RegionState(atollv1.RegionAchieved_STATE_UNKNOWN) // not heard from in time; it may have the write
)

func (s RegionState) String() string {
	switch s {
	case RegionReached:
		return "reached"
	case RegionFailed:
		return "failed"
	}
	return "unknown"
}

// RegionInfo is what a region had to do with an operation.
type RegionInfo struct {
	Region string
	State  RegionState
	// Replicas there that have the write or took part in the read, as far as it is
	// known, and how many it takes; 0 where nothing was heard.
	Replicas, Needed int
	// Detail of a failure, for people.
	Detail string
}

func regionInfos(list []*atollv1.RegionAchieved) []RegionInfo {
	var out []RegionInfo
	for _, g := range list {
		out = append(out, RegionInfo{
			Region: g.GetRegion(), State: RegionState(g.GetState()),
			Replicas: int(g.GetReplicas()), Needed: int(g.GetNeeded()), Detail: g.GetDetail(),
		})
	}
	return out
}

// Regions says which regions have a write whose error is ErrPartial, and which
// are not known to have it.
func (e *Error) Regions() []RegionInfo {
	return regionInfos(e.applied.GetAchieved().GetRegions())
}

// partial is the version of a write that is applied though err says that it is
// not where it should be, and tells info.
func (c *Client) partial(err *Error, key string, info *Info, attempts int) Version {
	if err.applied == nil {
		return Version{}
	}
	var id RequestID
	if info != nil {
		id = info.RequestID
	}
	info.fill(attempts, err.applied.GetAchieved())
	info.wrote(id, err.applied.GetReplayed(), err.applied.GetMaybeDuplicate())
	return Version{bucket: c.bucket, key: key, context: string(err.applied.GetContext())}
}
