package api

import (
	"context"

	"google.golang.org/grpc/status"

	"github.com/atolldb/atoll/node/coord"
	atollv1 "github.com/atolldb/atoll/proto/atoll/v1"
)

// maxAwaits bounds the calls of AwaitReplication that wait at a time: they do
// hardly anything, but hold a token each.
const maxAwaits = 1024

// AwaitReplication waits until other regions have what a session knows.
func (s *KVService) AwaitReplication(ctx context.Context, q *atollv1.AwaitReplicationRequest) (*atollv1.AwaitReplicationResponse, error) {
	if s.isStopping() {
		return nil, ToStatus(stopping()).Err()
	}
	level, bad := parseLevel(q.Level)
	if bad != nil {
		return nil, ToStatus(bad).Err()
	}
	regions, bad := parseCount("regions", q.Regions)
	if bad != nil {
		return nil, ToStatus(bad).Err()
	}
	if s.awaits.Add(1) > maxAwaits {
		s.awaits.Add(-1)
		return nil, ToStatus(&coord.Error{Code: coord.CodeOverloaded, Detail: "too many calls wait for other regions", RetryAfterMs: 1000}).Err()
	}
	type answer struct {
		regions []coord.RegionAchieved
		err     error
	}
	ch := make(chan answer, 1)
	s.coord.Await(coord.Await{Session: q.Session, Level: level, Regions: regions, Deadline: deadline(ctx)}, func(r []coord.RegionAchieved, err error) {
		s.awaits.Add(-1)
		ch <- answer{r, err}
	})
	select {
	case a := <-ch:
		if a.err != nil {
			return nil, s.errorStatus(classify(a.err, false)).Err()
		}
		return &atollv1.AwaitReplicationResponse{Regions: s.achieved(coord.Achieved{Regions: a.regions}).Regions}, nil
	case <-ctx.Done(): // nobody reads the answer any more
		return nil, status.FromContextError(ctx.Err()).Err()
	}
}
