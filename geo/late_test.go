package geo

import (
	"fmt"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/atolldb/atoll/crdt"
	"github.com/atolldb/atoll/crdt/hlc"
	"github.com/atolldb/atoll/hashring"
)

// written is an entry whose record was written then.
func written(key string, at time.Time) Entry {
	r := crdt.Record{Versions: []crdt.Version{{
		Dot: crdt.Dot{Actor: 65, N: 1}, Stamp: hlc.FromMillis(at.UnixMilli()), Value: []byte("v"),
	}}}
	return Entry{Key: []byte(key), Record: crdt.AppendRecord(nil, hashring.KeyHash([]byte(key)), r), Dots: []crdt.Dot{{Actor: 65, N: 1}}}
}

func TestLate(t *testing.T) {
	now := time.UnixMilli(1_700_000_000_000)
	for name, c := range map[string]struct {
		entries []Entry
		late    bool
	}{
		"nothing":       {nil, false},
		"young":         {[]Entry{written("a", now)}, false},
		"of tomorrow":   {[]Entry{written("a", now.Add(time.Hour))}, false},
		"not yet":       {[]Entry{written("a", now.Add(-LateAfter))}, false},
		"old":           {[]Entry{written("a", now.Add(-LateAfter-time.Millisecond))}, true},
		"dots alone":    {[]Entry{{Key: []byte("b\x00"), Dots: []crdt.Dot{{Actor: 65, N: 1}}}}, false},
		"no record":     {[]Entry{{Key: []byte("a"), Record: []byte("x")}}, false},
		"one of a few":  {[]Entry{written("a", now), written("b", now), written("c", now.Add(-time.Minute))}, true},
		"another's key": {[]Entry{{Key: []byte("b"), Record: written("a", now.Add(-time.Hour)).Record}}, false},
	} {
		if got := late(now, c.entries); got != c.late {
			t.Errorf("%s: %t", name, got)
		}
	}
}

// Whatever the number of entries: where all are old some are looked at, and where all
// are young none is late.
func TestLateSamples(t *testing.T) {
	now := time.UnixMilli(1_700_000_000_000)
	for n := 1; n <= 40; n++ {
		var old, young []Entry
		for i := range n {
			old = append(old, written(fmt.Sprint(i), now.Add(-time.Minute)))
			young = append(young, written(fmt.Sprint(i), now))
		}
		if !late(now, old) || late(now, young) {
			t.Errorf("of %d", n)
		}
	}
}

// What was written during a cut is known at once, and counts over the whole of it.
func TestKeepupAfterACut(t *testing.T) {
	var k Keepup
	now := time.UnixMilli(1_700_000_000_000)
	dots := uint64(1000)
	step := func(d time.Duration, more uint64, behind bool) {
		now, dots = now.Add(d), dots+more
		k.Saw(now, dots, 64, behind)
	}
	for range 60 {
		step(time.Second, 100, false)
	}
	if r := k.Rate(); r < 99 || r > 101 {
		t.Errorf("100 a second are %v", r)
	}
	for range 60 { // nothing is heard
		step(time.Second, 0, false)
	}
	step(time.Second, 61*5000, true)
	if r := k.Rate(); r < 4900 || r > 5001 {
		t.Errorf("after a cut with 5000 a second: %v", r)
	}
	for range 300 {
		step(time.Second, 100, true)
	}
	if r := k.Rate(); r < 4900 {
		t.Errorf("forgotten while the backlog is there: %v", r)
	}
	step(time.Second, 100, false)
	if r := k.Rate(); r < 99 || r > 101 {
		t.Errorf("afterwards %v", r)
	}
}

// Whoever is known of all at once, or lost, was not written just now; and no rate is
// above the highest that there was.
func TestKeepupLaws(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		var k Keepup
		now := time.UnixMilli(1_700_000_000_000)
		dots, top := rapid.Uint64Range(0, 1<<40).Draw(t, "dots"), 0.
		parts, grown := 1, now
		k.Saw(now, dots, parts, false)
		for range rapid.IntRange(1, 50).Draw(t, "steps") {
			now = now.Add(time.Duration(rapid.Int64Range(0, int64(time.Hour)).Draw(t, "later")))
			switch rapid.IntRange(0, 9).Draw(t, "what") {
			case 0:
				dots, parts, grown = rapid.Uint64Range(0, 1<<40).Draw(t, "others"), parts+1, now
			case 1:
				lost := rapid.Uint64Range(0, dots).Draw(t, "lost")
				if dots -= lost; lost > 0 {
					grown = now
				}
			default:
				if more := rapid.Uint64Range(0, 1<<20).Draw(t, "more"); more > 0 && now.After(grown) {
					dots += more
					top = max(top, float64(more)/now.Sub(grown).Seconds())
					grown = now
				}
			}
			k.Saw(now, dots, parts, rapid.Bool().Draw(t, "behind"))
			if r := k.Rate(); r < 0 || r > top*1.0001 {
				t.Fatalf("rate %v, at most %v was written", r, top)
			}
		}
	})
}
