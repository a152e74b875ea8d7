package bucket

import (
	"errors"
	"testing"
)

// B5: no change takes a bucket out of a region.
func TestRegionsOnlyGrow(t *testing.T) {
	v, d, err := View{}.Create(Definition{Name: "a", Regions: []string{"eu", "us"}}, 1)
	if err != nil {
		t.Fatal(err)
	}
	refused := func(what string, err error) {
		t.Helper()
		var p *Problem
		if !errors.As(err, &p) || p.Field != "regions" {
			t.Errorf("%s: %v", what, err)
		}
	}
	less := d
	less.Regions = []string{"eu"}
	_, _, err = v.Update(less, 2)
	refused("fewer", err)
	less.Regions = []string{"ap", "eu"}
	_, _, err = v.Update(less, 2)
	refused("others", err)
	more := d
	more.Regions = []string{"ap", "eu", "us"}
	if v, d, err = v.Update(more, 3); err != nil {
		t.Fatal(err)
	}
	gone, _, err := v.Delete("a", d.Revision, 4)
	if err != nil {
		t.Fatal(err)
	}
	_, _, err = gone.Create(Definition{Name: "a", Regions: []string{"eu"}}, 5)
	refused("made anew with fewer", err)
	if has, known := gone.Place().Has("xy", []byte("a")); has || !known {
		t.Error("a deleted bucket is everywhere")
	}
	all := d
	all.Regions = nil
	if v, d, err = v.Update(all, 6); err != nil {
		t.Fatal(err)
	}
	less = d
	less.Regions = []string{"eu"}
	_, _, err = v.Update(less, 7)
	refused("no longer all", err)
}

func TestPlace(t *testing.T) {
	p := View{
		Floor:  Table{{Name: "conf"}},
		Stored: Table{{Name: "eu-only", Regions: []string{"eu"}}, {Name: "two", Regions: []string{"ap", "eu"}, Deleted: true}},
	}.Place()
	for _, c := range []struct {
		region, bucket string
		has, known     bool
	}{
		{"eu", "eu-only", true, true},
		{"us", "eu-only", false, true},
		{"ap", "two", true, true},
		{"us", "two", false, true},
		{"us", "conf", true, true},
		{"us", DefaultName, true, true},
		{"us", "unheard", false, false},
	} {
		if has, known := p.Has(c.region, []byte(c.bucket)); has != c.has || known != c.known {
			t.Errorf("%s in %s: %v, %v", c.bucket, c.region, has, known)
		}
	}
	if p.Apart("eu", "us") == 0 || p.Apart("eu", "us") == p.Apart("eu", "ap") || p.Apart("eu", "us") != p.Apart("us", "eu") {
		t.Error("what two regions do not share is not what their hash says")
	}
	if (View{}).Place().Apart("eu", "us") != 0 {
		t.Error("there is nothing apart")
	}
	if !p.Hidden("eu", "ap", "us") || p.Hidden("us", "ap", "eu") {
		t.Error("us does not see what eu and ap have in common")
	}
}
