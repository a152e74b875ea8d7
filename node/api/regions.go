package api

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/atolldb/atoll/geo/failover"
	"github.com/atolldb/atoll/geo/regionmap"
	"github.com/atolldb/atoll/node/coord"
	"github.com/atolldb/atoll/node/regions"
	adminv1 "github.com/atolldb/atoll/proto/atoll/admin/v1"
)

// Regions takes regions out of service and brings them back.
type Regions interface {
	// View is what is known.
	View(ctx context.Context) (RegionsView, error)
	// Plan looks, Begin begins, Abort ends: see regions.Steer.
	Plan(ctx context.Context, a regions.Ask) (regions.Plan, error)
	Begin(ctx context.Context, a regions.Ask) (regions.Plan, error)
	Abort(ctx context.Context, force bool) error
	// SetLease has homes decide only with a lease that long, 0 for without one.
	SetLease(ctx context.Context, lease time.Duration, force bool) error
}

// RegionsView is what a node knows of the map, and of what is under way.
type RegionsView struct {
	Known     regionmap.Known
	Operation *failover.Operation // nil before the first
	// Waits is what it waits for, "" if that is not known or nothing.
	Waits string
	// Lease is what this node holds, nil where the map has none, and in a region that is
	// not counted.
	Lease *regions.LeaseStats
}

// RegionsError says that something cannot be asked here.
type RegionsError struct{ Detail string }

func (e *RegionsError) Error() string { return e.Detail }

// RegionsService serves atoll.admin.v1.Regions.
type RegionsService struct {
	adminv1.UnimplementedRegionsServer
	cluster Cluster
	ops     Regions
}

// NewRegionsService serves what r can do.
func NewRegionsService(c Cluster, r Regions) *RegionsService {
	return &RegionsService{cluster: c, ops: r}
}

// GetRegions serves Regions.GetRegions.
func (s *RegionsService) GetRegions(ctx context.Context, _ *adminv1.GetRegionsRequest) (*adminv1.GetRegionsResponse, error) {
	v, err := s.ops.View(ctx)
	if err != nil {
		return nil, regionsStatus(ctx, err)
	}
	st, err := s.cluster.Status(ctx)
	if err != nil {
		return nil, regionsStatus(ctx, err)
	}
	return &adminv1.GetRegionsResponse{
		Map: regionMap(v.Known), Operation: regionOperation(v.Operation, v.Waits), Region: string(s.cluster.Topology().Region),
		Lease: heldLease(v.Lease), Links: linkStatuses(st.Links),
	}, nil
}

func heldLease(s *regions.LeaseStats) *adminv1.HeldLease {
	if s == nil {
		return nil
	}
	out := &adminv1.HeldLease{LeftMs: uint64(s.Left.Milliseconds())}
	for _, name := range slices.Sorted(maps.Keys(s.Grants)) {
		out.Grants = append(out.Grants, &adminv1.LeaseGrant{Region: name, LeftMs: uint64(s.Grants[name].Milliseconds())})
	}
	return out
}

func regionMap(k regionmap.Known) *adminv1.RegionMap {
	m := k.Map
	out := &adminv1.RegionMap{Version: m.N, Forced: m.Forced, By: uint32(m.By), Contested: k.Contested}
	out.LeaseMs, out.LeaseBinds = m.Lease.Ms, m.Lease.Ms > 0 && m.Bound()
	for _, r := range m.Regions {
		out.Regions = append(out.Regions, &adminv1.RegionState{Name: r.Name, Id: uint32(r.ID), State: r.State.String(), Fence: r.Fence})
	}
	for _, h := range m.Homes {
		out.Homes = append(out.Homes, &adminv1.RegionHome{Bucket: h.Bucket, Region: h.Region, Epoch: h.Epoch})
	}
	return out
}

func stageNames(k failover.Kind) (out []string) {
	for _, s := range failover.Stages(k) {
		out = append(out, s.Name)
	}
	return out
}

func regionOperation(o *failover.Operation, waits string) *adminv1.RegionOperation {
	if o == nil {
		return nil
	}
	out := &adminv1.RegionOperation{
		Id: o.ID, Kind: o.Kind.String(), Region: o.Region, To: o.To, By: o.By, Forced: o.Forced,
		Stages: stageNames(o.Kind), Stage: o.At().Name, Doing: o.At().Doing, Waits: waits,
		Aborted: o.Aborted, Ended: o.Ended, BeganMs: o.Began, SinceMs: o.Since, ClosedMs: o.Closed,
		Missing: missingWrites(&o.Missing),
	}
	if o.Lost.Counted {
		out.Lost = missingWrites(&o.Lost)
	}
	return out
}

func missingWrites(m *failover.Missing) *adminv1.MissingWrites {
	out := &adminv1.MissingWrites{Counted: m.Counted, Writes: m.Writes, HeardMs: m.HeardMs}
	for _, s := range m.Spans {
		out.Runs = append(out.Runs, &adminv1.MissingRun{Partition: s.Partition, Actor: uint32(s.Dots.Actor), First: s.Dots.Lo, Last: s.Dots.Hi})
	}
	for _, b := range m.Buckets {
		out.Buckets = append(out.Buckets, &adminv1.BucketWrites{Bucket: b.Bucket, Writes: b.Writes})
	}
	return out
}

// asked checks a question about an operation.
func asked(q *adminv1.PlanOperationRequest) (regions.Ask, error) {
	kind, ok := failover.ParseKind(q.GetKind())
	if !ok {
		return regions.Ask{}, invalid("kind", "no such operation", "switchover, failover, failback, rebuild, remove or add", q.GetKind())
	}
	for _, f := range []struct {
		field, name string
		least       int
	}{{"region", q.GetRegion(), 1}, {"to", q.GetTo(), 0}} {
		if n := len(f.name); n < f.least || n > regionmap.MaxName {
			return regions.Ask{}, invalid(f.field, "no name of a region", "1..32 bytes", f.name)
		}
	}
	a := regions.Ask{Kind: kind, Region: q.GetRegion(), To: q.GetTo(), Force: q.GetForce()}
	if (kind == failover.Add) != (q.GetNewcomer() != nil) {
		return a, invalid("newcomer", "who comes in is told of an add, and of nothing else", "for an add", q.GetKind())
	}
	if n := q.GetNewcomer(); n != nil {
		var err error
		if a.Add, err = newcomer(q.GetRegion(), n); err != nil {
			return a, err
		}
	}
	return a, nil
}

// validRegion is the rule for names of regions.
func validRegion(name string) bool {
	return name != "" && len(name) <= regionmap.MaxName && strings.Trim(name, "abcdefghijklmnopqrstuvwxyz0123456789-") == ""
}

// newcomer checks what is told of a region that is to come in.
func newcomer(name string, n *adminv1.RegionNewcomer) (*regions.Newcomer, error) {
	if !validRegion(name) {
		return nil, invalid("region", "no name of a region", "1..32 of a-z, 0-9 and -", name)
	}
	if n.GetId() < 1 || n.GetId() > regionmap.MaxRegions {
		return nil, invalid("newcomer.id", "no number of a region", "1..63", strconv.Itoa(int(n.GetId())))
	}
	out := &regions.Newcomer{ID: uint8(n.GetId()), Partitions: int(n.GetPartitions()), Contact: regionmap.Contact{NATS: n.GetNats()}}
	for _, m := range n.GetMembers() {
		out.Contact.Members = append(out.Contact.Members, regionmap.Seed{ID: m.GetId(), Rack: m.GetRack(), Client: m.GetClientAddr(), Peer: m.GetPeerAddr()})
	}
	if err := out.Contact.Check(); err != nil {
		return nil, invalid("newcomer", err.Error(), "1..64 URLs, 1..256 nodes with an id and a peer address", "others")
	}
	return out, nil
}

// PlanOperation serves Regions.PlanOperation.
func (s *RegionsService) PlanOperation(ctx context.Context, q *adminv1.PlanOperationRequest) (*adminv1.PlanOperationResponse, error) {
	a, err := asked(q)
	if err != nil {
		return nil, regionsStatus(ctx, err)
	}
	p, err := s.ops.Plan(ctx, a)
	if err != nil {
		return nil, regionsStatus(ctx, err)
	}
	return operationPlan(&p), nil
}

func operationPlan(p *regions.Plan) *adminv1.PlanOperationResponse {
	out := &adminv1.PlanOperationResponse{
		Version: p.Known.Map.N, Missing: missingWrites(&p.Missing), Stages: stageNames(p.Ask.Kind), To: p.Ask.To,
	}
	for _, c := range p.Checks {
		out.Checks = append(out.Checks, &adminv1.OperationCheck{Name: c.Name, Ok: c.OK, Detail: c.Detail})
	}
	return out
}

// BeginOperation serves Regions.BeginOperation.
func (s *RegionsService) BeginOperation(ctx context.Context, q *adminv1.BeginOperationRequest) (*adminv1.BeginOperationResponse, error) {
	a, err := asked(q.GetPlan())
	if err != nil {
		return nil, regionsStatus(ctx, err)
	}
	if q.Version != nil {
		a.Version = q.GetVersion() + 1
	}
	p, err := s.ops.Begin(ctx, a)
	if err != nil {
		var bad []string
		for _, c := range p.Checks {
			if !c.OK {
				bad = append(bad, c.Name+": "+c.Detail)
			}
		}
		if errors.Is(err, regions.ErrChecks) {
			err = invalid("force", err.Error(), "all checks hold, or force", strings.Join(bad, "; "))
		}
		return nil, regionsStatus(ctx, err)
	}
	o, err := failover.Current(p.Known.Map)
	if err != nil {
		return nil, regionsStatus(ctx, err)
	}
	return &adminv1.BeginOperationResponse{Plan: operationPlan(&p), Operation: regionOperation(o, "")}, nil
}

// AbortOperation serves Regions.AbortOperation.
func (s *RegionsService) AbortOperation(ctx context.Context, q *adminv1.AbortOperationRequest) (*adminv1.AbortOperationResponse, error) {
	if err := s.ops.Abort(ctx, q.GetForce()); err != nil {
		return nil, regionsStatus(ctx, err)
	}
	v, err := s.ops.View(ctx)
	if err != nil {
		return nil, regionsStatus(ctx, err)
	}
	return &adminv1.AbortOperationResponse{Operation: regionOperation(v.Operation, v.Waits)}, nil
}

// SetLease serves Regions.SetLease.
func (s *RegionsService) SetLease(ctx context.Context, q *adminv1.SetLeaseRequest) (*adminv1.SetLeaseResponse, error) {
	if ms := q.GetLeaseMs(); ms > regionmap.MaxLease || ms != 0 && ms < regionmap.MinLease {
		return nil, regionsStatus(ctx, invalid("lease_ms", "a lease that is too short or too long", fmt.Sprintf("0, or %d to %d", regionmap.MinLease, regionmap.MaxLease), fmt.Sprint(ms)))
	}
	if err := s.ops.SetLease(ctx, time.Duration(q.GetLeaseMs())*time.Millisecond, q.GetForce()); err != nil {
		return nil, regionsStatus(ctx, err)
	}
	v, err := s.ops.View(ctx)
	if err != nil {
		return nil, regionsStatus(ctx, err)
	}
	return &adminv1.SetLeaseResponse{Map: regionMap(v.Known)}, nil
}

// regionsStatus says of each error whether something was changed.
func regionsStatus(ctx context.Context, err error) error {
	var one *RegionsError
	switch {
	case errors.As(err, &one):
		err = invalid("region", "there is one region, and this node is not prepared for others: give its region geo.others and the URLs of its NATS servers in the configuration of all its nodes, and restart one after the other", "two regions or more, or geo.others", "one")
	case errors.Is(err, failover.ErrRefused):
		err = invalid("operation", err.Error(), "what the state of the regions allows", "another one")
	case errors.Is(err, regions.ErrSeen):
		err = invalid("version", err.Error(), "the version that was shown", "another one")
	case errors.Is(err, regions.ErrNoMajority), errors.Is(err, regionmap.ErrOutbid):
		err = &coord.Error{Code: coord.CodeUnavailable, Outcome: coord.NotApplied, Detail: err.Error()}
	case errors.Is(err, regions.ErrUnknown):
		err = &coord.Error{Code: coord.CodeUnavailable, Outcome: coord.Unknown, Detail: err.Error()}
	}
	return readStatus(ctx, err).Err()
}
