package wire_test

import (
	"bytes"
	"errors"
	"slices"
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
		m.Wait = m.Needs != nil && rapid.Bool().Draw(t, "wait")
		m.Fresh = rapid.Bool().Draw(t, "fresh")
		m.Settle = rapid.Bool().Draw(t, "settle")
		if rapid.Bool().Draw(t, "home") {
			m.Home = max(1, drawEpoch.Draw(t, "epoch"))
		}
		got, err := wire.DecodeRead(wire.AppendRead(nil, m))
		if err != nil || !bytes.Equal(got.Key, m.Key) || (got.Needs == nil) != (m.Needs == nil) || got.Wait != m.Wait || got.Fresh != m.Fresh || got.Home != m.Home || got.Settle != m.Settle {
			t.Fatalf("%+v: %+v, %v", m, got, err)
		}
		if m.Needs != nil && !bytes.Equal(crdt.AppendClock(nil, m.Needs), crdt.AppendClock(nil, got.Needs)) {
			t.Fatalf("needs %v: %v", m.Needs, got.Needs)
		}
		held := wire.Held{Record: drawBytes.Draw(t, "record"), Pending: rapid.Bool().Draw(t, "pending")}
		for _, d := range rapid.SliceOfN(rapid.Custom(drawDot), 0, 2).Draw(t, "missing") {
			if held.Missing == nil {
				held.Missing = &crdt.Clock{}
			}
			held.Missing.Add(d)
		}
		for _, d := range rapid.SliceOfN(rapid.Custom(drawDot), 0, 2).Draw(t, "lost") {
			if held.Lost == nil {
				held.Lost = &crdt.Clock{}
			}
			held.Lost.Add(d)
		}
		for i := range rapid.IntRange(0, 3).Draw(t, "regions") {
			held.Fresh = append(held.Fresh, wire.Fresh{Region: uint8(i + 1), AsOf: rapid.Uint64().Draw(t, "as of")})
		}
		encoded := held
		encoded.Record = bytes.Clone(held.Record)
		back, err := wire.DecodeHeld(wire.EncodeHeld(encoded))
		if err != nil || !bytes.Equal(back.Record, held.Record) || back.Pending != held.Pending || !slices.Equal(back.Fresh, held.Fresh) ||
			(back.Missing == nil) != (held.Missing == nil) || held.Missing != nil && !back.Missing.Equal(held.Missing) ||
			(back.Lost == nil) != (held.Lost == nil) || held.Lost != nil && !back.Lost.Equal(held.Lost) {
			t.Fatalf("%+v: %+v, %v", held, back, err)
		}
	})
}

func TestReadRefuses(t *testing.T) {
	for name, body := range map[string][]byte{"nothing": nil, "no key": {0}, "unknown flag": {32, 1, 'k'}, "no epoch": {8, 1, 'k'}, "epoch 0": {8, 1, 'k', 0}, "waits for nothing": {2, 1, 'k'}, "no clock": {1, 1, 'k'}} {
		if m, err := wire.DecodeRead(body); !errors.Is(err, wire.ErrMalformed) {
			t.Errorf("%s: %+v, %v", name, m, err)
		}
	}
	for name, body := range map[string][]byte{"nothing": nil, "unknown flag": {8}, "lost without extras": {4}, "lost nothing": append(crdt.AppendClock(crdt.AppendClock(nil, &crdt.Clock{})[:2:2], &crdt.Clock{}), 0, 0, 0, 0, 6), "no length": {0, 0, 0, 2}, "too long": {0, 0, 0, 1, 2}, "no clock": {9, 0, 0, 0, 0, 1, 2}} {
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

func FuzzHeld(f *testing.F) {
	f.Add(wire.EncodeHeld(wire.Held{Record: []byte("r"), Pending: true}))
	missing := &crdt.Clock{}
	missing.Add(crdt.Dot{Actor: 65, N: 7})
	f.Add(wire.EncodeHeld(wire.Held{Record: []byte("r"), Missing: missing, Fresh: []wire.Fresh{{Region: 2, AsOf: 9}}}))
	f.Fuzz(func(t *testing.T, b []byte) {
		m, err := wire.DecodeHeld(b)
		if err != nil {
			return
		}
		again, err := wire.DecodeHeld(wire.EncodeHeld(m))
		if err != nil || again.Pending != m.Pending || !slices.Equal(again.Fresh, m.Fresh) || (again.Missing == nil) != (m.Missing == nil) {
			t.Fatalf("%+v: %+v, %v", m, again, err)
		}
	})
}
