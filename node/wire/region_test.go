package wire_test

import (
	"errors"
	"testing"

	"pgregory.net/rapid"

	"github.com/atolldb/atoll/node/home"
	"github.com/atolldb/atoll/node/wire"
)

var (
	regionApply = of("region apply", drawRegionApply, byValue(wire.AppendRegionApply), wire.DecodeRegionApply)
	regionRead  = of("region read", drawRegionRead, byValue(wire.AppendRegionRead), wire.DecodeRegionRead)
	homePut     = of("home put", drawHomePut, byValue(wire.AppendHomePut), wire.DecodeHomePut)
	regionReply = of("region reply", drawRegionReply, byValue(wire.AppendRegionReply), wire.DecodeRegionReply)
)

func drawRegionApply(t *rapid.T) wire.RegionApply {
	return wire.RegionApply{
		Level: rapid.Uint8().Draw(t, "level"), Owners: rapid.Uint32().Draw(t, "owners"),
		Entry: wire.Entry{
			Key:    rapid.SliceOfN(rapid.Byte(), 1, 20).Draw(t, "key"),
			Record: drawBytes.Draw(t, "record"), Dots: rapid.SliceOfN(rapid.Custom(drawDot), 0, 4).Draw(t, "dots"),
		},
	}
}

func drawRegionRead(t *rapid.T) wire.RegionRead {
	m := wire.RegionRead{
		Level: rapid.Uint8().Draw(t, "level"), Owners: rapid.Uint32().Draw(t, "owners"),
		Key: rapid.SliceOfN(rapid.Byte(), 0, 20).Draw(t, "key"),
	}
	if len(m.Key) == 0 || rapid.Bool().Draw(t, "needs") {
		m.Partition, m.Needs = drawPart.Draw(t, "partition"), drawClock(t)
	}
	m.Home = drawEpoch.Draw(t, "home")
	if rapid.Bool().Draw(t, "session") {
		m.Session = drawBytes.Draw(t, "token")
	}
	return m
}

var drawEpoch = rapid.Map(rapid.Uint32Range(0, uint32(home.MaxEpoch)), func(n uint32) home.Epoch { return home.Epoch(n) })

func drawHomePut(t *rapid.T) wire.HomePut {
	return wire.HomePut{Home: max(drawEpoch.Draw(t, "home"), 1), Put: drawForward(t)}
}

func drawShare(t *rapid.T) wire.Share {
	return wire.Share{
		Yes: rapid.Uint32().Draw(t, "yes"), Needed: rapid.Uint32().Draw(t, "needed"), Owners: rapid.Uint32().Draw(t, "of"),
		Code: rapid.Uint8().Draw(t, "code"), Detail: rapid.String().Draw(t, "detail"),
	}
}

func drawRegionReply(t *rapid.T) wire.RegionReply {
	return wire.RegionReply{Share: drawShare(t), Record: drawBytes.Draw(t, "record")}
}

func TestRegionRefuses(t *testing.T) {
	entry := wire.Entry{Key: []byte("a")}
	none := append([]byte{4, 0}, wire.AppendApply(nil, wire.Apply{})...)
	two := append([]byte{4, 0}, wire.AppendApply(nil, wire.Apply{Entries: []wire.Entry{entry, entry}})...)
	for name, body := range map[string][]byte{"nothing": nil, "no entry": none, "two entries": two} {
		if m, err := wire.DecodeRegionApply(body); !errors.Is(err, wire.ErrMalformed) {
			t.Errorf("%s: %+v, %v", name, m, err)
		}
	}
	for name, body := range map[string][]byte{"nothing": nil, "neither key nor needs": {4, 0, 0, 0, 0, 0}, "not a bool": {4, 0, 1, 'k', 2, 0, 0}, "no home": {4, 0, 1, 'k', 0}, "epoch too high": {4, 0, 1, 'k', 0, 0x80, 0x80, 0x80, 0x10, 0}} {
		if m, err := wire.DecodeRegionRead(body); !errors.Is(err, wire.ErrMalformed) {
			t.Errorf("%s: %+v, %v", name, m, err)
		}
	}
}

func TestHomePutRefuses(t *testing.T) {
	put := wire.AppendForward(nil, &wire.Forward{Key: []byte("k")})
	for name, body := range map[string][]byte{
		"nothing": nil, "no epoch": append([]byte{0}, put...), "epoch too high": append([]byte{0x80, 0x80, 0x80, 0x10}, put...), "no write": {1},
	} {
		if m, err := wire.DecodeHomePut(body); !errors.Is(err, wire.ErrMalformed) {
			t.Errorf("%s: %+v, %v", name, m, err)
		}
	}
}

func FuzzDecodeRegionApply(f *testing.F) { fuzz(f, regionApply) }
func FuzzDecodeRegionRead(f *testing.F)  { fuzz(f, regionRead) }
func FuzzDecodeRegionReply(f *testing.F) { fuzz(f, regionReply) }
func FuzzDecodeHomePut(f *testing.F)     { fuzz(f, homePut) }
