package geo_test

import (
	"context"
	"errors"
	"fmt"
	"math"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/hashicorp/go-hclog"

	"github.com/atolldb/atoll/crdt"
	"github.com/atolldb/atoll/crdt/hlc"
	"github.com/atolldb/atoll/geo"
	"github.com/atolldb/atoll/geo/geotest"
	"github.com/atolldb/atoll/geo/memlog"
	"github.com/atolldb/atoll/hashring"
)

// hand is a feed that a test plays by hand.
type hand struct {
	on    chan geo.FeedHandler
	ended chan struct{}
}

func (h hand) Run(ctx context.Context, on geo.FeedHandler) error {
	h.on <- on
	<-ctx.Done()
	close(h.ended)
	return ctx.Err()
}

func draining(t *testing.T, sink geo.Sink, events geo.DrainEvents) (*geo.Drain, geo.FeedHandler) {
	feed := hand{make(chan geo.FeedHandler), make(chan struct{})}
	drain := geo.NewDrain(geo.DrainConfig{Region: "west", Origin: "east", Sole: true}, feed, sink, events, hclog.NewNullLogger())
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error)
	go func() { done <- drain.Run(ctx) }()
	t.Cleanup(func() {
		cancel()
		if err := <-done; err != nil {
			t.Errorf("drain: %v", err)
		}
	})
	return drain, <-feed.on
}

func packed(t *testing.T, number uint64) geo.Batch {
	return packedOf(t, number, []byte("record"))
}

func packedOf(t *testing.T, number uint64, record []byte) geo.Batch {
	t.Helper()
	data, codec, err := geo.EncodeBatch([]geo.Entry{{Key: []byte("key"), Record: record}})
	if err != nil {
		t.Fatal(err)
	}
	return geo.Batch{Header: geo.Header{
		Origin: "east", Node: "east-1", Incarnation: actor, Session: 1, Number: number, Count: 1, Codec: codec,
	}, Data: data}
}

func TestDrainJudgesBatches(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		noQuorum := errors.New("no quorum")
		var answer error
		applied := 0
		in := geotest.NewInbox(func([]geo.Entry) error {
			if answer == nil {
				applied++
			}
			return answer
		})
		var gaps []string
		drain, on := draining(t, in, geo.DrainEvents{Gap: func(reason string) { gaps = append(gaps, reason) }})
		ctx := context.Background()
		if err := on.Batch(ctx, packed(t, 1)); err != nil || applied != 1 {
			t.Fatalf("good batch: %v, applied %d", err, applied)
		}
		answer = noQuorum
		if err := on.Batch(ctx, packed(t, 2)); !errors.Is(err, noQuorum) || errors.Is(err, geo.ErrPoison) {
			t.Fatalf("failed apply: %v", err)
		}
		answer = nil
		own := packed(t, 3)
		own.Header.Origin = "west"
		if err := on.Batch(ctx, own); err != nil || applied != 1 {
			t.Fatalf("own batch: %v, applied %d", err, applied)
		}
		if len(gaps) != 0 {
			t.Fatalf("gaps %q", gaps)
		}
		for i, spoil := range []func(*geo.Batch){
			func(b *geo.Batch) { b.Data = b.Data[:len(b.Data)-1] },
			func(b *geo.Batch) { b.Header.Count = 2 },
			func(b *geo.Batch) { b.Header.Origin = "north" },
		} {
			b := packed(t, uint64(4+i))
			spoil(&b)
			if err := on.Batch(ctx, b); !errors.Is(err, geo.ErrPoison) || applied != 1 {
				t.Errorf("spoiled batch %d: %v, applied %d", i, err, applied)
			}
		}
		if len(gaps) != 3 { // what a poisoned batch carried is lost to the log
			t.Errorf("gaps %q", gaps)
		}
		want := geo.DrainStats{Batches: 1, Entries: 1, Bytes: uint64(len(packed(t, 1).Data)), Failures: 1, Poisoned: 3, Own: 1}
		if got := drain.Stats(); got != want {
			t.Errorf("stats %+v, want %+v", got, want)
		}
	})
}

func TestDrainBoundsAnApply(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		_, on := draining(t, blocked{}, geo.DrainEvents{})
		began := time.Now()
		var wg sync.WaitGroup
		for n := range uint64(100) {
			wg.Go(func() {
				if err := on.Batch(context.Background(), packed(t, n)); !errors.Is(err, context.DeadlineExceeded) {
					t.Errorf("got %v", err)
				}
			})
		}
		wg.Wait()
		if took := time.Since(began); took != 40*time.Second { // 100 in slots of 32, 10 s each
			t.Errorf("took %v", took)
		}
	})
}

type blocked struct{}

func (blocked) ApplyRemote(ctx context.Context, _ string, _ []geo.Entry) error {
	<-ctx.Done()
	return ctx.Err()
}

// What is being applied at once has two MiB at most; what is larger goes alone, and who
// gives up is not in the way of others.
func TestDrainBoundsWhatIsApplied(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var mu sync.Mutex
		under, most, number, applied := 0, 0, uint64(0), 0
		drain, on := draining(t, geotest.NewInbox(func(entries []geo.Entry) error {
			bytes := len(entries[0].Record)
			mu.Lock()
			under += bytes
			most = max(most, under)
			if alone := under == bytes; bytes > 2<<20 && !alone {
				t.Errorf("%d bytes are applied beside %d", bytes, under-bytes)
			}
			mu.Unlock()
			time.Sleep(time.Second)
			mu.Lock()
			under, applied = under-bytes, applied+1
			mu.Unlock()
			return nil
		}), geo.DrainEvents{})
		var all sync.WaitGroup
		arrives := func(kib int, patience time.Duration, want error) {
			number++
			b := packedOf(t, number, make([]byte, kib<<10))
			all.Go(func() {
				ctx, cancel := context.WithTimeout(t.Context(), patience)
				defer cancel()
				if err := on.Batch(ctx, b); !errors.Is(err, want) {
					t.Errorf("batch of %d KiB: %v, not %v", kib, err, want)
				}
			})
			synctest.Wait()
		}
		arrives(1200, time.Minute, nil)
		arrives(700, time.Minute, nil)
		arrives(1500, time.Millisecond, context.DeadlineExceeded)
		arrives(3000, time.Minute, nil)
		for range 8 {
			arrives(500, time.Minute, nil)
		}
		all.Wait()
		if most < 1900<<10 || most > 3000<<10 || applied != 11 || drain.Stats().Batches != 11 {
			t.Errorf("%d bytes at once, %d applied: %+v", most, applied, drain.Stats())
		}
	})
}

// A log that loses what it confirmed is found out by the numbers.
func TestDrainMissesNumbers(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		cloud := memlog.New(3, memlog.Faults{DelayMax: 50 * time.Millisecond, Lose: 0.2})
		out, in := geotest.NewOutbox(actor), geotest.NewInbox(nil)
		var told []string
		drain := geo.NewDrain(geo.DrainConfig{Region: "west", Origin: "east", Sole: true}, cloud.Feed("east", "west"), in,
			geo.DrainEvents{Gap: func(reason string) { told = append(told, reason) }}, hclog.NewNullLogger())
		ctx, cancel := context.WithCancel(t.Context())
		var wg sync.WaitGroup
		wg.Go(func() { _ = drain.Run(ctx) })
		pump, stop := pumping(t, out, cloud.Log("east"))
		for i := range 100 {
			out.Mint(0, fmt.Sprint("key", i), []byte("record"))
			time.Sleep(20 * time.Millisecond) // a batch each
		}
		time.Sleep(time.Minute)
		stop()
		cancel()
		wg.Wait()
		if out.Pending() != 0 {
			t.Fatal("the log confirmed, so nothing is pending")
		}
		missing := pump.Stats().Batches - drain.Stats().Batches
		if missing == 0 || len(told) == 0 {
			t.Fatalf("%d batches missing, told %q", missing, told)
		}
		// All but a lost tail is counted (and a lost head, before which
		// nothing was seen).
		if lost := drain.Stats().Lost; lost > missing || lost+3 < missing {
			t.Errorf("%d batches missing, %d numbers found missing", missing, lost)
		}
	})
}

// late is the data of a batch of entries of so many bytes that were written some time ago.
func late(t *testing.T, number uint64, ago time.Duration, sizes ...int) geo.Batch {
	t.Helper()
	b := geo.Batch{Header: geo.Header{Origin: "east", Node: "east-1", Incarnation: actor, Session: 1, Number: number, Count: len(sizes)}}
	var entries []geo.Entry
	for i, size := range sizes {
		key := fmt.Sprint("default\x00key", i)
		v := crdt.Version{
			Dot:   crdt.Dot{Actor: actor, N: uint64(i + 1)},
			Stamp: hlc.FromMillis(time.Now().Add(-ago).UnixMilli()), Value: make([]byte, size),
		}
		entries = append(entries, geo.Entry{
			Key: []byte(key), Record: crdt.AppendRecord(nil, hashring.KeyHash([]byte(key)), crdt.Write(crdt.Record{}, nil, v)),
			Dots: []crdt.Dot{v.Dot},
		})
	}
	var err error
	if b.Data, b.Header.Codec, err = geo.EncodeBatch(entries); err != nil {
		t.Fatal(err)
	}
	return b
}

// What comes late is paid for before it is applied, in pieces, at a rate by what is
// owed; what is fresh is not, whatever is late.
func TestDrainPaysForWhatIsLate(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var applied []int
		paid, rate, refuse := 0, 0., error(nil)
		feed := hand{make(chan geo.FeedHandler), make(chan struct{})}
		in := geotest.NewInbox(func(entries []geo.Entry) error { applied = append(applied, len(entries)); return nil })
		drain := geo.NewDrain(geo.DrainConfig{
			Region: "west", Origin: "east",
			Pay: func(_ context.Context, bytes int, least func() float64) error {
				paid, rate = paid+bytes, least()
				return refuse
			},
			Owed: func() (uint64, time.Duration) { return 100 << 20, 100 * time.Second },
		}, feed, in, geo.DrainEvents{}, hclog.NewNullLogger())
		go func() { _ = drain.Run(t.Context()) }()
		on := <-feed.on
		put := func(b geo.Batch, want error) {
			t.Helper()
			if err := on.Batch(t.Context(), b); !errors.Is(err, want) {
				t.Fatalf("got %v, want %v", err, want)
			}
		}
		put(late(t, 1, time.Second, 1<<10, 1<<10), nil)
		if paid != 0 || !slices.Equal(applied, []int{2}) {
			t.Errorf("fresh: paid %d for %v", paid, applied)
		}
		put(late(t, 2, time.Minute, 10), nil)
		if paid != 4<<10 || !slices.Equal(applied, []int{2, 1}) { // a message costs something in itself
			t.Errorf("late: paid %d for %v", paid, applied)
		}
		if want := 5. * (1 << 20); math.Abs(rate-want) > 1 { // in a quarter of 100 s, and as much as is written
			t.Errorf("at a rate of %.0f, want %.0f", rate, want)
		}
		put(late(t, 3, time.Minute, 40<<10, 20<<10, 30<<10, 40<<10), nil)
		if paid < 134<<10 || paid > 135<<10 || !slices.Equal(applied[2:], []int{2, 1, 1}) {
			t.Errorf("late: paid %d for %v", paid, applied)
		}
		put(late(t, 4, 0, 1<<10), nil)
		refuse = errors.New("it ends")
		put(late(t, 5, time.Minute, 1<<10), refuse)
		if paid > 140<<10 || !slices.Equal(applied[5:], []int{1}) {
			t.Errorf("then: paid %d for %v", paid, applied)
		}
		// When its time is over nothing is held, nor divided.
		refuse, paid = nil, 0
		for range 60 {
			time.Sleep(time.Second)
			put(late(t, 6, time.Minute, 40<<10, 40<<10), nil)
		}
		if paid > 50*81<<10 || applied[len(applied)-1] != 2 {
			t.Errorf("at the end: paid %d for %v", paid, applied)
		}
	})
}
