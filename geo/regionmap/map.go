package regionmap

import (
	"bytes"
	"cmp"
	"errors"
	"fmt"
	"slices"
	"strings"
)

// State is what a region may do.
type State uint8

// The states. The numbers are wire format.
const (
	// Active regions serve, and are counted.
	Active State = 1
	// Draining ones do, too; their clients are told to move.
	Draining State = 2
	// Fenced ones are not counted. They take no write as soon as they know; what
	// they minted before joins when it arrives.
	Fenced State = 3
	// Rejoining ones get what they lack and give what others lack, and are not
	// counted yet.
	Rejoining State = 4
	// Removed ones are gone for good, and have no say in the map.
	Removed State = 5
	// Rebuilding ones have lost all their disks: they begin anew, get everything from
	// the others, and serve nobody, not even reads, until they have it.
	Rebuilding State = 6
)

var stateNames = [...]string{Active: "ACTIVE", Draining: "DRAINING", Fenced: "FENCED", Rejoining: "REJOINING", Removed: "REMOVED", Rebuilding: "REBUILDING"}

func (s State) String() string {
	if s == 0 || int(s) >= len(stateNames) {
		return fmt.Sprintf("State(%d)", uint8(s))
	}
	return stateNames[s]
}

// Counts reports whether others wait for a region in that state, and whether it may
// take writes.
func (s State) Counts() bool { return s == Active || s == Draining }

// Bounds of a map.
const (
	MaxRegions = 63 // as many as there are numbers for regions
	MaxName    = 32
	MaxBucket  = 63
	MaxHomes   = 4096
	// MaxOperation bounds what the operation under way notes, in bytes.
	MaxOperation = 128 << 10
)

// Region is one region.
type Region struct {
	Name  string
	ID    uint8 // 1..63, for ever
	State State
	// Fence is how often the region was fenced.
	Fence uint64
	// Contact of one that came in online; it is not changed once others may see it.
	Contact Contact
}

// Home is where a bucket's operations at SERIAL are decided, since it was moved: until
// then the bucket's definition says so, and that is epoch 1.
type Home struct {
	Bucket string
	Region string
	// Epoch rises with each move: who acts by a lower one acts no more.
	Epoch uint64
}

// Version names a content of the map; see Compare.
type Version struct {
	N      uint64
	Forced bool
	By     uint8 // the region in which the change was made
}

// Compare orders versions by number, force and region.
func (v Version) Compare(o Version) int {
	force := func(f bool) int {
		if f {
			return 1
		}
		return 0
	}
	return cmp.Or(cmp.Compare(v.N, o.N), cmp.Compare(force(v.Forced), force(o.Forced)), cmp.Compare(v.By, o.By))
}

func (v Version) String() string {
	s := fmt.Sprintf("%d.%d", v.N, v.By)
	if v.Forced {
		s += "!"
	}
	return s
}

// Map is one content. It is not changed once others may see it.
type Map struct {
	Version
	Regions []Region // by ID
	Homes   []Home   // by bucket
	// Lease by which homes decide.
	Lease Lease
	// Operation is what is under way, or was last, in the encoding of package
	// failover; empty before the first.
	Operation []byte
}

// Get returns a region, nil for one that the map does not know: of several of one
// name the one that is not REMOVED, or else the one of the highest number.
func (m *Map) Get(name string) *Region {
	var found *Region
	for i := range m.Regions {
		if r := &m.Regions[i]; r.Name == name && (found == nil || found.State == Removed) {
			found = r
		}
	}
	return found
}

// ByID returns the region of a number, nil for one that the map does not know.
func (m *Map) ByID(id uint8) *Region {
	for i := range m.Regions {
		if m.Regions[i].ID == id {
			return &m.Regions[i]
		}
	}
	return nil
}

// Gone reports whether the region of a number was removed.
func (m *Map) Gone(id uint8) bool {
	r := m.ByID(id)
	return r != nil && r.State == Removed
}

// State of a region, 0 for one that the map does not know.
func (m *Map) State(name string) State {
	if r := m.Get(name); r != nil {
		return r.State
	}
	return 0
}

// Counts reports whether a region is waited for and counted.
func (m *Map) Counts(name string) bool { return m.State(name).Counts() }

// Home of a bucket; false if it was never moved.
func (m *Map) Home(bucket string) (Home, bool) {
	i, found := slices.BinarySearchFunc(m.Homes, bucket, func(h Home, b string) int { return strings.Compare(h.Bucket, b) })
	if !found {
		return Home{}, false
	}
	return m.Homes[i], true
}

// Voters are the regions that have a say in changes.
func (m *Map) Voters() []string {
	var out []string
	for _, r := range m.Regions {
		if r.State != Removed {
			out = append(out, r.Name)
		}
	}
	return out
}

// Majority of the voters.
func (m *Map) Majority() int { return len(m.Voters())/2 + 1 }

// Clone returns a copy that may be changed.
func (m *Map) Clone() *Map {
	c := *m
	c.Regions, c.Homes, c.Operation = slices.Clone(m.Regions), slices.Clone(m.Homes), slices.Clone(m.Operation)
	return &c
}

// Equal reports whether both are one content.
func (m *Map) Equal(o *Map) bool { return bytes.Equal(AppendMap(nil, m), AppendMap(nil, o)) }

// ErrInvalid says that a map breaks a rule.
var ErrInvalid = errors.New("invalid map of regions")

// Check returns ErrInvalid, with what is wrong, if anything is.
func (m *Map) Check() error {
	bad := func(format string, args ...any) error {
		return fmt.Errorf("%w: %s", ErrInvalid, fmt.Sprintf(format, args...))
	}
	if n := len(m.Regions); n == 0 || n > MaxRegions {
		return bad("%d regions", n)
	}
	seen, live := map[string]bool{}, map[string]bool{}
	for i, r := range m.Regions {
		switch {
		case r.Name == "" || len(r.Name) > MaxName:
			return bad("a region's name of %d bytes", len(r.Name))
		case live[r.Name] && r.State != Removed:
			return bad("region %q is there twice", r.Name)
		case r.ID == 0 || r.ID > MaxRegions:
			return bad("region %q has the number %d", r.Name, r.ID)
		case i > 0 && m.Regions[i-1].ID >= r.ID:
			return bad("numbers of regions do not ascend")
		case r.State < Active || r.State > Rebuilding:
			return bad("region %q is in no state", r.Name)
		}
		if err := r.Contact.Check(); err != nil {
			return bad("contact of region %q: %v", r.Name, err)
		}
		seen[r.Name] = true
		live[r.Name] = live[r.Name] || r.State != Removed
	}
	if len(m.Homes) > MaxHomes {
		return bad("%d homes", len(m.Homes))
	}
	for i, h := range m.Homes {
		switch {
		case h.Bucket == "" || len(h.Bucket) > MaxBucket:
			return bad("a bucket's name of %d bytes", len(h.Bucket))
		case !seen[h.Region]:
			return bad("the home of bucket %q is in region %q, which there is none of", h.Bucket, h.Region)
		case i > 0 && m.Homes[i-1].Bucket >= h.Bucket:
			return bad("homes do not ascend")
		}
	}
	if l := m.Lease; l.Ms == 0 && l.Among != 0 || l.Ms > MaxLease || l.Ms != 0 && l.Ms < MinLease {
		return bad("a lease of %d ms", l.Ms)
	}
	if len(m.Operation) > MaxOperation {
		return bad("an operation of %d bytes", len(m.Operation))
	}
	return nil
}

// First is the map that nodes are configured with: all regions are ACTIVE, and no home
// was moved.
func First(regions []Region) *Map {
	m := &Map{Regions: slices.Clone(regions)}
	slices.SortFunc(m.Regions, func(a, b Region) int { return cmp.Compare(a.ID, b.ID) })
	for i := range m.Regions {
		m.Regions[i].State, m.Regions[i].Fence = Active, 0
	}
	return m
}
