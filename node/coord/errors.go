package coord

import (
	"fmt"
	"strconv"

	"github.com/atolldb/atoll/crdt"
	"github.com/atolldb/atoll/node/topology"
)

// Code says why an operation failed. It is a closed set; the numbers are wire
// format.
type Code uint8

// The codes.
const (
	CodeInvalid         Code = 1
	CodeUnavailable     Code = 2 // not enough owners answered
	CodeOverloaded      Code = 4
	CodeDiskFull        Code = 5
	CodeTooManySiblings Code = 6
	CodeCorrupt         Code = 7
	CodeClockSkew       Code = 8
	CodeBadContext      Code = 9
	CodeNoBucket        Code = 10
	CodeInternal        Code = 11
	CodeStopping        Code = 12
	CodeDeadline        Code = 13
	CodePartial         Code = 14 // applied here, and not known to be in all regions asked for
	CodeConditionFailed Code = 15
	CodeSessionBehind   Code = 16
	CodeSessionLost     Code = 17
	CodeBadSession      Code = 18
	CodeStale           Code = 19 // older than the reader allows
	CodeRegionFenced    Code = 20
	CodeLevelNotAllowed Code = 21
	CodeContextAhead    Code = 22
	CodeContextRequired Code = 23
	CodeNoVersion       Code = 24
	CodeBucketExists    Code = 25
	CodeRevision        Code = 26 // a change was based on what is not the newest
)

// Outcome says what became of a write.
type Outcome uint8

// The outcomes of an operation that returned an error.
const (
	// NotApplied: the write has no effect anywhere, now or later. It is the
	// outcome of every failed read.
	NotApplied Outcome = 0
	// Unknown: some owner may have it, and then all will.
	Unknown Outcome = 1
	// Applied: it holds in the serving region, and what failed is the wait for
	// others. Only with CodePartial.
	Applied Outcome = 2
)

func (o Outcome) String() string {
	switch o {
	case Unknown:
		return "unknown"
	case Applied:
		return "applied"
	}
	return "not_applied"
}

// Error is how an operation fails.
type Error struct {
	Code    Code
	Outcome Outcome
	Detail  string
	// Field, Limit and Seen describe bad input: what was wrong, what is
	// allowed, what came.
	Field, Limit, Seen string
	// Needed is how many owners it took and Acks how many answered, where
	// that is why the operation failed.
	Needed, Acks int
	// Missing is how many writes that the session knows were not there, and
	// MissingFrom the regions that made them, for CodeSessionBehind; for
	// CodeSessionLost those that are lost for good, and Session is the token with
	// which the session goes on without them.
	Missing     uint64
	MissingFrom []topology.Region
	Session     []byte
	// Lacks says what too few of answered where it is not owners in one region.
	Lacks Lack
	// RetryAfterMs is a hint, 0 for none.
	RetryAfterMs int
	// RegionMap is, for CodeRegionFenced, the number of the map of regions that has
	// this region out of service; 0 where the map does not say so.
	RegionMap uint64
	// Current is what is there, for CodeConditionFailed.
	Current *GetResult
	// Applied is what the write achieved, for CodePartial.
	Applied *PutResult
	// MaybeDuplicate: the outcome of a retry is not known, and somebody who could
	// have taken the earlier attempt was not asked: if both had an effect the write
	// is there twice.
	MaybeDuplicate bool
	// again says that another owner may do better, stale that the node that was
	// asked to mint may not, by what it knows. Both are NotApplied, and between
	// coordinators only.
	// newcomer: it may not mint a first attempt; see replica.ErrNewcomer.
	again, stale, newcomer bool
	// nowhere: this node knows of no home region of the bucket, perhaps not yet.
	nowhere bool
	// certain: that a retry was not applied is said of the request, by all its
	// owners.
	certain bool
	// current is the record of Current, and lost what is told of by
	// CodeSessionLost, between coordinators.
	current []byte
	lost    *crdt.Clock
}

// Lack is what too few of answered.
type Lack uint8

// What may be lacking, so that whoever asked is told what helps: to ask fewer owners does
// not.
const (
	LackOwners  Lack = iota // of one region, or nothing at all
	LackRegions             // of those that the level counts
	LackHome                // of the bucket: no node of it could be asked, or its lease has run out
)

func (e *Error) Error() string {
	s := e.Detail
	if e.Field != "" {
		s += fmt.Sprintf(" (field %s: limit %s, seen %s)", e.Field, e.Limit, e.Seen)
	}
	if e.Outcome == Unknown {
		s += " (outcome unknown: the write may have been applied)"
	}
	return s
}

// unknown reports whether e says that this node does not know of what may be
// there by now: a bucket, or its home.
func (e *Error) unknown() bool { return e != nil && (e.Code == CodeNoBucket || e.nowhere) }

// invalid is bad input: field, what is allowed, what came.
func invalid(field, limit, seen, detail string) *Error {
	return &Error{Code: CodeInvalid, Detail: detail, Field: field, Limit: limit, Seen: seen}
}

func invalidSize(field string, limit, seen int) *Error {
	detail := field + " is too large"
	if seen == 0 {
		detail = field + " is empty"
		return invalid(field, "1.."+strconv.Itoa(limit)+" bytes", "0 bytes", detail)
	}
	return invalid(field, strconv.Itoa(limit)+" bytes", strconv.Itoa(seen)+" bytes", detail)
}
