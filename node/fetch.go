package node

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/atolldb/atoll/crdt"
	"github.com/atolldb/atoll/geo"
	"github.com/atolldb/atoll/hashring"
	"github.com/atolldb/atoll/node/peer"
	"github.com/atolldb/atoll/node/topology"
	"github.com/atolldb/atoll/node/wire"
)

// claimTimeout bounds the wait for one owner's answer, in which there may be 8 MiB.
const claimTimeout = 20 * time.Second

// fetcher gets large records, which the log between regions only speaks of, from
// their owners. It is a geo.Fetcher.
type fetcher struct{ n *Node }

// Fetch asks the owners in the region of origin, those first that are up, until one
// has a record and everything that the claim names.
func (f fetcher) Fetch(ctx context.Context, origin string, claim geo.Entry) ([]byte, error) {
	hash := hashring.KeyHash(claim.Key)
	var owners []topology.NodeID
	for _, t := range f.n.deps.Others.All() {
		p := hashring.PartitionOf(hash, t.Table.Partitions())
		if string(t.Region) == origin {
			for _, slot := range t.Row(p).Slots {
				owners = append(owners, slot.Serves())
			}
		}
	}
	if len(owners) == 0 {
		return nil, fmt.Errorf("the owners in region %s are not known", origin)
	}
	var failed error
	for _, up := range []bool{true, false} {
		for _, id := range owners {
			if f.n.up(id) != up {
				continue
			}
			record, err := f.ask(ctx, id, hash, &claim)
			if err == nil && record != nil {
				return record, nil
			}
			if err != nil {
				failed = errors.Join(failed, err)
			}
		}
	}
	if failed != nil {
		return nil, failed
	}
	return nil, geo.ErrGone
}

// ask returns nil where an owner does not have what is claimed.
func (f fetcher) ask(ctx context.Context, id topology.NodeID, hash uint64, claim *geo.Entry) ([]byte, error) {
	needs := &crdt.Clock{}
	for _, d := range claim.Dots {
		needs.Add(d)
	}
	b, err := peer.Call(ctx, f.n.deps.Transport, id, peer.Request{
		Verb: peer.VerbRead, Timeout: claimTimeout, Body: wire.AppendRead(nil, wire.Read{Key: claim.Key, Needs: needs}),
	})
	if err != nil {
		return nil, fmt.Errorf("fetch a record from %s: %w", id, err)
	}
	held, err := wire.DecodeHeld(b)
	if err != nil || len(held.Record) == 0 || held.Missing != nil {
		return nil, err
	}
	if _, err := crdt.DecodeRecord(hash, held.Record); err != nil {
		return nil, fmt.Errorf("record of %s: %w", id, err)
	}
	return held.Record, nil
}
