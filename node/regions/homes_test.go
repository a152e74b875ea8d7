package regions

import (
	"slices"
	"strings"
	"testing"

	"github.com/atolldb/atoll/geo/failover"
	"github.com/atolldb/atoll/geo/regionmap"
)

// A home moves to a region that has the bucket, and stays where no other one has it: a
// region without it would refuse everybody, and still would when the old home is back.
func TestHomesMoveToWhereTheBucketIs(t *testing.T) {
	has := map[string][]string{"alone": {"a"}, "pair": {"a", "c"}, "all": {"a", "b", "c"}, "moved": {"a", "b"}, "away": {"a", "d"}}
	s := NewSteer(nil, SteerDeps{
		Homes: func(region string) []string {
			if region != "a" {
				return nil
			}
			return []string{"all", "alone", "away", "pair"}
		},
		Has: func(region, bucket string) bool { return slices.Contains(has[bucket], region) },
	})
	m := &regionmap.Map{}
	for i, name := range []string{"a", "b", "c", "d"} {
		state := regionmap.Active
		if name == "d" {
			state = regionmap.Fenced
		}
		m.Regions = append(m.Regions, regionmap.Region{Name: name, ID: uint8(i + 1), State: state})
	}
	m.SetHome("moved", "a")
	n, besides := s.whereHomesGo(m, "a", "b")
	for _, want := range []string{"b has no bucket pair: to c", "no other region in service has bucket alone, away: SERIAL is refused there until a is back"} {
		if n != 3 || !strings.Contains(besides, want) {
			t.Errorf("%d homes move%s; not %q", n, besides, want)
		}
	}
	s.moveHomes(m, &failover.Operation{Kind: failover.Failover, Region: "a", To: "b"})
	for bucket, want := range map[string]string{"all": "b", "moved": "b", "pair": "c"} {
		if h, _ := m.Home(bucket); h.Region != want || h.Epoch < 2 {
			t.Errorf("the home of %s: %+v, not %s", bucket, h, want)
		}
	}
	for _, bucket := range []string{"alone", "away"} {
		if h, moved := m.Home(bucket); moved {
			t.Errorf("the home of %s moved: %+v", bucket, h)
		}
	}
}
