package api

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/atolldb/atoll/geo/failover"
	"github.com/atolldb/atoll/node/regions"
	adminv1 "github.com/atolldb/atoll/proto/atoll/admin/v1"
)

// refusing says the same to everything.
type refusing struct {
	Regions
	err   error
	asked regions.Ask
}

func (r *refusing) View(context.Context) (RegionsView, error) { return RegionsView{}, r.err }
func (r *refusing) Abort(context.Context, bool) error         { return r.err }
func (r *refusing) Plan(_ context.Context, a regions.Ask) (regions.Plan, error) {
	r.asked = a
	return regions.Plan{}, r.err
}
func (r *refusing) Begin(_ context.Context, a regions.Ask) (regions.Plan, error) {
	r.asked = a
	return regions.Plan{Checks: []regions.Check{{Name: "lost", Detail: "it answers"}}}, r.err
}

// Every error says what it is about, and whether the map may have changed.
func TestRegionsErrors(t *testing.T) {
	for _, c := range []struct {
		err  error
		code codes.Code
		text string
	}{
		{&RegionsError{Detail: "one"}, codes.InvalidArgument, "there is one region"},
		{fmt.Errorf("%w: no", failover.ErrRefused), codes.InvalidArgument, "operation"},
		{regions.ErrSeen, codes.InvalidArgument, "look again"},
		{regions.ErrChecks, codes.InvalidArgument, "lost: it answers"},
		{regions.ErrNoMajority, codes.Unavailable, "no majority"},
		{regions.ErrUnknown, codes.Unknown, "not known whether"},
	} {
		s := NewRegionsService(nil, &refusing{err: c.err})
		q := &adminv1.PlanOperationRequest{Kind: "failover", Region: "us"}
		_, err := s.BeginOperation(t.Context(), &adminv1.BeginOperationRequest{Plan: q})
		if status.Code(err) != c.code || !strings.Contains(err.Error(), c.text) {
			t.Errorf("%v: %v", c.err, err)
		}
		if _, err := s.AbortOperation(t.Context(), &adminv1.AbortOperationRequest{}); err == nil {
			t.Errorf("%v: abort went through", c.err)
		}
		if _, err := s.GetRegions(t.Context(), &adminv1.GetRegionsRequest{}); err == nil {
			t.Errorf("%v: was shown", c.err)
		}
	}
}

func TestRegionsBadInput(t *testing.T) {
	r := &refusing{err: errors.New("asked")}
	s := NewRegionsService(nil, r)
	long := strings.Repeat("x", 33)
	for field, q := range map[string]*adminv1.PlanOperationRequest{
		"kind":   {Kind: "takeover", Region: "us"},
		"region": {Kind: "failover"},
		"to":     {Kind: "failover", Region: "us", To: long},
	} {
		for what, call := range map[string]func() error{
			"plan": func() error { _, err := s.PlanOperation(t.Context(), q); return err },
			"begin": func() error {
				_, err := s.BeginOperation(t.Context(), &adminv1.BeginOperationRequest{Plan: q})
				return err
			},
		} {
			if err := call(); status.Code(err) != codes.InvalidArgument || !strings.Contains(err.Error(), "field "+field) {
				t.Errorf("%s with a bad %s: %v", what, field, err)
			}
		}
	}
	if _, err := s.BeginOperation(t.Context(), &adminv1.BeginOperationRequest{}); status.Code(err) != codes.InvalidArgument {
		t.Errorf("nothing asked for: %v", err)
	}
	for _, ms := range []uint64{1, 4999, 300_001, 1 << 63} {
		if _, err := s.SetLease(t.Context(), &adminv1.SetLeaseRequest{LeaseMs: ms}); status.Code(err) != codes.InvalidArgument || !strings.Contains(err.Error(), "field lease_ms") {
			t.Errorf("a lease of %d ms: %v", ms, err)
		}
	}
	if r.asked != (regions.Ask{}) {
		t.Errorf("bad input got through: %+v", r.asked)
	}
	zero := uint64(0)
	_, _ = s.BeginOperation(t.Context(), &adminv1.BeginOperationRequest{Plan: &adminv1.PlanOperationRequest{Kind: "failback", Region: "us", Force: true}, Version: &zero})
	if want := (regions.Ask{Kind: failover.Failback, Region: "us", Force: true, Version: 1}); r.asked != want {
		t.Errorf("asked %+v, not %+v", r.asked, want)
	}
}

// What is told of a newcomer is held to its bounds before anything is asked.
func TestNewcomer(t *testing.T) {
	good := func() *adminv1.PlanOperationRequest {
		return &adminv1.PlanOperationRequest{Kind: "add", Region: "ap", Newcomer: &adminv1.RegionNewcomer{
			Id: 3, Partitions: 8, Nats: []string{"nats://h:1"}, Members: []*adminv1.RegionSeed{{Id: "ap-1", PeerAddr: "h:2"}},
		}}
	}
	r := &refusing{}
	s := NewRegionsService(nil, r)
	r.err = regions.ErrChecks // it has no plan to give
	if _, err := s.PlanOperation(t.Context(), good()); err == nil || r.asked.Add == nil || r.asked.Add.ID != 3 || len(r.asked.Add.Contact.Members) != 1 {
		t.Errorf("%v %+v", err, r.asked)
	}
	for what, spoil := range map[string]func(*adminv1.PlanOperationRequest){
		"number 0":              func(q *adminv1.PlanOperationRequest) { q.Newcomer.Id = 0 },
		"number 64":             func(q *adminv1.PlanOperationRequest) { q.Newcomer.Id = 64 },
		"a number of two bytes": func(q *adminv1.PlanOperationRequest) { q.Newcomer.Id = 257 },
		"a name":                func(q *adminv1.PlanOperationRequest) { q.Region = "A b" },
		"a node twice": func(q *adminv1.PlanOperationRequest) {
			q.Newcomer.Members = append(q.Newcomer.Members, q.Newcomer.Members...)
		},
		"a node without":   func(q *adminv1.PlanOperationRequest) { q.Newcomer.Members[0].PeerAddr = "" },
		"nobody":           func(q *adminv1.PlanOperationRequest) { q.Newcomer = nil },
		"another kind":     func(q *adminv1.PlanOperationRequest) { q.Kind = "failback" },
		"too many servers": func(q *adminv1.PlanOperationRequest) { q.Newcomer.Nats = make([]string, 65) },
	} {
		q := good()
		spoil(q)
		r.asked = regions.Ask{}
		if _, err := s.PlanOperation(t.Context(), q); status.Code(err) != codes.InvalidArgument || r.asked.Region != "" {
			t.Errorf("%s: %v", what, err)
		}
	}
}
