package wire_test

import (
	"errors"
	"testing"

	"pgregory.net/rapid"

	"github.com/atolldb/atoll/node/wire"
)

var (
	regionApply = of("region apply", drawRegionApply, byValue(wire.AppendRegionApply), wire.DecodeRegionApply)
	regionRead  = of("region read", drawRegionRead, byValue(wire.AppendRegionRead), wire.DecodeRegionRead)
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
	return m
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
	for name, body := range map[string][]byte{"nothing": nil, "neither key nor needs": {4, 0, 0, 0}, "not a bool": {4, 0, 1, 'k', 2}} {
		if m, err := wire.DecodeRegionRead(body); !errors.Is(err, wire.ErrMalformed) {
			t.Errorf("%s: %+v, %v", name, m, err)
		}
	}
}

func FuzzDecodeRegionApply(f *testing.F) { fuzz(f, regionApply) }
func FuzzDecodeRegionRead(f *testing.F)  { fuzz(f, regionRead) }
func FuzzDecodeRegionReply(f *testing.F) { fuzz(f, regionReply) }
