package quorum_test

import (
	"testing"

	"pgregory.net/rapid"

	"github.com/atolldb/atoll/node/quorum"
)

func TestPolicy(t *testing.T) {
	type ask = quorum.Ask
	for name, c := range map[string]struct {
		p    quorum.Policy
		a    ask
		want ask // what it gets; refused if it is ask{Owners: -1}
	}{
		"nothing asked, no policy":       {quorum.Policy{}, ask{}, ask{}},
		"nothing asked":                  {quorum.Policy{Default: quorum.EachQuorum}, ask{}, ask{Level: quorum.EachQuorum}},
		"a number of regions":            {quorum.Policy{Default: quorum.LocalAll}, ask{Regions: 2}, ask{Level: quorum.LocalAll, Regions: 2}},
		"a number of owners":             {quorum.Policy{Default: quorum.EachQuorum}, ask{Owners: 2}, ask{Owners: 2}},
		"too few owners":                 {quorum.Policy{Min: quorum.LocalTwo}, ask{Level: quorum.LocalOne}, ask{Owners: -1}},
		"too few by number":              {quorum.Policy{Min: quorum.LocalTwo}, ask{Owners: 1}, ask{Owners: -1}},
		"just enough":                    {quorum.Policy{Min: quorum.LocalTwo}, ask{}, ask{}},
		"too few regions":                {quorum.Policy{Min: quorum.Quorum}, ask{Level: quorum.LocalAll}, ask{Owners: -1}},
		"enough regions":                 {quorum.Policy{Min: quorum.Quorum}, ask{Level: quorum.EachQuorum}, ask{Level: quorum.EachQuorum}},
		"too many regions":               {quorum.Policy{Max: quorum.LocalAll}, ask{Level: quorum.Quorum}, ask{Owners: -1}},
		"regions by number":              {quorum.Policy{Max: quorum.LocalAll}, ask{Regions: 2}, ask{Owners: -1}},
		"too many owners":                {quorum.Policy{Max: quorum.EachQuorum}, ask{Level: quorum.All}, ask{Owners: -1}},
		"consensus is a quorum":          {quorum.Policy{Min: quorum.LocalQuorum, Max: quorum.LocalQuorum}, ask{Level: quorum.LocalSerial}, ask{Level: quorum.LocalSerial}},
		"consensus elsewhere leaves":     {quorum.Policy{Max: quorum.LocalAll}, ask{Level: quorum.Serial}, ask{Owners: -1}},
		"consensus wanted":               {quorum.Policy{Min: quorum.LocalSerial}, ask{Level: quorum.All}, ask{Owners: -1}},
		"consensus given":                {quorum.Policy{Min: quorum.LocalSerial}, ask{Level: quorum.Serial}, ask{Level: quorum.Serial}},
		"the operator's word":            {quorum.Policy{Min: quorum.All, Override: quorum.LocalOne}, ask{Level: quorum.EachQuorum, Owners: 3}, ask{Level: quorum.LocalOne}},
		"three where there are two only": {quorum.Policy{Min: quorum.LocalThree}, ask{Level: quorum.LocalAll}, ask{Owners: -1}},
	} {
		owners := 3
		if name == "three where there are two only" {
			// of a region of two owners LOCAL_ALL is all that can be asked for
			if err := c.p.Allow(c.a, 2, 1); err != nil {
				t.Errorf("%s: %v", name, err)
			}
			continue
		}
		got := c.p.Choose(c.a)
		err := c.p.Allow(got, owners, 3)
		if refused := c.want.Owners < 0; refused != (err != nil) || !refused && got != c.want {
			t.Errorf("%s: %+v, %v; want %+v", name, got, err, c.want)
		}
	}
}

// Whatever a policy chooses of what nobody asked for, a policy whose default is
// its minimum allows; and in a region of one owner every write is allowed by a
// minimum of two.
func TestPolicyLaws(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		level := rapid.Map(rapid.IntRange(0, int(quorum.All)), func(n int) quorum.Level { return quorum.Level(n) })
		owners, regions := rapid.IntRange(1, 5).Draw(t, "owners"), rapid.IntRange(1, 4).Draw(t, "regions")
		l := level.Draw(t, "level")
		p := quorum.Policy{Default: l, Min: l, Max: l}
		if _, _, err := (quorum.Ask{Level: l}).Bounds(owners, regions); err == nil {
			if err := p.Allow(p.Choose(quorum.Ask{}), owners, regions); err != nil {
				t.Fatalf("%+v refuses its own default: %v", p, err)
			}
		}
		if err := (quorum.Policy{Min: quorum.LocalTwo}).Allow(quorum.Ask{Owners: 1}, 1, regions); err != nil {
			t.Fatal(err)
		}
		// A higher ask is never refused for being too weak.
		low := quorum.Policy{Min: l}
		a := quorum.Ask{Owners: rapid.IntRange(1, owners).Draw(t, "asked"), Regions: rapid.IntRange(1, regions).Draw(t, "in")}
		b := quorum.Ask{Owners: rapid.IntRange(a.Owners, owners).Draw(t, "more"), Regions: rapid.IntRange(a.Regions, regions).Draw(t, "in more")}
		if low.Allow(a, owners, regions) == nil && low.Allow(b, owners, regions) != nil {
			t.Fatalf("min %v allows %+v and not %+v", l, a, b)
		}
	})
}
