package coord

import (
	"errors"
	"fmt"

	"github.com/atolldb/atoll/node/peer"
	"github.com/atolldb/atoll/node/replica"
	"github.com/atolldb/atoll/node/storage"
)

// noEffect reports whether err is a peer's answer or a request that never got
// there: in both cases the request had no effect.
func noEffect(err error) bool {
	if errors.Is(err, peer.ErrNotSent) {
		return true
	}
	var r *peer.Refusal
	return errors.As(err, &r) && r.Code != peer.CodeUnknown && r.Code != peer.CodeInternal
}

// isFull reports whether err is that of an owner whose disk takes no writes.
func isFull(err error) bool {
	return errors.Is(err, storage.ErrFull) || refusal(err) == peer.CodeFull
}

// localError turns what the replica says into an operation's error.
func (c *Coordinator) localError(err error) *Error {
	if s := (*replica.SiblingsError)(nil); errors.As(err, &s) {
		return c.tooManySiblings(s)
	}
	if l := (*replica.LostError)(nil); errors.As(err, &l) {
		return c.sessionLost(l.Lost)
	}
	e := &Error{Code: CodeInternal, Detail: err.Error()}
	switch {
	case errors.Is(err, replica.ErrContextRequired):
		return contextRequired()
	case errors.Is(err, replica.ErrNoActor), errors.Is(err, replica.ErrAmnesia):
		e.Code, e.again = CodeUnavailable, true
	case errors.Is(err, replica.ErrNewcomer):
		e.Code, e.again, e.newcomer = CodeUnavailable, true, true
	case errors.Is(err, replica.ErrRequestOld):
		e = invalid("request_id", "made in the last "+replica.RequestWindow.String(), "an older one", err.Error())
	case errors.Is(err, replica.ErrForbidden):
		e = invalid("request_id", "one whose outcome nobody has asked for", "one that was asked for", err.Error())
	case errors.Is(err, replica.ErrFenced):
		// The other attempt may have had an effect, or will.
		e.Code, e.Outcome, e.RetryAfterMs = CodeUnavailable, Unknown, 50
	case errors.Is(err, replica.ErrExpired):
		e.Code = CodeDeadline
	case errors.Is(err, replica.ErrClockSkew):
		e.Code, e.again = CodeClockSkew, true
	case errors.Is(err, replica.ErrUninformed):
		e.Code, e.again = CodeSessionBehind, true
	case errors.Is(err, replica.ErrBehind):
		e.Code, e.again = CodeUnavailable, true
	case errors.Is(err, replica.ErrNotOwner), errors.Is(err, replica.ErrStale):
		e.Code, e.again = CodeUnavailable, true
	case errors.Is(err, replica.ErrStopping), errors.Is(err, storage.ErrClosed):
		e.Code, e.again = CodeStopping, true
	case errors.Is(err, storage.ErrFull):
		e.Code, e.again = CodeDiskFull, true
	case errors.Is(err, storage.ErrCorrupt):
		e.Code, e.again = CodeCorrupt, true
	case errors.Is(err, storage.ErrFailed):
		e.Code, e.Outcome = CodeInternal, Unknown
	case errors.Is(err, storage.ErrOverloaded):
		e.Code, e.RetryAfterMs = CodeOverloaded, 50
	case errors.Is(err, storage.ErrTooLarge):
		e.Code = CodeInvalid
	}
	return e
}

// tooManySiblings names the fix.
func (c *Coordinator) tooManySiblings(s *replica.SiblingsError) *Error {
	return &Error{
		Code: CodeTooManySiblings, Field: "siblings",
		Detail: "the key has too many siblings for one more: read it, resolve, and write with the context of the read",
		Limit:  fmt.Sprintf("%d of %d bytes together", s.Most, c.Replica.MaxRecord()),
		Seen:   fmt.Sprintf("%d of %d bytes", s.Versions, s.Bytes),
	}
}
