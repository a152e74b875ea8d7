package geo

import (
	"testing"
	"time"

	"github.com/hashicorp/go-hclog"
	"pgregory.net/rapid"

	"github.com/atolldb/atoll/crdt"
	"github.com/atolldb/atoll/hashring"
)

// What Fresh tells holds, whatever is lost, repeated or out of order between the
// regions: every write up to then is here. And when nothing is missing and a full
// round has come, it tells the time of that round.
func TestFreshIsExact(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		const parts = 2
		here := newShelf(parts)
		names := []string{"n1", "n2"}
		fresh := NewFresh(here, func(string, hashring.Partition) []string { return names })
		type minted struct {
			p  hashring.Partition
			d  crdt.Dot
			at time.Time
		}
		var all []minted
		var inbox [][]byte
		now := time.UnixMilli(1_000_000)
		var there []*shelf
		var heralds []*Announcer
		herald := func(i int) *Announcer {
			return NewAnnouncer(AnnouncerConfig{Region: "east", Node: names[i], RegionID: 1}, there[i],
				wire(func(b []byte) { inbox = append(inbox, b) }), hclog.NewNullLogger())
		}
		for i := range names {
			there = append(there, newShelf(parts))
			heralds = append(heralds, herald(i))
		}
		arrive := func(m minted) { here.add(m.p, m.d) }
		check := func() {
			for p := range hashring.Partition(parts) {
				asOf := fresh.AsOf("east", p)
				for _, m := range all {
					if m.p == p && uint64(m.at.UnixMilli()) <= asOf && !here.Clock(p).Contains(m.d) {
						t.Fatalf("partition %d is said to be complete as of %d, and lacks %v of %d", p, asOf, m.d, m.at.UnixMilli())
					}
				}
			}
		}
		counts := map[crdt.Actor]uint64{}
		for range rapid.IntRange(1, 60).Draw(t, "steps") {
			now = now.Add(time.Duration(rapid.IntRange(1, 400).Draw(t, "ms")) * time.Millisecond)
			i := rapid.IntRange(0, 1).Draw(t, "node")
			switch rapid.IntRange(0, 6).Draw(t, "what") {
			case 0, 1:
				a := crdt.MakeActor(uint32(i+1), 1)
				counts[a]++
				m := minted{hashring.Partition(rapid.IntRange(0, parts-1).Draw(t, "p")), crdt.Dot{Actor: a, N: counts[a]}, now}
				there[i].add(m.p, m.d)
				all = append(all, m)
			case 2:
				heralds[i].announce(now, rapid.IntRange(0, 3).Draw(t, "full") == 0)
			case 3, 4: // a heartbeat arrives, now or again later
				if len(inbox) > 0 {
					k := rapid.IntRange(0, len(inbox)-1).Draw(t, "message")
					fresh.Heard(decode(t, inbox[k]))
					if rapid.Bool().Draw(t, "once") {
						inbox = append(inbox[:k:k], inbox[k+1:]...)
					}
				}
			case 5:
				if len(all) > 0 {
					arrive(all[rapid.IntRange(0, len(all)-1).Draw(t, "write")])
				}
			case 6:
				if rapid.IntRange(0, 4).Draw(t, "restart") == 0 {
					heralds[i] = herald(i)
				}
			}
			check()
		}
		for _, m := range all {
			arrive(m)
		}
		now = now.Add(time.Second)
		for i := range names {
			inbox = nil
			heralds[i].announce(now, true)
			for _, b := range inbox {
				fresh.Heard(decode(t, b))
			}
		}
		check()
		for p := range hashring.Partition(parts) {
			if got := fresh.AsOf("east", p); got != uint64(now.UnixMilli()) {
				t.Fatalf("everything is here, and partition %d is complete as of %d, not %d", p, got, now.UnixMilli())
			}
		}
	})
}

// decode what an announcer sent.
func decode(t interface{ Fatal(...any) }, data []byte) *Heartbeat {
	h, err := DecodeHeartbeat(data)
	if err != nil {
		t.Fatal(err)
	}
	return h
}

func TestFreshUnknown(t *testing.T) {
	here := newShelf(1)
	fresh := NewFresh(here, func(o string, _ hashring.Partition) []string {
		if o == "east" {
			return []string{"n1", "silent"}
		}
		return nil
	})
	var msg []byte
	a := NewAnnouncer(AnnouncerConfig{Region: "east", Node: "n1", RegionID: 1}, newShelf(1), wire(func(b []byte) { msg = b }), hclog.NewNullLogger())
	a.announce(time.UnixMilli(5), true)
	fresh.Heard(decode(t, msg))
	for origin, p := range map[string]hashring.Partition{"east": 0, "west": 0} {
		if got := fresh.AsOf(origin, p); got != 0 {
			t.Errorf("%s, of which a node was never heard: %d", origin, got)
		}
	}
}
