package geo

import (
	"slices"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/hashicorp/go-hclog"
	"pgregory.net/rapid"

	"github.com/atolldb/atoll/crdt"
	"github.com/atolldb/atoll/hashring"
)

type placed struct {
	p hashring.Partition
	d crdt.Dot
}

// twin counts what Lag counts, with sets of dots: what each owner of east has last
// said to have, what is here, and since when anything is missing.
type twin struct {
	said   []map[placed]bool // of each owner of east, nil for not heard
	here   map[placed]bool
	in     map[placed]time.Time
	out    map[placed]time.Time
	heard  time.Time
	start  time.Time
	shared int // partitions
}

func (w *twin) union() (has map[placed]bool, spoke bool) {
	has = map[placed]bool{}
	for _, s := range w.said {
		spoke = spoke || s != nil
		for x := range s {
			has[x] = true
		}
	}
	return has, spoke
}

// look notes since when what is missing is missing.
func (w *twin) look(now time.Time) (in, out LagReport) {
	in = LagReport{Origin: "east", Destination: "west", HeartbeatAge: now.Sub(w.start)}
	if !w.heard.IsZero() {
		in.Heard, in.HeartbeatAge = true, now.Sub(w.heard)
		in.Alive = in.HeartbeatAge <= aliveWithin
	}
	out = in
	out.Origin, out.Destination = "west", "east"
	there, spoke := w.union()
	note := func(r *LagReport, since map[placed]time.Time, from, to map[placed]bool, region uint8) {
		for x := range from {
			if x.d.Actor.Region() != region || to[x] || int(x.p) >= w.shared {
				delete(since, x)
				continue
			}
			if _, ok := since[x]; !ok {
				since[x] = now
			}
		}
		for x, at := range since {
			if !from[x] {
				delete(since, x)
				continue
			}
			if spoke {
				r.Pending++
				r.PendingAge = max(r.PendingAge, now.Sub(at))
			}
		}
	}
	note(&in, w.in, there, w.here, 1)
	note(&out, w.out, w.here, there, 2)
	if !spoke {
		in.Unknown, out.Unknown = w.shared, w.shared
	}
	if slices.ContainsFunc(w.said, func(s map[placed]bool) bool { return s == nil }) {
		in.Unsure, out.Unsure = w.shared, w.shared
	}
	for x := range w.here {
		lacks := false
		for _, s := range w.said {
			lacks = lacks || !s[x]
		}
		if spoke && lacks && x.d.Actor.Region() == 2 && int(x.p) < w.shared {
			out.Unheld++
		}
	}
	in.PendingBytes, out.PendingBytes = 100*in.Pending, 10*out.Pending
	return in, out
}

// Lag counts exactly what a dumb twin counts, whatever is written, arrives, is lost
// again or not told: in both directions.
func TestLagAgainstSets(t *testing.T) {
	const partitions = 3
	rapid.Check(t, func(t *rapid.T) {
		now := time.UnixMilli(1_000_000)
		east := []*shelf{newShelf(partitions), newShelf(partitions)}
		here := newShelf(partitions - 1) // the last partition is not ours
		names := []string{"east-0", "east-1"}
		lag := NewLag(now, LagConfig{
			Region: "west", RegionID: 2, Others: []string{"east"},
			Owners:     func(string, hashring.Partition) []string { return names },
			EntryBytes: func() uint64 { return 10 },
		}, here)
		w := &twin{
			said: make([]map[placed]bool, 2), here: map[placed]bool{}, start: now, shared: partitions - 1,
			in: map[placed]time.Time{}, out: map[placed]time.Time{},
		}
		has := []map[placed]bool{{}, {}}
		lost, missed := false, []bool{false, false} // a heartbeat
		var heralds []*Announcer
		for i, s := range east {
			heralds = append(heralds, NewAnnouncer(
				AnnouncerConfig{Region: "east", Node: names[i], RegionID: 1, EntryBytes: func() uint64 { return 100 }},
				s, wire(func(data []byte) {
					if lost {
						return
					}
					if err := heard(lag, now, data); err != nil {
						t.Fatal(err)
					}
				}), hclog.NewNullLogger()))
		}
		home := NewAnnouncer(AnnouncerConfig{Region: "west", Node: "west-0", RegionID: 2, Changed: lag.Changed}, here, wire(func([]byte) {}), hclog.NewNullLogger())
		for range rapid.IntRange(1, 60).Draw(t, "steps") {
			now = now.Add(time.Duration(rapid.IntRange(0, 2000).Draw(t, "ms")) * time.Millisecond)
			x := placed{
				hashring.Partition(rapid.IntRange(0, partitions-1).Draw(t, "partition")),
				crdt.Dot{
					Actor: rapid.SampledFrom([]crdt.Actor{eastActor, eastActor + 64, westActor, crdt.MakeActor(3, 3)}).Draw(t, "actor"),
					N:     uint64(rapid.IntRange(1, 12).Draw(t, "n")),
				},
			}
			n := rapid.IntRange(0, 1).Draw(t, "node")
			switch rapid.IntRange(0, 6).Draw(t, "op") {
			case 0, 1: // a node of east gets a dot
				east[n].add(x.p, x.d)
				has[n][x] = true
			case 2: // and says what it has
				lost = rapid.IntRange(0, 4).Draw(t, "lost") == 0
				heralds[n].announce(now, rapid.Bool().Draw(t, "full") || missed[n])
				missed[n] = lost
				if lost { // the next one makes up for it, since it is full
					break
				}
				w.heard, w.said[n] = now, map[placed]bool{}
				for y := range has[n] {
					w.said[n][y] = true
				}
			case 3, 4: // a dot comes here, or is written here
				if int(x.p) < w.shared {
					here.add(x.p, x.d)
					w.here[x] = true
				}
			case 5: // a node of east loses what it had
				if rapid.IntRange(0, 3).Draw(t, "wipe") == 0 {
					for p := range hashring.Partition(partitions) {
						east[n].clocks[p] = new(crdt.Clock)
					}
					has[n] = map[placed]bool{}
				}
			case 6:
				home.announce(now, false)
			}
			wantIn, wantOut := w.look(now)
			in, out := lag.Report(now, nil)
			if diff := cmp.Diff([]LagReport{wantIn}, in); diff != "" {
				t.Fatalf("to come: %s", diff)
			}
			if diff := cmp.Diff([]LagReport{wantOut}, out); diff != "" {
				t.Fatalf("to arrive: %s", diff)
			}
			listed := uint64(0)
			for p, c := range lag.Missing("east") {
				for _, run := range c.All() {
					for n := run.Lo; n <= run.Hi; n++ {
						if _, ok := w.in[placed{p, crdt.Dot{Actor: run.Actor, N: n}}]; !ok {
							t.Fatalf("%v of partition %d is not missing", run, p)
						}
						listed++
					}
				}
			}
			if listed != wantIn.Pending {
				t.Fatalf("%d listed, %d missing", listed, wantIn.Pending)
			}
			if in, out := lag.Report(now, func(hashring.Partition) bool { return false }); in[0].Pending+out[0].Pending > 0 {
				t.Fatal("partitions of others are counted")
			}
		}
	})
}

// What was said of a node that does not own the partition any more does not count.
func TestLagCountsOwnersOnly(t *testing.T) {
	now := time.UnixMilli(0)
	here := newShelf(1)
	owners := []string{"old"}
	lag := NewLag(now, LagConfig{Region: "west", RegionID: 2, Others: []string{"east"}, Owners: func(string, hashring.Partition) []string { return owners }}, here)
	here.add(0, crdt.Dot{Actor: westActor, N: 1})
	for i, node := range []string{"old", "new"} {
		c := new(crdt.Clock)
		if i == 0 {
			c.Add(crdt.Dot{Actor: westActor, N: 1})
		}
		msg := encodeHeartbeat(&heartbeat{region: "east", regionID: 1, node: node, session: 1, seq: 1, clocks: []partitionClock{{0, c}}})
		if err := heard(lag, now, msg); err != nil {
			t.Fatal(err)
		}
	}
	if r := outgoing(lag, now)[0]; r.Pending != 0 || r.Unheld != 0 {
		t.Errorf("its owner has it: %+v", r)
	}
	owners = []string{"new"}
	if r := outgoing(lag, now)[0]; r.Pending != 1 || r.Unheld != 1 {
		t.Errorf("its owner does not have it: %+v", r)
	}
	owners = []string{"new", "old"}
	if r := outgoing(lag, now)[0]; r.Pending != 0 || r.Unheld != 1 {
		t.Errorf("one of its owners has it: %+v", r)
	}
	owners = []string{"silent"}
	if r := outgoing(lag, now)[0]; r.Unknown != 1 {
		t.Errorf("its owner was never heard: %+v", r)
	}
}
