package geo_test

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/hashicorp/go-hclog"

	"github.com/atolldb/atoll/crdt"
	"github.com/atolldb/atoll/crdt/hlc"
	"github.com/atolldb/atoll/geo"
	"github.com/atolldb/atoll/geo/geotest"
	"github.com/atolldb/atoll/hashring"
)

// aged is a batch of one record that was written that long ago.
func aged(t *testing.T, number uint64, age time.Duration) geo.Batch {
	t.Helper()
	return agedOf(t, number, age, 1)
}

// agedOf is one of so many bytes, which do not shrink.
func agedOf(t *testing.T, number uint64, age time.Duration, size int) geo.Batch {
	t.Helper()
	value := make([]byte, size)
	for i, r := 0, rand.New(rand.NewPCG(1, 2)); i < size; i++ {
		value[i] = byte(r.Uint32())
	}
	key := []byte("bucket\x00key")
	record := crdt.AppendRecord(nil, hashring.KeyHash(key), crdt.Record{Versions: []crdt.Version{{
		Dot: crdt.Dot{Actor: actor, N: number}, Stamp: hlc.FromMillis(time.Now().Add(-age).UnixMilli()), Value: value,
	}}})
	data, codec, err := geo.EncodeBatch([]geo.Entry{{Key: key, Record: record, Dots: []crdt.Dot{{Actor: actor, N: number}}}})
	if err != nil {
		t.Fatal(err)
	}
	b := packed(t, number)
	b.Data, b.Header.Codec = data, codec
	return b
}

// What is late waits before it is applied, and is not acknowledged before that; what
// is written now does not wait.
func TestDrainYieldsWithWhatIsLate(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		feed := hand{make(chan geo.FeedHandler), make(chan struct{})}
		var applied atomic.Int64
		in := geotest.NewInbox(func(e []geo.Entry) error { applied.Add(int64(len(e))); return nil })
		const takes = 20 * time.Second // longer than an apply may take: that begins afterwards
		drain := geo.NewDrain(geo.DrainConfig{Region: "west", Origin: "east", Sole: true, Yield: func(ctx context.Context, bytes int) error {
			if bytes == 0 {
				t.Error("for nothing")
			}
			select {
			case <-time.After(takes):
				return nil
			case <-ctx.Done():
				return ctx.Err()
			}
		}}, feed, in, geo.DrainEvents{}, hclog.NewNullLogger())
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan error)
		go func() { done <- drain.Run(ctx) }()
		on := <-feed.on
		began := time.Now()
		if err := on.Batch(t.Context(), aged(t, 1, 0)); err != nil || time.Since(began) != 0 || applied.Load() != 1 {
			t.Errorf("what is new: %v after %v, %d applied", err, time.Since(began), applied.Load())
		}
		answer := make(chan error)
		go func() { answer <- on.Batch(t.Context(), aged(t, 2, time.Minute)) }()
		synctest.Wait()
		if applied.Load() != 1 {
			t.Error("what is late was applied at once")
		}
		if err := <-answer; err != nil || time.Since(began) != takes || applied.Load() != 2 {
			t.Errorf("what is late: %v after %v, %d applied", err, time.Since(began), applied.Load())
		}
		inner, stop := context.WithCancel(t.Context())
		go func() { answer <- on.Batch(inner, aged(t, 3, time.Minute)) }()
		synctest.Wait()
		stop()
		if err := <-answer; !errors.Is(err, context.Canceled) || applied.Load() != 2 {
			t.Errorf("at the end: %v, %d applied", err, applied.Load())
		}
		if s := drain.Stats(); s.LateBytes != uint64(2*len(aged(t, 2, time.Minute).Data)) || s.Yielded != takes {
			t.Errorf("%d bytes were late, and waited %v", s.LateBytes, s.Yielded)
		}
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
}

// What is late leaves at the rate of who lets clients go first; what is minted now
// leaves at once; and what is left at the end does not wait.
func TestPumpYieldsWithWhatIsLate(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		out := geotest.NewOutbox(actor)
		record := func(key string, age time.Duration) []byte {
			return crdt.AppendRecord(nil, hashring.KeyHash([]byte(key)), crdt.Record{Versions: []crdt.Version{{
				Dot: crdt.Dot{Actor: actor, N: 1}, Stamp: hlc.FromMillis(time.Now().Add(-age).UnixMilli()), Value: make([]byte, 8<<10),
			}}})
		}
		const backlog = 100 // 13 messages
		for i := range backlog {
			key := fmt.Sprint("old-", i)
			out.Mint(hashring.Partition(0), key, record(key, time.Minute))
		}
		log := &scripted{answer: func(int, geo.Batch) (time.Duration, error) { return 0, nil }}
		var asked atomic.Int64
		pump := geo.NewPump(geo.PumpConfig{Region: "east", Node: "east-1", Incarnation: actor, Nodes: three, Yield: func(bytes int) time.Duration {
			asked.Add(int64(bytes))
			return time.Second
		}}, out, log, hclog.NewNullLogger())
		ctx, cancel := context.WithCancel(t.Context())
		ended := make(chan error)
		go func() { ended <- pump.Run(ctx) }()
		for i := range 5 {
			time.Sleep(10 * time.Millisecond)
			if n := len(log.numbers()); n != i+1 {
				t.Errorf("after %d s %d messages", i, n)
			}
			time.Sleep(990 * time.Millisecond)
		}
		if s := pump.Stats(); s.LateBytes != uint64(asked.Load()) || s.LateBytes < 5*(64<<10) || s.Yielded < 5*time.Second {
			t.Errorf("%d late bytes, %d of which were told, %v", s.LateBytes, asked.Load(), s.Yielded)
		}
		cancel()
		began := time.Now()
		if err := <-ended; err != nil || time.Since(began) > time.Second || out.Pending() != 0 {
			t.Errorf("at the end: %v, after %v, %d are left", err, time.Since(began), out.Pending())
		}
		was := asked.Load()
		ctx, cancel = context.WithCancel(t.Context())
		go func() { ended <- pump.Run(ctx) }()
		for i := range backlog {
			key := fmt.Sprint("new-", i)
			out.Mint(hashring.Partition(0), key, record(key, 0))
		}
		time.Sleep(100 * time.Millisecond)
		if out.Pending() != 0 || asked.Load() != was {
			t.Errorf("what is new: %d are left, %d bytes were taken for late", out.Pending(), asked.Load()-was)
		}
		cancel()
		<-ended
	})
}

// Of what is late few batches are applied at once, of what is new many; and a late
// one that has failed gives its place back.
func TestFewAreLateAtOnce(t *testing.T) {
	for _, c := range []struct {
		age  time.Duration
		size int
		most int64
	}{{time.Minute, 40 << 10, 24}, {time.Minute, 1, 32}, {0, 40 << 10, 32}} {
		synctest.Test(t, func(t *testing.T) {
			feed := hand{make(chan geo.FeedHandler), make(chan struct{})}
			var running, most, turns atomic.Int64
			in := geotest.NewInbox(func([]geo.Entry) error {
				n := running.Add(1)
				defer running.Add(-1)
				for was := most.Load(); n > was && !most.CompareAndSwap(was, n); was = most.Load() {
				}
				time.Sleep(time.Second)
				if turns.Add(1)%2 == 0 {
					return errors.New("no quorum")
				}
				return nil
			})
			var told atomic.Int64
			drain := geo.NewDrain(geo.DrainConfig{Region: "west", Origin: "east", Yield: func(context.Context, int) error {
				if told.Add(1)%3 == 0 {
					return errors.New("the end")
				}
				return nil
			}}, feed, in, geo.DrainEvents{}, hclog.NewNullLogger())
			ctx, cancel := context.WithCancel(t.Context())
			done := make(chan error)
			go func() { done <- drain.Run(ctx) }()
			on := <-feed.on
			var all sync.WaitGroup
			for n := range uint64(96) {
				b := agedOf(t, n+1, c.age, c.size)
				all.Go(func() { _ = on.Batch(t.Context(), b) })
			}
			all.Wait()
			if most.Load() != c.most {
				t.Errorf("%v old, %d bytes: %d at once, not %d", c.age, c.size, most.Load(), c.most)
			}
			cancel()
			<-done
		})
	}
}
