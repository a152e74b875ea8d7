package failover

import (
	"bytes"
	"errors"
	"maps"
	"os"
	"slices"
	"strings"
	"testing"

	"pgregory.net/rapid"

	"github.com/atolldb/atoll/crdt"
	"github.com/atolldb/atoll/geo/regionmap"
)

func three() *regionmap.Map {
	return regionmap.First([]regionmap.Region{{Name: "eu", ID: 1}, {Name: "us", ID: 2}, {Name: "ap", ID: 3}})
}

func current(t *testing.T, m *regionmap.Map) *Operation {
	t.Helper()
	o, err := Current(m)
	if err != nil || o == nil {
		t.Fatalf("operation: %+v, %v", o, err)
	}
	return o
}

// enough are facts by which every guard holds.
func enough(o *Operation) *Facts {
	f := &Facts{Now: o.Since + 1, Undecided: Lack{Known: o.At().Settled}}
	for range o.At().Covers {
		f.Lacks = append(f.Lacks, Lack{Known: true})
	}
	return f
}

// TestLines goes through every operation, and sees that no stage is left while
// anything that it waits for is missing.
func TestLines(t *testing.T) {
	m := three()
	for _, c := range []struct {
		kind   Kind
		states string
	}{
		{Switchover, "DRAINING FENCED FENCED FENCED FENCED"},
		{Failback, "REJOINING REJOINING DRAINING ACTIVE"},
		{Failover, "FENCED FENCED FENCED"},
		{Failback, "REJOINING REJOINING DRAINING ACTIVE"},
		{Failover, "FENCED FENCED FENCED"},
		{Rebuild, "REBUILDING REBUILDING DRAINING ACTIVE"},
	} {
		if err := Begin(m, Operation{Kind: c.kind, Region: "eu", To: "us", By: "ap", Since: 5}); err != nil {
			t.Fatal(err)
		}
		states := []string{m.State("eu").String()}
		for o := current(t, m); !o.Ended; o = current(t, m) {
			for what, spoil := range map[string]func(*Facts) bool{
				"somebody does not know": func(f *Facts) bool {
					f.Unaware = map[string][]string{"us": {"us-1"}}
					return o.At().Aware
				},
				"the region is silent": func(f *Facts) bool {
					f.Silent = map[string][]string{"eu": {"eu-1"}}
					return o.At().Strict
				},
				"a write is missing": func(f *Facts) bool {
					if len(f.Lacks) > 0 {
						f.Lacks[len(f.Lacks)-1].Writes = 1
					}
					return len(f.Lacks) > 0
				},
				"a proposal is undecided": func(f *Facts) bool {
					f.Undecided.Writes = 1
					return o.At().Settled
				},
				"a lease may hold": func(f *Facts) bool {
					f.Leased = "for 3 s yet"
					return o.At().Lapsed
				},
				"nobody says what is undecided": func(f *Facts) bool {
					f.Undecided = Lack{}
					return o.At().Settled
				},
				"nothing is counted": func(f *Facts) bool {
					f.Lacks = nil
					return len(o.At().Covers) > 0
				},
			} {
				f := enough(o)
				if matters := spoil(f); !matters {
					continue
				}
				if went, err := Advance(m.Clone(), o, f); went || err != nil || o.Waits(f) == "" {
					t.Errorf("%s %s was left although %s: %v", o.Kind, o.At().Name, what, err)
				}
			}
			f := enough(o)
			if o.Kind == Failover {
				f.Silent = map[string][]string{"eu": {"eu-1"}, "us": {"us-3"}}
			}
			went, err := Advance(m, o, f)
			if !went || err != nil {
				t.Fatalf("%s stays %s: %v, %s", o.Kind, o.At().Name, err, o.Waits(f))
			}
			if again, err := Advance(m, o, f); again || err != nil {
				t.Errorf("old facts were used twice: %v", err)
			}
			m.N++
			states = append(states, m.State("eu").String())
		}
		if got := strings.Join(states, " "); got != c.states {
			t.Errorf("%s: %s, not %s", c.kind, got, c.states)
		}
	}
}

func TestAbort(t *testing.T) {
	m := three()
	if err := Begin(m, Operation{Kind: Switchover, Region: "eu", To: "us", By: "us"}); err != nil {
		t.Fatal(err)
	}
	drained := m.Clone()
	if err := Abort(drained, 9); err != nil || drained.State("eu") != regionmap.Active || !current(t, drained).Ended {
		t.Errorf("abort while draining: %v, %s", err, drained.State("eu"))
	}
	if err := Abort(drained, 9); !errors.Is(err, ErrRefused) {
		t.Errorf("abort of nothing: %v", err)
	}
	o := current(t, m)
	if _, err := Advance(m, o, enough(o)); err != nil {
		t.Fatal(err)
	}
	if err := Abort(m, 9); err != nil || m.State("eu") != regionmap.Rejoining || current(t, m).Kind != Failback {
		t.Errorf("abort when fenced: %v, %s", err, m.State("eu"))
	}
	if err := Abort(m, 9); !errors.Is(err, ErrRefused) {
		t.Errorf("abort of the way back: %v", err)
	}
}

func TestRefusals(t *testing.T) {
	lost := three()
	for _, r := range []string{"us", "ap"} {
		if err := lost.Set(r, regionmap.Fenced); err != nil {
			t.Fatal(err)
		}
	}
	busy := three()
	if err := Begin(busy, Operation{Kind: Failover, Region: "eu", To: "us", By: "us"}); err != nil {
		t.Fatal(err)
	}
	for what, c := range map[string]struct {
		m *regionmap.Map
		o Operation
	}{
		"of itself":              {three(), Operation{Kind: Failover, Region: "eu", To: "us", By: "eu"}},
		"an unknown region":      {three(), Operation{Kind: Failover, Region: "mars", To: "us", By: "us"}},
		"to nowhere":             {three(), Operation{Kind: Switchover, Region: "eu", To: "mars", By: "us"}},
		"to itself":              {three(), Operation{Kind: Switchover, Region: "eu", To: "eu", By: "us"}},
		"nobody is left":         {lost, Operation{Kind: Failover, Region: "eu", To: "us", By: "us"}},
		"fenced already":         {lost, Operation{Kind: Failover, Region: "us", To: "eu", By: "eu"}},
		"back from nowhere":      {three(), Operation{Kind: Failback, Region: "eu", By: "us"}},
		"another one is on":      {busy, Operation{Kind: Switchover, Region: "ap", To: "us", By: "us"}},
		"no operation of a kind": {three(), Operation{Kind: 9, Region: "eu", To: "us", By: "us"}},
	} {
		if err := Begin(c.m, c.o); !errors.Is(err, ErrRefused) {
			t.Errorf("%s: %v", what, err)
		}
	}
	if err := Begin(busy, Operation{Kind: Failover, Region: "ap", To: "us", By: "us", Forced: true}); err != nil {
		t.Errorf("force replaces what is under way: %v", err)
	}
}

func drawOperation(t *rapid.T) *Operation {
	o := &Operation{
		ID: rapid.Uint64().Draw(t, "id"), Kind: rapid.SampledFrom(slices.Sorted(maps.Keys(kindNames))).Draw(t, "kind"),
		Region: "eu", To: rapid.StringN(0, 10, 30).Draw(t, "to"), By: "us",
		Forced: rapid.Bool().Draw(t, "forced"), Aborted: rapid.Bool().Draw(t, "aborted"), Ended: rapid.Bool().Draw(t, "ended"),
		Began: rapid.Uint64().Draw(t, "began"), Since: 2, Closed: 3,
	}
	o.Stage = uint8(rapid.IntRange(0, len(Stages(o.Kind))-1).Draw(t, "stage"))
	o.Missing = Missing{Counted: rapid.Bool().Draw(t, "counted"), Writes: 7, HeardMs: 12}
	for range rapid.IntRange(0, 5).Draw(t, "spans") {
		from := rapid.Uint64Range(1, 1<<40).Draw(t, "from")
		o.Missing.Spans = append(o.Missing.Spans, Span{rapid.Uint32().Draw(t, "partition"), crdt.Dots{
			Actor: crdt.Actor(rapid.Uint32().Draw(t, "actor")), Span: crdt.Span{Lo: from, Hi: from + rapid.Uint64Range(0, 9).Draw(t, "more")},
		}})
	}
	if rapid.Bool().Draw(t, "by bucket") {
		o.Missing.SetBuckets(rapid.MapOf(rapid.StringN(1, 5, 20), rapid.Uint64()).Draw(t, "buckets"))
	}
	if rapid.Bool().Draw(t, "lost") {
		o.Lost = Missing{Counted: true, Writes: 3, Spans: o.Missing.Spans}
	}
	return o
}

func TestCodec(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		o := drawOperation(t)
		b := o.Append(nil)
		back, err := Decode(b)
		if err != nil || !bytes.Equal(back.Append(nil), b) {
			t.Fatalf("%+v came back as %+v, %v", o, back, err)
		}
		if _, err := Decode(b[:rapid.IntRange(0, len(b)-1).Draw(t, "cut")]); err == nil {
			t.Fatal("a cut encoding decodes")
		}
	})
}

func FuzzDecode(f *testing.F) {
	o := Operation{ID: 3, Kind: Failover, Region: "eu", To: "us", By: "us", Missing: Missing{Counted: true, Writes: 1, Spans: []Span{{1, crdt.Dots{Actor: 257, Span: crdt.Span{Lo: 1, Hi: 1}}}}}}
	f.Add(o.Append(nil))
	f.Fuzz(func(t *testing.T, b []byte) {
		if o, err := Decode(b); err == nil && !bytes.Equal(o.Append(nil), b) {
			t.Errorf("not canonical: %x", b)
		}
	})
}

// TestAccount compares with sets of dots.
func TestAccount(t *testing.T) {
	type dot struct {
		p int
		d crdt.Dot
	}
	rapid.Check(t, func(t *rapid.T) {
		draw := func(label string) (clocks []*crdt.Clock, set map[dot]bool) {
			set = map[dot]bool{}
			for p := range 2 {
				c := &crdt.Clock{}
				for range rapid.IntRange(0, 12).Draw(t, label) {
					d := crdt.Dot{Actor: crdt.MakeActor(1, uint8(rapid.IntRange(1, 2).Draw(t, "region"))), N: rapid.Uint64Range(1, 9).Draw(t, "n")}
					c.Add(d)
					set[dot{p, d}] = true
				}
				clocks = append(clocks, c)
			}
			return clocks, set
		}
		told, toldSet := draw("told")
		x, xs := draw("x")
		y, ys := draw("y")
		m := Compare(told, Join(x, y))
		want, listed := 0, uint64(0)
		for d := range toldSet {
			if !xs[d] && !ys[d] {
				want++
			}
		}
		for _, s := range m.Spans {
			listed += s.Dots.Len()
			for n := s.Dots.Lo; n <= s.Dots.Hi; n++ {
				if d := (dot{int(s.Partition), crdt.Dot{Actor: s.Dots.Actor, N: n}}); !toldSet[d] || xs[d] || ys[d] {
					t.Fatalf("%v is listed", d)
				}
			}
		}
		if m.Writes != uint64(want) || listed != m.Writes {
			t.Fatalf("%d missing, %d listed, not %d", m.Writes, listed, want)
		}
		owners := Clocks{{x[0], y[0]}, {x[1], y[1]}}
		lacking := uint64(0)
		for p := range 2 {
			most := 0
			for _, set := range []map[dot]bool{xs, ys} {
				n := 0
				for d := range toldSet {
					if d.p == p && !set[d] {
						n++
					}
				}
				most = max(most, n)
			}
			lacking += uint64(most)
		}
		if got := owners.Lacking(told); got != lacking {
			t.Fatalf("%d lacking, not %d", got, lacking)
		}
		only := Only(told[0], 1)
		for d := range toldSet {
			if d.p == 0 && only.Contains(d.d) != (d.d.Actor.Region() == 1) {
				t.Fatalf("Only has or lacks %v", d.d)
			}
		}
	})
}

// The pictures in docs/dr.md are those of the table.
func TestDiagrams(t *testing.T) {
	text, err := os.ReadFile("../../docs/dr.md")
	if err != nil {
		t.Fatal(err)
	}
	for _, k := range []Kind{Switchover, Failover, Failback, Add, Rebuild, Remove} {
		if want := "```text\n" + Diagram(k) + "```\n"; !strings.Contains(string(text), want) {
			t.Errorf("docs/dr.md has not the picture of %s:\n%s", k, want)
		}
	}
	if want := "```text\n" + StateDiagram() + "```\n"; !strings.Contains(string(text), want) {
		t.Errorf("docs/dr.md has not the picture of a region's states:\n%s", want)
	}
}
