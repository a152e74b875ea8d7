package wire_test

import (
	"bytes"
	"errors"
	"testing"

	"pgregory.net/rapid"

	"github.com/atolldb/atoll/crdt"
	"github.com/atolldb/atoll/node/wire"
)

func TestReadRoundTrip(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		m := wire.Read{Key: rapid.SliceOfN(rapid.Byte(), 1, 40).Draw(t, "key")}
		if rapid.Bool().Draw(t, "needs") {
			m.Needs = &crdt.Clock{}
			for _, d := range rapid.SliceOfN(rapid.Custom(drawDot), 0, 4).Draw(t, "dots") {
				m.Needs.Add(d)
			}
		}
		got, err := wire.DecodeRead(wire.AppendRead(nil, m))
		if err != nil || !bytes.Equal(got.Key, m.Key) || (got.Needs == nil) != (m.Needs == nil) {
			t.Fatalf("%+v: %+v, %v", m, got, err)
		}
		if m.Needs != nil && !bytes.Equal(crdt.AppendClock(nil, m.Needs), crdt.AppendClock(nil, got.Needs)) {
			t.Fatalf("needs %v: %v", m.Needs, got.Needs)
		}
		held := wire.Held{Record: drawBytes.Draw(t, "record"), Pending: rapid.Bool().Draw(t, "pending")}
		back, err := wire.DecodeHeld(wire.EncodeHeld(wire.Held{Record: bytes.Clone(held.Record), Pending: held.Pending}))
		if err != nil || !bytes.Equal(back.Record, held.Record) || back.Pending != held.Pending {
			t.Fatalf("%+v: %+v, %v", held, back, err)
		}
	})
}

func TestReadRefuses(t *testing.T) {
	for name, body := range map[string][]byte{"nothing": nil, "no key": {0}, "unknown flag": {2, 'k'}, "no clock": {1, 1, 'k'}} {
		if m, err := wire.DecodeRead(body); !errors.Is(err, wire.ErrMalformed) {
			t.Errorf("%s: %+v, %v", name, m, err)
		}
	}
	for name, body := range map[string][]byte{"nothing": nil, "unknown flag": {2}} {
		if m, err := wire.DecodeHeld(body); !errors.Is(err, wire.ErrMalformed) {
			t.Errorf("held, %s: %+v, %v", name, m, err)
		}
	}
}

func FuzzRead(f *testing.F) {
	f.Add(wire.AppendRead(nil, wire.Read{Key: []byte("k")}))
	f.Add(wire.AppendRead(nil, wire.Read{Key: []byte("k"), Needs: &crdt.Clock{}}))
	f.Fuzz(func(t *testing.T, b []byte) {
		m, err := wire.DecodeRead(b)
		if err != nil {
			return
		}
		if again, err := wire.DecodeRead(wire.AppendRead(nil, m)); err != nil || !bytes.Equal(again.Key, m.Key) {
			t.Fatalf("%+v: %+v, %v", m, again, err)
		}
	})
}
