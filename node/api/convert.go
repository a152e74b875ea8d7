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
			Field: "level", Limit: fmt.Sprintf("0..%d", quorum.LocalAll), Seen: strconv.Itoa(int(l)),
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
	return coord.Get{Bucket: q.Bucket, Key: q.Key, Level: level, R: r, Deadline: deadline}, nil
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
	return coord.Put{
		Bucket: q.Bucket, Key: q.Key, Value: q.Value, Context: q.Context, Level: level, W: w,
		TTL: time.Duration(q.TtlMs) * time.Millisecond, Overwrite: q.Overwrite, Sloppy: q.Sloppy, Deadline: deadline,
	}, nil
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
	return coord.Put{
		Bucket: q.Bucket, Key: q.Key, Context: q.Context, Level: level, W: w,
		Delete: true, Sloppy: q.Sloppy, Deadline: deadline,
	}, nil
}

func version(d crdt.Dot) *atollv1.Version {
	return &atollv1.Version{Actor: uint32(d.Actor), N: d.N}
}

func (w *wire) getResponse(r coord.GetResult) *atollv1.GetResponse {
	out := &atollv1.GetResponse{
		Context:             r.Context,
		DeletedConcurrently: len(r.View.Dead) > 0,
		Achieved:            w.achieved(r.Achieved),
	}
	if n := len(r.View.Live) + len(r.View.Dead); n > 0 {
		out.Siblings = make([]*atollv1.Sibling, 0, n)
	}
	for i := range r.View.Live {
		s := w.sibling(&r.View.Live[i])
		s.Value = r.View.Live[i].Value
		out.Siblings = append(out.Siblings, s)
	}
	for i := range r.View.Dead {
		s := w.sibling(&r.View.Dead[i])
		s.Deleted = true
		out.Siblings = append(out.Siblings, s)
	}
	return out
}

func (w *wire) sibling(v *crdt.Version) *atollv1.Sibling {
	return &atollv1.Sibling{
		Version:   version(v.Dot),
		Stamp:     uint64(v.Stamp),
		Region:    string(w.regionName(topology.RegionID(v.Dot.Actor.Region()))),
		ExpiresAt: v.Expiry,
	}
}

func (w *wire) putResponse(r coord.PutResult) *atollv1.PutResponse {
	return &atollv1.PutResponse{
		Version: version(r.Version), Context: r.Context,
		Achieved: w.achieved(r.Achieved), Stamp: uint64(r.Stamp),
	}
}

func (w *wire) deleteResponse(r coord.PutResult) *atollv1.DeleteResponse {
	return &atollv1.DeleteResponse{
		Version: version(r.Version), Context: r.Context,
		Achieved: w.achieved(r.Achieved), Stamp: uint64(r.Stamp),
	}
}

func (w *wire) achieved(a coord.Achieved) *atollv1.Achieved {
	out := &atollv1.Achieved{
		Level:       atollv1.Level(a.Level),
		Needed:      uint32(a.Needed),
		Region:      w.region,
		Coordinator: string(a.Coordinator),
		Degraded:    a.Degraded,
		Replicas:    make([]string, len(a.Replicas)),
	}
	for i, id := range a.Replicas {
		out.Replicas[i] = string(id)
	}
	for _, id := range a.Hinted {
		out.Hinted = append(out.Hinted, string(id))
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
