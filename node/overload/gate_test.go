package overload

import (
	"math/rand/v2"
	"slices"
	"testing"

	"pgregory.net/rapid"
)

// TestGateLaws drives a gate at random and keeps books beside it: O1 to O5.
func TestGateLaws(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		cfg := Config{
			Start: rapid.IntRange(1, 40).Draw(t, "start"), Min: rapid.IntRange(1, 10).Draw(t, "min"), Max: 200,
			Bytes: rapid.IntRange(1<<20, 8<<20).Draw(t, "bytes"),
			Queue: rapid.IntRange(1, 200).Draw(t, "queue"),
		}
		g := New(cfg)
		rng := rand.New(rand.NewPCG(rapid.Uint64().Draw(t, "seed"), 1))
		now := int64(1e15)
		running, waiting := map[*Request]bool{}, map[*Request]bool{}
		ended := map[*Request]int{}
		settle := func(r *Request, v Verdict) {
			switch v {
			case Admitted:
				running[r] = true
				if r.Deadline <= now {
					t.Fatal("O4: admitted after its deadline")
				}
			case Waiting:
				waiting[r] = true
				return
			default:
				ended[r]++
			}
			delete(waiting, r)
		}
		next := func() {
			for _, shed := range g.Sweep(now) {
				if !waiting[shed.Request] || shed.Verdict != RefusedAge && shed.Verdict != RefusedExpired {
					t.Fatal("O1: shed what did not wait")
				}
				settle(shed.Request, shed.Verdict)
			}
			for {
				r, v := g.Next(now)
				if r == nil {
					break
				}
				if !waiting[r] {
					t.Fatal("O1: told of what did not wait")
				}
				if v == Admitted && r.Deadline <= now+g.classes[r.Class].limit.Takes() {
					t.Fatal("O4: admitted after it has waited, with too little time left")
				}
				settle(r, v)
			}
			for r := range waiting {
				if now-r.arrived > Patience {
					t.Fatalf("O1: waits for %d ms", (now-r.arrived)/millisecond)
				}
			}
		}
		check := func() {
			bytes, large := 0, 0
			var units, biggest [Classes]int
			for r := range running {
				bytes += r.Bytes
				units[r.Class] += r.units
				biggest[r.Class] = max(biggest[r.Class], r.units)
				if r.Bytes > Large {
					large += r.Bytes
				}
			}
			for r := range waiting {
				bytes += r.Bytes
				if r.Bytes > Large {
					large += r.Bytes
				}
			}
			if g.bytes != bytes || g.large != large {
				t.Fatalf("holds %d and %d bytes, by the books %d and %d", g.bytes, g.large, bytes, large)
			}
			if bytes > cfg.Bytes && len(running)+len(waiting) > 1 {
				t.Fatalf("O3: %d bytes", bytes)
			}
			for c := range Classes {
				s := g.Stats(c)
				n := 0
				for r := range waiting {
					if r.Class == c {
						n++
					}
				}
				if s.InFlight != units[c] || s.Waiting != n || n > cfg.Queue {
					t.Fatalf("%v: %+v, by the books %d units, %d waiting", c, s, units[c], n)
				}
				if hot := g.classes[c].hot; hot < 0 || hot > n {
					t.Fatalf("%d hot of %d", hot, n)
				}
			}
		}
		offered := 0
		for range rapid.IntRange(50, 2000).Draw(t, "steps") {
			switch rng.IntN(5) {
			case 0, 1:
				r := &Request{
					Class: Class(rng.IntN(2)), Conn: uint64(rng.IntN(4)), Key: uint64(rng.IntN(1 + rng.IntN(50))),
					Bytes: 100, Deadline: now + rng.Int64N(300*millisecond) - millisecond,
				}
				if rng.IntN(4) == 0 {
					r.Bytes = rng.IntN(1 << 20)
				}
				offered++
				before := g.Stats(r.Class)
				v := g.Offer(now, r)
				settle(r, v)
				if v == Admitted && before.InFlight >= before.Limit {
					t.Fatal("O2: admitted over the limit")
				}
			case 2, 3:
				for r := range running {
					delete(running, r)
					ended[r]++
					g.Done(now, r)
					next()
					break
				}
			default:
				if g.Waiting() != (len(waiting) > 0) {
					t.Fatal("it does not know whether anything waits")
				}
				if g.Waiting() {
					now += rng.Int64N(SweepEvery)
				} else {
					now += rng.Int64N(300 * millisecond)
				}
				next()
			}
			check()
		}
		for len(running) > 0 || len(waiting) > 0 {
			for r := range running {
				delete(running, r)
				ended[r]++
				g.Done(now, r)
			}
			now += SweepEvery
			next()
		}
		check()
		if len(ended) != offered {
			t.Fatalf("O1: %d ended of %d", len(ended), offered)
		}
		for _, n := range ended {
			if n != 1 {
				t.Fatalf("O1: ended %d times", n)
			}
		}
		for i := range g.classes {
			if slices.ContainsFunc(g.classes[i].bins[:], func(n int32) bool { return n != 0 }) || len(g.classes[i].active) != 0 {
				t.Fatal("something is left behind")
			}
		}
	})
}

// fill offers n requests of a connection and returns those that wait.
func fill(g *Gate, now int64, conn uint64, n, bytes int) (waiting []*Request) {
	for i := range n {
		r := &Request{Conn: conn, Key: conn*1000 + uint64(i), Bytes: bytes, Deadline: now + 10*second}
		if g.Offer(now, r) == Waiting {
			waiting = append(waiting, r)
		}
	}
	return waiting
}

// TestConnectionsTakeTurns: O5, and small ones do not starve behind large ones.
func TestConnectionsTakeTurns(t *testing.T) {
	g := New(Config{Start: 64, Max: 64})
	running := &Request{Bytes: 64 * Large, Key: 1 << 40, Deadline: second}
	g.Offer(0, running) // takes all of the limit
	greedy := fill(g, 0, 1, 900, 100)
	big := fill(g, 0, 1, 20, 20*Large)
	polite := fill(g, 0, 2, 10, 100)
	if len(greedy) != 900 || len(polite) != 10 || len(big) != 20 {
		t.Fatalf("%d, %d and %d wait", len(greedy), len(polite), len(big))
	}
	g.Done(1, running)
	served, order := map[uint64]int{}, 0
	for r, v := g.Next(1); r != nil && order < 200; r, v = g.Next(1) {
		if v != Admitted {
			t.Fatal(v)
		}
		order++
		id := r.Conn
		if r.Bytes > Large {
			id = 3
		}
		served[id]++
		g.Done(1, r)
		if served[2] == 10 {
			break
		}
	}
	if served[2] != 10 || order > 64 || served[3] == 0 && order > 40 {
		t.Errorf("the polite client's 10 took %d turns: %v", order, served)
	}
}

// TestNewestFirstWhenOverloaded: a queue that does not empty serves those
// whose clients still wait.
func TestNewestFirstWhenOverloaded(t *testing.T) {
	g := New(Config{Start: 1, Min: 1, Max: 1})
	first := &Request{Deadline: second, Key: 1 << 40}
	g.Offer(0, first)
	var last *Request
	old := fill(g, 0, 1, 3, 0)
	for at := int64(0); at <= 110*millisecond; at += millisecond {
		last = fill(g, at, 1, 1, 0)[0]
		g.Sweep(at)
		for r, v := g.Next(at); r != nil; r, v = g.Next(at) {
			if v == Admitted {
				t.Fatal("over the limit")
			}
		}
	}
	if s := g.Stats(Read); s.Verdicts[RefusedAge] < uint64(len(old)) || s.Waiting > 25 {
		t.Errorf("%+v", s)
	}
	g.Done(110*millisecond, first)
	if r, v := g.Next(110 * millisecond); r != last || v != Admitted {
		t.Errorf("%v, %v", r, v)
	}
}

// TestTooLittleTimeIsLeft: what would have to wait and cannot end in time is refused at
// once, or when its turn comes; what need not wait runs, and tells when it takes less.
func TestTooLittleTimeIsLeft(t *testing.T) {
	g := New(Config{Start: 20, Min: 20, Max: 20})
	now := int64(second)
	round := func(takes int64) {
		var running []*Request
		for i := range uint64(20) {
			r := &Request{Key: i, Deadline: now + 10*millisecond}
			if v := g.Offer(now, r); v != Admitted {
				t.Fatalf("%v although there is room", v)
			}
			running = append(running, r)
		}
		late := &Request{Conn: 1, Key: 100, Deadline: now + 100*millisecond}
		soon := &Request{Conn: 2, Key: 101, Deadline: now + takes + 250*millisecond}
		if takes == 200*millisecond && g.Stats(Read).Verdicts[Admitted] > 20 {
			if v := g.Offer(now, late); v != RefusedExpired {
				t.Errorf("%v, with 100 ms left where it takes 200", v)
			}
		}
		if v := g.Offer(now, soon); v != Waiting {
			t.Errorf("%v, with time enough", v)
		}
		now += takes
		for _, r := range running {
			g.Done(now, r)
		}
		if r, v := g.Next(now); r != soon || (v == Admitted) != (soon.Deadline > now+g.classes[Read].limit.Takes()) {
			t.Errorf("%v, %v", r, v)
		} else if v == Admitted {
			g.Done(now, r)
		}
	}
	round(200 * millisecond)
	round(200 * millisecond)
	for range 3 {
		round(50 * millisecond)
	}
	if takes := g.classes[Read].limit.Takes(); takes > 70*millisecond {
		t.Errorf("%d ms are thought to be needed, after 50", takes/millisecond)
	}
}

// TestHotKeyIsHeldBack: a flood for one key takes an eighth of the limit of
// writes and half of that of reads, and others are admitted beside it at once.
func TestHotKeyIsHeldBack(t *testing.T) {
	for class, want := range []int{Read: 256, Write: 64} {
		g := New(Config{Start: 512, Max: 512})
		admitted, others := 0, 0
		for range 2000 {
			if g.Offer(0, &Request{Class: Class(class), Key: 77, Deadline: second}) == Admitted {
				admitted++
			}
		}
		if admitted != want {
			t.Errorf("%v: %d of the hot key are in flight, want %d", Class(class), admitted, want)
		}
		for i := range uint64(200) {
			if g.Offer(0, &Request{Class: Class(class), Key: 1000 + i, Deadline: second}) == Admitted {
				others++
			}
		}
		if others != 200 {
			t.Errorf("%v: %d of 200 others were admitted", Class(class), others)
		}
	}
}

func TestRetryAfterGrowsWithPressure(t *testing.T) {
	g := New(Config{Start: 10, Min: 10, Max: 10, Queue: 1})
	for i := range int64(200) {
		g.Offer(i*20*millisecond, &Request{Key: uint64(i), Deadline: 100 * second})
	}
	if ms := g.RetryAfter(Read); ms != 1000 {
		t.Errorf("%d ms when next to nothing is admitted", ms)
	}
	if ms := g.RetryAfter(Write); ms != 50 && ms != 0 {
		t.Errorf("%d ms of writes", ms)
	}
}

func BenchmarkOfferDone(b *testing.B) {
	g := New(Config{})
	rs := make([]Request, 256)
	for i := range rs {
		rs[i] = Request{Key: uint64(i), Deadline: 1 << 62, Bytes: 200}
		g.Offer(0, &rs[i])
	}
	b.ReportAllocs()
	for i := range b.N {
		now := int64(i) * 10 * microsecond
		r := &rs[i&255]
		g.Done(now, r)
		g.Next(now)
		g.Offer(now, r)
	}
}

// TestFailuresAreNoRoom: where those who are to answer are taken for dead, operations
// fail at once, and the limit does not grow by that, as it does by what succeeds as soon.
func TestFailuresAreNoRoom(t *testing.T) {
	run := func(end func(*Gate, int64, *Request), took int64) int {
		g := New(Config{Start: 100, Max: 100_000})
		for now := int64(second); now < 5*second; now += took {
			var running []*Request
			for i := range 20_000 {
				r := &Request{Class: Write, Conn: uint64(i), Key: uint64(i), Deadline: 100 * second}
				if g.Offer(now, r) == Admitted {
					running = append(running, r)
				}
			}
			g.Sweep(now + second) // nobody waits
			for _, r := range running {
				end(g, now+took, r)
			}
		}
		return g.Stats(Write).Limit
	}
	if limit := run((*Gate).Done, 10*millisecond); limit < 1000 {
		t.Errorf("limit %d after successes", limit)
	}
	if limit := run((*Gate).Failed, 10*millisecond); limit != 100 {
		t.Errorf("limit %d, 100 at first, after failures", limit)
	}
	if limit := run((*Gate).Failed, second); limit >= 80 {
		t.Errorf("limit %d after failures that took long", limit)
	}
}
