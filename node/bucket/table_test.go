package bucket

import (
	"bytes"
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"github.com/atolldb/atoll/crdt"
	"github.com/atolldb/atoll/crdt/hlc"
	"github.com/atolldb/atoll/node/quorum"
)

var names = rapid.SampledFrom([]string{"a", "b", "carts", "default", "x-1_y.z"})

func drawDefinition(t *rapid.T) Definition {
	small := rapid.Uint32Range(0, 2)
	d := Definition{
		Name: names.Draw(t, "name"), Kind: crdt.Kind(small.Draw(t, "kind") % 2),
		Sloppy: rapid.Bool().Draw(t, "sloppy"), RequireContext: rapid.Bool().Draw(t, "context"),
		MaxSiblings: 128 * small.Draw(t, "siblings"), WarnSiblings: small.Draw(t, "warn"), MaxValue: small.Draw(t, "value"),
		TTL: rapid.Uint64Range(0, maxTTL).Draw(t, "ttl"), Deleted: rapid.Bool().Draw(t, "deleted"),
		Revision: rapid.Uint64Range(0, 3).Draw(t, "revision"), Stamp: hlc.Stamp(small.Draw(t, "stamp")),
		Reads: quorum.Policy{Override: quorum.LocalOne},
	}
	if rapid.Bool().Draw(t, "some regions") {
		d.Regions, d.Home = rapid.SampledFrom([][]string{{"eu", "us"}, {"us"}, {"ap", "us"}}).Draw(t, "regions"), "us"
		d.Writes = quorum.Policy{Min: quorum.LocalTwo, Default: quorum.Serial}
	}
	return d
}

func drawTable(t *rapid.T) Table {
	var out Table
	for range rapid.IntRange(0, 4).Draw(t, "buckets") {
		out = out.With(drawDefinition(t))
	}
	return out
}

var tables = rapid.Custom(drawTable)

func same(t *rapid.T, what string, a, b Table) {
	if !bytes.Equal(AppendTable(nil, a), AppendTable(nil, b)) {
		t.Fatalf("%s:\n%s", what, cmp.Diff(a, b))
	}
}

// B1.
// A home stays what it is once it is named, also through a deletion.
func TestHomeStays(t *testing.T) {
	v := View{}
	must := func(next View, d Definition, err error) Definition {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
		v = next
		return d
	}
	refused := func(_ View, _ Definition, err error) {
		t.Helper()
		if p := (*Problem)(nil); !errors.As(err, &p) || p.Field != "home_region" {
			t.Errorf("%v", err)
		}
	}
	d := must(v.Create(Definition{Name: "b"}, 1))
	d.Home = "eu"
	d = must(v.Update(d, 2))
	for _, home := range []string{"us", ""} {
		moved := d
		moved.Home = home
		refused(v.Update(moved, 3))
	}
	d.TTL = 1
	d = must(v.Update(d, 4))
	must(v.Delete("b", d.Revision, 5))
	refused(v.Create(Definition{Name: "b", Home: "us"}, 6))
	refused(v.Create(Definition{Name: "b"}, 6))
	must(v.Create(Definition{Name: "b", Home: "eu"}, 6))
}

func TestMergeLaws(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		a, b, c := tables.Draw(t, "a"), tables.Draw(t, "b"), tables.Draw(t, "c")
		same(t, "commutative", Merge(a, b), Merge(b, a))
		same(t, "associative", Merge(Merge(a, b), c), Merge(a, Merge(b, c)))
		same(t, "idempotent", Merge(a, a), a)
		same(t, "absorbs", Merge(Merge(a, b), b), Merge(a, b))
	})
}

// The dumb twin: look at every definition of a name that there is.
func TestMergeMatchesTwin(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		in := rapid.SliceOfN(tables, 0, 5).Draw(t, "tables")
		var got Table
		byName := map[string][]Definition{}
		for _, one := range in {
			got = Merge(got, one)
			for _, d := range one {
				byName[d.Name] = append(byName[d.Name], d)
			}
		}
		if len(got) != len(byName) {
			t.Fatalf("%d of %d names", len(got), len(byName))
		}
		for _, d := range got {
			mv, newest := false, false
			for _, o := range byName[d.Name] {
				mv = mv || o.Kind == crdt.MV
				if o.Revision > d.Revision || o.Revision == d.Revision && o.Stamp > d.Stamp {
					t.Fatalf("%+v is later than %+v", o, d)
				}
				for _, region := range []string{"ap", "eu", "us"} {
					if o.In(region) && !d.In(region) {
						t.Fatalf("%+v leaves %s of %+v", d, region, o)
					}
				}
				o.Kind, o.Regions = d.Kind, d.Regions
				newest = newest || cmp.Equal(o, d)
			}
			if mv != (d.Kind == crdt.MV) || !newest {
				t.Fatalf("%+v comes of %+v", d, byName[d.Name])
			}
		}
	})
}

// B4.
func TestCodecRoundTrip(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		want := drawTable(t)
		b := AppendTable(nil, want)
		got, err := DecodeTable(b)
		if d := cmp.Diff(want, got); err != nil || d != "" {
			t.Fatal(err, d)
		}
		n := rapid.IntRange(0, len(b)-1).Draw(t, "cut")
		if _, err := DecodeTable(b[:n]); err == nil {
			t.Fatalf("decodes %d of %d bytes", n, len(b))
		}
		if _, err := DecodeTable(append(b, 0)); err == nil {
			t.Fatal("decodes with a byte behind")
		}
	})
}

func FuzzDecodeTable(f *testing.F) {
	f.Add(AppendTable(nil, nil))
	f.Add(AppendTable(nil, Table{
		{Name: "a", Kind: crdt.LWW, Revision: 3, Stamp: 9, Reads: quorum.Policy{Default: quorum.LocalOne}},
		{Name: "b", Regions: []string{"eu", "us"}, Home: "eu", Writes: quorum.Policy{Min: quorum.Serial}, TTL: 5, Deleted: true},
	}))
	f.Fuzz(func(t *testing.T, b []byte) {
		table, err := DecodeTable(b)
		if err != nil {
			return
		}
		if again := AppendTable(nil, table); !bytes.Equal(again, b) {
			t.Fatalf("%x is read as %x", b, again)
		}
		Merge(table, table)
	})
}

// A bucket's life, and what is refused on the way.
func TestChanges(t *testing.T) {
	v := View{Floor: Table{{Name: "configured", Kind: crdt.LWW, MaxValue: 10}}}
	step := func(what string, next View, d Definition, err error, want error, revision uint64) {
		t.Helper()
		if !errors.Is(err, want) {
			t.Fatalf("%s: %v, not %v", what, err, want)
		}
		if err != nil {
			return
		}
		if stored, _ := next.Stored.Find(d.Name); d.Revision != revision || !cmp.Equal(stored, d) {
			t.Fatalf("%s: %+v, stored %+v", what, d, stored)
		}
		v = next
	}
	next, d, err := v.Create(Definition{Name: "carts", Revision: 7, Deleted: true, TTL: 5}, 1)
	step("create", next, d, err, nil, 1)
	if d, ok := v.Find("carts"); !ok || d.TTL != 5 || d.Stamp != 1 || d.Deleted {
		t.Fatalf("created %+v", d)
	}
	next, d, err = v.Create(Definition{Name: "carts"}, 2)
	step("create again", next, d, err, ErrExists, 0)
	next, d, err = v.Update(Definition{Name: "carts", Revision: 1, MaxSiblings: 5}, 3)
	step("update", next, d, err, nil, 2)
	next, d, err = v.Update(Definition{Name: "carts", Revision: 1, MaxSiblings: 6}, 3)
	step("update what is old", next, d, err, ErrRevision, 0)
	next, d, err = v.Update(Definition{Name: "none"}, 3)
	step("update nothing", next, d, err, ErrNotFound, 0)
	next, d, err = v.Delete("carts", 1, 4)
	step("delete what is old", next, d, err, ErrRevision, 0)
	next, d, err = v.Delete("carts", 2, 4)
	step("delete", next, d, err, nil, 3)
	if _, ok := v.Find("carts"); ok {
		t.Fatal("it is still there")
	}
	next, d, err = v.Delete("carts", 3, 4)
	step("delete again", next, d, err, ErrNotFound, 0)
	_, _, err = v.Create(Definition{Name: "carts", Kind: crdt.LWW}, 5)
	isProblem(t, err, "kind", "mv", "lww")
	next, d, err = v.Create(Definition{Name: "carts"}, 5)
	step("make anew", next, d, err, nil, 4)
	_, _, err = v.Update(Definition{Name: "carts", Kind: crdt.LWW, Revision: 4}, 5)
	isProblem(t, err, "kind", "mv", "lww")

	// What is configured is there until the store says something.
	next, d, err = v.Create(Definition{Name: "configured"}, 6)
	step("create what is configured", next, d, err, ErrExists, 0)
	next, d, err = v.Update(Definition{Name: "configured", Kind: crdt.LWW}, 6)
	step("update what is configured", next, d, err, nil, 1)
	if d, _ := v.Find("configured"); d.MaxValue != 0 {
		t.Errorf("the store does not win: %+v", d)
	}
	next, d, err = v.Delete("configured", 1, 7)
	step("delete what is configured", next, d, err, nil, 2)
	if _, ok := v.Find("configured"); ok {
		t.Error("it is there again")
	}

	// The bucket that is always there.
	_, _, err = v.Delete("default", 0, 8)
	isProblem(t, err, "name", "a bucket other than default", `"default"`)
	next, d, err = v.Update(Definition{Name: "default", RequireContext: true}, 8)
	step("update default", next, d, err, nil, 1)
	var all []string
	for _, d := range v.All() {
		all = append(all, d.Name)
	}
	if d := cmp.Diff([]string{"carts", "default"}, all); d != "" {
		t.Error(d)
	}
}

func TestTooManyBuckets(t *testing.T) {
	v := View{}
	var err error
	for i := 0; err == nil; i++ {
		v, _, err = v.Create(Definition{Name: fmt.Sprintf("bucket-%04d", i)}, 1)
		if i > 3000 {
			t.Fatal("no bound")
		}
	}
	isProblem(t, err, "name", "buckets of 48 KiB together", "more")
}

func isProblem(t *testing.T, err error, field, limit, seen string) {
	t.Helper()
	var p *Problem
	if !errors.As(err, &p) || p.Field != field || p.Limit != limit || p.Seen != seen || p.Detail == "" {
		t.Errorf("%v, want field %s, limit %s, seen %s", err, field, limit, seen)
	}
}

func TestCheck(t *testing.T) {
	for name, c := range map[string]struct {
		d                  Definition
		field, limit, seen string
	}{
		"no name":        {Definition{}, "name", wantName, `""`},
		"reserved":       {Definition{Name: ".atoll"}, "name", wantName, `".atoll"`},
		"upper case":     {Definition{Name: "Carts"}, "name", wantName, `"Carts"`},
		"long":           {Definition{Name: strings.Repeat("n", 64)}, "name", wantName, `"` + strings.Repeat("n", 63) + `"...`},
		"kind":           {Definition{Name: "a", Kind: 2}, "kind", "mv or lww", "2"},
		"level":          {Definition{Name: "a", Reads: quorum.Policy{Default: 11}}, "reads.default", "0..10", "11"},
		"no level left":  {Definition{Name: "a", Writes: quorum.Policy{Min: quorum.LocalAll, Max: quorum.LocalOne}}, "writes.min", "at most writes.max, local-one", "local-all"},
		"default":        {Definition{Name: "a", Writes: quorum.Policy{Min: quorum.LocalQuorum, Default: quorum.LocalOne}}, "writes.default", "what writes.min and max allow", "local-one"},
		"serial":         {Definition{Name: "a", Writes: quorum.Policy{Override: quorum.Serial}}, "writes.override", "a level other than serial, or a home_region", "serial"},
		"siblings":       {Definition{Name: "a", MaxSiblings: 257}, "max_siblings", "0..256", "257"},
		"one sibling":    {Definition{Name: "a", MaxSiblings: 1}, "max_siblings", "2..256, or 0 for 256", "1"},
		"warn":           {Definition{Name: "a", WarnSiblings: 300}, "warn_siblings", "0..256", "300"},
		"value":          {Definition{Name: "a", MaxValue: 8<<20 + 1}, "max_value", "0..8388608", "8388609"},
		"ttl":            {Definition{Name: "a", TTL: maxTTL + 1}, "ttl_ms", "0..3153600000000", "3153600000001"},
		"region":         {Definition{Name: "a", Regions: []string{"EU"}}, "regions", wantRegionNames, `"EU"`},
		"region twice":   {Definition{Name: "a", Regions: []string{"eu", "eu"}}, "regions", wantRegionNames, `"eu"`},
		"many regions":   {Definition{Name: "a", Regions: make([]string, 64)}, "regions", "at most 63", "64"},
		"home":           {Definition{Name: "a", Home: "?"}, "home_region", wantRegionNames, `"?"`},
		"home elsewhere": {Definition{Name: "a", Home: "us", Regions: []string{"eu"}}, "home_region", "one of the bucket's regions", `"us"`},
	} {
		t.Run(name, func(t *testing.T) {
			bad := c.d.Check()
			if bad == nil {
				t.Fatal("accepted")
			}
			isProblem(t, bad, c.field, c.limit, c.seen)
		})
	}
	for _, good := range []Definition{
		{Name: "a"},
		{Name: strings.Repeat("n", 63), MaxSiblings: 2, WarnSiblings: 256, MaxValue: MostValue},
		{Name: "a", Home: "eu", Regions: []string{"eu", "us"}, Reads: quorum.Policy{Default: quorum.Serial, Min: quorum.LocalOne, Max: quorum.Serial}},
		{Name: "a", Writes: quorum.Policy{Default: quorum.LocalQuorum, Min: quorum.LocalTwo, Max: quorum.EachQuorum, Override: quorum.LocalOne}},
	} {
		if bad := good.Check(); bad != nil {
			t.Errorf("%+v: %v", good, bad)
		}
	}
}
