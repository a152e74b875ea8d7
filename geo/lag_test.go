package geo

import (
	"bytes"
	"context"
	"fmt"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/hashicorp/go-hclog"
	"pgregory.net/rapid"

	"github.com/atolldb/atoll/crdt"
	"github.com/atolldb/atoll/hashring"
)

// shelf is the clocks of a node that owns some partitions.
type shelf struct {
	mu     sync.Mutex
	clocks map[hashring.Partition]*crdt.Clock
}

func newShelf(partitions int) *shelf {
	s := &shelf{clocks: make(map[hashring.Partition]*crdt.Clock)}
	for p := range partitions {
		s.clocks[hashring.Partition(p)] = new(crdt.Clock)
	}
	return s
}

func (s *shelf) Owned() (ps []hashring.Partition) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for p := range s.clocks {
		ps = append(ps, p)
	}
	return ps
}

func (s *shelf) Clock(p hashring.Partition) *crdt.Clock {
	s.mu.Lock()
	defer s.mu.Unlock()
	if c := s.clocks[p]; c != nil {
		return c.Clone()
	}
	return nil
}

func (s *shelf) add(p hashring.Partition, d crdt.Dot) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.clocks[p].Add(d)
}

var (
	eastActor = crdt.MakeActor(7, 1)
	westActor = crdt.MakeActor(9, 2)
)

// wire is a log that hands announcements to a function.
type wire func([]byte)

func (w wire) Append(Batch, func(error))  {}
func (w wire) Announce(data []byte) error { w(data); return nil }

// Against a dumb twin that keeps sets of dots and the time of each.
func TestLagAgainstSets(t *testing.T) {
	type placed struct {
		p hashring.Partition
		d crdt.Dot
	}
	const partitions = 3
	rapid.Check(t, func(t *rapid.T) {
		now := time.UnixMilli(1_000_000)
		nodes := []*shelf{newShelf(partitions), newShelf(partitions)} // of east
		here := newShelf(partitions - 1)                              // the last partition is not ours
		lag := NewLag(now, []string{"east"}, here)
		var announcers []*Announcer
		for i, s := range nodes {
			announcers = append(announcers, NewAnnouncer(
				AnnouncerConfig{Region: "east", Node: fmt.Sprint("east-", i), RegionID: 1, EntryBytes: func() uint64 { return 100 }},
				s, wire(func(data []byte) {
					if err := lag.Announced(now, "east", data); err != nil {
						t.Fatal(err)
					}
				}), hclog.NewNullLogger()))
		}
		has := []map[placed]bool{{}, {}}
		told := map[placed]time.Time{}
		came := map[placed]bool{}
		heard := time.Time{}
		start := now
		steps := rapid.IntRange(1, 60).Draw(t, "steps")
		for range steps {
			now = now.Add(time.Duration(rapid.IntRange(0, 2000).Draw(t, "ms")) * time.Millisecond)
			x := placed{
				hashring.Partition(rapid.IntRange(0, partitions-1).Draw(t, "partition")),
				crdt.Dot{
					Actor: rapid.SampledFrom([]crdt.Actor{eastActor, eastActor + 64, westActor}).Draw(t, "actor"),
					N:     uint64(rapid.IntRange(1, 12).Draw(t, "n")),
				},
			}
			n := rapid.IntRange(0, 1).Draw(t, "node")
			switch rapid.IntRange(0, 4).Draw(t, "op") {
			case 0, 1: // a node of east gets a dot
				nodes[n].add(x.p, x.d)
				has[n][x] = true
			case 2: // and says so
				announcers[n].announce(now, 1, rapid.Bool().Draw(t, "full"))
				heard = now
				for y := range has[n] {
					if _, ok := told[y]; !ok && y.p < partitions-1 && y.d.Actor != westActor {
						told[y] = now
					}
				}
			case 3: // a dot comes here
				if x.p < partitions-1 {
					here.add(x.p, x.d)
					came[x] = true
				}
			}
			want := LagReport{Origin: "east", Heard: !heard.IsZero(), HeartbeatAge: now.Sub(start)}
			if want.Heard {
				want.HeartbeatAge = now.Sub(heard)
				want.Alive = want.HeartbeatAge <= 3*time.Second
			}
			overdue := map[hashring.Partition]bool{}
			for y, at := range told {
				if !came[y] {
					want.Pending++
					want.PendingAge = max(want.PendingAge, now.Sub(at))
					if now.Sub(at) >= 3*time.Second {
						overdue[y.p] = true
					}
				}
			}
			want.PendingBytes = 100 * want.Pending
			if diff := cmp.Diff([]LagReport{want}, lag.Report(now)); diff != "" {
				t.Fatal(diff)
			}
			got := lag.Overdue(now, "east", 3*time.Second)
			if len(got) != len(overdue) || slices.ContainsFunc(got, func(p hashring.Partition) bool { return !overdue[p] }) {
				t.Fatalf("overdue %v, want %v", got, overdue)
			}
		}
	})
}

// However many steps there are, memory stays bounded and no age is told too
// low.
func TestLagManySteps(t *testing.T) {
	now := time.UnixMilli(0)
	far, here := newShelf(1), newShelf(1)
	lag := NewLag(now, []string{"east"}, here)
	a := NewAnnouncer(AnnouncerConfig{Region: "east", Node: "east-1", RegionID: 1}, far, wire(func(data []byte) {
		if err := lag.Announced(now, "east", data); err != nil {
			t.Fatal(err)
		}
	}), hclog.NewNullLogger())
	const writes = 2000
	for n := range uint64(writes) {
		now = now.Add(time.Second)
		far.add(0, crdt.Dot{Actor: eastActor, N: n + 1})
		a.announce(now, 1, false)
		if steps := len(lag.origins["east"].partitions[0].steps); steps > maxSteps {
			t.Fatalf("%d steps", steps)
		}
	}
	for n := range uint64(writes) {
		r := lag.Report(now)[0]
		age := time.Duration(writes-1-n) * time.Second
		if r.Pending != writes-n || r.PendingAge < age || r.PendingAge > age+2*writes/maxSteps*time.Second {
			t.Fatalf("%d pending for %v, want %d for %v", r.Pending, r.PendingAge, writes-n, age)
		}
		here.add(0, crdt.Dot{Actor: eastActor, N: n + 1})
	}
	if r := lag.Report(now)[0]; r.Pending != 0 || r.PendingAge != 0 {
		t.Fatalf("%+v", r)
	}
}

// A node that loses what it had lags again.
func TestLagAfterRollback(t *testing.T) {
	now := time.UnixMilli(0)
	far, here := newShelf(1), newShelf(1)
	lag := NewLag(now, []string{"east"}, here)
	a := NewAnnouncer(AnnouncerConfig{Region: "east", Node: "east-1", RegionID: 1}, far, wire(func(data []byte) { _ = lag.Announced(now, "east", data) }), hclog.NewNullLogger())
	d := crdt.Dot{Actor: eastActor, N: 1}
	far.add(0, d)
	here.add(0, d)
	a.announce(now, 1, true)
	if r := lag.Report(now)[0]; r.Pending != 0 {
		t.Fatalf("%+v", r)
	}
	here.clocks[0] = new(crdt.Clock)
	lag.Report(now)
	now = now.Add(time.Minute)
	if r := lag.Report(now)[0]; r.Pending != 1 || r.PendingAge != time.Minute {
		t.Fatalf("%+v", r)
	}
}

func TestLagDeadLink(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		far, here := newShelf(4), newShelf(4)
		lag := NewLag(time.Now(), []string{"east", "north"}, here)
		var cut atomic.Bool
		var beats atomic.Int32
		a := NewAnnouncer(AnnouncerConfig{Region: "east", Node: "east-1", RegionID: 1}, far, wire(func(data []byte) {
			if beats.Add(1); cut.Load() {
				return
			}
			if err := lag.Announced(time.Now(), "east", data); err != nil {
				t.Error(err)
			}
		}), hclog.NewNullLogger())
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan error)
		go func() { done <- a.Run(ctx) }()
		time.Sleep(10*time.Second + time.Millisecond)
		synctest.Wait()
		r := lag.Report(time.Now())
		if !r[0].Alive || r[0].HeartbeatAge > 300*time.Millisecond || r[0].Pending != 0 {
			t.Errorf("a live and idle link: %+v", r[0])
		}
		if r[1].Origin != "north" || r[1].Alive || r[1].Heard || r[1].HeartbeatAge < 10*time.Second {
			t.Errorf("a region never heard: %+v", r[1])
		}
		if n := beats.Load(); n > 40 {
			t.Errorf("%d heartbeats in 10 s", n)
		}
		far.add(2, crdt.Dot{Actor: eastActor, N: 1})
		time.Sleep(time.Second)
		cut.Store(true)
		far.add(2, crdt.Dot{Actor: eastActor, N: 2})
		time.Sleep(3300 * time.Millisecond)
		if r := lag.Report(time.Now())[0]; r.Alive || r.Pending != 1 || r.PendingAge < 3*time.Second {
			t.Errorf("a dead link: %+v", r)
		}
		cut.Store(false)
		time.Sleep(11 * time.Second) // the lost delta comes with the next full round
		if r := lag.Report(time.Now())[0]; !r.Alive || r.Pending != 2 {
			t.Errorf("a link that came back: %+v", r)
		}
		cancel()
		<-done
	})
}

// A heartbeat delivered late is no sign of life; a restarted node's first is.
func TestLagLateHeartbeats(t *testing.T) {
	start := time.UnixMilli(0)
	lag := NewLag(start, []string{"east"}, newShelf(1))
	send := func(at time.Duration, session, seq uint64) LagReport {
		if err := lag.Announced(start.Add(at), "east", encodeHeartbeat(&heartbeat{region: "east", node: "n", session: session, seq: seq})); err != nil {
			t.Fatal(err)
		}
		return lag.Report(start.Add(at))[0]
	}
	send(time.Second, 5, 10)
	if r := send(2*time.Second, 5, 9); r.HeartbeatAge != time.Second {
		t.Errorf("an older one: %+v", r)
	}
	if r := send(3*time.Second, 6, 1); r.HeartbeatAge != 0 {
		t.Errorf("a new session: %+v", r)
	}
	if r := send(4*time.Second, 5, 11); r.HeartbeatAge != time.Second {
		t.Errorf("an older session: %+v", r)
	}
	if err := lag.Announced(start, "east", encodeHeartbeat(&heartbeat{region: "west", node: "n"})); err == nil {
		t.Error("a heartbeat of another region was taken")
	}
	if err := lag.Announced(start, "south", encodeHeartbeat(&heartbeat{region: "south", node: "n"})); err == nil {
		t.Error("a heartbeat of an unknown region was taken")
	}
}

// Much to tell is told in several messages, each within the bound.
func TestAnnouncerSplits(t *testing.T) {
	const partitions = 512
	far, here := newShelf(partitions), newShelf(partitions)
	for p := range hashring.Partition(partitions) {
		for n := range uint64(600) {
			far.clocks[p].Add(crdt.Dot{Actor: eastActor, N: 3 * (n*n%997 + 1)})
		}
	}
	now := time.UnixMilli(0)
	lag := NewLag(now, []string{"east"}, here)
	messages := 0
	a := NewAnnouncer(AnnouncerConfig{Region: "east", Node: "east-1", RegionID: 1}, far, wire(func(data []byte) {
		messages++
		if len(data) > maxHeartbeat {
			t.Errorf("message of %d bytes", len(data))
		}
		if err := lag.Announced(now, "east", data); err != nil {
			t.Error(err)
		}
	}), hclog.NewNullLogger())
	a.announce(now, 1, true)
	want := uint64(0)
	for p := range hashring.Partition(partitions) {
		want += new(crdt.Clock).CountMissing(far.clocks[p])
	}
	if got := lag.Report(now)[0].Pending; got != want || messages < 2 {
		t.Fatalf("%d of %d dots in %d messages", got, want, messages)
	}
	messages = 0
	a.announce(now, 1, false)
	if messages != 1 {
		t.Fatalf("%d messages when nothing changed", messages)
	}
}

// The decoder takes only what encodes to the same body.
func FuzzDecodeHeartbeat(f *testing.F) {
	c := new(crdt.Clock)
	c.Add(crdt.Dot{Actor: eastActor, N: 1})
	c.Add(crdt.Dot{Actor: eastActor, N: 5})
	whole := encodeHeartbeat(&heartbeat{region: "east", node: "east-1", session: 5, seq: 9, millis: 1, entryBytes: 200, clocks: []partitionClock{{3, c}, {7, c}}})
	f.Add(whole[2:len(whole)-4], false)
	f.Add(whole[2:len(whole)-4], true)
	f.Fuzz(func(t *testing.T, body []byte, packed bool) {
		kind := byte(0)
		if packed {
			kind = 1
		}
		h, err := decodeHeartbeat(seal(append([]byte{heartbeatFormat, kind}, body...)))
		if err != nil || packed {
			return
		}
		if again := appendHeartbeat(nil, h); !bytes.Equal(again, body) {
			t.Fatalf("accepted %x, which encodes as %x", body, again)
		}
	})
}
