package quorum

import "fmt"

// Ask is what an operation asks for: a level, and numbers that replace what the
// level says, where they are not 0.
type Ask struct {
	Level Level
	// Owners of each region that takes part, and how many regions those are, the
	// serving one among them.
	Owners, Regions int
}

// Bounds are an Ask in numbers, for a partition with so many owners in each of
// so many regions.
func (a Ask) Bounds(owners, regions int) (inEach, inRegions int, err error) {
	inEach, inRegions = a.Owners, a.Regions
	if inEach == 0 {
		if inEach, err = a.Level.Need(owners); err != nil {
			return 0, 0, err
		}
	}
	if inRegions == 0 {
		inRegions = a.Level.Regions(regions)
	}
	return inEach, inRegions, nil
}

// Policy is what a bucket allows its reads, or its writes. The zero Policy
// allows everything.
type Policy struct {
	// Default is the level of operations that ask for none.
	Default Level
	// Min and Max bound what operations ask for, in owners and in regions; no
	// bound when they are Default. A Min that asks for more owners than there are
	// asks for all.
	Min, Max Level
	// Override is what operations get whatever they ask for; Default for none.
	Override Level
}

// Valid reports whether all of p are levels.
func (p Policy) Valid() bool {
	return p.Default.Valid() && p.Min.Valid() && p.Max.Valid() && p.Override.Valid()
}

// Choose returns what an operation gets that asks for a.
func (p Policy) Choose(a Ask) Ask {
	switch {
	case p.Override != Default:
		return Ask{Level: p.Override}
	case a == Ask{}:
		return Ask{Level: p.Default}
	case a.Level == Default && a.Owners == 0: // a number of regions only
		if p.Default != Default {
			a.Level = p.Default
		}
	}
	return a
}

// Allow returns nil if an operation of a partition with so many owners in each
// of so many regions may ask for a, else what it may not and why.
func (p Policy) Allow(a Ask, owners, regions int) error {
	if p.Override != Default {
		return nil // nobody asked for it
	}
	inEach, inRegions, err := a.Bounds(owners, regions)
	if err != nil {
		return err
	}
	if p.Min != Default {
		least, most, err := Ask{Level: p.Min}.Bounds(owners, regions)
		if err != nil {
			least, most = owners, p.Min.Regions(regions)
		}
		if inEach < least || inRegions < most || p.Min.Consensus() && !(a.Level == p.Min || a.Level == Serial) {
			return fmt.Errorf("the bucket allows %s and stronger", p.Min)
		}
	}
	if p.Max != Default {
		owned, reach, err := Ask{Level: p.Max}.Bounds(owners, regions)
		if err != nil {
			owned, reach = owners, p.Max.Regions(regions)
		}
		if p.Max == Serial {
			reach = regions
		}
		// What is decided elsewhere costs as much as what others take part in.
		if a.Level == Serial {
			inRegions = max(inRegions, min(2, regions))
		}
		if inEach > owned || inRegions > reach {
			return fmt.Errorf("the bucket allows %s and weaker", p.Max)
		}
	}
	return nil
}
