package geotest

import (
	"context"
	"fmt"
	"sync"
	"testing"

	"github.com/hashicorp/go-hclog"

	"github.com/atolldb/atoll/crdt"
	"github.com/atolldb/atoll/geo"
	"github.com/atolldb/atoll/hashring"
)

// pumpToDrain runs the whole path over the adapter: every dot minted in east
// arrives in west, over a cut in between.
func pumpToDrain(t *testing.T, w World) {
	const writes = 2000
	actor := crdt.MakeActor(1, 1)
	out, in := NewOutbox(actor), NewInbox(nil)
	logger := hclog.NewNullLogger()
	pump := geo.NewPump(geo.PumpConfig{Region: "east", Node: "east-1", Incarnation: actor, Nodes: func() int { return 3 }}, out, w.Log(), logger)
	drain := geo.NewDrain(geo.DrainConfig{Region: "west", Origin: "east", Sole: true}, w.Feed(), in, geo.DrainEvents{}, logger)
	ctx, cancel := context.WithCancel(context.Background())
	var wg sync.WaitGroup
	t.Cleanup(wg.Wait)
	t.Cleanup(cancel)
	wg.Go(func() { _ = pump.Run(ctx) })
	wg.Go(func() { _ = drain.Run(ctx) })
	wait := func(n int) {
		t.Helper()
		bound, done := context.WithTimeout(ctx, patience)
		defer done()
		if err := in.WaitCount(bound, n); err != nil {
			t.Fatalf("%v; pump %+v, drain %+v", err, pump.Stats(), drain.Stats())
		}
	}
	for i := range writes {
		if i == writes/2 {
			wait(1)
			w.Cut(true)
		}
		key := fmt.Sprintf("bucket\x00key-%d", i%700)
		out.Mint(hashring.Partition(i%700%64), key, fmt.Appendf(nil, "value %d of %s", i, key))
	}
	w.Cut(false)
	wait(writes)
	if s := pump.Stats(); s.Batches > writes/10 {
		t.Errorf("%d writes took %d messages", writes, s.Batches)
	}
	for i := writes - 700; i < writes; i++ {
		key := fmt.Sprintf("bucket\x00key-%d", i%700)
		if got, want := string(in.Record(key)), fmt.Sprintf("value %d of %s", i, key); got != want {
			t.Errorf("%q is %q, want %q", key, got, want)
		}
	}
}
