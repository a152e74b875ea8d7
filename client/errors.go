package client

import (
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"

	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	atollv1 "github.com/atolldb/atoll/proto/atoll/v1"
)

// The errors to branch on, with errors.Is. All come as a *Error.
var (
	// ErrNotFound: the key has no live value.
	ErrNotFound = errors.New("not found")
	// ErrSiblings: concurrent writes were not resolved; the Object holds them.
	ErrSiblings = errors.New("unresolved siblings")
	// ErrUnavailable: too few owners answered, or no node could be reached. A
	// write was not applied.
	ErrUnavailable = errors.New("unavailable")
	// ErrUnknownOutcome: a write may have been applied, now or later. It was
	// retried as far as time and budget allowed. Client.Outcome tells, by the
	// Error's RequestID; or write again with Again.
	ErrUnknownOutcome = errors.New("unknown outcome")
	// ErrThrottled: the node or this client has too much to do. A write was
	// not applied.
	ErrThrottled = errors.New("throttled")
	// ErrDeadline: there was not enough time. A write was not applied, or else
	// the error is ErrUnknownOutcome. It also is context.DeadlineExceeded.
	ErrDeadline = errors.New("deadline exceeded")
	// ErrInvalid: bad input; Field, Limit and Seen of Error say what.
	ErrInvalid = errors.New("invalid argument")
	// ErrTooLarge: bad input that is larger than its limit; also ErrInvalid.
	ErrTooLarge = errors.New("too large")
	// ErrBadVersion: After was given a version of another key or deployment;
	// also ErrInvalid.
	ErrBadVersion = errors.New("version of another key or deployment")
	// ErrNoBucket: the bucket does not exist.
	ErrNoBucket = errors.New("no such bucket")
	// ErrTooManySiblings: a blind write to a key that has too many siblings.
	// Write with After.
	ErrTooManySiblings = errors.New("too many siblings")
	// ErrDiskFull: the owners have no room.
	ErrDiskFull = errors.New("disk full")
	// ErrCorrupt: the record could not be read anywhere.
	ErrCorrupt = errors.New("corrupt record")
	// ErrInternal: a bug of the node; its log tells more.
	ErrInternal = errors.New("internal error")
	// ErrRefused: the other end does not serve this caller (credentials), or
	// is not a node at all. A write was not applied.
	ErrRefused = errors.New("refused")
	// ErrConditionFailed: a write's condition did not hold; it was not applied.
	// Error.Current is what is there.
	ErrConditionFailed = errors.New("condition failed")
	// ErrPartial: a write is applied in the serving region, and not known to be
	// in all the regions that its level asks for. It will get there.
	ErrPartial = errors.New("applied in a part of the regions")
	// ErrSessionBehind: nobody who could be asked knows all that the session
	// knows. A write was not applied.
	ErrSessionBehind = errors.New("session is ahead of the owners")
	// ErrSessionLost: writes that the session knows were lost for good. A write was
	// not applied. Every operation on their partition fails so until the session
	// goes on without them; see Client.AcceptLoss.
	ErrSessionLost = errors.New("writes of the session were lost")
	// ErrBadSession: a token of another deployment, of a secret that is gone, or not
	// one at all; also ErrInvalid. The session goes on without what the call's
	// partition had in it.
	ErrBadSession = errors.New("not a session token of this deployment")
	// ErrStale: what is known of other regions is older than allowed.
	ErrStale = errors.New("staler than allowed")
	// ErrRegionFenced: the region may not serve this.
	ErrRegionFenced = errors.New("region is fenced")
	// ErrLevelNotAllowed: the bucket's policy does not allow the level; also
	// ErrInvalid.
	ErrLevelNotAllowed = errors.New("level not allowed by the bucket")
	// ErrContextRequired: the bucket wants writes to follow a read (After).
	ErrContextRequired = errors.New("bucket requires a context")
	// ErrNoVersion: the sibling asked for is not there (any more).
	ErrNoVersion = errors.New("no such version")
	// ErrBucketExists: a bucket of that name is there already.
	ErrBucketExists = errors.New("bucket exists")
	// ErrRevision: a change was based on what is not the newest.
	ErrRevision = errors.New("changed by another")
	// ErrClosed: the Client was closed.
	ErrClosed = errors.New("client is closed")
)

// Outcome of a write that returned an error.
type Outcome uint8

// The outcomes.
const (
	NotApplied     Outcome = iota // it has no effect, now or later; so have failed reads
	UnknownOutcome                // it may have been applied
	Applied                       // it holds in the serving region; only with ErrPartial
)

func (o Outcome) String() string {
	switch o {
	case UnknownOutcome:
		return "unknown"
	case Applied:
		return "applied"
	}
	return "not_applied"
}

// Error is how every operation of this package fails. Its text never holds
// keys or values.
type Error struct {
	Op string // "get", "put", "delete", "open"
	// KeyHash is the placement hash of the key, 0 for none.
	KeyHash uint64
	// Region that the client is connected to, and the address of the node
	// that was asked last; "" when unknown.
	Region, Node string
	// Reason is a name of atoll.v1.Reason without its prefix, or of this
	// package: NOT_FOUND, SIBLINGS, CANCELED, REFUSED, CLOSED.
	Reason string
	Code   codes.Code
	Detail string
	// Level asked for, how many owners it needs and how many answered; 0
	// where that was not the question.
	Level        Level
	Needed, Acks int
	// Lacks says what too few of answered where it is not owners in one region: regions,
	// or the bucket's home. To ask for fewer owners does not help then.
	Lacks Lack
	// Missing is how many writes that the session knows were not there, and
	// MissingFrom the regions that made them, with ErrSessionBehind; with
	// ErrSessionLost they are lost for good.
	Missing     uint64
	MissingFrom []string
	// Attempts to reach a node.
	Attempts int
	Outcome  Outcome
	// RequestID of a write whose outcome is unknown, for Client.Outcome and Again.
	// MaybeDuplicate: if it was applied, it may be there twice; see Info.
	// TriedIn are the regions where it was tried, for RequestOption.TriedIn; none if
	// that is not known.
	RequestID      RequestID
	TriedIn        []string
	MaybeDuplicate bool
	// Field, Limit and Seen describe bad input.
	Field, Limit, Seen string
	// RetryAfter is a hint of the node, 0 for none.
	RetryAfter time.Duration

	// current is what is there, for CONDITION_FAILED, instead the same for the
	// caller, and applied what was achieved, for PARTIAL.
	current *atollv1.GetResponse
	instead *Object
	applied *atollv1.PutResponse

	// regionMap is the number of the map of regions that has the region out of service.
	regionMap uint64

	// session is the token with which it goes on without what is lost.
	session []byte

	// said: a node said so, and not the transport.
	said bool

	cause error
	// sent: the request may have reached a node.
	sent bool
	// lost: the connection broke, or the node is stopping; others may do.
	lost bool
}

// Lack is what too few of answered.
type Lack string

const (
	LackOwners  Lack = ""        // owners in one region, or that was not the question
	LackRegions Lack = "regions" // of those that the level counts; see Error.Needed
	LackHome    Lack = "home"    // the bucket's home region is not heard, or its lease has run out
)

// The reasons that are not on the wire.
const (
	reasonNotFound = "NOT_FOUND"
	reasonSiblings = "SIBLINGS"
	reasonCanceled = "CANCELED"
	reasonClosed   = "CLOSED"
	reasonRefused  = "REFUSED"
)

// reasonFenced is on the wire, and of this package.
const reasonFenced = "REGION_FENCED"

// reasonCodes are the gRPC codes of those that no transport gave one.
var reasonCodes = map[string]codes.Code{
	reasonNotFound: codes.NotFound,
	reasonSiblings: codes.FailedPrecondition,
}

// sentinels of each reason. UNKNOWN_OUTCOME stands alone: who retries on
// ErrUnavailable shall not retry what may have been applied.
var sentinels = map[string][]error{
	reasonNotFound:      {ErrNotFound},
	reasonSiblings:      {ErrSiblings},
	reasonCanceled:      {context.Canceled},
	reasonClosed:        {ErrClosed},
	reasonRefused:       {ErrRefused},
	"INVALID":           {ErrInvalid},
	"UNAVAILABLE":       {ErrUnavailable},
	"UNKNOWN_OUTCOME":   {ErrUnknownOutcome},
	"OVERLOADED":        {ErrThrottled},
	"DISK_FULL":         {ErrDiskFull},
	"TOO_MANY_SIBLINGS": {ErrTooManySiblings},
	"CORRUPT":           {ErrCorrupt},
	"CLOCK_SKEW":        {ErrUnavailable},
	"BAD_CONTEXT":       {ErrBadVersion, ErrInvalid},
	"NO_BUCKET":         {ErrNoBucket},
	"INTERNAL":          {ErrInternal},
	"STOPPING":          {ErrUnavailable},
	"DEADLINE":          {ErrDeadline, context.DeadlineExceeded},
	"PARTIAL":           {ErrPartial},
	"CONDITION_FAILED":  {ErrConditionFailed},
	"SESSION_BEHIND":    {ErrSessionBehind},
	"SESSION_LOST":      {ErrSessionLost},
	"BAD_SESSION":       {ErrBadSession, ErrInvalid},
	"STALE":             {ErrStale},
	"REGION_FENCED":     {ErrRegionFenced},
	"LEVEL_NOT_ALLOWED": {ErrLevelNotAllowed, ErrInvalid},
	"CONTEXT_AHEAD":     {ErrUnavailable},
	"CONTEXT_REQUIRED":  {ErrContextRequired},
	"NO_VERSION":        {ErrNoVersion},
	"BUCKET_EXISTS":     {ErrBucketExists},
	"REVISION_MISMATCH": {ErrRevision},
}

// Is reports whether target is one of the sentinels that e stands for.
func (e *Error) Is(target error) bool {
	for _, s := range sentinels[e.Reason] {
		if s == target {
			return true
		}
	}
	return target == ErrTooLarge && e.tooLarge()
}

// tooLarge: bad input, with a limit and a size in bytes above it.
func (e *Error) tooLarge() bool {
	if e.Reason != "INVALID" {
		return false
	}
	seen, ok := parseBytes(e.Seen)
	_, upper, ranged := strings.Cut(e.Limit, "..") // "10 bytes" or "1..10 bytes"
	if !ranged {
		upper = e.Limit
	}
	limit, ok2 := parseBytes(upper)
	return ok && ok2 && seen > limit
}

func parseBytes(s string) (int, bool) {
	s, ok := strings.CutSuffix(s, " bytes")
	if !ok {
		return 0, false
	}
	n, err := strconv.Atoi(s)
	return n, err == nil
}

// Unwrap returns the resolver's or the transport's error, if there is one.
func (e *Error) Unwrap() error { return e.cause }

// GRPCStatus lets status.Code and its like see through e.
func (e *Error) GRPCStatus() *status.Status { return status.New(e.Code, e.Error()) }

func (e *Error) Error() string {
	var b strings.Builder
	b.WriteString(e.Op)
	if e.KeyHash != 0 {
		fmt.Fprintf(&b, " key#%016x", e.KeyHash)
	}
	if e.Node != "" {
		fmt.Fprintf(&b, " at %s", e.Node)
	}
	if b.Len() > 0 {
		b.WriteString(": ")
	}
	if e.Detail != "" {
		b.WriteString(e.Detail)
	} else {
		b.WriteString(strings.ToLower(e.Reason))
	}
	if e.Attempts > 1 {
		fmt.Fprintf(&b, " (after %d attempts)", e.Attempts)
	}
	if e.cause != nil {
		fmt.Fprintf(&b, ": %v", e.cause)
	}
	return b.String()
}

const reasonPrefix = "REASON_"

// fromWire is the error of an item of a batch or stream.
func fromWire(w *atollv1.Error) *Error {
	e := &Error{
		Reason:     strings.TrimPrefix(w.Reason.String(), reasonPrefix),
		Code:       codes.Code(w.Code),
		Detail:     w.Message,
		RetryAfter: time.Duration(w.RetryAfterMs) * time.Millisecond,
		sent:       true,
		current:    w.Current,
		applied:    w.Applied,
	}
	e.describe(w.Metadata, w.Outcome)
	return e
}

func (e *Error) describe(meta map[string]string, outcome string) {
	e.Field, e.Limit, e.Seen = meta["field"], meta["limit"], meta["seen"]
	e.Needed, _ = strconv.Atoi(meta["needed"])
	e.Acks, _ = strconv.Atoi(meta["acks"])
	e.Lacks = Lack(meta["lacks"])
	e.Missing, _ = strconv.ParseUint(meta["missing"], 10, 64)
	e.regionMap, _ = strconv.ParseUint(meta["region_map"], 10, 64)
	if token, err := base64.RawURLEncoding.DecodeString(meta["session"]); err == nil {
		e.session = token
	}
	if from := meta["missing_from"]; from != "" {
		e.MissingFrom = strings.Split(from, ",")
	}
	e.MaybeDuplicate, e.said = meta["maybe_duplicate"] == "true", true
	if outcome == UnknownOutcome.String() || e.Reason == "UNKNOWN_OUTCOME" {
		e.Outcome, e.Reason = UnknownOutcome, "UNKNOWN_OUTCOME"
	}
	if outcome == Applied.String() {
		e.Outcome = Applied
	}
	e.lost = e.Reason == "STOPPING"
}

// fromStatus is the error of a call or a whole stream that had reached the
// transport (sent) or had not. What is not known to be without effect is
// unknown for a write.
func fromStatus(err error, write, sent bool) *Error {
	st := status.Convert(err)
	e := &Error{Code: st.Code(), Detail: st.Message(), cause: transportCause(err), sent: sent}
	for _, d := range st.Details() {
		switch d := d.(type) {
		case *errdetails.ErrorInfo:
			if d.Domain == "atoll" {
				e.Reason, e.cause = d.Reason, nil
				e.describe(d.Metadata, d.Metadata["outcome"])
			}
		case *errdetails.RetryInfo:
			e.RetryAfter = d.RetryDelay.AsDuration()
		case *atollv1.GetResponse:
			e.current = d
		case *atollv1.PutResponse:
			e.applied = d
		}
	}
	if e.Reason != "" { // the node said it
		return e
	}
	switch e.Code {
	case codes.Unauthenticated, codes.PermissionDenied, codes.Unimplemented:
		e.Reason = reasonRefused
		if strings.HasPrefix(e.Detail, "unknown service") {
			e.Detail += ": is this the address for clients (listen.client)?"
		}
		return e
	case codes.DeadlineExceeded:
		e.Reason = "DEADLINE"
	case codes.Canceled:
		e.Reason = reasonCanceled
	default:
		e.Reason, e.lost = "UNAVAILABLE", true
	}
	if write && sent {
		e.Outcome, e.Reason = UnknownOutcome, "UNKNOWN_OUTCOME"
	}
	return e
}

// transportCause keeps what errors.Is may ask of a transport's error.
func transportCause(err error) error {
	for _, c := range []error{context.DeadlineExceeded, context.Canceled} {
		if errors.Is(err, c) {
			return c
		}
	}
	return nil
}

// overdue is a call that was not answered in time.
func overdue(write, sent bool, cause error) *Error {
	e := &Error{Reason: "DEADLINE", Code: codes.DeadlineExceeded, Detail: "no answer in time", cause: cause, sent: sent}
	if errors.Is(cause, context.Canceled) {
		e.Reason, e.Code, e.Detail = reasonCanceled, codes.Canceled, "canceled by the caller"
	}
	if write && sent {
		e.Outcome, e.Reason = UnknownOutcome, "UNKNOWN_OUTCOME"
		e.Detail += "; the write may have been applied"
	}
	return e
}

func closed(write, sent bool) *Error {
	e := &Error{Reason: reasonClosed, Code: codes.Canceled, Detail: ErrClosed.Error(), sent: sent}
	if write && sent {
		e.Outcome, e.Reason, e.cause = UnknownOutcome, "UNKNOWN_OUTCOME", ErrClosed
	}
	return e
}

func throttled(detail string) *Error {
	return &Error{Reason: "OVERLOADED", Code: codes.ResourceExhausted, Detail: detail}
}

func invalid(field, limit, seen, detail string) *Error {
	return &Error{
		Reason: "INVALID", Code: codes.InvalidArgument, Detail: detail, Field: field, Limit: limit, Seen: seen,
	}
}
