package hlc

import (
	"sync"
	"testing"
	"time"

	"pgregory.net/rapid"
)

// wall is a physical source that a test moves.
type wall struct{ ms int64 }

func (w *wall) now() time.Time { return time.UnixMilli(w.ms) }

const start = 1_700_000_000_000

func TestLaws(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		w := &wall{start}
		c := New(w.now)
		var own Stamp // own: the last stamp that no caller lifted
		mints := int64(0)
		highest := int64(start) // of the physical source, which may step back
		for range rapid.IntRange(1, 60).Draw(t, "steps") {
			w.ms += rapid.Int64Range(-1000, 1000).Draw(t, "wall")
			highest = max(highest, w.ms)
			if rapid.Bool().Draw(t, "observe") {
				peer := w.ms + rapid.Int64Range(-100_000, 100_000).Draw(t, "peer")
				if got, want := c.Observe(FromMillis(peer)), time.Duration(peer-w.ms)*time.Millisecond; got != want {
					t.Fatalf("the peer is %v ahead, not %v", want, got)
				}
				continue
			}
			var after Stamp
			if rapid.Bool().Draw(t, "seen") {
				after = FromMillis(w.ms + rapid.Int64Range(-100_000, 100_000).Draw(t, "after"))
			}
			s := c.Next(after)
			mints++
			if s <= after {
				t.Fatalf("H3: %v is not above %v", s, after)
			}
			if s.Millis() < w.ms {
				t.Fatalf("%v is below the physical %d", s, w.ms)
			}
			if s > after+1 {
				if s <= own {
					t.Fatalf("H1: %v after %v", s, own)
				}
				own = s
				// H2: peers move it to MaxAhead at most, its own counter by one a mint.
				if bound := FromMillis(highest+MaxAhead.Milliseconds()) + Stamp(mints); s > bound {
					t.Fatalf("H2: %v with physical %d at the highest", s, highest)
				}
			}
		}
	})
}

// H1 without a caller's lift: strictly, whatever the physical source does.
func TestStrictlyIncreasing(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		w := &wall{start}
		c := New(w.now)
		var last Stamp
		for range rapid.IntRange(2, 100).Draw(t, "steps") {
			w.ms += rapid.Int64Range(-5, 5).Draw(t, "wall")
			if rapid.IntRange(0, 3).Draw(t, "observe") == 0 {
				c.Observe(FromMillis(w.ms + rapid.Int64Range(-5, 5).Draw(t, "peer")))
			}
			if s := c.Next(0); s <= last {
				t.Fatalf("%v after %v", s, last)
			} else {
				last = s
			}
		}
	})
}

// One key with a stamp from the far future does not lift the others.
func TestRatchetDoesNotLiftTheClock(t *testing.T) {
	w := &wall{start}
	c := New(w.now)
	future := FromMillis(start + 1<<40)
	if s := c.Next(future); s != future+1 {
		t.Fatalf("%v", s)
	}
	if s := c.Next(0); s.Millis() != start {
		t.Fatalf("the next key got %v", s)
	}
	// And the same key goes on from where it is.
	if s := c.Next(future + 1); s != future+2 {
		t.Fatalf("%v", s)
	}
}

func TestDriftBound(t *testing.T) {
	w := &wall{start}
	for _, d := range []struct{ ahead, want int64 }{{100, 100}, {250, 250}, {251, 250}, {1 << 40, 250}} {
		c := New(w.now)
		c.Observe(FromMillis(start + d.ahead))
		if s := c.Next(0); s.Millis() != start+d.want {
			t.Errorf("a peer %d ms ahead moves us to %d", d.ahead, s.Millis()-start)
		}
	}
	c := New(w.now)
	if d := c.Observe(FromMillis(start - 70)); d != -70*time.Millisecond {
		t.Errorf("behind: %v", d)
	}
	if s := c.Next(0); s.Millis() != start {
		t.Errorf("a peer behind moves us to %v", s)
	}
}

func TestStamp(t *testing.T) {
	for _, c := range []struct{ ms, want int64 }{{-1, 0}, {0, 0}, {start, start}, {1<<48 - 1, 1<<48 - 1}, {1 << 48, 1<<48 - 1}, {1 << 62, 1<<48 - 1}} {
		if got := FromMillis(c.ms).Millis(); got != c.want {
			t.Errorf("%d became %d", c.ms, got)
		}
	}
	if s := FromMillis(start) + 7; s.String() != "1700000000000.7" || s.Time().UnixMilli() != start {
		t.Error(s)
	}
}

func TestConcurrentStampsDiffer(t *testing.T) {
	w := &wall{start}
	c := New(w.now)
	out := make([][]Stamp, 4)
	var wg sync.WaitGroup
	for i := range out {
		wg.Go(func() {
			for range 1000 {
				out[i] = append(out[i], c.Next(0))
			}
		})
	}
	wg.Wait()
	seen := map[Stamp]bool{}
	for _, stamps := range out {
		for i, s := range stamps {
			if seen[s] || i > 0 && s <= stamps[i-1] {
				t.Fatalf("%v", s)
			}
			seen[s] = true
		}
	}
}

func BenchmarkNext(b *testing.B) {
	w := &wall{start}
	c := New(w.now)
	b.ReportAllocs()
	for b.Loop() {
		c.Next(0)
	}
}
