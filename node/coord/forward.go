package coord

import (
	"fmt"
	"time"

	"github.com/atolldb/atoll/crdt/hlc"
	"github.com/atolldb/atoll/node/peer"
	"github.com/atolldb/atoll/node/quorum"
	"github.com/atolldb/atoll/node/topology"
	"github.com/atolldb/atoll/node/wire"
)

func packPut(p *Put) *wire.Forward {
	m := &wire.Forward{
		Bucket: p.Bucket, Key: p.Key, Value: p.Value, Context: p.Context,
		Level: uint8(p.Level), W: uint32(p.W), TTL: uint64(p.TTL / time.Millisecond),
		Delete: p.Delete, Overwrite: p.Overwrite, Sloppy: p.Sloppy,
		Regions: uint32(p.Regions), Retry: p.Retry, Attempt: p.Attempt, Session: p.Session, Condition: p.Condition,
	}
	if p.RequestID != (RequestID{}) {
		m.RequestID = (*[16]byte)(&p.RequestID)
	}
	m.TriedIn = recast[string](p.TriedIn)
	return m
}

// unpackPut takes what is out of range as something that prepare refuses.
func unpackPut(m *wire.Forward) Put {
	p := Put{
		Bucket: m.Bucket, Key: m.Key, Value: m.Value, Context: m.Context,
		Level: quorum.Level(m.Level), W: int(min(m.W, 1<<16)),
		TTL:    time.Duration(min(m.TTL, uint64(2*maxTTL/time.Millisecond))) * time.Millisecond,
		Delete: m.Delete, Overwrite: m.Overwrite, Sloppy: m.Sloppy,
		Regions: int(min(m.Regions, 1<<16)), Retry: m.Retry, Attempt: m.Attempt, Session: m.Session, Condition: m.Condition,
	}
	if m.RequestID != nil {
		p.RequestID = *m.RequestID
	}
	p.TriedIn = recast[topology.Region](m.TriedIn)
	return p
}

func packReply(r PutResult, e *Error) []byte {
	if e != nil {
		f := &wire.ForwardFailed{
			Code: uint8(e.Code), Outcome: uint8(e.Outcome), Again: e.again, Newcomer: e.newcomer, MaybeDuplicate: e.MaybeDuplicate,
			Detail: e.Detail, Field: e.Field, Limit: e.Limit, Seen: e.Seen,
			Needed: uint32(e.Needed), Acks: uint32(e.Acks), Lacks: uint8(e.Lacks), RetryAfterMs: uint32(e.RetryAfterMs), Current: e.current, Lost: e.lost,
		}
		if e.Applied != nil {
			done := packResult(e.Applied)
			f.Applied = &done
		}
		return wire.AppendForwarded(nil, &wire.Forwarded{Failed: f})
	}
	return wire.AppendForwarded(nil, &wire.Forwarded{Done: packResult(&r)})
}

func packResult(r *PutResult) wire.ForwardDone {
	a := &r.Achieved
	d := wire.ForwardDone{
		Version: r.Version, Event: r.Event, Stamp: uint64(r.Stamp), Context: r.Context, Session: r.Session,
		MaybeDuplicate: r.MaybeDuplicate, Replayed: r.Replayed, ManySiblings: a.ManySiblings, ContextOmitted: r.ContextOmitted,
		Level: uint8(a.Level), Needed: uint32(a.Needed), Degraded: a.Degraded, Coordinator: string(a.Coordinator),
		Replicas: recast[string](a.Replicas), Hinted: recast[string](a.Hinted), Reached: uint8(a.Reached),
	}
	for _, g := range a.Regions {
		d.Regions = append(d.Regions, wire.ForwardRegion{
			Region: string(g.Region), State: uint8(g.State), Replicas: uint32(g.Replicas), Needed: uint32(g.Needed), Detail: g.Detail,
		})
	}
	return d
}

func unpackReply(b []byte) (PutResult, *Error, error) {
	m, err := wire.DecodeForwarded(b)
	if err != nil {
		return PutResult{}, nil, err
	}
	if f := m.Failed; f != nil {
		e := &Error{
			Code: Code(f.Code), Outcome: Outcome(f.Outcome), again: f.Again, newcomer: f.Newcomer, MaybeDuplicate: f.MaybeDuplicate,
			Detail: f.Detail, Field: f.Field, Limit: f.Limit, Seen: f.Seen,
			Needed: int(f.Needed), Acks: int(f.Acks), Lacks: Lack(f.Lacks), RetryAfterMs: int(f.RetryAfterMs), current: f.Current,
		}
		if f.Applied != nil {
			e.Applied = unpackResult(f.Applied)
		}
		e.lost = f.Lost
		return PutResult{}, e, nil
	}
	return *unpackResult(&m.Done), nil, nil
}

func unpackResult(d *wire.ForwardDone) *PutResult {
	r := &PutResult{
		Version: d.Version, Event: d.Event, Stamp: hlc.Stamp(d.Stamp), Context: d.Context, Session: d.Session,
		MaybeDuplicate: d.MaybeDuplicate, Replayed: d.Replayed, ContextOmitted: d.ContextOmitted,
		Achieved: Achieved{
			Level: quorum.Level(d.Level), Needed: int(d.Needed), Degraded: d.Degraded, Coordinator: topology.NodeID(d.Coordinator),
			Replicas: recast[topology.NodeID](d.Replicas), Hinted: recast[topology.NodeID](d.Hinted), Reached: quorum.Level(d.Reached), ManySiblings: d.ManySiblings,
		},
	}
	for _, g := range d.Regions {
		r.Achieved.Regions = append(r.Achieved.Regions, RegionAchieved{
			Region: topology.Region(g.Region), State: RegionState(g.State), Replicas: int(g.Replicas), Needed: int(g.Needed), Detail: g.Detail,
		})
	}
	return r
}

func recast[T, F ~string](in []F) []T {
	if in == nil {
		return nil
	}
	out := make([]T, len(in))
	for i, s := range in {
		out[i] = T(s)
	}
	return out
}

// Handle serves forwarded writes and what other regions ask for; it reports
// whether req was such.
func (c *Coordinator) Handle(req peer.Request, reply peer.Done) bool {
	switch req.Verb {
	case peer.VerbForward:
	case peer.VerbSerialRead:
		c.handleSerialRead(req, reply)
		return true
	default:
		return c.serveRegion(req, reply)
	}
	m, err := wire.DecodeForward(req.Body)
	if err != nil {
		reply(nil, &peer.Refusal{Code: peer.CodeInvalid, Detail: err.Error()})
		return true
	}
	p := unpackPut(&m)
	p.Deadline = time.Now().Add(req.Timeout)
	p.System = p.Bucket == SystemBucket // the peer has seen to it that no client asks
	c.prepared(p, func(w *write, e *Error) {
		if e != nil {
			reply(packReply(PutResult{}, e.ofRequest(&p)), nil)
			return
		}
		c.accept(w, req.Epoch, reply)
	})
	return true
}

// accept takes a forwarded write that can be one.
func (c *Coordinator) accept(w *write, epoch topology.Epoch, reply peer.Done) {
	if since := w.k.top.SinceOf(w.k.part); epoch != 0 && epoch < since {
		reply(nil, &peer.Refusal{Code: peer.CodeStaleEpoch, Detail: fmt.Sprintf("epoch %d, partition %d changed in %d", epoch, w.k.part, since)})
		return
	}
	w.forwarded = true
	w.done = func(r PutResult, e *Error) {
		if e != nil && e.stale {
			reply(nil, &peer.Refusal{Code: peer.CodeNotOwner, Detail: e.Detail})
			return
		}
		reply(packReply(r, e), nil)
	}
	w.speaksOfRequest()
	if w.k.place(c.cfg.Self) < 0 {
		w.behind = true
		w.unrouted()
		return
	}
	w.route(0)
}
