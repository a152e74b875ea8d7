package wire_test

import (
	"math"

	"pgregory.net/rapid"

	"github.com/atolldb/atoll/crdt"
	"github.com/atolldb/atoll/node/wire"
)

var (
	ask   = of("ask", drawAsk, wire.AppendAsk, wire.DecodeAsk)
	known = of("known", drawKnown, wire.AppendKnown, wire.DecodeKnown)
)

func drawAsk(t *rapid.T) wire.Ask {
	return wire.Ask{
		Key: rapid.SliceOfN(rapid.Byte(), 1, 20).Draw(t, "key"), Ballot: rapid.Uint64Range(1, math.MaxUint64).Draw(t, "ballot"),
		ID: crdt.MakeRequestID(rapid.Int64Range(0, 1<<40).Draw(t, "made"), [10]byte{1}),
	}
}

func drawKnown(t *rapid.T) wire.Known {
	k := wire.Known{Sure: rapid.Bool().Draw(t, "sure"), Higher: rapid.Bool().Draw(t, "higher"), Stamp: rapid.Uint64().Draw(t, "stamp")}
	if rapid.Bool().Draw(t, "event") {
		k.Dot, k.Record = drawDot(t), drawBytes.Draw(t, "record")
	}
	return k
}
