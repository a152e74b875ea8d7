package wire_test

import (
	"errors"
	"math"
	"testing"

	"pgregory.net/rapid"

	"github.com/atolldb/atoll/crdt"
	"github.com/atolldb/atoll/node/wire"
)

// byValue makes an Append function of one that takes a pointer.
func byValue[M any](pack func([]byte, *M) []byte) func([]byte, M) []byte {
	return func(dst []byte, m M) []byte { return pack(dst, &m) }
}

var (
	forward   = of("forward", drawForward, byValue(wire.AppendForward), wire.DecodeForward)
	forwarded = of("forwarded", drawForwarded, byValue(wire.AppendForwarded), wire.DecodeForwarded)
	hint      = of("hint", drawHint, byValue(wire.AppendHint), wire.DecodeHint)
)

func drawForward(t *rapid.T) wire.Forward {
	m := wire.Forward{
		Bucket: rapid.String().Draw(t, "bucket"), Key: drawBytes.Draw(t, "key"), Value: drawBytes.Draw(t, "value"),
		Context: drawBytes.Draw(t, "context"), Level: rapid.Uint8().Draw(t, "level"), W: rapid.Uint32().Draw(t, "w"),
		TTL:    rapid.Uint64().Draw(t, "ttl"),
		Delete: rapid.Bool().Draw(t, "delete"), Overwrite: rapid.Bool().Draw(t, "overwrite"), Sloppy: rapid.Bool().Draw(t, "sloppy"),
		Regions: rapid.Uint32().Draw(t, "regions"), Retry: rapid.Bool().Draw(t, "retry"), Session: drawBytes.Draw(t, "session"),
		RequestID: rapid.Ptr(rapid.Map(rapid.Uint64(), func(n uint64) [16]byte { return [16]byte{byte(n), 1: byte(n >> 8), 15: 1} }), true).Draw(t, "id"),
		Condition: rapid.SampledFrom([]crdt.Condition{
			{}, {Kind: crdt.IfAbsent}, {Kind: crdt.IfContext}, {Kind: crdt.IfVersion, Version: crdt.Dot{Actor: 65, N: 7}},
		}).Draw(t, "condition"),
	}
	if m.Retry {
		m.Attempt = rapid.Uint64().Draw(t, "attempt")
		m.TriedIn = rapid.SliceOfN(rapid.String(), 0, 4).Draw(t, "tried in")
	}
	return m
}

func drawForwarded(t *rapid.T) wire.Forwarded {
	if rapid.Bool().Draw(t, "failed") {
		return wire.Forwarded{Failed: &wire.ForwardFailed{
			Code: rapid.Uint8().Draw(t, "code"), Outcome: rapid.Uint8().Draw(t, "outcome"), Again: rapid.Bool().Draw(t, "again"), MaybeDuplicate: rapid.Bool().Draw(t, "duplicate"),
			Detail: rapid.String().Draw(t, "detail"), Field: rapid.String().Draw(t, "field"),
			Limit: rapid.String().Draw(t, "limit"), Seen: rapid.String().Draw(t, "seen"),
			Needed: rapid.Uint32().Draw(t, "needed"), Acks: rapid.Uint32().Draw(t, "acks"), RetryAfterMs: rapid.Uint32().Draw(t, "retry"), Lacks: rapid.Uint8().Draw(t, "lacks"), Current: drawBytes.Draw(t, "current"),
			Applied: rapid.Ptr(rapid.Custom(drawDone), true).Draw(t, "applied"),
		}}
	}
	return wire.Forwarded{Done: drawDone(t)}
}

func drawDone(t *rapid.T) wire.ForwardDone {
	nodes := rapid.SliceOfN(rapid.String(), 0, 128)
	return wire.ForwardDone{
		Version: crdt.Dot{Actor: crdt.Actor(rapid.Uint32().Draw(t, "actor")), N: rapid.Uint64().Draw(t, "n")},
		Stamp:   rapid.Uint64().Draw(t, "stamp"), Context: drawBytes.Draw(t, "context"), Session: drawBytes.Draw(t, "session"),
		Event:          crdt.Dot{Actor: crdt.Actor(rapid.Uint32().Draw(t, "event actor")), N: rapid.Uint64().Draw(t, "event n")},
		MaybeDuplicate: rapid.Bool().Draw(t, "duplicate"), Replayed: rapid.Bool().Draw(t, "replayed"),
		ManySiblings: rapid.Bool().Draw(t, "many"), ContextOmitted: rapid.Bool().Draw(t, "omitted"),
		Level: rapid.Uint8().Draw(t, "level"), Needed: rapid.Uint32().Draw(t, "needed"), Degraded: rapid.Bool().Draw(t, "degraded"),
		Coordinator: rapid.String().Draw(t, "coordinator"), Replicas: nodes.Draw(t, "replicas"), Hinted: nodes.Draw(t, "hinted"),
		Reached: rapid.Uint8().Draw(t, "reached"),
		Regions: rapid.SliceOfN(rapid.Custom(func(t *rapid.T) wire.ForwardRegion {
			return wire.ForwardRegion{
				Region: rapid.String().Draw(t, "region"), State: rapid.Uint8().Draw(t, "state"), Detail: rapid.String().Draw(t, "region detail"),
				Replicas: rapid.Uint32().Draw(t, "replicas there"), Needed: rapid.Uint32().Draw(t, "needed there"),
			}
		}), 0, 5).Draw(t, "regions"),
	}
}

func drawHint(t *rapid.T) wire.Hint {
	e := wire.Entry{
		Key:    rapid.SliceOfN(rapid.Byte(), 1, 20).Draw(t, "key"),
		Record: drawBytes.Draw(t, "record"), Dots: rapid.SliceOfN(rapid.Custom(drawDot), 0, 4).Draw(t, "dots"),
	}
	return wire.Hint{Owner: rapid.StringN(1, 20, -1).Draw(t, "owner"), Entry: e}
}

// A client's write must not turn into another one: what no coordinator writes
// is refused.
func TestForwardRefuses(t *testing.T) {
	flags := wire.AppendForward(nil, &wire.Forward{Bucket: "b", Key: []byte("k"), Value: []byte("v")})
	flags[len(flags)-1] = 64
	for name, body := range map[string][]byte{
		"unknown flag":  flags,
		"w of 33 bits":  append([]byte{0, 0, 0, 0, 1}, append(uvarints(1<<32), 0, 0)...),
		"empty forward": nil,
	} {
		if m, err := wire.DecodeForward(body); !errors.Is(err, wire.ErrMalformed) {
			t.Errorf("%s: %+v, %v", name, m, err)
		}
	}
	good := wire.AppendForwarded(nil, &wire.Forwarded{})
	neither := append([]byte{2}, good[1:]...)
	many := wire.AppendForwarded(nil, &wire.Forwarded{Done: wire.ForwardDone{Replicas: make([]string, 129)}})
	for name, body := range map[string][]byte{
		"neither success nor failure": neither,
		"129 replicas":                many,
		"nothing":                     nil,
		"huge failure":                {1, 1, 1, 0, 0xff, 0xff, 0xff, 0xff, 0x0f},
	} {
		if m, err := wire.DecodeForwarded(body); !errors.Is(err, wire.ErrMalformed) {
			t.Errorf("%s: %+v, %v", name, m, err)
		}
	}
	two := append([]byte{1, 'o'}, wire.AppendApply(nil, wire.Apply{Entries: []wire.Entry{{Key: []byte("a")}, {Key: []byte("b")}}})...)
	nobody := wire.AppendHint(nil, &wire.Hint{Entry: wire.Entry{Key: []byte("a")}})
	for name, body := range map[string][]byte{"two entries": two, "for nobody": nobody, "no entry": {1, 'o', 0}} {
		if m, err := wire.DecodeHint(body); !errors.Is(err, wire.ErrMalformed) {
			t.Errorf("%s: %+v, %v", name, m, err)
		}
	}
	if m, err := wire.DecodeForward(wire.AppendForward(nil, &wire.Forward{W: math.MaxUint32})); err != nil || m.W != math.MaxUint32 {
		t.Errorf("the highest w: %+v, %v", m, err)
	}
}

func FuzzDecodeForward(f *testing.F)   { fuzz(f, forward) }
func FuzzDecodeForwarded(f *testing.F) { fuzz(f, forwarded) }
func FuzzDecodeHint(f *testing.F)      { fuzz(f, hint) }
