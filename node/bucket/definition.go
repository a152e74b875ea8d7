package bucket

import (
	"fmt"
	"slices"
	"strconv"

	"github.com/atolldb/atoll/crdt"
	"github.com/atolldb/atoll/crdt/hlc"
	"github.com/atolldb/atoll/node/quorum"
)

// Definition is what is known of one bucket. A zero field is its default.
type Definition struct {
	Name string
	Kind crdt.Kind
	// Reads and Writes bound their levels.
	Reads, Writes quorum.Policy
	// Sloppy makes all writes sloppy.
	Sloppy bool
	// RequireContext refuses a put without a context where a live value is.
	RequireContext bool
	// WarnSiblings and MaxSiblings of a key; 0 is 64 and 256.
	WarnSiblings, MaxSiblings uint32
	// MaxValue in bytes; 0 is 1 MiB.
	MaxValue uint32
	// TTL in milliseconds of puts that ask for none; 0 for none.
	TTL uint64
	// Regions that have the bucket, ascending; none is all of them.
	Regions []string
	// Home is where operations at the level serial are decided, "" for nowhere.
	// Once it is set no change of the definition moves it.
	Home string

	// Deleted: the bucket is not there.
	Deleted bool
	// Revision counts changes; 0 was never stored. Stamp is when it was changed.
	Revision uint64
	Stamp    hlc.Stamp
}

// The bounds of a definition.
const (
	MaxName         = 63 // bytes of [a-z0-9-_.], the first no dot
	MostValue       = 8 << 20
	MostSiblings    = 256
	DefaultWarn     = 64
	maxTTL          = 100 * 365 * 24 * 3600 * 1000 // milliseconds
	maxRegion       = 32                           // bytes of [a-z0-9-]
	maxRegions      = 63
	DefaultName     = "default"
	reservedPrefix  = '.'
	wantName        = "1..63 of a-z, 0-9, -, _ and ., the first no dot"
	wantRegionNames = "1..32 of a-z, 0-9 and -, none twice"
)

// Problem is what is wrong with a definition.
type Problem struct{ Field, Limit, Seen, Detail string }

func (p *Problem) Error() string {
	return fmt.Sprintf("%s (field %s: limit %s, seen %s)", p.Detail, p.Field, p.Limit, p.Seen)
}

// ValidName reports whether a client may name a bucket so.
func ValidName(name string) bool {
	return name != "" && len(name) <= MaxName && name[0] != reservedPrefix && each(name, "-_.")
}

// each reports whether s is of a-z, 0-9 and extra.
func each(s, extra string) bool {
	for i := range len(s) {
		c := s[i]
		if (c < 'a' || c > 'z') && (c < '0' || c > '9') && !slices.Contains([]byte(extra), c) {
			return false
		}
	}
	return true
}

// Check returns what is wrong with d, nil for nothing.
func (d *Definition) Check() *Problem {
	if !ValidName(d.Name) {
		return &Problem{"name", wantName, quote(d.Name), "this cannot be the name of a bucket"}
	}
	if d.Kind > crdt.LWW {
		return &Problem{"kind", "mv or lww", strconv.Itoa(int(d.Kind)), "no such kind"}
	}
	for _, p := range []struct {
		field  string
		policy quorum.Policy
	}{{"reads", d.Reads}, {"writes", d.Writes}} {
		if bad := checkPolicy(p.field, p.policy, d.Home); bad != nil {
			return bad
		}
	}
	for _, n := range []struct {
		field      string
		seen, most uint64
	}{
		{"max_siblings", uint64(d.MaxSiblings), MostSiblings},
		{"warn_siblings", uint64(d.WarnSiblings), MostSiblings},
		{"max_value", uint64(d.MaxValue), MostValue},
		{"ttl_ms", d.TTL, maxTTL},
	} {
		if n.seen > n.most {
			return &Problem{n.field, fmt.Sprintf("0..%d", n.most), strconv.FormatUint(n.seen, 10), n.field + " is out of range"}
		}
	}
	if d.MaxSiblings == 1 {
		return &Problem{"max_siblings", "2..256, or 0 for 256", "1", "a key needs room for two siblings: an lww bucket never shows any"}
	}
	return d.checkRegions()
}

func (d *Definition) checkRegions() *Problem {
	if len(d.Regions) > maxRegions {
		return &Problem{"regions", fmt.Sprintf("at most %d", maxRegions), strconv.Itoa(len(d.Regions)), "too many regions"}
	}
	for i, r := range d.Regions {
		if r == "" || len(r) > maxRegion || !each(r, "-") || i > 0 && d.Regions[i-1] >= r {
			return &Problem{"regions", wantRegionNames, quote(r), "not a list of regions"}
		}
	}
	switch {
	case d.Home == "":
		return nil
	case len(d.Home) > maxRegion || !each(d.Home, "-"):
		return &Problem{"home_region", wantRegionNames, quote(d.Home), "not a region"}
	case len(d.Regions) > 0 && !slices.Contains(d.Regions, d.Home):
		return &Problem{"home_region", "one of the bucket's regions", quote(d.Home), "the home does not have the bucket"}
	}
	return nil
}

// Policies are judged as for a partition with three owners in each of three
// regions.
const typical = 3

func checkPolicy(field string, p quorum.Policy, home string) *Problem {
	for _, l := range []struct {
		name  string
		level quorum.Level
	}{{"default", p.Default}, {"min", p.Min}, {"max", p.Max}, {"override", p.Override}} {
		f := field + "." + l.name
		switch {
		case !l.level.Valid():
			return &Problem{f, fmt.Sprintf("0..%d", quorum.Serial), strconv.Itoa(int(l.level)), "unknown consistency level"}
		case l.level == quorum.Serial && l.name != "max" && home == "":
			return &Problem{f, "a level other than serial, or a home_region", l.level.String(), "nobody decides at this level without a home region"}
		case l.level != quorum.Default && l.name == "min":
			if err := (quorum.Policy{Max: p.Max}).Allow(quorum.Ask{Level: l.level}, typical, typical); err != nil {
				return &Problem{f, "at most " + field + ".max, " + p.Max.String(), l.level.String(), "no level is allowed"}
			}
		case l.level != quorum.Default && l.name == "default":
			if err := (quorum.Policy{Min: p.Min, Max: p.Max}).Allow(quorum.Ask{Level: l.level}, typical, typical); err != nil {
				return &Problem{f, "what " + field + ".min and max allow", l.level.String(), err.Error()}
			}
		}
	}
	return nil
}

func quote(s string) string {
	if len(s) > MaxName {
		return strconv.Quote(s[:MaxName]) + "..."
	}
	return strconv.Quote(s)
}
