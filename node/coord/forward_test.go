package coord

import (
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	"pgregory.net/rapid"

	"github.com/atolldb/atoll/crdt"
	"github.com/atolldb/atoll/crdt/hlc"
	"github.com/atolldb/atoll/node/quorum"
	"github.com/atolldb/atoll/node/topology"
	"github.com/atolldb/atoll/node/wire"
)

var (
	someBytes = rapid.SliceOfN(rapid.Byte(), 0, 30)
	someLevel = rapid.Map(rapid.Uint8Range(0, 6), func(n uint8) quorum.Level { return quorum.Level(n) })
	someNodes = rapid.SliceOfN(rapid.Map(rapid.String(), func(s string) topology.NodeID { return topology.NodeID(s) }), 0, 64)
)

func drawPut(t *rapid.T) Put {
	p := Put{
		Bucket: rapid.String().Draw(t, "bucket"), Key: someBytes.Draw(t, "key"), Value: someBytes.Draw(t, "value"),
		Context: someBytes.Draw(t, "context"), Level: someLevel.Draw(t, "level"), W: rapid.IntRange(0, 64).Draw(t, "w"),
		TTL:       time.Duration(rapid.Int64Range(0, int64(maxTTL/time.Millisecond)).Draw(t, "ttl")) * time.Millisecond,
		Overwrite: rapid.Bool().Draw(t, "overwrite"), Delete: rapid.Bool().Draw(t, "delete"), Sloppy: rapid.Bool().Draw(t, "sloppy"),
		Regions: rapid.IntRange(0, 64).Draw(t, "regions"), Retry: rapid.Bool().Draw(t, "retry"), Session: someBytes.Draw(t, "session"),
		RequestID: RequestID(rapid.SliceOfN(rapid.Byte(), 16, 16).Draw(t, "id")),
		Condition: rapid.SampledFrom([]crdt.Condition{
			{}, {Kind: crdt.IfAbsent}, {Kind: crdt.IfContext}, {Kind: crdt.IfVersion, Version: crdt.Dot{Actor: 65, N: 7}},
		}).Draw(t, "condition"),
	}
	if p.Retry {
		p.Attempt = rapid.Uint64().Draw(t, "attempt")
	}
	return p
}

func drawResult(t *rapid.T) PutResult {
	return PutResult{
		Version: crdt.Dot{Actor: crdt.Actor(rapid.Uint32().Draw(t, "actor")), N: rapid.Uint64().Draw(t, "n")},
		Stamp:   hlc.Stamp(rapid.Uint64().Draw(t, "stamp")), Context: someBytes.Draw(t, "context"),
		Event:   crdt.Dot{Actor: crdt.Actor(rapid.Uint32().Draw(t, "event actor")), N: rapid.Uint64().Draw(t, "event n")},
		Session: someBytes.Draw(t, "session"), MaybeDuplicate: rapid.Bool().Draw(t, "duplicate"), Replayed: rapid.Bool().Draw(t, "replayed"), ContextOmitted: rapid.Bool().Draw(t, "omitted"),
		Achieved: Achieved{
			Level: someLevel.Draw(t, "level"), Needed: rapid.IntRange(0, 64).Draw(t, "needed"),
			Replicas: someNodes.Draw(t, "replicas"), Hinted: someNodes.Draw(t, "hinted"),
			Coordinator: topology.NodeID(rapid.String().Draw(t, "coordinator")), Degraded: rapid.Bool().Draw(t, "degraded"),
			Reached: someLevel.Draw(t, "reached"), ManySiblings: rapid.Bool().Draw(t, "many"),
			Regions: rapid.SliceOfN(rapid.Custom(func(t *rapid.T) RegionAchieved {
				return RegionAchieved{
					Region: topology.Region(rapid.String().Draw(t, "region")), State: RegionState(rapid.Uint8().Draw(t, "state")),
					Replicas: rapid.IntRange(0, 64).Draw(t, "replicas there"), Needed: rapid.IntRange(0, 64).Draw(t, "needed there"),
					Detail: rapid.String().Draw(t, "region detail"),
				}
			}), 0, 4).Draw(t, "regions"),
		},
	}
}

func drawError(t *rapid.T) *Error {
	e := &Error{
		Code: Code(rapid.Uint8().Draw(t, "code")), Outcome: Outcome(rapid.Uint8Range(0, 1).Draw(t, "outcome")),
		Detail: rapid.String().Draw(t, "detail"), Field: rapid.String().Draw(t, "field"),
		Limit: rapid.String().Draw(t, "limit"), Seen: rapid.String().Draw(t, "seen"),
		Needed: rapid.IntRange(0, 1<<30).Draw(t, "needed"), Acks: rapid.IntRange(0, 1<<30).Draw(t, "acks"),
		Lacks:        Lack(rapid.Uint8().Draw(t, "lacks")),
		RetryAfterMs: rapid.IntRange(0, 1<<30).Draw(t, "retry"), again: rapid.Bool().Draw(t, "again"),
		current: someBytes.Draw(t, "current"),
		Applied: rapid.Ptr(rapid.Custom(drawResult), true).Draw(t, "applied"),
	}
	if rapid.Bool().Draw(t, "loses") {
		e.lost = &crdt.Clock{}
		e.lost.Add(crdt.Dot{Actor: 65, N: rapid.Uint64Range(1, 9).Draw(t, "lost")})
	}
	return e
}

func same(a, b any) string {
	return cmp.Diff(a, b, cmpopts.EquateEmpty(), cmp.AllowUnexported(Error{}), cmp.Comparer(func(a, b *crdt.Clock) bool {
		return a == b || a != nil && b != nil && a.Equal(b)
	}))
}

// A forwarded write is the same write at the node that mints it, and its
// outcome the same outcome.
func TestForwardRoundTrip(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		p := drawPut(t)
		m, err := wire.DecodeForward(wire.AppendForward(nil, packPut(&p)))
		if err != nil {
			t.Fatal(err)
		}
		if diff := same(p, unpackPut(&m)); diff != "" {
			t.Fatal(diff)
		}
		res := drawResult(t)
		gotRes, gotErr, err := unpackReply(packReply(res, nil))
		if diff := same(res, gotRes); diff != "" || gotErr != nil || err != nil {
			t.Fatal(diff, gotErr, err)
		}
		e := drawError(t)
		_, gotErr, err = unpackReply(packReply(PutResult{}, e))
		if diff := same(e, gotErr); diff != "" || err != nil {
			t.Fatal(diff, err)
		}
	})
}

// What is out of range on the way stays out of range.
func TestForwardOutOfRange(t *testing.T) {
	p := unpackPut(&wire.Forward{W: 1<<32 - 1, TTL: 1<<64 - 1, Level: 255})
	if p.W <= 64 || p.TTL <= maxTTL || p.Level.Valid() {
		t.Errorf("%+v", p)
	}
	if _, _, err := unpackReply([]byte{2}); err == nil {
		t.Error("a reply that is none")
	}
}
