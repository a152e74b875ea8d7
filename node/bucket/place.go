package bucket

import (
	"slices"

	"github.com/cespare/xxhash/v2"
)

// A bucket may be in some of the regions only; its definition names them, and
// everybody has its definition. Regions are added to a bucket and never taken
// away, neither by a change nor by a merge nor by making it anew (B5): so whoever
// goes by an old definition takes the bucket to be in fewer regions than it is,
// and shows less than it might, never more.

// In reports whether a region has the bucket.
func (d *Definition) In(region string) bool {
	return len(d.Regions) == 0 || slices.Contains(d.Regions, region)
}

// union is the regions that either has.
func union(a, b []string) []string {
	if len(a) == 0 || len(b) == 0 {
		return nil // all of them
	}
	out := slices.Concat(a, b)
	slices.Sort(out)
	return slices.Compact(out)
}

// keeps reports what is wrong with d as the successor of old.
func (d *Definition) keeps(old Definition) *Problem {
	for _, r := range old.Regions {
		if !d.In(r) {
			return shrinks(d, old)
		}
	}
	if len(old.Regions) == 0 && len(d.Regions) > 0 {
		return shrinks(d, old)
	}
	return nil
}

func shrinks(d *Definition, old Definition) *Problem {
	return &Problem{
		"regions", "all of " + nameList(old.Regions), nameList(d.Regions),
		"a bucket leaves no region that it is in, since its keys would stay there: make another bucket, and copy",
	}
}

func nameList(regions []string) string {
	if len(regions) == 0 {
		return "every region"
	}
	out := regions[0]
	for _, r := range regions[1:] {
		out += ", " + r
	}
	return out
}

// Place says which regions have which bucket. It is immutable.
type Place struct {
	all map[string]Definition
	// parted are those that not every region has, in order of name.
	parted []Definition
}

// Place of all buckets that are known, deleted ones too: their keys are there.
func (v View) Place() *Place {
	p := &Place{all: map[string]Definition{DefaultName: {Name: DefaultName}}}
	for _, t := range []Table{v.Floor, v.Stored} {
		for _, d := range t {
			p.all[d.Name] = d
		}
	}
	for _, d := range p.all {
		if len(d.Regions) > 0 {
			p.parted = append(p.parted, d)
		}
	}
	slices.SortFunc(p.parted, func(a, b Definition) int {
		if a.Name < b.Name {
			return -1
		}
		return 1
	})
	return p
}

// Has reports whether a region has a bucket; known is false for a bucket of which
// nothing is known.
func (p *Place) Has(region string, bucket []byte) (has, known bool) {
	d, known := p.all[string(bucket)]
	return known && d.In(region), known
}

// Apart is a hash of the names of the buckets that not both regions have, 0 for
// none.
func (p *Place) Apart(a, b string) uint64 {
	var text []byte
	for i := range p.parted {
		if d := &p.parted[i]; !d.In(a) || !d.In(b) {
			text = append(append(text, d.Name...), 0)
		}
	}
	if text == nil {
		return 0
	}
	return max(1, xxhash.Sum64(text))
}

// Hidden reports whether a and b have a bucket that from has not.
func (p *Place) Hidden(a, b, from string) bool {
	return slices.ContainsFunc(p.parted, func(d Definition) bool {
		return d.In(a) && d.In(b) && !d.In(from)
	})
}
