package api

import (
	"errors"
	"fmt"
	"math"
	"math/rand/v2"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/hashicorp/go-hclog"

	"github.com/atolldb/atoll/node/coord"
	"github.com/atolldb/atoll/node/overload"
)

// machine is a coordinator that takes what it is given, first come, first
// served, by servers whose service times are exponential. Like a real one it
// answers at the deadline at the latest, and does the work all the same.
type machine struct {
	mu      sync.Mutex
	free    []time.Time // when each server is
	service time.Duration
	rng     *rand.Rand
}

const machineServers = 4

func newMachine(capacity float64) *machine {
	return &machine{
		free:    make([]time.Time, machineServers),
		service: time.Duration(machineServers / capacity * float64(time.Second)),
		rng:     rand.New(rand.NewPCG(1, 2)),
	}
}

func (m *machine) Put(p coord.Put, done func(coord.PutResult, error)) {
	m.mu.Lock()
	defer m.mu.Unlock()
	i := 0
	for j := range m.free {
		if m.free[j].Before(m.free[i]) {
			i = j
		}
	}
	now := time.Now()
	if m.free[i].Before(now) {
		m.free[i] = now
	}
	m.free[i] = m.free[i].Add(time.Duration(m.rng.ExpFloat64() * float64(m.service)))
	if m.free[i].After(p.Deadline) {
		time.AfterFunc(time.Until(p.Deadline), func() {
			done(coord.PutResult{}, &coord.Error{Code: coord.CodeDeadline, Outcome: coord.Unknown})
		})
		return
	}
	time.AfterFunc(time.Until(m.free[i]), func() { done(coord.PutResult{}, nil) })
}

func (m *machine) Get(coord.Get, func(coord.GetResult, error)) { panic("not asked") }

// crowd is clients that ask whatever comes of it (open loop), and retry as the
// SDK does: three times at most, with a budget of a tenth of what succeeded.
type crowd struct {
	kv *KVService

	mu     sync.Mutex
	rng    *rand.Rand
	budget float64

	offered, refused, late, retries int
	good                            []int // by second
	took                            []time.Duration
	start                           time.Time
	inSystem                        int
}

const patience = time.Second

func (c *crowd) try(key string, conn uint64, asked time.Time, attempt int) {
	c.mu.Lock()
	if attempt == 1 {
		c.offered++
	}
	c.inSystem++
	c.mu.Unlock()
	c.kv.put(time.Now(), conn, 200, coord.Put{Key: []byte(key), Deadline: asked.Add(patience)}, func(_ coord.PutResult, err error) {
		c.mu.Lock()
		defer c.mu.Unlock()
		c.inSystem--
		var e *coord.Error
		switch {
		case err == nil:
			at := int(time.Since(c.start) / time.Second)
			for len(c.good) <= at {
				c.good = append(c.good, 0)
			}
			c.good[at]++
			c.took = append(c.took, time.Since(asked))
			c.budget = min(c.budget+.1, 100)
		case errors.As(err, &e) && e.Code == coord.CodeOverloaded:
			pause := time.Duration(e.RetryAfterMs)*time.Millisecond + time.Duration(c.rng.IntN(40<<attempt))*time.Millisecond
			if attempt == 3 || c.budget < 1 || pause > time.Until(asked.Add(patience)) {
				c.refused++
				return
			}
			c.budget--
			c.retries++
			time.AfterFunc(pause, func() { c.try(key, conn, asked, attempt+1) })
		default:
			c.late++
		}
	})
}

// run asks rate times a second for a time.
func (c *crowd) run(rate float64, span time.Duration, key func() string) {
	const step = time.Millisecond
	for range int(span / step) {
		c.mu.Lock()
		n, conn := c.poisson(rate*step.Seconds()), c.rng.Uint64N(20)
		c.mu.Unlock()
		for i := range n {
			c.try(key(), conn+uint64(i), time.Now(), 1)
		}
		time.Sleep(step)
	}
}

func (c *crowd) poisson(mean float64) int {
	n, p := 0, c.rng.Float64()
	for limit := math.Exp(-mean); p > limit; n++ {
		p *= c.rng.Float64()
	}
	return n
}

// goodput a second between two seconds since the start.
func (c *crowd) goodput(from, to int) float64 {
	c.mu.Lock()
	defer c.mu.Unlock()
	sum := 0
	for s := from; s < to && s < len(c.good); s++ {
		sum += c.good[s]
	}
	return float64(sum) / float64(to-from)
}

func (c *crowd) p99() time.Duration {
	c.mu.Lock()
	defer c.mu.Unlock()
	slices.Sort(c.took)
	return c.took[len(c.took)*99/100]
}

// simulate runs body over a machine in a bubble, and sees that all is answered.
func simulate(t *testing.T, capacity float64, cfg overload.Config, body func(c *crowd)) {
	synctest.Test(t, func(t *testing.T) {
		kv := NewKVService(newMachine(capacity), "eu", nil, hclog.NewNullLogger())
		kv.SetLimits(cfg)
		c := &crowd{kv: kv, rng: rand.New(rand.NewPCG(3, 4)), budget: 100, start: time.Now()}
		body(c)
		time.Sleep(2 * patience)
		synctest.Wait()
		if c.inSystem != 0 {
			t.Errorf("%d were never answered", c.inSystem)
		}
		if l := kv.Limits(); l.Bytes != 0 || l.Classes[overload.Write].Running != 0 {
			t.Errorf("left behind: %+v", l)
		}
	})
}

func anyKey(rng *rand.Rand) func() string {
	return func() string { return fmt.Sprint("key ", rng.IntN(10_000)) }
}

var noLimit = overload.Config{Start: 1 << 20, Min: 1 << 20, Max: 1 << 20, Bytes: 1 << 40, Queue: 1 << 20}

// TestOverload: five times what a machine can do, for a minute. What it does
// meanwhile, and soon after, is what it can. Without the gate next to nothing
// is: it works for clients that have left.
func TestOverload(t *testing.T) {
	const capacity = 1000
	run := func(cfg overload.Config) (before, during, after float64, c *crowd) {
		simulate(t, capacity, cfg, func(crowd *crowd) {
			c = crowd
			keys := anyKey(rand.New(rand.NewPCG(5, 6)))
			c.run(.5*capacity, 10*time.Second, keys)
			c.run(5*capacity, 60*time.Second, keys)
			c.run(.5*capacity, 15*time.Second, keys)
		})
		before, during, after = c.goodput(1, 10), c.goodput(10, 70), c.goodput(73, 85)
		t.Logf("goodput %.0f/s before, %.0f/s during, %.0f/s after; %d offered, %d refused, %d late, %d retries, p99 %v",
			before, during, after, c.offered, c.refused, c.late, c.retries, c.p99())
		return before, during, after, c
	}
	before, during, after, c := run(overload.Config{})
	if during < .8*capacity {
		t.Errorf("%.0f of %d a second during the overload", during, capacity)
	}
	if after < .97*before {
		t.Errorf("%.0f a second after the overload, %.0f before", after, before)
	}
	if most := c.offered/10 + 100; c.retries > most {
		t.Errorf("%d retries, at most %d", c.retries, most)
	}
	if c.p99() > patience/2 {
		t.Errorf("what succeeds takes %v", c.p99())
	}
	if _, without, _, _ := run(noLimit); without > .5*capacity {
		t.Errorf("%.0f a second without the gate: this test shows nothing", without)
	}
}

// TestHotKeyBesideOthers: a key that is asked for ten times as often as each
// of fifty others costs these less than a fifth of their p99; and a flood for
// one key, five times what the machine can do, leaves them what they need.
func TestHotKeyBesideOthers(t *testing.T) {
	const (
		capacity = 1000
		others   = 50
	)
	// run offers the others half of the capacity, and hot to one key.
	run := func(hot float64) (goodput float64, p99 time.Duration) {
		simulate(t, capacity, overload.Config{}, func(c *crowd) {
			rng := rand.New(rand.NewPCG(5, 6))
			h := &crowd{kv: c.kv, rng: rand.New(rand.NewPCG(7, 8)), budget: 100, start: c.start}
			ended := make(chan struct{})
			go func() {
				defer close(ended)
				if hot > 0 {
					h.run(hot, 30*time.Second, func() string { return "hot" })
				}
			}()
			c.run(capacity/2, 30*time.Second, func() string { return fmt.Sprint("key ", rng.IntN(others)) })
			<-ended
			goodput, p99 = c.goodput(2, 30), c.p99()
		})
		t.Logf("one key asked for %.0f times a second: the others get %.0f/s, p99 %v", hot, goodput, p99)
		return goodput, p99
	}
	alone, p99 := run(0)
	if _, beside := run(10 * capacity / 2 / others); float64(beside) > 1.2*float64(p99) {
		t.Errorf("p99 of the others is %v beside a hot key, %v without", beside, p99)
	}
	if flooded, beside := run(5 * capacity); flooded < .95*alone || beside > patience/2 {
		t.Errorf("%.0f/s of the others beside a flood, p99 %v, %.0f/s without", flooded, beside, alone)
	}
}

func (m *machine) Outcome(coord.OutcomeQuery, func(coord.OutcomeResult, error)) {}

func (m *machine) Await(coord.Await, func([]coord.RegionAchieved, error)) {
	panic("nobody waits for regions here")
}
