package replica

import (
	"errors"
	"time"

	"github.com/atolldb/atoll/node/home"
	"github.com/atolldb/atoll/node/peer"
	"github.com/atolldb/atoll/node/storage"
	"github.com/atolldb/atoll/node/topology"
	"github.com/atolldb/atoll/node/wire"
)

// maxReplyBytes bounds what an asker can make this node gather for one reply.
const maxReplyBytes = 4 << 20

// Handle serves the verbs of an owner; it reports whether req was one. Reads
// run on the caller's goroutine (they are short), scans on their own.
func (r *Replica) Handle(req peer.Request, reply peer.Done) bool { return r.HandleFrom("", req, reply) }

// HandleFrom is Handle for a request of a known peer.
func (r *Replica) HandleFrom(from topology.NodeID, req peer.Request, reply peer.Done) bool {
	switch req.Verb {
	case peer.VerbRead:
		m, err := wire.DecodeRead(req.Body)
		if err != nil {
			reply(nil, Refuse(err))
			return true
		}
		answer := func(held wire.Held, err error) {
			if err != nil {
				reply(nil, Refuse(err))
				return
			}
			reply(wire.EncodeHeld(held), nil)
		}
		deadline := time.Time{}
		if m.Wait {
			deadline = time.Now().Add(req.Timeout)
		}
		r.ReadKnowing(req.Epoch, m, deadline, answer)
	case peer.VerbApply:
		m, err := wire.DecodeApply(req.Body)
		if err != nil {
			reply(nil, Refuse(err))
			return true
		}
		r.ApplyFrom(Source{From: from}, req.Epoch, m.Entries, func(_ int, err error) { reply(nil, Refuse(err)) })
	case peer.VerbSerial:
		r.handleSerial(req, reply)
	case peer.VerbOutcome:
		r.handleOutcome(req, reply)
	case peer.VerbSerialState:
		r.answer(reply, func() ([]byte, error) {
			m, err := wire.DecodeSerialStates(req.Body)
			if err != nil {
				return nil, err
			}
			m.MaxBytes = min(m.MaxBytes, maxReplyBytes)
			page, err := r.SerialStates(m)
			return wire.AppendSerialPage(nil, &page), err
		})
	case peer.VerbCompare:
		r.answer(reply, func() ([]byte, error) {
			m, err := wire.DecodeCompare(req.Body)
			return wire.AppendDifferences(nil, r.Differing(m)), err
		})
	case peer.VerbPull:
		r.answer(reply, func() ([]byte, error) {
			m, err := wire.DecodePull(req.Body)
			if err != nil {
				return nil, err
			}
			m.MaxBytes = min(m.MaxBytes, maxReplyBytes)
			out, err := r.Pull(m)
			return wire.AppendPulled(nil, out), err
		})
	case peer.VerbBuckets:
		r.answer(reply, func() ([]byte, error) {
			m, err := wire.DecodeBuckets(req.Body)
			if err != nil {
				return nil, err
			}
			out, err := r.Buckets(m)
			return wire.AppendBucketList(nil, out), err
		})
	case peer.VerbScan:
		r.answer(reply, func() ([]byte, error) {
			m, err := wire.DecodeScan(req.Body)
			if err != nil {
				return nil, err
			}
			m.MaxBytes = min(m.MaxBytes, maxReplyBytes)
			page, err := r.Scan(m)
			if err != nil {
				return nil, err
			}
			return wire.AppendPage(nil, page), nil
		})
	default:
		return false
	}
	return true
}

// maxScans bounds the questions that are answered at once by scanning.
const maxScans = 16

// answer runs a question that scans on a goroutine of its own; above maxScans
// it is refused.
func (r *Replica) answer(reply peer.Done, f func() ([]byte, error)) {
	if r.scans.Add(1) > maxScans {
		r.scans.Add(-1)
		reply(nil, &peer.Refusal{Code: peer.CodeOverloaded, Detail: "too many scans at once"})
		return
	}
	go func() {
		defer r.scans.Add(-1)
		b, err := f()
		reply(b, Refuse(err))
	}()
}

// Refuse turns an error of this package into what crosses the wire.
func Refuse(err error) error {
	if err == nil {
		return nil
	}
	code := peer.CodeInternal
	switch {
	case errors.Is(err, storage.ErrFailed), errors.Is(err, storage.ErrClosed):
		code = peer.CodeUnknown
	case errors.Is(err, storage.ErrCorrupt):
		code = peer.CodeCorrupt
	case errors.Is(err, storage.ErrFull):
		code = peer.CodeFull
	case errors.Is(err, ErrExpired):
		code = peer.CodeExpired
	case errors.Is(err, storage.ErrOverloaded), errors.Is(err, ErrClockSkew):
		code = peer.CodeOverloaded
	case errors.Is(err, ErrStale):
		code = peer.CodeStaleEpoch
	case errors.Is(err, ErrNotOwner):
		code = peer.CodeNotOwner
	case errors.Is(err, ErrBehind):
		code = peer.CodeBehind
	case errors.Is(err, ErrLate):
		code = peer.CodeLate
	case errors.As(err, new(*home.Fenced)):
		code = peer.CodeFenced
	case errors.Is(err, ErrStopping):
		code = peer.CodeStopping
	case errors.Is(err, wire.ErrMalformed), errors.Is(err, storage.ErrTooLarge):
		code = peer.CodeInvalid
	}
	return &peer.Refusal{Code: code, Detail: err.Error()}
}
