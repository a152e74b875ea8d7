package client_test

import (
	"bytes"
	"context"
	"encoding/json"
	"math/rand/v2"
	"slices"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/atolldb/atoll/client"
)

func sibling(n int, region, value string) client.Sibling {
	return client.Sibling{
		ID: client.VersionID{Actor: uint32(n), N: 1}, Value: []byte(value),
		Stamp: uint64(n) << 16, Time: time.UnixMilli(int64(n)), Region: region,
	}
}

// outcome is what a resolver's decision comes to.
func outcome(t interface{ Fatal(...any) }, r client.Resolver, siblings []client.Sibling) string {
	res, err := r(context.Background(), "k", siblings)
	if err != nil {
		return "error"
	}
	return describe(t, res, siblings)
}

func describe(_ interface{ Fatal(...any) }, res client.Resolution, siblings []client.Sibling) string {
	for i := range siblings {
		if same(res, client.Keep(i)) {
			if siblings[i].Deleted {
				return "deleted"
			}
			return "value " + string(siblings[i].Value)
		}
	}
	if same(res, client.DeleteIt()) {
		return "deleted"
	}
	if same(res, client.Leave()) {
		return "left"
	}
	return "value " + string(client.MergedValue(res))
}

func same(a, b client.Resolution) bool { return client.SameResolution(a, b) }

func TestReadyMadeResolvers(t *testing.T) {
	eu, us, ap := sibling(1, "eu", "5"), sibling(2, "us", "-7"), sibling(3, "ap", "5")
	gone := client.Sibling{Deleted: true, Stamp: 9 << 16, ID: client.VersionID{Actor: 9, N: 1}}
	v := func(n int, s string) client.Sibling { return sibling(n, "eu", s) }
	rules := map[string]client.FieldRule{
		"max": client.FieldMax, "min": client.FieldMin, "tags": client.FieldUnion,
	}
	for _, c := range []struct {
		name     string
		r        client.Resolver
		siblings []client.Sibling
		want     string
	}{
		{"lww", client.LastWriterWins(), []client.Sibling{eu, ap, us}, "value 5"},
		{"lww deletes", client.LastWriterWins(), []client.Sibling{eu, gone, us}, "deleted"},
		{"lww by actor", client.LastWriterWins(), []client.Sibling{
			{ID: client.VersionID{Actor: 1, N: 9}, Stamp: 5, Value: []byte("a")},
			{ID: client.VersionID{Actor: 2, N: 1}, Stamp: 5, Value: []byte("b")},
		}, "value b"},
		{"region", client.RegionPriority("us", "eu"), []client.Sibling{eu, us, ap}, "value -7"},
		{"region not named", client.RegionPriority("mars"), []client.Sibling{us, ap}, "value 5"},
		{"max", client.MaxInt(), []client.Sibling{us, eu}, "value 5"},
		{"max of negative", client.MaxInt(), []client.Sibling{v(1, "-5"), v(2, "-7")}, "value -5"},
		{"max, writings", client.MaxInt(), []client.Sibling{v(1, " 7 "), v(2, "+7"), v(3, "7")}, "value 7"},
		{"max, no number", client.MaxInt(), []client.Sibling{v(1, "7"), v(2, "x")}, "error"},
		{"max, too large", client.MaxInt(), []client.Sibling{v(1, "7"), v(2, "9223372036854775808")}, "error"},
		{"max, delete", client.MaxInt(), []client.Sibling{gone, eu}, "value 5"},
		{"lines", client.SetUnionLines(), []client.Sibling{v(1, "b\na\n"), v(2, "\nc\nb")}, "value a\nb\nc"},
		{"no lines", client.SetUnionLines(), []client.Sibling{v(1, ""), v(2, "\n")}, "value "},
		{"spaces count", client.SetUnionLines(), []client.Sibling{v(1, "a"), v(2, "a ")}, "value a\na "},
		{
			"json set", client.SetUnionJSON(),
			[]client.Sibling{v(1, `[3, "a", {"y":1,"x":2}]`), v(2, `["<b>", {"x":2, "y":1}, 3, 3.0, null]`)},
			`value ["<b>","a",3,3.0,null,{"x":2,"y":1}]`,
		},
		{"json set, no array", client.SetUnionJSON(), []client.Sibling{v(1, `[1]`), v(2, `{}`)}, "error"},
		{"json set, two values", client.SetUnionJSON(), []client.Sibling{v(1, `[1]`), v(2, `[2] [3]`)}, "error"},
		{
			"fields", client.JSONMergeByField(rules),
			[]client.Sibling{
				v(2, `{"name":"new","max":3,"min":1e1,"tags":["b"],"only":1}`),
				v(1, `{"name":"old","max":20,"min":9,"tags":["a","b"]}`),
			},
			`value {"max":20,"min":9,"name":"new","only":1,"tags":["a","b"]}`,
		},
		{"fields, wrong kind", client.JSONMergeByField(rules), []client.Sibling{v(1, `{"max":"x"}`), v(2, `{"max":1}`)}, "error"},
		{"fields, no object", client.JSONMergeByField(rules), []client.Sibling{v(1, `{}`), v(2, `[]`)}, "error"},
		{"fields, delete", client.JSONMergeByField(nil), []client.Sibling{v(1, `{"a":1}`), v(2, `{"b":2}`), gone}, `value {"a":1,"b":2}`},
	} {
		t.Run(c.name, func(t *testing.T) {
			if got := outcome(t, c.r, c.siblings); got != c.want {
				t.Errorf("got %s, want %s", got, c.want)
			}
		})
	}
}

// TestResolverLaws: order-free, deterministic, idempotent (a sibling twice, or
// the result among its origins, changes nothing where values decide).
func TestResolverLaws(t *testing.T) {
	rules := map[string]client.FieldRule{"a": client.FieldMax, "b": client.FieldUnion, "c": client.FieldMin}
	lines := rapid.Custom(func(t *rapid.T) string {
		return rapid.StringMatching(`[ab\n ]{0,6}`).Draw(t, "lines")
	})
	ints := rapid.Custom(func(t *rapid.T) string {
		return rapid.SampledFrom([]string{"1", "01", "+1", " 1", "-3", "7", "x"}).Draw(t, "int")
	})
	arrays := rapid.Custom(func(t *rapid.T) string {
		return rapid.SampledFrom([]string{`[]`, `[1,"1"]`, `[1.0]`, `[{"a":1,"b":2}]`, `[{"b":2,"a":1},1]`, `null`}).Draw(t, "array")
	})
	objects := rapid.Custom(func(t *rapid.T) string {
		o := make(map[string]any)
		for _, f := range []string{"a", "c", "d"} {
			if rapid.Bool().Draw(t, f) {
				o[f] = json.Number(rapid.SampledFrom([]string{"1", "1.0", "2", "-1"}).Draw(t, "n"))
			}
		}
		if rapid.Bool().Draw(t, "b") {
			o["b"] = rapid.SliceOfN(rapid.IntRange(0, 3), 0, 3).Draw(t, "set")
		}
		b, err := json.Marshal(o)
		if err != nil {
			t.Fatal(err)
		}
		return string(b)
	})
	for _, c := range []struct {
		name   string
		r      client.Resolver
		values *rapid.Generator[string]
		// merges: the result depends on values only, so resolving in steps is
		// the same as at once.
		merges bool
	}{
		{"LastWriterWins", client.LastWriterWins(), lines, false},
		{"RegionPriority", client.RegionPriority("eu", "us"), lines, false},
		{"MaxInt", client.MaxInt(), ints, true},
		{"SetUnionLines", client.SetUnionLines(), lines, true},
		{"SetUnionJSON", client.SetUnionJSON(), arrays, true},
		{"JSONMergeByField", client.JSONMergeByField(rules), objects, false},
	} {
		t.Run(c.name, func(t *testing.T) {
			rapid.Check(t, func(t *rapid.T) {
				n := rapid.IntRange(2, 5).Draw(t, "siblings")
				var s []client.Sibling
				for i := range n {
					region := rapid.SampledFrom([]string{"eu", "us", "ap"}).Draw(t, "region")
					x := sibling(i+1, region, c.values.Draw(t, "value"))
					x.Stamp = rapid.Uint64Range(1, 3).Draw(t, "stamp")
					s = append(s, x)
				}
				want := outcome(t, c.r, s)
				mixed := slices.Clone(s)
				seed := rapid.Uint64().Draw(t, "order")
				rng := rand.New(rand.NewPCG(seed, 1))
				rng.Shuffle(n, func(i, j int) { mixed[i], mixed[j] = mixed[j], mixed[i] })
				if got := outcome(t, c.r, mixed); got != want {
					t.Fatalf("in another order: %q, not %q", got, want)
				}
				if got := outcome(t, c.r, append(mixed, mixed[rng.IntN(n)])); got != want {
					t.Fatalf("with one twice: %q, not %q", got, want)
				}
				if want == "error" {
					return
				}
				result, _ := bytes.CutPrefix([]byte(want), []byte("value "))
				again := s[0]
				again.Value = result
				if got := outcome(t, c.r, []client.Sibling{again, again}); got != want {
					t.Fatalf("of its own result: %q, not %q", got, want)
				}
				if c.merges {
					cut := 1 + rng.IntN(n-1)
					a, b := outcome(t, c.r, s[:cut]), outcome(t, c.r, s[cut:])
					left, right := s[0], s[cut]
					left.Value, right.Value = []byte(a)[len("value "):], []byte(b)[len("value "):]
					if got := outcome(t, c.r, []client.Sibling{right, left}); got != want {
						t.Fatalf("in two steps: %q, not %q", got, want)
					}
				}
			})
		})
	}
}

//fuzz:slow 3
func FuzzJSONResolvers(f *testing.F) {
	f.Add([]byte(`[1,2]`), []byte(`[2,{"a":null}]`))
	f.Add([]byte(`{"a":1e400}`), []byte(`{"a":1}`))
	f.Add([]byte(`[[[[`), []byte(`"\ud800"`))
	resolvers := []client.Resolver{
		client.SetUnionJSON(), client.JSONMergeByField(map[string]client.FieldRule{"a": client.FieldMax, "b": client.FieldUnion}),
		client.SetUnionLines(), client.MaxInt(),
	}
	f.Fuzz(func(t *testing.T, a, b []byte) {
		s := []client.Sibling{sibling(1, "eu", string(a)), sibling(2, "us", string(b))}
		for i, r := range resolvers {
			want := outcome(t, r, s)
			if got := outcome(t, r, []client.Sibling{s[1], s[0]}); got != want {
				t.Errorf("resolver %d: %q, the other way round %q", i, want, got)
			}
			if want == "error" {
				continue
			}
			again := s[0]
			again.Value = []byte(want)[len("value "):]
			if got := outcome(t, r, []client.Sibling{again, again}); got != want {
				t.Errorf("resolver %d: %q, of that %q", i, want, got)
			}
		}
	})
}
