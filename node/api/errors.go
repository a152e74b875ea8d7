package api

import (
	"encoding/base64"
	"errors"
	"strconv"
	"strings"
	"time"

	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/types/known/durationpb"

	"github.com/atolldb/atoll/node/coord"
	"github.com/atolldb/atoll/node/topology"
	atollv1 "github.com/atolldb/atoll/proto/atoll/v1"
)

// An error crosses the rim in one of two forms that say the same: a gRPC
// status with google.rpc.ErrorInfo and RetryInfo, or an atollv1.Error as one
// item of a batch or a stream. Its reason is the coord code's name, with one
// exception: a write whose outcome is unknown always has the reason
// UNKNOWN_OUTCOME, and the code's name as the metadatum "cause". Its gRPC code
// is Unknown (or DeadlineExceeded), never Unavailable: generic clients retry
// Unavailable, and a write that may have been applied must not be retried
// blindly.

const errorDomain = "atoll"

// The keys of an error's metadata.
const (
	metaField   = "field"
	metaLimit   = "limit"
	metaSeen    = "seen"
	metaOutcome = "outcome"
	metaCause   = "cause"
	metaNeeded  = "needed"
	metaAcks    = "acks"
	metaTwice   = "maybe_duplicate" // "true" or left out
	// How many writes are missing, and which regions made them, with commas.
	metaMissing     = "missing"
	metaMissingFrom = "missing_from"
	// The token with which a session goes on without what is lost, as base64 (URL,
	// not padded).
	metaSession = "session"
	// The number of the map of regions that has this region out of service.
	metaRegionMap = "region_map"
	// What too few of answered, where it is not owners: see lacks.
	metaLacks = "lacks"
)

// lacks are the names of what may be lacking.
var lacks = map[coord.Lack]string{coord.LackRegions: "regions", coord.LackHome: "home"}

// rim is how each coord code looks from outside.
var rim = map[coord.Code]struct {
	reason atollv1.Reason
	code   codes.Code
}{
	coord.CodeInvalid:         {atollv1.Reason_REASON_INVALID, codes.InvalidArgument},
	coord.CodeUnavailable:     {atollv1.Reason_REASON_UNAVAILABLE, codes.Unavailable},
	coord.CodeOverloaded:      {atollv1.Reason_REASON_OVERLOADED, codes.ResourceExhausted},
	coord.CodeDiskFull:        {atollv1.Reason_REASON_DISK_FULL, codes.ResourceExhausted},
	coord.CodeTooManySiblings: {atollv1.Reason_REASON_TOO_MANY_SIBLINGS, codes.FailedPrecondition},
	coord.CodeCorrupt:         {atollv1.Reason_REASON_CORRUPT, codes.DataLoss},
	coord.CodeClockSkew:       {atollv1.Reason_REASON_CLOCK_SKEW, codes.Unavailable}, // of one node; another may do
	coord.CodeBadContext:      {atollv1.Reason_REASON_BAD_CONTEXT, codes.InvalidArgument},
	coord.CodeNoBucket:        {atollv1.Reason_REASON_NO_BUCKET, codes.NotFound},
	coord.CodeInternal:        {atollv1.Reason_REASON_INTERNAL, codes.Internal},
	coord.CodeStopping:        {atollv1.Reason_REASON_STOPPING, codes.Unavailable},
	coord.CodeDeadline:        {atollv1.Reason_REASON_DEADLINE, codes.DeadlineExceeded},
	coord.CodePartial:         {atollv1.Reason_REASON_PARTIAL, codes.Aborted},
	coord.CodeConditionFailed: {atollv1.Reason_REASON_CONDITION_FAILED, codes.FailedPrecondition},
	coord.CodeSessionBehind:   {atollv1.Reason_REASON_SESSION_BEHIND, codes.Unavailable}, // here; another owner may do
	coord.CodeSessionLost:     {atollv1.Reason_REASON_SESSION_LOST, codes.FailedPrecondition},
	coord.CodeBadSession:      {atollv1.Reason_REASON_BAD_SESSION, codes.InvalidArgument},
	coord.CodeStale:           {atollv1.Reason_REASON_STALE, codes.Unavailable},
	coord.CodeRegionFenced:    {atollv1.Reason_REASON_REGION_FENCED, codes.Unavailable},
	coord.CodeLevelNotAllowed: {atollv1.Reason_REASON_LEVEL_NOT_ALLOWED, codes.InvalidArgument},
	coord.CodeContextAhead:    {atollv1.Reason_REASON_CONTEXT_AHEAD, codes.Unavailable},
	coord.CodeContextRequired: {atollv1.Reason_REASON_CONTEXT_REQUIRED, codes.FailedPrecondition},
	coord.CodeNoVersion:       {atollv1.Reason_REASON_NO_VERSION, codes.NotFound},
	coord.CodeBucketExists:    {atollv1.Reason_REASON_BUCKET_EXISTS, codes.AlreadyExists},
	coord.CodeRevision:        {atollv1.Reason_REASON_REVISION_MISMATCH, codes.Aborted},
}

// classify makes a coord.Error of what a coordinator returned. An error that
// says nothing of a write's outcome leaves it unknown.
func classify(err error, write bool) *coord.Error {
	var e *coord.Error
	if errors.As(err, &e) {
		if _, known := rim[e.Code]; known {
			return e
		}
	}
	out := &coord.Error{Code: coord.CodeInternal, Detail: err.Error()}
	if write {
		out.Outcome = coord.Unknown
	}
	return out
}

// ToProto is e as an item of a batch or a stream.
func ToProto(e *coord.Error) *atollv1.Error {
	r := rim[e.Code]
	w := &atollv1.Error{
		Code:    uint32(r.code),
		Message: e.Error(),
		Reason:  r.reason,
		Outcome: e.Outcome.String(),
	}
	if e.RetryAfterMs > 0 {
		w.RetryAfterMs = uint32(e.RetryAfterMs)
	}
	set := func(k, v string) {
		if v == "" {
			return
		}
		if w.Metadata == nil {
			w.Metadata = make(map[string]string)
		}
		w.Metadata[k] = v
	}
	set(metaField, e.Field)
	set(metaLimit, e.Limit)
	set(metaSeen, e.Seen)
	if e.Needed > 0 {
		set(metaNeeded, strconv.Itoa(e.Needed))
		set(metaAcks, strconv.Itoa(e.Acks))
	}
	if e.Missing > 0 {
		set(metaMissing, strconv.FormatUint(e.Missing, 10))
	}
	set(metaMissingFrom, strings.Join(regionNames(e.MissingFrom), ","))
	set(metaSession, base64.RawURLEncoding.EncodeToString(e.Session))
	if e.RegionMap > 0 {
		set(metaRegionMap, strconv.FormatUint(e.RegionMap, 10))
	}
	set(metaLacks, lacks[e.Lacks])
	if e.MaybeDuplicate {
		set(metaTwice, "true")
	}
	if e.Outcome == coord.Unknown {
		set(metaCause, reasonName(r.reason))
		w.Reason = atollv1.Reason_REASON_UNKNOWN_OUTCOME
		if r.code != codes.DeadlineExceeded {
			w.Code = uint32(codes.Unknown)
		}
	}
	return w
}

func regionNames(regions []topology.Region) []string {
	out := make([]string, len(regions))
	for i, g := range regions {
		out[i] = string(g)
	}
	return out
}

// FromProto is the inverse of ToProto, but that the message, which repeats the
// fields, becomes the detail. Reasons of a newer server are CodeInternal.
func FromProto(w *atollv1.Error) *coord.Error {
	e := &coord.Error{
		Code:         coord.CodeInternal,
		Detail:       w.Message,
		Field:        w.Metadata[metaField],
		Limit:        w.Metadata[metaLimit],
		Seen:         w.Metadata[metaSeen],
		RetryAfterMs: int(w.RetryAfterMs),
	}
	e.MaybeDuplicate = w.Metadata[metaTwice] == "true"
	e.Needed, _ = strconv.Atoi(w.Metadata[metaNeeded])
	e.Acks, _ = strconv.Atoi(w.Metadata[metaAcks])
	e.Missing, _ = strconv.ParseUint(w.Metadata[metaMissing], 10, 64)
	e.RegionMap, _ = strconv.ParseUint(w.Metadata[metaRegionMap], 10, 64)
	if token, err := base64.RawURLEncoding.DecodeString(w.Metadata[metaSession]); err == nil && len(token) > 0 {
		e.Session = token
	}
	if from := w.Metadata[metaMissingFrom]; from != "" {
		for _, g := range strings.Split(from, ",") {
			e.MissingFrom = append(e.MissingFrom, topology.Region(g))
		}
	}
	for l, name := range lacks {
		if w.Metadata[metaLacks] == name {
			e.Lacks = l
		}
	}
	reason := w.Reason
	if reason == atollv1.Reason_REASON_UNKNOWN_OUTCOME {
		e.Outcome = coord.Unknown
		reason = parseReason(w.Metadata[metaCause])
	}
	if w.Outcome == coord.Applied.String() {
		e.Outcome = coord.Applied
	}
	for c, r := range rim {
		if r.reason == reason {
			e.Code = c
		}
	}
	return e
}

// ToStatus is e as the status of a unary call or of a whole stream.
func ToStatus(e *coord.Error) *status.Status {
	w := ToProto(e)
	info := &errdetails.ErrorInfo{Domain: errorDomain, Reason: reasonName(w.Reason), Metadata: w.Metadata}
	if info.Metadata == nil {
		info.Metadata = make(map[string]string)
	}
	info.Metadata[metaOutcome] = w.Outcome
	st := status.New(codes.Code(w.Code), w.Message)
	var err error
	if w.RetryAfterMs > 0 {
		delay := durationpb.New(time.Duration(w.RetryAfterMs) * time.Millisecond)
		st, err = st.WithDetails(info, &errdetails.RetryInfo{RetryDelay: delay})
	} else {
		st, err = st.WithDetails(info)
	}
	if err != nil { // only for code OK, which no coord code maps to
		return status.New(codes.Internal, w.Message)
	}
	return st
}

// FromStatus is the inverse of ToStatus. It reports false for a status that
// this package did not make.
func FromStatus(st *status.Status) (*coord.Error, bool) {
	w := &atollv1.Error{Code: uint32(st.Code()), Message: st.Message()}
	found := false
	for _, d := range st.Details() {
		switch d := d.(type) {
		case *errdetails.ErrorInfo:
			if d.Domain != errorDomain {
				continue
			}
			found = true
			w.Reason = parseReason(d.Reason)
			w.Metadata = d.Metadata
			w.Outcome = d.Metadata[metaOutcome]
		case *errdetails.RetryInfo:
			w.RetryAfterMs = uint32(d.RetryDelay.AsDuration().Milliseconds())
		}
	}
	if !found {
		return nil, false
	}
	return FromProto(w), true
}

const reasonPrefix = "REASON_"

func reasonName(r atollv1.Reason) string { return r.String()[len(reasonPrefix):] }

func parseReason(name string) atollv1.Reason {
	return atollv1.Reason(atollv1.Reason_value[reasonPrefix+name])
}

// errorProto is ToProto with what only this service can tell: what is there, or
// what was achieved.
func (w *wire) errorProto(e *coord.Error) *atollv1.Error {
	out := ToProto(e)
	if e.Current != nil {
		out.Current = w.getResponse(*e.Current)
	}
	if e.Applied != nil {
		out.Applied = w.putResponse(*e.Applied)
	}
	return out
}

// errorStatus is ToStatus with the same, as details of their own.
func (w *wire) errorStatus(e *coord.Error) *status.Status {
	st := ToStatus(e)
	var err error
	full := st
	switch {
	case e.Current != nil:
		full, err = st.WithDetails(w.getResponse(*e.Current))
	case e.Applied != nil:
		full, err = st.WithDetails(w.putResponse(*e.Applied))
	}
	if err != nil {
		return st // it says the rest
	}
	return full
}

func stopping() *coord.Error {
	return &coord.Error{Code: coord.CodeStopping, Detail: "the node is stopping"}
}

func overloaded(detail string) *coord.Error {
	return &coord.Error{Code: coord.CodeOverloaded, Detail: detail, RetryAfterMs: 50}
}

// tooLargeReply tells a reader to ask for this key alone by a unary call.
func tooLargeReply(limit, seen int) *coord.Error {
	return &coord.Error{
		Code: coord.CodeInvalid, Detail: "the reply is too large here: ask for this key by Get",
		Field: "reply", Limit: strconv.Itoa(limit) + " bytes", Seen: strconv.Itoa(seen) + " bytes",
	}
}
