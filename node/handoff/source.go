package handoff

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/atolldb/atoll/crdt"
	"github.com/atolldb/atoll/crdt/session"
	"github.com/atolldb/atoll/hashring"
	"github.com/atolldb/atoll/node/peer"
	"github.com/atolldb/atoll/node/topology"
	"github.com/atolldb/atoll/node/wire"
)

// callTimeout bounds one request to a source.
const callTimeout = 5 * time.Second

var errSourceBehind = errors.New("the source is catching up itself")

// bites is how many of what is applied in one go are asked for at a time.
const bites = 8

// source is a node to copy a partition from. The requests carry no epoch: what
// is held is shown to whoever asks.
type source struct {
	id        topology.NodeID
	transport peer.Transport
	p         hashring.Partition
	first     uint64 // key hashes of p
	last      uint64
	pageBytes func() int
}

func (d Deps) source(id topology.NodeID, p hashring.Partition, pageBytes int) source {
	first, last := hashring.Range(p, d.Replica.Topology().Table.Partitions())
	return source{id, d.Transport, p, first, last, func() int { return min(bites*d.Yield.Page(pageBytes), pageBytes) }}
}

func (s source) call(ctx context.Context, verb peer.Verb, body []byte) ([]byte, error) {
	return peer.Call(ctx, s.transport, s.id, peer.Request{Verb: verb, Timeout: callTimeout, Body: body})
}

// clock returns the delivery clock of the partition at the source: all that it
// ever acknowledged is in it. It is an error if the source lacks something
// itself. The question is one for a page of the last key hash there is, since a
// page says both.
func (s source) clock(ctx context.Context) (*crdt.Clock, wire.Floors, *session.Losses, error) {
	page, err := s.page(ctx, wire.Scan{Partition: s.p, First: s.last, Last: s.last, MaxBytes: 1})
	return page.Clock, page.Floors, page.Losses, err
}

// page asks for records.
func (s source) page(ctx context.Context, q wire.Scan) (wire.Page, error) {
	b, err := s.call(ctx, peer.VerbScan, wire.AppendScan(nil, q))
	if err != nil {
		return wire.Page{}, fmt.Errorf("scan partition %d at %s: %w", s.p, s.id, err)
	}
	page, err := wire.DecodePage(b)
	if err == nil && page.Behind {
		err = errSourceBehind
	}
	if err != nil {
		return wire.Page{}, fmt.Errorf("scan partition %d at %s: %w", s.p, s.id, err)
	}
	return page, nil
}

// after asks for the records behind a key, nil for the first ones.
func (s source) after(ctx context.Context, key []byte) (wire.Page, error) {
	return s.page(ctx, wire.Scan{Partition: s.p, First: s.first, Last: s.last, After: key, MaxBytes: s.pageBytes()})
}

// beyond asks for the records behind dots that a clock lacks.
func (s source) beyond(ctx context.Context, have *crdt.Clock) (wire.Pulled, error) {
	ask := wire.Pull{Partition: s.p, Clock: have, MaxBytes: s.pageBytes()}
	b, err := s.call(ctx, peer.VerbPull, wire.AppendPull(nil, ask))
	if err != nil {
		return wire.Pulled{}, fmt.Errorf("pull partition %d from %s: %w", s.p, s.id, err)
	}
	got, err := wire.DecodePulled(b)
	if err != nil {
		return wire.Pulled{}, fmt.Errorf("pull partition %d from %s: %w", s.p, s.id, err)
	}
	return got, nil
}

// reached is the part of the partition's keys that lies at or below a key: the
// hashes are even, so that it says how much of the bytes, too.
func (s source) reached(key []byte) float64 {
	return (float64(hashring.KeyHash(key)-s.first) + 1) / (float64(s.last-s.first) + 1)
}

// unanswered reports whether err is that of a node that did not answer at all.
func unanswered(err error) bool {
	var refusal *peer.Refusal
	var later *notYet
	return err != nil && !errors.As(err, &refusal) && !errors.As(err, &later) &&
		!errors.Is(err, wire.ErrMalformed) && !errors.Is(err, errSourceBehind)
}
