package grpcpeer

import (
	"errors"
	"fmt"

	"github.com/atolldb/atoll/node/peer"
)

// What a send is told.
var (
	errNoTime    = fmt.Errorf("%w: no time left", peer.ErrNotTried)
	errTooLarge  = fmt.Errorf("%w: more than %d bytes", peer.ErrNotTried, peer.MaxMessage)
	errFull      = fmt.Errorf("%w: too much is queued or awaited", peer.ErrNotTried)
	errNoHandler = fmt.Errorf("%w: it has no handler for itself", peer.ErrNotTried)
	errNoNode    = fmt.Errorf("%w: no such node, or this one does not run", peer.ErrNotSent)
	errNoLink    = fmt.Errorf("%w: no link, and dialling failed", peer.ErrNotSent)
	errQueued    = fmt.Errorf("%w: its time ran out before the link took it", peer.ErrNotSent)

	errNotSentStopped = fmt.Errorf("%w: it does not run", peer.ErrNotTried)
	errStopped        = fmt.Errorf("%w: this node stopped", peer.ErrLinkLost)
)

// Why a session ends.
var (
	errMismatch = errors.New("the peer is not the one expected")
	errClosed   = errors.New("the other side closed the stream")
	errBacklog  = fmt.Errorf("%d replies wait to be read", maxReplies)
)

var errReplySize = fmt.Errorf("the reply has more than %d bytes", peer.MaxMessage)

// refuse tells a send that nothing came of it, off the sender's stack (P1).
func refuse(done peer.Done, why error) { go done(nil, why) }
