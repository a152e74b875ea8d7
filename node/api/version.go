package api

import (
	"context"
	"time"

	"github.com/atolldb/atoll/crdt"
	"github.com/atolldb/atoll/node/coord"
	"github.com/atolldb/atoll/node/quorum"
	atollv1 "github.com/atolldb/atoll/proto/atoll/v1"
)

// MaxSiblingBytes bounds the values in the answer to a read of a key that has
// siblings. What does not fit is marked value_omitted, and fetched by GetVersion.
// A value that stands alone is always there.
const MaxSiblingBytes = 1 << 20

// GetVersion returns one sibling of a key. Without a level it asks one owner, and
// then a quorum if that did not have it.
func (s *KVService) GetVersion(ctx context.Context, q *atollv1.GetVersionRequest) (*atollv1.GetVersionResponse, error) {
	if s.isStopping() {
		return nil, ToStatus(stopping()).Err()
	}
	want := crdt.Dot{Actor: crdt.Actor(q.Version.GetActor()), N: q.Version.GetN()}
	if want.Actor == 0 || want.N == 0 {
		return nil, ToStatus(&coord.Error{
			Code: coord.CodeInvalid, Detail: "not a version", Field: "version", Limit: "a version that a read has shown", Seen: want.String(),
		}).Err()
	}
	level, bad := parseLevel(q.Level)
	if bad != nil {
		return nil, ToStatus(bad).Err()
	}
	levels := []quorum.Level{level}
	if level == quorum.Default {
		levels = []quorum.Level{quorum.LocalOne, quorum.Default}
	}
	missing := &coord.Error{
		Code: coord.CodeNoVersion, Detail: "the key has no such version, or not any more", Field: "version",
		Limit: "a version that is there", Seen: want.String(),
	}
	for i, l := range levels {
		res, err := s.look(ctx, coord.Get{Bucket: q.Bucket, Key: q.Key, Level: l, Deadline: deadline(ctx)})
		if err != nil {
			e := classify(err, false)
			if i+1 < len(levels) && (e.Code == coord.CodeLevelNotAllowed || e.Code == coord.CodeUnavailable) {
				continue
			}
			return nil, s.errorStatus(e).Err()
		}
		for j := range res.View.Live {
			if v := &res.View.Live[j]; v.Dot == want {
				out := s.sibling(&crdt.Agreement{Version: v})
				out.Value, out.ValueSize = v.Value, uint64(len(v.Value))
				return &atollv1.GetVersionResponse{Sibling: out}, nil
			}
		}
		for j := range res.View.Dead {
			if v := &res.View.Dead[j]; v.Dot == want {
				out := s.sibling(&crdt.Agreement{Version: v})
				out.Deleted = true
				return &atollv1.GetVersionResponse{Sibling: out}, nil
			}
		}
	}
	return nil, ToStatus(missing).Err()
}

// look waits for a read.
func (s *KVService) look(ctx context.Context, g coord.Get) (coord.GetResult, error) {
	type answer struct {
		r   coord.GetResult
		err error
	}
	ch := make(chan answer, 1)
	s.get(time.Now(), connection(ctx), getSize(&g), g, func(r coord.GetResult, err error) { ch <- answer{r, err} })
	select {
	case a := <-ch:
		return a.r, a.err
	case <-ctx.Done(): // nobody reads the answer any more
		return coord.GetResult{}, &coord.Error{Code: coord.CodeDeadline, Detail: ctx.Err().Error()}
	}
}
