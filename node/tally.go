package node

import (
	"context"

	"github.com/atolldb/atoll/crdt"
	"github.com/atolldb/atoll/geo/failover"
	"github.com/atolldb/atoll/hashring"
	"github.com/atolldb/atoll/node/coord"
)

// Clocks name writes and not keys. To which buckets some writes of a region belong is
// asked of its owners, whose index tells the key of each.

// maxTally bounds the writes that a node looks up for one question.
const maxTally = 100_000

// tallyOrder asks to which buckets writes belong.
type tallyOrder struct{ Spans []failover.Span }

// tallyAnswer counts them, by the number of the span.
type tallyAnswer struct{ Buckets map[int]map[string]uint64 }

// tallyHere looks into the own index.
func (n *Node) tallyHere(o tallyOrder) (*tallyAnswer, error) {
	a := &tallyAnswer{Buckets: map[int]map[string]uint64{}}
	left := maxTally
	for i, s := range o.Spans[:min(len(o.Spans), failover.MaxSpans)] {
		p := hashring.Partition(s.Partition)
		if int(s.Partition) >= n.Topology().Table.Partitions() || !n.replica.Owns(p) || left == 0 {
			continue
		}
		count := map[string]uint64{}
		err := n.replica.Indexed(p, s.Dots, func(_ crdt.Dot, key []byte) bool {
			bucket, _ := coord.SplitKey(key)
			count[bucket]++
			left--
			return left > 0
		})
		if err != nil {
			return nil, err
		}
		a.Buckets[i] = count
	}
	return a, nil
}

// tallyIn asks all nodes of a region. Of each span the owner that knows most is gone by:
// owners have the same, but for what is on its way.
func (n *Node) tallyIn(ctx context.Context, region string, spans []failover.Span) (map[string]uint64, error) {
	most := make([]map[string]uint64, len(spans))
	answers, errs := n.orderThese(ctx, n.nodesOf(region), order{Tally: &tallyOrder{Spans: spans}})
	var last error
	for i, a := range answers {
		if errs[i] != nil || a.Tally == nil {
			last = errs[i]
			continue
		}
		for span, count := range a.Tally.Buckets {
			if span >= 0 && span < len(most) && sum(count) > sum(most[span]) {
				most[span] = count
			}
		}
	}
	out := map[string]uint64{}
	for _, count := range most {
		for bucket, writes := range count {
			out[bucket] += writes
		}
	}
	if len(out) == 0 {
		return nil, last
	}
	return out, nil
}

func sum(count map[string]uint64) (all uint64) {
	for _, n := range count {
		all += n
	}
	return all
}
