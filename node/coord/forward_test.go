package coord

import (
	"encoding/binary"
	"math"
	"runtime"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	"pgregory.net/rapid"

	"github.com/atolldb/atoll/crdt"
	"github.com/atolldb/atoll/crdt/hlc"
	"github.com/atolldb/atoll/node/quorum"
	"github.com/atolldb/atoll/node/topology"
)

var (
	someBytes = rapid.SliceOfN(rapid.Byte(), 0, 30)
	someLevel = rapid.Map(rapid.Uint8Range(0, 6), func(n uint8) quorum.Level { return quorum.Level(n) })
)

func drawPut(t *rapid.T) Put {
	return Put{
		Bucket: rapid.String().Draw(t, "bucket"), Key: someBytes.Draw(t, "key"), Value: someBytes.Draw(t, "value"),
		Context: someBytes.Draw(t, "context"), Level: someLevel.Draw(t, "level"), W: rapid.IntRange(0, 64).Draw(t, "w"),
		TTL:       time.Duration(rapid.Int64Range(0, int64(maxTTL/time.Millisecond)).Draw(t, "ttl")) * time.Millisecond,
		Overwrite: rapid.Bool().Draw(t, "overwrite"), Delete: rapid.Bool().Draw(t, "delete"),
	}
}

func drawResult(t *rapid.T) PutResult {
	return PutResult{
		Version: crdt.Dot{Actor: crdt.Actor(rapid.Uint32().Draw(t, "actor")), N: rapid.Uint64().Draw(t, "n")},
		Stamp:   hlc.Stamp(rapid.Uint64().Draw(t, "stamp")), Context: someBytes.Draw(t, "context"),
		Achieved: Achieved{
			Level: someLevel.Draw(t, "level"), Needed: rapid.IntRange(0, 64).Draw(t, "needed"),
			Replicas:    rapid.SliceOfN(rapid.Map(rapid.String(), func(s string) topology.NodeID { return topology.NodeID(s) }), 0, 64).Draw(t, "replicas"),
			Coordinator: topology.NodeID(rapid.String().Draw(t, "coordinator")), Degraded: rapid.Bool().Draw(t, "degraded"),
		},
	}
}

func drawError(t *rapid.T) *Error {
	return &Error{
		Code: Code(rapid.Uint8().Draw(t, "code")), Outcome: Outcome(rapid.Uint8Range(0, 1).Draw(t, "outcome")),
		Detail: rapid.String().Draw(t, "detail"), Field: rapid.String().Draw(t, "field"),
		Limit: rapid.String().Draw(t, "limit"), Seen: rapid.String().Draw(t, "seen"),
		Needed: rapid.IntRange(0, 1<<30).Draw(t, "needed"), Acks: rapid.IntRange(0, 1<<30).Draw(t, "acks"),
		RetryAfterMs: rapid.IntRange(0, 1<<30).Draw(t, "retry"), again: rapid.Bool().Draw(t, "again"),
	}
}

func same(a, b any) string {
	return cmp.Diff(a, b, cmpopts.EquateEmpty(), cmp.AllowUnexported(Error{}))
}

func TestForwardRoundTrip(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		p := drawPut(t)
		b := appendPut(nil, &p)
		got, err := decodePut(b)
		if diff := same(p, got); diff != "" || err != nil {
			t.Fatal(diff, err)
		}
		refuseChanged(t, b, func(b []byte) error { _, err := decodePut(b); return err })

		res := drawResult(t)
		b = appendPutReply(nil, res, nil)
		gotRes, gotErr, err := decodePutReply(b)
		if diff := same(res, gotRes); diff != "" || gotErr != nil || err != nil {
			t.Fatal(diff, gotErr, err)
		}
		refuseChanged(t, b, decodeReply)

		e := drawError(t)
		b = appendPutReply(nil, PutResult{}, e)
		_, gotErr, err = decodePutReply(b)
		if diff := same(e, gotErr); diff != "" || err != nil {
			t.Fatal(diff, err)
		}
		refuseChanged(t, b, decodeReply)
	})
}

func decodeReply(b []byte) error { _, _, err := decodePutReply(b); return err }

// refuseChanged: nothing shorter and nothing longer is a message.
func refuseChanged(t *rapid.T, b []byte, decode func([]byte) error) {
	if err := decode(b[:rapid.IntRange(0, len(b)-1).Draw(t, "cut")]); err == nil {
		t.Fatal("accepted a part")
	}
	if err := decode(append(b, 0)); err == nil {
		t.Fatal("accepted one byte too many")
	}
}

// What no coordinator writes is refused, or cut to what it may be: a client's
// write must not turn into another one.
func TestForwardRefuses(t *testing.T) {
	p := Put{Bucket: "b", Key: []byte("k"), Value: []byte("v")}
	good := appendPut(nil, &p)
	flags := append([]byte(nil), good...)
	flags[len(flags)-1] = 4
	if _, err := decodePut(flags); err == nil {
		t.Error("accepted an unknown flag")
	}
	if err := decodeReply([]byte{2}); err == nil {
		t.Error("accepted a reply that is neither success nor failure")
	}
	reply := appendPutReply(nil, PutResult{}, nil)
	reply[0] = 2
	if err := decodeReply(reply); err == nil {
		t.Error("accepted a reply that is neither success nor failure")
	}
	b := appendPutReply(nil, PutResult{Achieved: Achieved{Replicas: make([]topology.NodeID, 65)}}, nil)
	if err := decodeReply(b); err == nil {
		t.Error("accepted 65 replicas")
	}
	// Hostile lengths reserve nothing.
	for _, n := range []uint64{1 << 20, 1 << 40, math.MaxUint64} {
		for _, head := range [][]byte{nil, {1, 'b'}, {1, 1, 0, 0}, {0, 1, 1, 1, 0, 0, 0, 0, 0}} {
			b := append(binary.AppendUvarint(append([]byte(nil), head...), n), make([]byte, 100)...)
			var before, after runtime.MemStats
			runtime.ReadMemStats(&before)
			_, putErr := decodePut(b)
			_ = decodeReply(b)
			runtime.ReadMemStats(&after)
			if putErr == nil || after.TotalAlloc-before.TotalAlloc > 64<<10 {
				t.Errorf("%x: %v, %d bytes", b[:20], putErr, after.TotalAlloc-before.TotalAlloc)
			}
		}
	}
}

func FuzzDecodePut(f *testing.F) {
	for i := range 20 {
		p := rapid.Custom(drawPut).Example(i)
		f.Add(appendPut(nil, &p))
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		p, err := decodePut(b)
		if err != nil {
			return
		}
		again, err := decodePut(appendPut(nil, &p))
		if diff := same(p, again); diff != "" || err != nil {
			t.Fatal(diff, err)
		}
	})
}

func FuzzDecodePutReply(f *testing.F) {
	for i := range 20 {
		f.Add(appendPutReply(nil, rapid.Custom(drawResult).Example(i), nil))
		f.Add(appendPutReply(nil, PutResult{}, rapid.Custom(drawError).Example(i)))
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		res, e, err := decodePutReply(b)
		if err != nil {
			return
		}
		res2, e2, err := decodePutReply(appendPutReply(nil, res, e))
		if diff := same(res, res2) + same(e, e2); diff != "" || err != nil {
			t.Fatal(diff, err)
		}
	})
}
