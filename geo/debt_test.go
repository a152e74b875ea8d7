package geo

import (
	"bytes"
	"math"
	"testing"
	"time"
)

// cutOff is a region that was cut off for so long from one that wrote so many bytes a
// second, and goes on with that. It takes in what the debt asks for, but for the times
// when it is held, and returns how long it took, and the highest rate.
func cutOff(t *testing.T, span time.Duration, write float64, held func(time.Duration) bool) (took time.Duration, most float64) {
	t.Helper()
	const step = 50 * time.Millisecond
	var d debt
	now := time.Unix(1_700_000_000, 0)
	begun, pending := now, write*span.Seconds()
	for pending > write/10 { // what is on its way as always
		if !d.isLate(now, now.Add(-max(span-3*now.Sub(begun), lateAfter))) { // also when it is nearly over
			t.Fatal("it is not late")
		}
		if now.Sub(d.looked) >= debtBeat {
			d.look(now, uint64(pending), span+now.Sub(begun))
		}
		rate := min(d.least(now), 1<<40)
		if held != nil && held(now.Sub(begun)) {
			rate = 0
		}
		most = max(most, rate)
		pending += (write - rate) * step.Seconds()
		now = now.Add(step)
		if now.Sub(begun) > 10*span {
			t.Fatalf("%.0f bytes after %v", pending, now.Sub(begun))
		}
	}
	return now.Sub(begun), most
}

func TestDebtIsPaidInTime(t *testing.T) {
	const write = 8 << 20
	for _, span := range []time.Duration{30 * time.Second, 5 * time.Minute, 3 * time.Hour} {
		took, most := cutOff(t, span, write, nil)
		if took > span/3 {
			t.Errorf("of %v: caught up after %v", span, took)
		}
		if most > 5.1*write { // 1 + 1/.25
			t.Errorf("of %v: %.1f times the rate of writing", span, most/write)
		}
		// An eighth of the time work is held.
		took, most = cutOff(t, span, write, func(at time.Duration) bool { return at%(6*time.Second) < 750*time.Millisecond })
		if took > span/3 {
			t.Errorf("of %v, held: caught up after %v", span, took)
		}
		if most > debtHaste*5*write+1 {
			t.Errorf("of %v, held: %.1f times the rate of writing", span, most/write)
		}
	}
}

// What a node has to take in may be what others know to be missing: it goes on as it was.
func TestDebtThatOthersKnowOf(t *testing.T) {
	now := time.Unix(1_700_000_000, 0)
	var d debt
	d.isLate(now, now.Add(-time.Minute))
	d.look(now, 60<<20, time.Minute)
	least := d.least(now)
	if least < 5<<20 {
		t.Fatalf("60 MiB of a minute at %.0f bytes a second", least)
	}
	for range 10 {
		now = now.Add(debtBeat)
		d.isLate(now, now.Add(-time.Minute))
		d.look(now, 0, 0)
		if got := d.least(now); got != least {
			t.Fatalf("%.0f bytes a second, %.0f before", got, least)
		}
	}
}

// Nothing is held up for ever, whatever is told of it.
func TestDebtEnds(t *testing.T) {
	begun := time.Unix(1_700_000_000, 0)
	var d debt
	if d.isLate(begun, begun.Add(-lateAfter+1)) {
		t.Error("what is fresh is late")
	}
	if d.isLate(begun, begun.Add(-debtLeast+1)) || d.isLate(begun.Add(time.Second), begun.Add(-time.Hour)) {
		t.Error("what is over in seconds is spread")
	}
	begun = begun.Add(time.Second + debtEnds + 1)
	old := begun.Add(-time.Hour)
	if !d.isLate(begun, old) {
		t.Fatal("an hour is not late")
	}
	// Nobody knows how much it is.
	if got := d.least(begun.Add(blindFor - 1)); got != debtFloor {
		t.Errorf("unknown: %v", got)
	}
	if got := d.least(begun.Add(blindFor)); !math.IsInf(got, 1) {
		t.Errorf("unknown for long: %v", got)
	}
	// It does not become less.
	span := 8 * time.Second
	d.look(begun, 1<<30, span)
	term := time.Duration(debtShare * float64(span))
	for at := time.Duration(0); at < 2*term; at += 100 * time.Millisecond {
		d.isLate(begun.Add(at), old)
		d.look(begun.Add(at), 1<<30, span+at)
		if got := d.least(begun.Add(at)); math.IsInf(got, 1) || got < (1<<30)/span.Seconds() {
			t.Fatalf("after %v: %v", at, got)
		}
	}
	if got := d.least(begun.Add(2 * term)); !math.IsInf(got, 1) {
		t.Errorf("after twice its time: %v", got)
	}
	// The next one is another.
	next := begun.Add(2*term + debtEnds)
	d.isLate(next, old)
	if got := d.least(next); got != debtFloor {
		t.Errorf("another one: %v", got)
	}
}

func TestInPieces(t *testing.T) {
	var entries []Entry
	for i := range 40 {
		entries = append(entries, Entry{Key: []byte{byte(i)}, Record: bytes.Repeat([]byte{1}, i<<10)})
	}
	entries = append(entries, Entry{Key: []byte("large"), Record: make([]byte, 200<<10)}, Entry{Key: []byte("last")})
	at := 0
	for _, piece := range inPieces(entries) {
		if len(piece) == 0 || len(piece) > 1 && sizeOf(piece) > 64<<10 {
			t.Errorf("a piece of %d entries, %d bytes", len(piece), sizeOf(piece))
		}
		for _, e := range piece {
			if !bytes.Equal(e.Key, entries[at].Key) {
				t.Fatalf("key %q at %d", e.Key, at)
			}
			at++
		}
	}
	if at != len(entries) {
		t.Errorf("%d entries of %d", at, len(entries))
	}
}
