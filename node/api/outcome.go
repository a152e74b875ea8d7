package api

import (
	"context"
	"strconv"
	"time"

	"google.golang.org/grpc/status"

	"github.com/atolldb/atoll/node/coord"
	"github.com/atolldb/atoll/node/overload"
	atollv1 "github.com/atolldb/atoll/proto/atoll/v1"
)

// parseRequestID takes none as the zero id.
func parseRequestID(b []byte) (id coord.RequestID, err *coord.Error) {
	if len(b) == 0 {
		return id, nil
	}
	if len(b) != len(id) || coord.RequestID(b).IsZero() {
		return id, &coord.Error{
			Code: coord.CodeInvalid, Detail: "request id is not one",
			Field: "request_id", Limit: "16 bytes that are not all zero", Seen: strconv.Itoa(len(b)) + " bytes",
		}
	}
	return coord.RequestID(b), nil
}

// ofRequest makes an error that was made before any owner was asked speak of the
// request rather than of the attempt: that an attempt was refused does not say that
// none before it was applied.
func ofRequest(e *coord.Error, retry bool) *coord.Error {
	if !retry || e.Outcome != coord.NotApplied {
		return e
	}
	all := *e // others may be told the same error
	all.Outcome = coord.Unknown
	return &all
}

// question is a GetOutcome on its way through the gate.
type question struct {
	passage
	op   coord.OutcomeQuery
	done func(coord.OutcomeResult, error)
}

func (t *question) begin() {
	defer func() {
		if p := recover(); p != nil && t.recovered(p) {
			t.done(coord.OutcomeResult{}, panicked())
		}
	}()
	t.kv.coord.Outcome(t.op, func(r coord.OutcomeResult, err error) {
		if t.end(0, unable(err)) {
			t.done(r, err)
		}
	})
}

func (t *question) refuse(e *coord.Error) { t.done(coord.OutcomeResult{}, e) }

// GetOutcome tells what became of a write.
func (s *KVService) GetOutcome(ctx context.Context, q *atollv1.GetOutcomeRequest) (*atollv1.GetOutcomeResponse, error) {
	if s.isStopping() {
		return nil, ToStatus(stopping()).Err()
	}
	id, bad := parseRequestID(q.RequestId)
	if bad != nil {
		return nil, ToStatus(bad).Err()
	}
	type answer struct {
		r   coord.OutcomeResult
		err error
	}
	ch := make(chan answer, 1)
	t := &question{
		op:   coord.OutcomeQuery{Bucket: q.Bucket, Key: q.Key, RequestID: id, Deadline: deadline(ctx)},
		done: func(r coord.OutcomeResult, err error) { ch <- answer{r, err} },
	}
	// It asks other regions, and each owner that says no writes that down.
	t.enter(s, overload.Far, true, s.limits.at(time.Now()), connection(ctx), holds+len(q.Key), q.Bucket, q.Key, t.op.Deadline, t)
	select {
	case a := <-ch:
		if a.err != nil {
			return nil, s.errorStatus(classify(a.err, false)).Err()
		}
		return outcomeResponse(a.r), nil
	case <-ctx.Done(): // nobody reads the answer any more
		return nil, status.FromContextError(ctx.Err()).Err()
	}
}

func outcomeResponse(r coord.OutcomeResult) *atollv1.GetOutcomeResponse {
	out := &atollv1.GetOutcomeResponse{
		Outcome: atollv1.GetOutcomeResponse_OUTCOME_UNKNOWN,
		Asked:   uint32(r.Asked), Answered: uint32(r.Answered), Forgotten: r.Forgotten,
	}
	switch r.Outcome {
	case coord.Applied:
		out.Outcome = atollv1.GetOutcomeResponse_OUTCOME_APPLIED
		out.Version, out.Stamp = version(r.Version), uint64(r.Stamp)
	case coord.NotApplied:
		out.Outcome = atollv1.GetOutcomeResponse_OUTCOME_NOT_APPLIED
	case coord.Unknown:
	}
	for _, id := range r.Replicas {
		out.Replicas = append(out.Replicas, string(id))
	}
	return out
}
