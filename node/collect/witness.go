package collect

import (
	"context"
	"sync"
	"time"

	"github.com/atolldb/atoll/hashring"
	"github.com/atolldb/atoll/node/peer"
	"github.com/atolldb/atoll/node/replica"
	"github.com/atolldb/atoll/node/topology"
	"github.com/atolldb/atoll/node/wire"
)

// witnessTimeout bounds the wait for one owner's word.
const witnessTimeout = 2 * time.Second

// Witness asks the other owners, of all regions, about versions. It is a
// replica.Witness. A region that is not known, an owner that does not answer or
// is behind itself: then not all have answered.
func (c *Collector) Witness(ctx context.Context, p hashring.Partition, except topology.NodeID, doubts []replica.Doubt) ([][]replica.Word, bool, error) {
	words := make([][]replica.Word, len(doubts))
	ask := wire.Collect{Kind: wire.CollectDoubts, Partition: p, Doubts: make([]wire.Doubt, len(doubts))}
	for i, d := range doubts {
		words[i] = make([]replica.Word, len(d.Dots))
		ask.Doubts[i] = wire.Doubt(d)
	}
	owners, all := c.owners(p)
	body := wire.AppendCollect(nil, &ask)
	var mu sync.Mutex
	var asked sync.WaitGroup
	for id := range owners {
		if id == c.cfg.Self || id == except {
			continue
		}
		asked.Go(func() {
			ws, err := c.words(ctx, id, body, doubts)
			mu.Lock()
			defer mu.Unlock()
			if err != nil {
				all = false
				return
			}
			for i := range ws {
				for j, w := range ws[i].Words {
					add(&words[i][j], w, ws[i].Record)
				}
			}
		})
	}
	asked.Wait()
	return words, all, ctx.Err()
}

func add(to *replica.Word, w wire.Word, record []byte) {
	switch w {
	case wire.Holds:
		to.Holds = true
	case wire.Covers:
		to.Covered = record
		to.Lack++
	case wire.Lacks:
		to.Lack++
	case wire.Silent:
	}
}

func (c *Collector) words(ctx context.Context, id topology.NodeID, body []byte, doubts []replica.Doubt) ([]wire.Words, error) {
	b, err := peer.Call(ctx, c.deps.Transport, id, peer.Request{Verb: peer.VerbCollect, Timeout: witnessTimeout, Body: body})
	if err != nil {
		return nil, err
	}
	ws, err := wire.DecodeWords(b)
	if err != nil {
		return nil, err
	}
	if len(ws) != len(doubts) {
		return nil, wire.ErrMalformed
	}
	for i := range ws {
		if len(ws[i].Words) != len(doubts[i].Dots) {
			return nil, wire.ErrMalformed
		}
	}
	return ws, nil
}
