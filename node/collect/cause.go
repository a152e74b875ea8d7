package collect

import (
	"errors"
	"strings"

	"github.com/atolldb/atoll/node/peer"
	"github.com/atolldb/atoll/node/replica"
	"github.com/atolldb/atoll/node/topology"
)

// Reason is why a round waits, or has come to nothing: one of a few, to count by.
type Reason uint8

// The reasons.
const (
	Refused    Reason = iota // an owner has refused, and said why
	Silent                   // a node does not answer
	Behind                   // an owner catches up
	Waiting                  // hints, or what was given away, wait at a node
	Lacking                  // an owner lacks what others have
	Differing                // owners list different dead records
	Restarted                // an owner is another incarnation
	Moving                   // the partition, or who owns it, changes
	Unknown                  // the owners in another region are not known
	TooMany                  // more is dead than one round lists
	maxReasons = iota
)

var reasons = [maxReasons]string{
	"refused", "silent", "behind", "waiting", "lacking", "differing", "restarted", "moving", "unknown_region", "too_many",
}

func (r Reason) String() string {
	if int(r) < len(reasons) {
		return reasons[r]
	}
	return "refused"
}

// Cause is what a round waits for, or has ended for.
type Cause struct {
	Reason Reason
	// Node that it waits for, "" for none.
	Node   topology.NodeID
	Detail string
}

// None says that nothing is in the way.
func (c Cause) None() bool { return c == Cause{} }

func (c Cause) String() string {
	switch {
	case c.Node == "":
		return c.Detail
	case c.Detail == "":
		return string(c.Node) + ": " + c.Reason.String()
	}
	return string(c.Node) + ": " + c.Detail
}

// causeOf a question to a node that failed.
func causeOf(id topology.NodeID, err error) Cause {
	c := Cause{Refused, id, err.Error()}
	var no *peer.Refusal
	switch refused := errors.As(err, &no); {
	case errors.Is(err, replica.ErrBehind), refused && no.Code == peer.CodeBehind:
		c.Reason, c.Detail = Behind, "it is catching up"
	case errors.Is(err, peer.ErrNotSent), errors.Is(err, peer.ErrTimeout), errors.Is(err, peer.ErrLinkLost),
		refused && (no.Code == peer.CodeStopping || no.Code == peer.CodeExpired):
		c.Reason, c.Detail = Silent, "it does not answer"
	case errors.Is(err, ErrTooMany), refused && strings.HasSuffix(no.Detail, ErrTooMany.Error()):
		c.Reason = TooMany
	case errors.Is(err, ErrOtherRound), refused && strings.HasSuffix(no.Detail, ErrOtherRound.Error()):
		c.Reason = Restarted
	}
	return c
}
