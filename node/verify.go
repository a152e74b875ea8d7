package node

import (
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"sync"
	"time"

	"github.com/atolldb/atoll/crdt"
	"github.com/atolldb/atoll/hashring"
	"github.com/atolldb/atoll/node/api"
	"github.com/atolldb/atoll/node/coord"
	"github.com/atolldb/atoll/node/peer"
	"github.com/atolldb/atoll/node/topology"
	"github.com/atolldb/atoll/node/verify"
)

const (
	// verifyBeat is the time between two looks at partitions that are not equal.
	verifyBeat = 500 * time.Millisecond
	// verifyDeep is how many partitions a node counts anew for one request, and
	// verifyDeepTimeout how long it may take.
	verifyDeep        = 8
	verifyDeepTimeout = time.Minute
	// verifyClocks is how many clocks one request asks for.
	verifyClocks = 512
)

// sumsOrder asks what a node has of partitions.
type sumsOrder struct {
	// Partitions that it is about; empty for all.
	Partitions []hashring.Partition `json:",omitempty"`
	// With is the region to compare with: digests are of the buckets that both have.
	With topology.Region
	// Deep counts the records of each on the disk, Clocks asks for the clocks.
	Deep, Clocks bool `json:",omitempty"`
}

type partSum struct {
	Partition hashring.Partition
	verify.Sum
	Vector []byte `json:",omitempty"` // the clock, if asked for
}

// partSums of what this node owns.
func (n *Node) partSums(o sumsOrder) ([]partSum, error) {
	parts := o.Partitions
	if len(parts) == 0 {
		parts = n.replica.Owned()
	}
	out := make([]partSum, 0, len(parts))
	for _, p := range parts {
		if !n.replica.Owns(p) {
			continue
		}
		common := n.replica.Afar(o.With)
		common.Region = string(o.With)
		sum, told := n.replica.SumFor(p, common)
		s := partSum{Partition: p, Sum: verify.Sum{
			Clock: sum.Clock, Digest: sum.Digest, Floor: uint64(n.replica.Floors(p).Raised), Moving: !told,
		}}
		if o.Deep {
			all := n.replica.Sum(p)
			digest, err := n.replica.DigestFromStore(p)
			if err != nil {
				return nil, fmt.Errorf("count partition %d: %w", p, err)
			}
			// What is on the disk and not in the kept digest, or the other way round.
			s.Digest ^= digest ^ all.Digest
			s.Moving = s.Moving || n.replica.Sum(p) != all
		}
		if o.Clocks {
			if c := n.replica.Clock(p); c != nil {
				s.Vector = crdt.AppendClock(nil, c)
			}
		}
		out = append(out, s)
	}
	return out, nil
}

// Verify implements api.Links.
func (o operators) Verify(ctx context.Context, s api.VerifyScope) (api.Verified, error) {
	v := verification{n: o.n, scope: s, began: time.Now(), last: map[hashring.Partition]verify.Verdict{}}
	for _, name := range []topology.Region{s.A, s.B} {
		t := o.n.topologyOf(name)
		if t == nil {
			return api.Verified{}, &coord.Error{
				Code: coord.CodeInvalid, Detail: "no such region", Field: "region",
				Limit: fmt.Sprint(o.n.regionNames()), Seen: strconv.Quote(string(name)),
			}
		}
		v.tops = append(v.tops, t)
	}
	if err := v.run(ctx); err != nil {
		return api.Verified{}, err
	}
	return v.result(ctx), nil
}

// topologyOf a region, nil for one that is not known.
func (n *Node) topologyOf(r topology.Region) *topology.Topology {
	if own := n.Topology(); own.Region == r {
		return own
	}
	return n.deps.Others.Get(r)
}

// verification of two regions.
type verification struct {
	n     *Node
	scope api.VerifyScope
	began time.Time
	tops  []*topology.Topology // of a and b
	last  map[hashring.Partition]verify.Verdict
}

// run looks until everything is equal, or the wait is over: twice at least at what
// differs.
func (v *verification) run(ctx context.Context) error {
	open := make([]hashring.Partition, v.partitions())
	for i := range open {
		open[i] = hashring.Partition(i)
	}
	beat := time.NewTicker(verifyBeat)
	defer beat.Stop()
	for look := 0; ; look++ {
		v.look(ctx, open, look == 0)
		open = slices.DeleteFunc(open, func(p hashring.Partition) bool { return v.last[p].Kind == verify.Equal })
		differs := slices.ContainsFunc(open, func(p hashring.Partition) bool { return v.last[p].Clock != 0 })
		if len(open) == 0 || time.Since(v.began) >= v.scope.Wait && (look > 0 || !differs) {
			return ctx.Err()
		}
		select {
		case <-beat.C:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

func (v *verification) partitions() int {
	return max(v.tops[0].Table.Partitions(), v.tops[1].Table.Partitions())
}

// look at partitions, and judge.
func (v *verification) look(ctx context.Context, parts []hashring.Partition, first bool) {
	said := v.ask(ctx, parts, v.scope.Deep, false)
	for _, p := range parts {
		var owners []verify.Owner
		for _, t := range v.tops {
			if int(p) >= t.Table.Partitions() {
				continue
			}
			for _, id := range t.Owners(p) {
				s, ok := said[topology.NodeID(id)][p]
				owners = append(owners, verify.Owner{ID: id, Answered: ok, Sum: s.Sum})
			}
		}
		now := verify.Judge(owners)
		if !first {
			now = verify.Confirm(v.last[p], now)
		}
		v.last[p] = now
	}
}

// ask the owners of the partitions for their sums.
func (v *verification) ask(ctx context.Context, parts []hashring.Partition, deep, clocks bool) map[topology.NodeID]map[hashring.Partition]partSum {
	shares, with := map[topology.NodeID][]hashring.Partition{}, map[topology.NodeID]topology.Region{}
	for i, t := range v.tops {
		for _, p := range parts {
			if int(p) < t.Table.Partitions() {
				for _, id := range t.Owners(p) {
					shares[topology.NodeID(id)] = append(shares[topology.NodeID(id)], p)
					with[topology.NodeID(id)] = v.tops[1-i].Region
				}
			}
		}
	}
	out := map[topology.NodeID]map[hashring.Partition]partSum{}
	var mu sync.Mutex
	var wg sync.WaitGroup
	for id, share := range shares {
		wg.Go(func() {
			sums := v.askOne(ctx, id, share, sumsOrder{With: with[id], Deep: deep, Clocks: clocks})
			mu.Lock()
			defer mu.Unlock()
			out[id] = sums
		})
	}
	wg.Wait()
	return out
}

// askOne node, in as many requests as it takes; it stops at the first that fails.
func (v *verification) askOne(ctx context.Context, id topology.NodeID, share []hashring.Partition, o sumsOrder) map[hashring.Partition]partSum {
	out := map[hashring.Partition]partSum{}
	piece, timeout := max(1, len(share)), operateTimeout
	switch {
	case o.Deep:
		piece, timeout = verifyDeep, verifyDeepTimeout
	case o.Clocks:
		piece = verifyClocks
	}
	for chunk := range slices.Chunk(share, piece) {
		o.Partitions = chunk
		sums, err := v.sums(ctx, id, o, timeout)
		if err != nil {
			v.n.log.Debug("owner does not say what it has", "of", string(id), "error", err)
			return out
		}
		for _, s := range sums {
			out[s.Partition] = s
		}
	}
	return out
}

func (v *verification) sums(ctx context.Context, id topology.NodeID, o sumsOrder, timeout time.Duration) ([]partSum, error) {
	if id == v.n.cfg.ID {
		return v.n.partSums(o)
	}
	body, err := json.Marshal(order{Sums: &o})
	if err != nil {
		return nil, err
	}
	b, err := peer.Call(ctx, v.n.deps.Transport, id, peer.Request{Verb: peer.VerbOperate, Timeout: timeout, Body: body})
	if err != nil {
		return nil, err
	}
	var a answer
	err = json.Unmarshal(b, &a)
	return a.Sums, err
}

// result counts what is missing where, of what is behind.
func (v *verification) result(ctx context.Context) api.Verified {
	out := api.Verified{Began: v.began, Partitions: v.partitions()}
	var behind []hashring.Partition
	for _, p := range slices.Sorted(maps.Keys(v.last)) {
		verdict := v.last[p]
		if verdict.Kind == verify.Equal {
			out.Equal++
			continue
		}
		o := api.Verdict{Partition: p, Kind: kinds[verdict.Kind]}
		for _, id := range verdict.Odd {
			o.Nodes = append(o.Nodes, topology.NodeID(id))
		}
		if verdict.Kind == verify.Behind {
			behind = append(behind, p)
		}
		out.Others = append(out.Others, o)
	}
	if len(behind) > 0 {
		said := v.ask(ctx, behind, false, true)
		for i := range out.Others {
			if o := &out.Others[i]; o.Kind == api.Behind {
				o.MissingInA, o.MissingInB = v.missing(said, o.Partition)
			}
		}
	}
	out.Took = time.Since(v.began)
	return out
}

var kinds = map[verify.Kind]api.VerdictKind{verify.Behind: api.Behind, verify.Differs: api.Differs, verify.Silent: api.Silent}

// missing counts the dots that are in one of the regions and not in the other.
func (v *verification) missing(said map[topology.NodeID]map[hashring.Partition]partSum, p hashring.Partition) (inA, inB uint64) {
	var seen [2]*crdt.Clock
	for i, t := range v.tops {
		seen[i] = new(crdt.Clock)
		if int(p) >= t.Table.Partitions() {
			continue
		}
		for _, id := range t.Owners(p) {
			if c, _, err := crdt.DecodeClock(said[topology.NodeID(id)][p].Vector); err == nil {
				seen[i].Join(c)
			}
		}
	}
	return seen[0].CountMissing(seen[1]), seen[1].CountMissing(seen[0])
}
