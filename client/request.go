package client

import (
	"context"
	"encoding/binary"
	"errors"
	"math/rand/v2"
	"slices"
	"time"

	"google.golang.org/protobuf/proto"

	"github.com/atolldb/atoll/crdt"
	atollv1 "github.com/atolldb/atoll/proto/atoll/v1"
)

// RequestID names a write in all its attempts: however often it is sent, it
// happens once. Every write has one, which the Client makes unless it is given.
// The owners remember it for ten minutes.
type RequestID = crdt.RequestID

// NewRequestID returns an id for a write that is to be made now: a UUID of
// version 7, which says when it was made by this machine's clock.
func NewRequestID() RequestID {
	var chance [10]byte
	binary.NativeEndian.PutUint64(chance[:], rand.Uint64())
	binary.NativeEndian.PutUint16(chance[8:], uint16(rand.Uint32()))
	return crdt.MakeRequestID(time.Now().UnixMilli(), chance)
}

// ParseRequestID takes what RequestID.String gives, or any UUID.
func ParseRequestID(s string) (RequestID, error) {
	id, err := crdt.ParseRequestID(s)
	if err != nil {
		return id, invalid("request_id", "32 hexadecimal digits", s, err.Error())
	}
	return id, nil
}

// RequestOption is the option of Request and Again.
type RequestOption struct {
	id      RequestID
	again   bool
	triedIn []string
}

// Request gives a write its id, for a program that wants to keep it before the
// write begins: then it can ask for the Outcome, or write again, after a crash of
// its own. It is for one write: PutMany and Update take no notice of it.
func Request(id RequestID) RequestOption { return RequestOption{id: id} }

// Again is Request for a write that was tried before with that id, here or in
// another process, and of which the outcome is not known. If it was applied, that is
// the answer (Info.Replayed); else it is applied now. All owners of all regions are
// asked before, so that while one of them cannot be reached the write may be there
// twice (Info.MaybeDuplicate); TriedIn spares those where it was not tried.
func Again(id RequestID) RequestOption { return RequestOption{id: id, again: true} }

// TriedIn is Again for a write of which it is known in which regions it was tried,
// all of them: Error.TriedIn names those of an error. Then no other region's owners
// are asked but these, and those of the region of the Client.
func (o RequestOption) TriedIn(regions ...string) RequestOption {
	o.triedIn = slices.Clone(regions)
	return o
}

func (o RequestOption) applyWrite(c *writeConfig) {
	c.id, c.again, c.triedIn = o.id, o.again, o.triedIn
}

// HedgeWrites sends a write that is not answered after d once more, to another
// node; it happens once all the same. Without it, a write is sent once more after
// half of its time. Choose d well above what writes take: below, all are sent
// twice.
func HedgeWrites(d time.Duration) Option {
	return func(c *config) { c.hedge = max(d, 0) }
}

// WriteOutcome is what became of a write.
type WriteOutcome struct {
	// Outcome: NotApplied is certain, and stays: asking ends the request, which
	// is refused from then on. UnknownOutcome if not all owners could be asked, or
	// if the request is too old to be remembered (Forgotten).
	Outcome   Outcome
	Forgotten bool
	// ID of the version that was written, and Time of the write (zero if that is
	// not known any more); Replicas are owners that have had it.
	ID       VersionID
	Time     time.Time
	Replicas []string
	// Asked and Answered count the owners of the key in all regions.
	Asked, Answered int
}

// Outcome asks all owners what became of a write of key, by the id that is in
// the Error of a write with ErrUnknownOutcome. Ask after all attempts have ended.
func (c *Client) Outcome(ctx context.Context, key string, id RequestID) (WriteOutcome, error) {
	res := &atollv1.GetOutcomeResponse{}
	o := callOp("outcome", "", false, atollv1.KV_GetOutcome_FullMethodName,
		&atollv1.GetOutcomeRequest{Bucket: c.bucket, Key: []byte(key), RequestId: id[:]}, res)
	o.hash, o.keyless = c.hash(key), false
	if err := c.ask(ctx, o); err != nil {
		return WriteOutcome{}, err
	}
	out := WriteOutcome{
		Outcome: UnknownOutcome, Forgotten: res.Forgotten, Replicas: res.Replicas,
		Asked: int(res.Asked), Answered: int(res.Answered),
	}
	switch res.Outcome {
	case atollv1.GetOutcomeResponse_OUTCOME_APPLIED:
		out.Outcome = Applied
		out.ID = VersionID{Actor: res.GetVersion().GetActor(), N: res.GetVersion().GetN()}
		if res.Stamp != 0 {
			out.Time = time.UnixMilli(int64(res.Stamp >> 16))
		}
	case atollv1.GetOutcomeResponse_OUTCOME_NOT_APPLIED:
		out.Outcome = NotApplied
	default: // also what a newer node may say
	}
	return out, nil
}

// identify gives a write its id.
func (o *op) identify(cfg *writeConfig) {
	o.flagged = cfg.again
	if o.id = cfg.id; o.id.IsZero() {
		o.id = NewRequestID()
	}
	o.repeats = true
}

// again is o as a retry. What o has is not changed: an attempt that was given up
// may be encoding it still.
// Region is that of the attempts before it, empty if it is not known.
func (o *op) again(region string) *op {
	next := &op{
		name: o.name, hash: o.hash, write: o.write, alone: o.alone, size: o.size, level: o.level,
		carried: o.carried, rpc: o.rpc, id: o.id, repeats: o.repeats, flagged: true, waits: o.waits,
	}
	switch call := o.call.Op.(type) {
	case *atollv1.StreamCall_Put:
		put := proto.CloneOf(call.Put)
		put.TriedIn, put.Retry = o.tried(put.TriedIn, region), true
		next.call.Op = &atollv1.StreamCall_Put{Put: put}
	case *atollv1.StreamCall_Delete:
		del := proto.CloneOf(call.Delete)
		del.TriedIn, del.Retry = o.tried(del.TriedIn, region), true
		next.call.Op = &atollv1.StreamCall_Delete{Delete: del}
	}
	return next
}

// tried is where a write was tried: in a region of this client, and where it had
// been tried before. None stands for anywhere.
func (o *op) tried(before []string, region string) []string {
	if region == "" || o.flagged && len(before) == 0 || slices.Contains(before, region) {
		return before
	}
	return append(slices.Clone(before), region)
}

// triedIn are the regions of all attempts of a write, none for anywhere.
func (r *run) triedIn() []string {
	var before []string
	switch call := r.op.call.Op.(type) {
	case *atollv1.StreamCall_Put:
		before = call.Put.TriedIn
	case *atollv1.StreamCall_Delete:
		before = call.Delete.TriedIn
	}
	if r.view == nil {
		return before
	}
	return r.op.tried(before, r.view.region)
}

// decided are the reasons of nodes that have asked all owners: of a retry they
// say that no attempt was applied. Others speak of the attempt.
var decided = []string{"CONDITION_FAILED", "TOO_MANY_SIBLINGS"}

// settle gives the last error of a run the outcome of the whole: an attempt that
// was not applied says nothing of one before it.
func (r *run) settle(err *Error) *Error {
	if err.Reason == "DEADLINE" && r.lacks != nil { // what others said is more than that this one said nothing
		lacks := *r.lacks
		if lacks.cause = err.cause; lacks.cause == nil {
			lacks.cause = context.DeadlineExceeded
		}
		err = &lacks
	}
	if r.doubt && err.Outcome == NotApplied && !slices.Contains(decided, err.Reason) {
		err.Outcome, err.Reason = UnknownOutcome, "UNKNOWN_OUTCOME"
		err.Detail += "; an earlier attempt may have been applied"
	}
	if err.Outcome == UnknownOutcome {
		err.RequestID, err.TriedIn = r.op.id, r.triedIn()
		err.MaybeDuplicate = err.MaybeDuplicate || r.twice || r.op.flagged && err.sent && !err.said
	}
	return err
}

// tell adds to an answer what earlier attempts have left open.
func (r *run) tell(reply *atollv1.StreamReply) *atollv1.StreamReply {
	if r.twice && reply != nil {
		switch res := reply.Result.(type) {
		case *atollv1.StreamReply_Put:
			res.Put.MaybeDuplicate = true
		case *atollv1.StreamReply_Delete:
			res.Delete.MaybeDuplicate = true
		}
	}
	return reply
}

// wrote fills in what an answer says of a write's attempts.
func (i *Info) wrote(id RequestID, replayed, maybe bool) {
	if i != nil {
		i.RequestID, i.Replayed, i.MaybeDuplicate = id, replayed, maybe
	}
}

// UnknownRequest returns the id of the write that err is about, if its outcome is
// unknown.
func UnknownRequest(err error) (id RequestID, ok bool) {
	var e *Error
	if !errors.As(err, &e) || e.Outcome != UnknownOutcome {
		return id, false
	}
	return e.RequestID, !e.RequestID.IsZero()
}
