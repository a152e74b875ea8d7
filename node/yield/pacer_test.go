package yield

import (
	"context"
	"math"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"pgregory.net/rapid"
)

func most(n uint64) func() uint64 { return func() uint64 { return n } }

// Without a governor it is the rate of the caller.
func TestPacer(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var p Pacer
		begun := time.Now()
		var all sync.WaitGroup
		for range 10 {
			all.Go(func() {
				if err := p.Pay(t.Context(), 100, most(1000)); err != nil {
					t.Error(err)
				}
			})
		}
		all.Wait()
		if took := time.Since(begun); took < time.Second || took > time.Second+slice {
			t.Errorf("1000 bytes at 1000 a second took %v", took)
		}
		time.Sleep(time.Hour) // little is saved up
		begun = time.Now()
		if err := p.Pay(t.Context(), 550, most(1000)); err != nil || time.Since(begun) != 500*time.Millisecond {
			t.Errorf("550 bytes took %v, %v", time.Since(begun), err)
		}
		ctx, stop := context.WithCancel(t.Context())
		stop()
		if p.Pay(ctx, 1000, most(1)) == nil {
			t.Error("goes on after its end")
		}
	})
}

// They take turns: nobody waits for what came after him.
func TestPacerTakesTurns(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var p Pacer
		first := make(chan time.Time, 1)
		begun := time.Now()
		go func() {
			p.Pay(t.Context(), 100, most(1000))
			first <- time.Now()
		}()
		synctest.Wait()
		if err := p.Pay(t.Context(), 10_000, most(1000)); err != nil {
			t.Fatal(err)
		}
		if took := (<-first).Sub(begun); took > 100*time.Millisecond+slice {
			t.Errorf("the first one waited %v", took)
		}
		if took := time.Since(begun); took < 10*time.Second {
			t.Errorf("the second one waited %v", took)
		}
	})
}

// A change of the rate holds for those who wait.
func TestPacerFollows(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var p Pacer
		begun := time.Now()
		err := p.Pay(t.Context(), 10_000, func() uint64 {
			if time.Since(begun) < time.Second {
				return 1
			}
			return 10_000
		})
		if took := time.Since(begun); err != nil || took < 1900*time.Millisecond || took > 2100*time.Millisecond {
			t.Errorf("took %v, %v", took, err)
		}
	})
}

// Whatever is done in whatever pieces and rates, over a time it is what the
// rates allowed, and the burst of the largest.
func TestAccountLaw(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		var a account
		now := time.Unix(0, 0)
		allowed, done, top := 0., 0., 0.
		for range rapid.IntRange(1, 50).Draw(t, "steps") {
			rate := float64(rapid.IntRange(1, 1<<20).Draw(t, "rate"))
			top = max(top, rate)
			a.pass(now, rate)
			if a.owed > a.paid { // who waits does nothing
				d := min(a.after(a.owed, rate), time.Duration(rapid.Int64Range(0, int64(time.Minute)).Draw(t, "waits")))
				now, allowed = now.Add(d), allowed+d.Seconds()*rate
				a.pass(now, rate)
				continue
			}
			n := float64(rapid.IntRange(0, 1<<20).Draw(t, "bytes"))
			if done > allowed+burst*top+1 {
				t.Fatalf("%v bytes done where %v were allowed", done, allowed)
			}
			a.owed += n
			done += n
		}
	})
}

// holding is a governor with clients, at the beginning of a time in which work is held. In
// a bubble.
func holding() *Governor {
	g := New()
	time.Sleep(time.Until(time.Now().Truncate(Cycle).Add(Cycle + Hold)))
	for range 100 { // clients
		g.Observe(Commits, time.Millisecond)
	}
	time.Sleep(time.Until(time.Now().Truncate(Cycle).Add(Cycle + time.Millisecond)))
	g.Observe(Commits, time.Millisecond)
	return g
}

// While work is held nobody goes on, and Y3: not longer than that.
func TestPacerHolds(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := Pacer{Governor: holding()}
		begun := time.Now()
		if err := p.Pay(t.Context(), 10, most(1<<30)); err != nil {
			t.Fatal(err)
		}
		if took := time.Since(begun); took < Hold-10*time.Millisecond || took > Hold {
			t.Errorf("held for %v", took)
		}
		begun = time.Now()
		if err := p.Pay(t.Context(), 10, most(1<<30)); err != nil || time.Since(begun) != 0 {
			t.Errorf("held for another %v, %v", time.Since(begun), err)
		}
	})
}

// The whole of it: clients whose writes take longer the more background work
// there is make it go slower, and its pages smaller; without them it goes as
// fast as it may.
func TestGovernor(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := New()
		p := Pacer{Governor: g}
		const allowed = 32 << 20
		work := func(d time.Duration) float64 {
			done, begun := 0, time.Now()
			for time.Since(begun) < d {
				n := g.Page(1 << 20)
				done += n
				if err := p.Pay(t.Context(), n, most(allowed)); err != nil {
					t.Fatal(err)
				}
			}
			return float64(done) / time.Since(begun).Seconds()
		}
		work(2 * Cycle)
		if rate := work(2 * Cycle); rate < .95*allowed || rate > 1.01*allowed {
			t.Errorf("without clients %.1f MiB/s", rate/(1<<20))
		}
		if n := g.Page(1 << 30); n < allowed/150 {
			t.Errorf("a page of %d bytes", n)
		}
		ctx, stop := context.WithCancel(t.Context())
		var clients sync.WaitGroup
		defer clients.Wait()
		defer stop()
		clients.Go(func() {
			rate, last := 0., p.owed()
			for ctx.Err() == nil {
				time.Sleep(2 * time.Millisecond)
				now := p.owed()
				rate += ((now-last)/.002 - rate) / 50 // of the last 100 ms
				last = now
				g.Observe(Commits, 2*time.Millisecond+time.Duration(rate/(1<<20)*float64(time.Millisecond)/4))
			}
		})
		work(5 * Cycle)
		if rate := work(5 * Cycle); rate < 1.5*(1<<20) || rate > 4<<20 {
			t.Errorf("with clients %.1f MiB/s", rate/(1<<20))
		}
		if n := g.Page(1 << 20); n > 32<<10 {
			t.Errorf("a page of %d bytes", n)
		}
		g.Urgent = func() bool { return true }
		if n, rate := g.Page(1<<20), g.Rate(allowed); n < 64<<10 || rate < UrgentFloor {
			t.Errorf("where it is urgent a page of %d bytes, %d bytes a second", n, rate)
		}
	})
}

// owed is what was done since ever.
func (p *Pacer) owed() float64 {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.due.owed
}

// Y1: what is allowed is a lever, too.
func TestLeastShare(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := New()
		for _, c := range []struct{ most, want uint64 }{{1000, 1000}, {8 << 20, Floor}, {64 << 20, Floor}, {1 << 30, 16 << 20}} {
			if got := g.Rate(c.most); got != c.want {
				t.Errorf("of %d: %d, not %d", c.most, got, c.want)
			}
		}
		p := Pacer{Governor: g}
		if d := p.Delay(4<<20, 64<<20, time.Minute); d < 3900*time.Millisecond || d > 4*time.Second {
			t.Errorf("4 MiB at 1 MiB/s take %v", d)
		}
		q := Pacer{Governor: g}
		if d := q.Delay(16<<20, 1<<30, time.Minute); d < 900*time.Millisecond || d > time.Second {
			t.Errorf("16 MiB where 1 GiB/s is allowed take %v", d)
		}
		patient, begun := Pacer{Governor: g}, time.Now()
		if err := patient.PayPatiently(t.Context(), 1<<20, most(64<<20)); err != nil {
			t.Fatal(err)
		}
		if d := time.Since(begun); d < 3900*time.Millisecond || d > 4*time.Second {
			t.Errorf("1 MiB of patient work at 256 KiB/s takes %v", d)
		}
		if d := p.Delay(64<<20, 64<<20, time.Second); d != time.Second {
			t.Errorf("longer than the most: %v", d)
		}
	})
}

func TestNobodyToYieldTo(t *testing.T) {
	var g *Governor
	g.Observe(Reads, time.Second)
	if g.Rate(7) != 7 || g.Page(1<<20) != 1<<20 || g.held(time.Now()) != 0 {
		t.Error("a nil governor is in the way")
	}
}

// Who waits while work is held has not paid when that is over: else all would go on at
// once.
func TestPacerIsNotPaidWhileHeld(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := holding()
		p := Pacer{Governor: g}
		const rate = 8 << 20
		over := time.Now().Truncate(Cycle).Add(Hold)
		var mu sync.Mutex
		var at []time.Duration
		var all sync.WaitGroup
		for range 32 {
			all.Go(func() {
				if err := p.PayAtLeast(t.Context(), 64<<10, func() float64 { return rate }); err != nil {
					t.Error(err)
				}
				mu.Lock()
				defer mu.Unlock()
				at = append(at, time.Since(over))
			})
		}
		all.Wait()
		// 2 MiB take 250 ms, after the hold.
		early := 0
		for _, took := range at {
			if took < 0 {
				t.Errorf("went on %v before the end", -took)
			}
			if took < 100*time.Millisecond {
				early++
			}
		}
		if early > 22 { // of 12.8, 6.4 of a burst, and a slice
			t.Errorf("%d of %d at once", early, len(at))
		}
		// What has to be there at once does not wait for anything.
		time.Sleep(time.Until(time.Now().Truncate(Cycle).Add(Cycle)))
		g.Observe(Commits, time.Millisecond)
		begun := time.Now()
		if err := p.PayAtLeast(t.Context(), 1<<30, func() float64 { return math.Inf(1) }); err != nil || time.Since(begun) != 0 {
			t.Errorf("took %v, %v", time.Since(begun), err)
		}
	})
}
