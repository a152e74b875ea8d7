package api

import (
	"fmt"
	"math"
	"strconv"
	"time"

	"github.com/atolldb/atoll/crdt"
	"github.com/atolldb/atoll/node/coord"
	"github.com/atolldb/atoll/node/quorum"
	"github.com/atolldb/atoll/node/topology"
	atollv1 "github.com/atolldb/atoll/proto/atoll/v1"
)

// maxTTLMs is 100 years, far below where nanoseconds overflow.
const maxTTLMs = 100 * 365 * 24 * int64(time.Hour/time.Millisecond)

// wire translates results; it knows the names of regions.
type wire struct {
	region     string
	regionName func(topology.RegionID) topology.Region
}

func parseLevel(l atollv1.Level) (quorum.Level, *coord.Error) {
	if l < 0 || l > math.MaxUint8 || !quorum.Level(l).Valid() {
		return 0, &coord.Error{
			Code: coord.CodeInvalid, Detail: "unknown consistency level",
			Field: "level", Limit: fmt.Sprintf("0..%d", quorum.Serial), Seen: strconv.Itoa(int(l)),
		}
	}
	return quorum.Level(l), nil
}

// parseCount takes r or w. What the partition's owners allow, coord knows; here
// only what no partition could have is refused, before it is an int.
func parseCount(field string, n uint32) (int, *coord.Error) {
	const most = 64
	if n > most {
		return 0, &coord.Error{
			Code: coord.CodeInvalid, Detail: "more owners than a partition can have",
			Field: field, Limit: "0.." + strconv.Itoa(most), Seen: strconv.FormatUint(uint64(n), 10),
		}
	}
	return int(n), nil
}

func parseGet(q *atollv1.GetRequest, deadline time.Time) (coord.Get, *coord.Error) {
	level, err := parseLevel(q.Level)
	if err != nil {
		return coord.Get{}, err
	}
	r, err := parseCount("r", q.R)
	if err != nil {
		return coord.Get{}, err
	}
	regions, err := parseCount("regions", q.Regions)
	if err != nil {
		return coord.Get{}, err
	}
	if q.MaxStalenessMs < 0 || q.MaxStalenessMs > maxTTLMs {
		return coord.Get{}, &coord.Error{
			Code: coord.CodeInvalid, Detail: "bound of staleness is out of range",
			Field: "max_staleness_ms", Limit: fmt.Sprintf("0..%d", maxTTLMs), Seen: strconv.FormatInt(q.MaxStalenessMs, 10),
		}
	}
	return coord.Get{
		Bucket: q.Bucket, Key: q.Key, Level: level, R: r, Regions: regions, Session: q.Session,
		MaxStaleness: time.Duration(q.MaxStalenessMs) * time.Millisecond, WaitFresh: q.WaitFresh, Freshness: q.Freshness,
		Deadline: deadline,
	}, nil
}

// extras are what puts and deletes have in common beyond the level.
type extras interface {
	GetRegions() uint32
	GetRequestId() []byte
	GetRetry() bool
	GetTriedIn() []string
	GetSession() []byte
	GetCondition() *atollv1.Condition
}

func parseExtras(p *coord.Put, q extras) *coord.Error {
	var err *coord.Error
	if p.Regions, err = parseCount("regions", q.GetRegions()); err != nil {
		return err
	}
	if p.RequestID, err = parseRequestID(q.GetRequestId()); err != nil {
		return err
	}
	p.Retry, p.Session = q.GetRetry(), q.GetSession()
	if p.Retry && p.RequestID == (coord.RequestID{}) {
		return &coord.Error{
			Code: coord.CodeInvalid, Detail: "a retry without a request id",
			Field: "request_id", Limit: "16 bytes", Seen: "0 bytes",
		}
	}
	for _, name := range q.GetTriedIn() { // how many there may be, coord knows
		p.TriedIn = append(p.TriedIn, topology.Region(name))
	}
	p.Condition, err = parseCondition(q.GetCondition())
	return err
}

// parseCondition takes a condition whose field is false as none.
func parseCondition(q *atollv1.Condition) (c crdt.Condition, err *coord.Error) {
	given := true
	switch is := q.GetCondition().(type) {
	case *atollv1.Condition_IfAbsent:
		c.Kind, given = crdt.IfAbsent, is.IfAbsent
	case *atollv1.Condition_IfPresent:
		c.Kind, given = crdt.IfPresent, is.IfPresent
	case *atollv1.Condition_IfContext:
		c.Kind, given = crdt.IfContext, is.IfContext
	case *atollv1.Condition_IfVersion:
		c.Kind = crdt.IfVersion
		c.Version = crdt.Dot{Actor: crdt.Actor(is.IfVersion.GetActor()), N: is.IfVersion.GetN()}
		if !c.Valid() || c.Version.Actor == 0 || c.Version.N == 0 {
			return c, &coord.Error{
				Code: coord.CodeInvalid, Detail: "a condition on no version",
				Field: "condition.if_version", Limit: "a version", Seen: c.Version.String(),
			}
		}
	}
	if !given {
		return crdt.Condition{}, nil
	}
	return c, nil
}

func parsePut(q *atollv1.PutRequest, deadline time.Time) (coord.Put, *coord.Error) {
	level, err := parseLevel(q.Level)
	if err != nil {
		return coord.Put{}, err
	}
	w, err := parseCount("w", q.W)
	if err != nil {
		return coord.Put{}, err
	}
	if q.TtlMs < 0 || q.TtlMs > maxTTLMs {
		return coord.Put{}, &coord.Error{
			Code: coord.CodeInvalid, Detail: "time to live is out of range",
			Field: "ttl_ms", Limit: fmt.Sprintf("0..%d", maxTTLMs), Seen: strconv.FormatInt(q.TtlMs, 10),
		}
	}
	p := coord.Put{
		Bucket: q.Bucket, Key: q.Key, Value: q.Value, Context: q.Context, Level: level, W: w,
		TTL: time.Duration(q.TtlMs) * time.Millisecond, Overwrite: q.Overwrite, Sloppy: q.Sloppy, Deadline: deadline,
	}
	if err := parseExtras(&p, q); err != nil {
		return coord.Put{}, err
	}
	return p, nil
}

func parseDelete(q *atollv1.DeleteRequest, deadline time.Time) (coord.Put, *coord.Error) {
	level, err := parseLevel(q.Level)
	if err != nil {
		return coord.Put{}, err
	}
	w, err := parseCount("w", q.W)
	if err != nil {
		return coord.Put{}, err
	}
	p := coord.Put{
		Bucket: q.Bucket, Key: q.Key, Context: q.Context, Level: level, W: w,
		Delete: true, Sloppy: q.Sloppy, Deadline: deadline,
	}
	if err := parseExtras(&p, q); err != nil {
		return coord.Put{}, err
	}
	return p, nil
}

func version(d crdt.Dot) *atollv1.Version {
	return &atollv1.Version{Actor: uint32(d.Actor), N: d.N}
}

func (w *wire) getResponse(r coord.GetResult) *atollv1.GetResponse {
	out := &atollv1.GetResponse{
		Context:             r.Context,
		ContextOmitted:      r.ContextOmitted,
		Session:             r.Session,
		SessionDropped:      uint32(r.SessionDropped),
		DeletedConcurrently: len(r.View.Dead) > 0,
		Achieved:            w.achieved(r.Achieved),
	}
	if n := len(r.View.Live) + len(r.View.Dead); n > 0 {
		out.Siblings = make([]*atollv1.Sibling, 0, n)
	}
	room := MaxSiblingBytes
	live := crdt.Agreements(r.View.Live)
	for i := range live {
		s := w.sibling(&live[i])
		value := live[i].Value
		if room -= len(value); room >= 0 || len(live) == 1 {
			s.Value = value
		} else {
			room += len(value) // a smaller one may fit
			s.ValueSize, s.ValueOmitted = uint64(len(value)), true
		}
		out.Siblings = append(out.Siblings, s)
	}
	dead := crdt.Agreements(r.View.Dead)
	for i := range dead {
		s := w.sibling(&dead[i])
		s.Deleted = true
		out.Siblings = append(out.Siblings, s)
	}
	return out
}

func (w *wire) sibling(v *crdt.Agreement) *atollv1.Sibling {
	s := &atollv1.Sibling{
		Version:   version(v.Dot),
		Stamp:     uint64(v.Stamp),
		Region:    string(w.regionName(topology.RegionID(v.Dot.Actor.Region()))),
		ExpiresAt: v.Expiry,
	}
	for _, d := range v.Equals {
		s.Equals = append(s.Equals, version(d))
	}
	return s
}

func (w *wire) putResponse(r coord.PutResult) *atollv1.PutResponse {
	return &atollv1.PutResponse{
		Version: version(r.Version), Context: r.Context, ContextOmitted: r.ContextOmitted,
		Achieved: w.achieved(r.Achieved), Stamp: uint64(r.Stamp),
		Session: r.Session, SessionDropped: uint32(r.SessionDropped), MaybeDuplicate: r.MaybeDuplicate, Replayed: r.Replayed,
	}
}

func (w *wire) deleteResponse(r coord.PutResult) *atollv1.DeleteResponse {
	return &atollv1.DeleteResponse{
		Version: version(r.Version), Context: r.Context, ContextOmitted: r.ContextOmitted,
		Achieved: w.achieved(r.Achieved), Stamp: uint64(r.Stamp),
		Session: r.Session, SessionDropped: uint32(r.SessionDropped), MaybeDuplicate: r.MaybeDuplicate, Replayed: r.Replayed,
	}
}

func (w *wire) achieved(a coord.Achieved) *atollv1.Achieved {
	out := &atollv1.Achieved{
		Level:        atollv1.Level(a.Level),
		Needed:       uint32(a.Needed),
		Region:       w.region,
		Coordinator:  string(a.Coordinator),
		Degraded:     a.Degraded,
		ManySiblings: a.ManySiblings,
		Reached:      atollv1.Level(a.Reached),
		Replicas:     make([]string, len(a.Replicas)),
	}
	for i, id := range a.Replicas {
		out.Replicas[i] = string(id)
	}
	for _, id := range a.Hinted {
		out.Hinted = append(out.Hinted, string(id))
	}
	for _, g := range a.Regions {
		out.Regions = append(out.Regions, &atollv1.RegionAchieved{
			Region: string(g.Region), State: atollv1.RegionAchieved_State(g.State),
			Replicas: uint32(g.Replicas), Needed: uint32(g.Needed), Detail: g.Detail,
		})
	}
	for _, f := range a.Freshness {
		out.Freshness = append(out.Freshness, &atollv1.Freshness{Region: string(f.Region), CompleteAsOf: f.CompleteAsOf})
	}
	return out
}

// replySize is about how many bytes the answer to a read takes on the wire.
func replySize(r *atollv1.GetResponse) int {
	n := 64 + len(r.Context)
	for _, s := range r.Siblings {
		n += 48 + len(s.Value)
	}
	return n
}
