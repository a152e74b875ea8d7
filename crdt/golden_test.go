package crdt

import (
	"encoding/hex"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/atolldb/atoll/crdt/hlc"
)

var update = flag.Bool("update", false, "write the golden files anew")

// The bytes below are on disks: a change of a golden file is a new format, and
// needs a new format byte and code that still reads the old one.

var (
	goldenA = MakeActor(1, 1)
	goldenB = MakeActor(4711, 2)
	goldenC = MakeActor(1<<26-1, 63)
)

var goldenRecords = []struct {
	name    string
	keyHash uint64
	r       Record
}{
	{"absent", 0x0123456789abcdef, Record{}},
	{"first write", 0x0123456789abcdef, Record{[]Version{
		{Dot: Dot{goldenA, 1}, Stamp: hlc.FromMillis(1_700_000_000_000), Value: []byte("hello")},
	}}},
	{"the same under another key", 0x0123456789abcdee, Record{[]Version{
		{Dot: Dot{goldenA, 1}, Stamp: hlc.FromMillis(1_700_000_000_000), Value: []byte("hello")},
	}}},
	{"empty value", 1, Record{[]Version{{Dot: Dot{goldenA, 2}, Stamp: 3}}}},
	{"tombstone", 1, Record{[]Version{
		{Dot: Dot{goldenB, 300}, Stamp: hlc.FromMillis(1_700_000_000_001) + 7, Dead: true, Past: VV{{Actor: goldenA, N: 2}, {Actor: goldenB, N: 299}}},
	}}},
	{"expiry and metadata", 1, Record{[]Version{
		{Dot: Dot{goldenA, 70000}, Stamp: 5, Expiry: 1_800_000_000_000, Meta: []byte("type=text"), Value: []byte{0, 255}, Past: VV{{Actor: goldenA, N: 69000}}},
	}}},
	{"siblings of three regions", 1 << 63, Record{[]Version{
		{Dot: Dot{goldenA, 9}, Stamp: 10, Value: []byte("a"), Past: VV{{Actor: goldenA, N: 8}, {Actor: goldenB, N: 3}}},
		{Dot: Dot{goldenB, 4}, Stamp: 11, Dead: true, Past: VV{{Actor: goldenA, N: 7}, {Actor: goldenB, N: 3}}},
		{Dot: Dot{goldenC, MaxN}, Stamp: 1<<64 - 1, Value: []byte("c"), Past: VV{{Actor: goldenA, N: 5}}},
	}}},
	{"past with holes", 1, Record{[]Version{
		{Dot: Dot{goldenA, 1 << 33}, Stamp: 12, Value: []byte("d"), Past: VV{
			{Actor: goldenA, N: 1<<33 - 1, Holes: []Span{{1, 1<<33 - 2}}},
			{Actor: goldenB, N: 20, Holes: []Span{{2, 2}, {4, 9}, {19, 19}}},
			{Actor: goldenC, N: 3},
		}},
	}}},
}

func goldenClocks() map[string]*Clock {
	gaps := &Clock{}
	for _, d := range []Dots{{goldenA, Span{1, 1000}}, {goldenA, Span{1003, 1003}}, {goldenA, Span{1005, 2000}}, {goldenB, Span{2, 3}}, {goldenC, Span{1, MaxN}}} {
		gaps.AddSpan(d)
	}
	one := &Clock{}
	one.AddSpan(Dots{goldenB, Span{1, 1 << 33}})
	return map[string]*Clock{"empty": {}, "one actor": one, "gaps": gaps}
}

var goldenContexts = []struct {
	name string
	c    Context
}{
	{"nothing seen", Context{}},
	{"one actor", Context{Seen: VV{{Actor: goldenA, N: 17}}, Stamp: hlc.FromMillis(1_700_000_000_000)}},
	{"three actors", Context{Seen: VV{{Actor: goldenA, N: 1}, {Actor: goldenB, N: 1 << 33}, {Actor: goldenC, N: 5}}, Stamp: 1<<64 - 1}},
	{"holes", Context{Seen: VV{{Actor: goldenA, N: 1 << 33, Holes: []Span{{1, 1<<33 - 1}}}, {Actor: goldenB, N: 20, Holes: []Span{{2, 2}, {4, 9}, {19, 19}}}}, Stamp: 7}},
}

func TestGolden(t *testing.T) {
	golden(t, "records.txt", func(put func(name string, b []byte)) {
		for _, g := range goldenRecords {
			put(g.name, AppendRecord(nil, g.keyHash, g.r))
		}
	})
	golden(t, "clocks.txt", func(put func(name string, b []byte)) {
		for _, name := range []string{"empty", "one actor", "gaps"} {
			put(name, AppendClock(nil, goldenClocks()[name]))
		}
	})
	golden(t, "contexts.txt", func(put func(name string, b []byte)) {
		for _, g := range goldenContexts {
			put(g.name, AppendContext(nil, Keys{Secret("golden")}, testKey, g.c))
		}
	})
	golden(t, "digests.txt", func(put func(name string, b []byte)) {
		for _, g := range goldenRecords {
			put(g.name, fmt.Appendf(nil, "%016x", Digest(42, g.keyHash, g.r)))
		}
	})
}

// Old bytes must decode for ever, not only be what is written today.
func TestGoldenDecodes(t *testing.T) {
	for i, b := range readGolden(t, "records.txt") {
		g := goldenRecords[i]
		r, err := DecodeRecord(g.keyHash, b)
		if err != nil || !r.SameDots(g.r) || Digest(42, g.keyHash, r) != Digest(42, g.keyHash, g.r) {
			t.Errorf("%s: %+v, %v", g.name, r, err)
		}
	}
	for i, b := range readGolden(t, "contexts.txt") {
		g := goldenContexts[i]
		if c, err := DecodeContext(Keys{Secret("golden")}, testKey, b); err != nil || !c.Seen.Equal(g.c.Seen) || c.Stamp != g.c.Stamp {
			t.Errorf("%s: %+v, %v", g.name, c, err)
		}
	}
	for i, b := range readGolden(t, "clocks.txt") {
		want := goldenClocks()[[]string{"empty", "one actor", "gaps"}[i]]
		if c, rest, err := DecodeClock(b); err != nil || len(rest) > 0 || !c.Equal(want) {
			t.Errorf("clock %d: %+v, %v", i, c, err)
		}
	}
}

func golden(t *testing.T, file string, fill func(put func(name string, b []byte))) {
	t.Helper()
	var out strings.Builder
	fill(func(name string, b []byte) { fmt.Fprintf(&out, "%x %s\n", b, name) })
	path := filepath.Join("testdata", file)
	if *update {
		if err := os.WriteFile(path, []byte(out.String()), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if out.String() != string(want) {
		t.Errorf("%s has changed:\n%s\nwas\n%s", file, out.String(), want)
	}
}

func readGolden(t *testing.T, file string) [][]byte {
	t.Helper()
	text, err := os.ReadFile(filepath.Join("testdata", file))
	if err != nil {
		t.Fatal(err)
	}
	var out [][]byte
	for line := range strings.Lines(string(text)) {
		digits, _, _ := strings.Cut(line, " ")
		b, err := hex.DecodeString(digits)
		if err != nil {
			t.Fatal(err)
		}
		out = append(out, b)
	}
	return out
}
