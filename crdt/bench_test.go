package crdt

import (
	"testing"

	"github.com/atolldb/atoll/crdt/hlc"
)

// siblings returns two records of two siblings with one in common.
func benchRecords() (Record, Record) {
	a, b, c := MakeActor(100, 1), MakeActor(200, 2), MakeActor(300, 1)
	value := make([]byte, 100)
	v := func(a Actor, n uint64, past VV) Version {
		return Version{Dot: Dot{a, n}, Stamp: hlc.Stamp(n) << 30, Value: value, Past: past}
	}
	shared := v(a, 1<<33, VV{{Actor: a, N: 1<<33 - 5}, {Actor: b, N: 77}})
	return Record{[]Version{shared, v(b, 80, VV{{Actor: b, N: 77}})}},
		Record{[]Version{shared, v(c, 1<<20, VV{{Actor: a, N: 1<<33 - 5}, {Actor: b, N: 77}})}}
}

func BenchmarkJoin(b *testing.B) {
	x, y := benchRecords()
	other := Record{[]Version{{Dot: Dot{MakeActor(400, 1), 1}}, {Dot: Dot{MakeActor(400, 1), 2}}}}
	for _, c := range []struct {
		name string
		a, b Record
	}{
		{"equal", x, x},
		{"oneshared", x, y},
		{"disjoint", x, other},
		{"absent", x, Record{}},
		{"superseded", x, Write(x, x.Context().Seen, Version{Dot: Dot{MakeActor(100, 1), 1<<33 + 9}})},
	} {
		b.Run(c.name, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				Join(c.a, c.b)
			}
		})
	}
}

func BenchmarkWrite(b *testing.B) {
	x, _ := benchRecords()
	seen := x.Context().Seen
	v := Version{Dot: Dot{MakeActor(100, 1), 1<<33 + 9}}
	b.ReportAllocs()
	for b.Loop() {
		Write(x, seen, v)
	}
}

func BenchmarkRecordCodec(b *testing.B) {
	two, _ := benchRecords()
	for _, c := range []struct {
		name string
		r    Record
	}{{"one", Without(two, []Dot{two.Versions[1].Dot})}, {"two", two}} {
		enc := AppendRecord(nil, 7, c.r)
		buf := make([]byte, 0, 2*len(enc))
		b.Run("append/"+c.name, func(b *testing.B) {
			b.ReportAllocs()
			b.SetBytes(int64(len(enc)))
			for b.Loop() {
				AppendRecord(buf, 7, c.r)
			}
		})
		b.Run("decode/"+c.name, func(b *testing.B) {
			b.ReportAllocs()
			b.SetBytes(int64(len(enc)))
			for b.Loop() {
				if _, err := DecodeRecord(7, enc); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

func BenchmarkContext(b *testing.B) {
	r, _ := benchRecords()
	c := r.Context()
	enc := AppendContext(nil, testKeys, testKey, c)
	buf := make([]byte, 0, 2*len(enc))
	b.Run("append", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			AppendContext(buf, testKeys, testKey, c)
		}
	})
	b.Run("decode", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			if _, err := DecodeContext(testKeys, testKey, enc); err != nil {
				b.Fatal(err)
			}
		}
	})
}

// BenchmarkAfter is of the context of an answer: to who has read what is there, to
// who has not, and to who goes on from his own answers beside another one.
func BenchmarkAfter(b *testing.B) {
	two, _ := benchRecords()
	var rivals Record
	var last [2]Context
	a := MakeActor(100, 1)
	for n := uint64(1); n <= 16; n++ {
		v := Version{Dot: Dot{a, 10 * n}, Stamp: hlc.Stamp(n), Past: last[n%2].Seen}
		last[n%2] = last[n%2].After(rivals, &v)
		rivals = Write(rivals, v.Past, v)
	}
	for _, c := range []struct {
		name  string
		local Record
		seen  Context
	}{{"read", two, two.Context()}, {"blind", two, Context{}}, {"rival", rivals, last[1]}} {
		v := Version{Dot: Dot{a, 1<<33 + 9}, Stamp: 1 << 40, Past: c.seen.Seen}
		b.Run(c.name, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				c.seen.After(c.local, &v)
			}
		})
	}
}

func BenchmarkClock(b *testing.B) {
	mine, theirs := &Clock{}, &Clock{}
	for a := range Actor(6) {
		mine.AddSpan(Dots{a + 1, Span{1, 1 << 30}})
		theirs.AddSpan(Dots{a + 1, Span{1, 1 << 30}})
	}
	b.Run("add", func(b *testing.B) {
		b.ReportAllocs()
		c := mine.Clone()
		for n := uint64(1 << 30); b.Loop(); n++ {
			c.Add(Dot{3, n + 1})
		}
	})
	b.Run("missing/equal", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			mine.Missing(theirs)
		}
	})
	theirs.AddSpan(Dots{3, Span{1<<30 + 5, 1<<30 + 10}})
	b.Run("missing/one", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			mine.Missing(theirs)
		}
	})
}

// As while a region catches up: of what another one wrote every second run of five is here.
func BenchmarkClockWithGaps(b *testing.B) {
	mine, theirs := &Clock{}, &Clock{}
	theirs.AddSpan(Dots{3, Span{1, 20_000}})
	for n := uint64(1); n < 20_000; n += 10 {
		mine.AddSpan(Dots{3, Span{n + 5, n + 9}})
	}
	late := mine.Beyond(theirs)
	few := &Clock{}
	few.AddSpan(Dots{3, Span{18_001, 18_100}})
	b.Run("add", func(b *testing.B) {
		b.ReportAllocs()
		c := mine.Clone()
		for n := uint64(19_999); b.Loop(); n++ {
			c.Add(Dot{3, n + 1})
		}
	})
	for name, of := range map[string]*Clock{"all": theirs, "few": few} {
		b.Run("count/"+name, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				mine.CountMissing(of)
			}
		})
		b.Run("covers/"+name, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				mine.Covers(of)
			}
		})
	}
	b.Run("overlaps", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			late.Overlaps(few)
		}
	})
}

func BenchmarkDigest(b *testing.B) {
	r, _ := benchRecords()
	b.ReportAllocs()
	for b.Loop() {
		Digest(1, 2, r)
	}
}
