package regions

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/atolldb/atoll/geo/failover"
	"github.com/atolldb/atoll/geo/regionmap"
)

// homesOf are the buckets whose home is in a region: those that the map has moved
// there, and those that only their definition has there.
func (s *Steer) homesOf(m *regionmap.Map, region string) (buckets []string) {
	for _, h := range m.Homes {
		if h.Region == region {
			buckets = append(buckets, h.Bucket)
		}
	}
	for _, bucket := range s.deps.Homes(region) {
		if _, moved := m.Home(bucket); !moved {
			buckets = append(buckets, bucket)
		}
	}
	slices.Sort(buckets)
	return buckets
}

// nextHome is where a bucket's home goes from a region that is left: to the region that
// was asked for, if it has the bucket; else to the first one in service that has it; ""
// if none has. Then it stays: a region without the bucket would refuse everybody, and
// would go on doing so when the one that has the bucket is back.
func (s *Steer) nextHome(m *regionmap.Map, from, to, bucket string) string {
	if s.deps.Has(to, bucket) {
		return to
	}
	for _, r := range m.Regions {
		if r.Name != from && r.State == regionmap.Active && s.deps.Has(r.Name, bucket) {
			return r.Name
		}
	}
	return ""
}

// moveHomes moves those that have somewhere to go.
func (s *Steer) moveHomes(m *regionmap.Map, o *failover.Operation) {
	for _, bucket := range s.homesOf(m, o.Region) {
		if to := s.nextHome(m, o.Region, o.To, bucket); to != "" {
			m.SetHome(bucket, to)
		}
	}
}

// namesShown bounds the buckets that a plan names.
const namesShown = 8

// whereHomesGo counts the homes in a region that move, and names those that stay and
// those that go elsewhere than asked.
func (s *Steer) whereHomesGo(m *regionmap.Map, from, to string) (n int, besides string) {
	elsewhere := map[string][]string{}
	for _, bucket := range s.homesOf(m, from) {
		at := s.nextHome(m, from, to, bucket)
		if at != "" {
			n++
		}
		if at != to {
			elsewhere[at] = append(elsewhere[at], bucket)
		}
	}
	names := func(buckets []string) string {
		if more := len(buckets) - namesShown; more > 0 {
			return fmt.Sprintf("%s and %d more", strings.Join(buckets[:namesShown], ", "), more)
		}
		return strings.Join(buckets, ", ")
	}
	for _, r := range m.Regions {
		if buckets := elsewhere[r.Name]; len(buckets) > 0 {
			besides += fmt.Sprintf("; %s has no bucket %s: to %s", to, names(buckets), r.Name)
		}
	}
	if buckets := elsewhere[""]; len(buckets) > 0 {
		besides += fmt.Sprintf("; no other region in service has bucket %s: SERIAL is refused there until %s is back", names(buckets), from)
	}
	return n, besides
}

// twoHomes says in plain words what becomes of SERIAL if a lost region lives.
func (s *Steer) twoHomes(m *regionmap.Map, region, to string) string {
	n, besides := s.whereHomesGo(m, region, to)
	switch {
	case n == 0 && besides == "":
		return "no bucket has its home in " + region
	case n == 0:
		return "no home moves" + besides
	case m.Binds(region):
		return fmt.Sprintf("%d homes move, after %v, when no lease of %s holds any more: there are never two%s", n, waits(m).Round(100*time.Millisecond), region, besides)
	case m.Lease.Ms > 0:
		return fmt.Sprintf("%d homes move%s. TWO HOMES ARE POSSIBLE: not all nodes are known to go by the lease. If %s still runs behind a cut it may go on deciding at SERIAL: make sure that it is down", n, besides, region)
	}
	return fmt.Sprintf("%d homes move%s. TWO HOMES ARE POSSIBLE: there is no lease ('atoll dr lease'). If %s still runs behind a cut it goes on deciding at SERIAL for its clients: make sure that it is down", n, besides, region)
}
