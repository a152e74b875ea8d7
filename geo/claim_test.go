package geo_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/hashicorp/go-hclog"

	"github.com/atolldb/atoll/crdt"
	"github.com/atolldb/atoll/geo"
	"github.com/atolldb/atoll/geo/geotest"
	"github.com/atolldb/atoll/geo/memlog"
	"github.com/atolldb/atoll/hashring"
)

// shelf is a Fetcher with records by key.
type shelf struct {
	mu      sync.Mutex
	records map[string][]byte
	errs    []error // of the next fetches
	fetched map[string]int
}

func (s *shelf) Fetch(_ context.Context, origin string, claim geo.Entry) ([]byte, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if origin != "east" {
		return nil, errors.New("wrong region")
	}
	if len(s.errs) > 0 {
		err := s.errs[0]
		s.errs = s.errs[1:]
		return nil, err
	}
	s.fetched[string(claim.Key)]++
	if r, ok := s.records[string(claim.Key)]; ok {
		return r, nil
	}
	return nil, geo.ErrGone
}

func (s *shelf) times(key string) int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.fetched[key]
}

// claiming runs a pump and a drain with claims at 1 MiB a second.
type claiming struct {
	out   *geotest.Outbox
	in    *geotest.Inbox
	shelf *shelf
	cloud *memlog.Cloud
	pump  *geo.Pump
	drain *geo.Drain
	gaps  chan string
	stop  func()
}

func newClaiming(t *testing.T, apply func([]geo.Entry) error) *claiming {
	c := &claiming{
		out: geotest.NewOutbox(actor), in: geotest.NewInbox(apply),
		shelf: &shelf{records: map[string][]byte{}, fetched: map[string]int{}},
		gaps:  make(chan string, 100),
		cloud: memlog.New(5, memlog.Faults{DelayMax: 5 * time.Millisecond}),
	}
	c.pump = geo.NewPump(geo.PumpConfig{Region: "east", Node: "east-1", Incarnation: actor, Nodes: three, Claims: true}, c.out, c.cloud.Log("east"), hclog.NewNullLogger())
	c.drain = geo.NewDrain(geo.DrainConfig{Region: "west", Origin: "east", Fetcher: c.shelf, ClaimRate: 1 << 20}, c.cloud.Feed("east", "west"), c.in,
		geo.DrainEvents{Gap: func(reason string) { c.gaps <- reason }}, hclog.NewNullLogger())
	ctx, cancel := context.WithCancel(t.Context())
	var running sync.WaitGroup
	running.Go(func() { _ = c.pump.Run(ctx) })
	running.Go(func() { _ = c.drain.Run(ctx) })
	c.stop = func() { cancel(); running.Wait() }
	return c
}

func (c *claiming) large(key string) crdt.Dot {
	record := bytes.Repeat([]byte(key), 8<<20/len(key))
	c.shelf.mu.Lock()
	c.shelf.records[key] = record
	c.shelf.mu.Unlock()
	return c.out.Mint(0, key, record)
}

func (c *claiming) came(d crdt.Dot) int {
	return c.in.Times(geotest.Delivered{Partition: hashring.Partition(0), Dot: d})
}

// Records of 8 MiB between small ones: these do not wait for them, the log carries
// none of their bytes, and each is fetched once, at the lane's rate.
func TestLargeRecordsHoldUpNobody(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newClaiming(t, nil)
		defer c.stop()
		var small, large []crdt.Dot
		for i := range 10 {
			large = append(large, c.large(fmt.Sprint("large", i)))
			for j := range 10 {
				small = append(small, c.out.Mint(0, fmt.Sprint("small", i, j), []byte("record")))
			}
		}
		time.Sleep(time.Second)
		for _, d := range small {
			if c.came(d) == 0 {
				t.Fatalf("small %v waits behind large ones", d)
			}
		}
		if n := c.drain.Stats().Claims; n != 1 {
			t.Errorf("%d large ones in the first second, at 8 s each", n)
		}
		time.Sleep(80 * time.Second)
		for i, d := range large {
			if key := fmt.Sprint("large", i); c.came(d) != 1 || c.shelf.times(key) != 1 {
				t.Errorf("%s came %d times and was fetched %d times", key, c.came(d), c.shelf.times(key))
			}
		}
		if s := c.pump.Stats(); s.BytesWire > 1<<16 || s.Claims != 10 {
			t.Errorf("the log carried %d bytes, %d claims", s.BytesWire, s.Claims)
		}
		if n := c.cloud.Backlog("east", "west"); n != 0 {
			t.Errorf("%d batches are not acknowledged", n)
		}
	})
}

// What cannot be fetched or applied now is asked for again, and is not acknowledged
// before it is applied; what nobody has is left to the clocks.
func TestClaimsThatFail(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var refuse atomic.Bool
		refuse.Store(true)
		c := newClaiming(t, func([]geo.Entry) error {
			if refuse.Load() {
				return errors.New("no quorum")
			}
			return nil
		})
		defer c.stop()
		c.shelf.mu.Lock()
		for range 6 {
			c.shelf.errs = append(c.shelf.errs, errors.New("the owner is dead"))
		}
		c.shelf.mu.Unlock()
		d := c.large("key")
		time.Sleep(time.Minute)
		if c.came(d) != 0 || c.cloud.Backlog("east", "west") != 1 || c.shelf.times("key") < 2 || c.drain.Stats().Failures == 0 {
			t.Errorf("came %d times, %d batches open, fetched %d times", c.came(d), c.cloud.Backlog("east", "west"), c.shelf.times("key"))
		}
		refuse.Store(false)
		time.Sleep(time.Minute)
		if c.came(d) != 1 || c.cloud.Backlog("east", "west") != 0 {
			t.Errorf("came %d times, %d batches open", c.came(d), c.cloud.Backlog("east", "west"))
		}
		for len(c.gaps) > 0 {
			<-c.gaps
		}
		d = c.large("gone")
		c.shelf.mu.Lock()
		delete(c.shelf.records, "gone")
		c.shelf.mu.Unlock()
		time.Sleep(time.Minute)
		if c.came(d) != 0 || c.cloud.Backlog("east", "west") != 0 || len(c.gaps) != 1 {
			t.Fatalf("came %d times, %d gaps told", c.came(d), len(c.gaps))
		}
		if why := <-c.gaps; !strings.Contains(why, "no owner") {
			t.Error(why)
		}
	})
}

// A drain that stops gives back what waits, and another one takes it up.
func TestClaimsOutliveADrain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newClaiming(t, nil)
		var large []crdt.Dot
		for i := range 20 {
			large = append(large, c.large(fmt.Sprint("large", i)))
		}
		time.Sleep(20 * time.Second)
		c.stop()
		if n := c.drain.Stats().Claims; n == 0 || n == 20 {
			t.Fatalf("%d fetched before the stop", n)
		}
		next := geo.NewDrain(geo.DrainConfig{Region: "west", Origin: "east", Fetcher: c.shelf}, c.cloud.Feed("east", "west"), c.in, geo.DrainEvents{}, hclog.NewNullLogger())
		ctx, cancel := context.WithCancel(t.Context())
		ended := make(chan struct{})
		go func() { _ = next.Run(ctx); close(ended) }()
		time.Sleep(time.Minute)
		cancel()
		<-ended
		for i, d := range large {
			if c.came(d) != 1 {
				t.Errorf("record %d came %d times", i, c.came(d))
			}
		}
	})
}
