package geo_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/hashicorp/go-hclog"
	"pgregory.net/rapid"

	"github.com/atolldb/atoll/crdt"
	"github.com/atolldb/atoll/crdt/hlc"
	"github.com/atolldb/atoll/geo"
	"github.com/atolldb/atoll/geo/geotest"
	"github.com/atolldb/atoll/geo/memlog"
	"github.com/atolldb/atoll/hashring"
)

var actor = crdt.MakeActor(1, 1)

// scripted is a log that answers as told and keeps what it was offered.
type scripted struct {
	mu     sync.Mutex
	offers []geo.Batch
	answer func(n int, b geo.Batch) (after time.Duration, err error)
	open   int
	most   int

	unwanted atomic.Bool
	silence  geo.Silence
}

func (l *scripted) Append(b geo.Batch, done func(error)) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.offers = append(l.offers, b)
	l.open++
	l.most = max(l.most, l.open)
	after, err := l.answer(len(l.offers), b)
	time.AfterFunc(after, func() {
		l.mu.Lock()
		l.open--
		l.mu.Unlock()
		if err == nil {
			l.silence.Appended(time.Now())
		}
		done(err)
	})
}

func (l *scripted) Announce([]byte) error { return nil }

func (l *scripted) Wanted() bool { return !l.unwanted.Load() }

func (l *scripted) Silent() time.Duration { return l.silence.Length(time.Now()) }

func (l *scripted) mostOpen() int {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.most
}

func (l *scripted) numbers() (ns []uint64) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, b := range l.offers {
		ns = append(ns, b.Header.Number)
	}
	return ns
}

func three() int { return 3 }

// pumping runs a pump on out and log in a bubble.
func pumping(t *testing.T, out *geotest.Outbox, log geo.Log) (*geo.Pump, func()) {
	pump := geo.NewPump(geo.PumpConfig{Region: "east", Node: "east-1", Incarnation: actor, Nodes: three}, out, log, hclog.NewNullLogger())
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan struct{})
	go func() {
		defer close(done)
		if err := pump.Run(ctx); err != nil {
			t.Error(err)
		}
	}()
	return pump, func() { cancel(); <-done }
}

func confirmAll(int, geo.Batch) (time.Duration, error) { return time.Millisecond, nil }

// While nobody takes from the log, nothing is put there, and a pump that stops
// does not wait for it; what was written often meanwhile is shipped once.
func TestPumpWaitsUntilSomebodyTakes(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		out, log := geotest.NewOutbox(actor), &scripted{answer: confirmAll}
		log.unwanted.Store(true)
		pump, stop := pumping(t, out, log)
		for range 100 {
			out.Mint(0, "key", []byte("record"))
			time.Sleep(100 * time.Millisecond)
		}
		if n := len(log.numbers()); n != 0 || !pump.Stats().Waiting {
			t.Fatalf("%d messages, %+v", n, pump.Stats())
		}
		log.unwanted.Store(false)
		time.Sleep(time.Second)
		if s := pump.Stats(); s.Entries != 1 || s.Waiting || out.Pending() != 0 {
			t.Fatalf("%+v, %d pending", s, out.Pending())
		}
		log.unwanted.Store(true)
		out.Mint(0, "key", []byte("record"))
		time.Sleep(time.Second)
		began := time.Now()
		stop()
		if took := time.Since(began); took > 100*time.Millisecond || out.Pending() != 1 {
			t.Fatalf("stopped after %v with %d pending", took, out.Pending())
		}
	})
}

// While nobody takes what is appended, the pauses grow, so that a key that is written
// all the time is not in the log once for each pause; where somebody takes, however
// late, they do not.
func TestPumpPausesInSilence(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const span = time.Second
		out, log := geotest.NewOutbox(actor), &scripted{answer: confirmAll}
		log.silence.Taken()
		pump, stop := pumping(t, out, log)
		value := make([]byte, 1<<10)
		mint := func() {
			for began, i := time.Now(), 0; time.Since(began) < span; i++ {
				out.Mint(0, "hot", value)
				for j := range 4 { // 4 MB/s of others
					out.Mint(0, fmt.Sprint(i, "-", j), value)
				}
				time.Sleep(time.Millisecond)
			}
		}
		hot := func() (n int) {
			log.mu.Lock()
			defer log.mu.Unlock()
			for _, b := range log.offers {
				entries, err := geo.DecodeBatch(b.Data, b.Header.Codec)
				if err != nil {
					t.Fatal(err)
				}
				for _, e := range entries {
					if string(e.Key) == "hot" {
						n++
					}
				}
			}
			log.offers = nil
			return n
		}
		log.answer = func(int, geo.Batch) (time.Duration, error) {
			time.AfterFunc(80*time.Millisecond, log.silence.Taken) // the round trip
			return time.Millisecond, nil
		}
		mint()
		if n := hot(); n < 40 {
			t.Errorf("the key is in the log %d times in %v though it is taken", n, span)
		}
		time.Sleep(span)
		hot()
		log.answer = confirmAll
		mint()
		if n := hot(); n > 9 {
			t.Errorf("the key is in the log %d times in %v of silence", n, span)
		}
		log.silence.Taken()
		time.Sleep(span)
		if s := pump.Stats(); out.Pending() != 0 || s.Failures != 0 {
			t.Errorf("%d pending, %+v", out.Pending(), s)
		}
		stop()
	})
}

func TestPumpGathers(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		out, log := geotest.NewOutbox(actor), &scripted{answer: confirmAll}
		pump, stop := pumping(t, out, log)
		synctest.Wait()
		began := time.Now()
		for i := range 500 { // 5 ms of writes to 20 keys
			out.Mint(0, fmt.Sprint("key", i%20), []byte("record"))
			time.Sleep(10 * time.Microsecond)
		}
		synctest.Wait()
		if n := len(log.numbers()); n != 0 {
			t.Fatalf("%d messages after %v", n, time.Since(began))
		}
		time.Sleep(6 * time.Millisecond)
		synctest.Wait()
		if n := len(log.numbers()); n != 1 {
			t.Fatalf("%d messages after %v", n, time.Since(began))
		}
		stop()
		if s := pump.Stats(); s.Entries != 20 || s.Batches != 1 || out.Pending() != 0 {
			t.Fatalf("%+v, %d pending", s, out.Pending())
		}
	})
}

// The pause in which updates gather is that of the nodes that publish by then.
func TestPumpGathersLonger(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		out, log := geotest.NewOutbox(actor), &scripted{answer: confirmAll}
		var nodes atomic.Int64
		nodes.Store(3)
		pump := geo.NewPump(geo.PumpConfig{
			Region: "east", Node: "east-1", Incarnation: actor, Nodes: func() int { return int(nodes.Load()) },
		}, out, log, hclog.NewNullLogger())
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan struct{})
		go func() {
			defer close(done)
			if err := pump.Run(ctx); err != nil {
				t.Error(err)
			}
		}()
		for _, c := range []struct {
			nodes int64
			pause time.Duration
		}{{3, 10 * time.Millisecond}, {30, 30 * time.Millisecond}, {90, 50 * time.Millisecond}, {3, 10 * time.Millisecond}} {
			time.Sleep(time.Second)
			nodes.Store(c.nodes)
			before := len(log.numbers())
			out.Mint(0, fmt.Sprint("key", c.nodes), []byte("record"))
			time.Sleep(c.pause - time.Millisecond)
			synctest.Wait()
			early := len(log.numbers()) - before
			time.Sleep(2 * time.Millisecond)
			synctest.Wait()
			if got := len(log.numbers()) - before; early != 0 || got != 1 {
				t.Errorf("%d nodes: %d messages before %v, %d after", c.nodes, early, c.pause, got)
			}
		}
		cancel()
		<-done
	})
}

func TestPumpBacklogIsBounded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		out := geotest.NewOutbox(actor)
		log := &scripted{answer: func(int, geo.Batch) (time.Duration, error) { return time.Second, nil }}
		for i := range 3000 {
			out.Mint(hashring.Partition(i%8), fmt.Sprint("key", i), make([]byte, 10<<10))
		}
		began := time.Now()
		_, stop := pumping(t, out, log)
		time.Sleep(500 * time.Millisecond)
		if most := log.mostOpen(); most != 64 {
			t.Errorf("%d batches unacknowledged", most)
		}
		// 3000 records of 10 KB in messages of 7, 64 a second: no pauses.
		time.Sleep(8 * time.Second)
		stop()
		if out.Pending() != 0 {
			t.Errorf("%d pending after %v", out.Pending(), time.Since(began))
		}
	})
}

func TestPumpLargeEntries(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		out, log := geotest.NewOutbox(actor), &scripted{answer: confirmAll}
		out.Mint(0, "small", []byte("record"))
		out.Mint(0, "large", make([]byte, 100<<10))
		out.Mint(0, "small too", []byte("record"))
		out.Mint(0, "vast", make([]byte, geo.MaxBody+1))
		out.Mint(0, "last", []byte("record"))
		pump, stop := pumping(t, out, log)
		time.Sleep(time.Second)
		stop()
		if out.Pending() != 0 || pump.Stats().Unshippable != 1 || pump.Stats().Entries != 4 {
			t.Fatalf("%+v, %d pending", pump.Stats(), out.Pending())
		}
		for _, b := range log.offers {
			entries, err := geo.DecodeBatch(b.Data, b.Header.Codec)
			if err != nil {
				t.Fatal(err)
			}
			if slices.ContainsFunc(entries, func(e geo.Entry) bool { return string(e.Key) == "large" }) && len(entries) > 1 {
				t.Errorf("a large entry shares a message with %d others", len(entries)-1)
			}
		}
	})
}

// A batch the log does not confirm keeps number and content for some tries.
func TestPumpRetries(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		out := geotest.NewOutbox(actor)
		refusals := 3
		log := &scripted{answer: func(_ int, b geo.Batch) (time.Duration, error) {
			if b.Header.Number == 1 && refusals > 0 {
				refusals--
				return time.Millisecond, errors.New("no answer")
			}
			return time.Millisecond, nil
		}}
		out.Mint(0, "key", []byte("one"))
		pump, stop := pumping(t, out, log)
		time.Sleep(50 * time.Millisecond)
		out.Mint(0, "key", []byte("two"))
		time.Sleep(5 * time.Second)
		stop()
		if got := log.numbers(); !slices.Equal(got, []uint64{1, 1, 2, 1, 1}) {
			t.Fatalf("numbers %v", got)
		}
		for i := range 5 {
			if i != 2 && string(log.offers[i].Data) != string(log.offers[0].Data) {
				t.Fatal("content changed under one number")
			}
		}
		if s := pump.Stats(); s.Failures != 3 || s.Rewinds != 0 || out.Pending() != 0 {
			t.Fatalf("%+v, %d pending", s, out.Pending())
		}
	})
}

// After an outage a hot key ships once, under a new number.
func TestPumpRewinds(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		out := geotest.NewOutbox(actor)
		began := time.Now()
		log := &scripted{answer: func(int, geo.Batch) (time.Duration, error) {
			if time.Since(began) < time.Minute {
				return time.Millisecond, errors.New("down")
			}
			return time.Millisecond, nil
		}}
		pump, stop := pumping(t, out, log)
		for range 600 {
			out.Mint(0, "hot", []byte("record"))
			time.Sleep(100 * time.Millisecond)
		}
		time.Sleep(10 * time.Second)
		stop()
		s := pump.Stats()
		if out.Pending() != 0 || s.Rewinds < 3 {
			t.Fatalf("%+v, %d pending", s, out.Pending())
		}
		if s.Entries > 3 {
			t.Errorf("a hot key shipped %d times after the outage", s.Entries)
		}
		if len(log.offers) > 50 {
			t.Errorf("%d offers in a minute of outage", len(log.offers))
		}
		numbers := log.numbers()
		if last := numbers[len(numbers)-1]; last < 2 {
			t.Errorf("last number %d", last)
		}
	})
}

// However many batches an outage hits, the pump starts again once: here 32
// batches under way at a time, whose numbers up to 64 fail.
func TestPumpRewindsOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		out := geotest.NewOutbox(actor)
		log := &scripted{answer: func(_ int, b geo.Batch) (time.Duration, error) {
			if b.Header.Number <= 64 {
				return time.Duration(b.Header.Number) * time.Millisecond, errors.New("down")
			}
			return time.Millisecond, nil
		}}
		for i := range 64 {
			out.Mint(0, fmt.Sprint("key", i), make([]byte, 64<<10-100))
		}
		pump, stop := pumping(t, out, log)
		time.Sleep(time.Minute)
		stop()
		if s := pump.Stats(); s.Rewinds != 2 || s.Failures != 4*64 || s.Batches != 32 || out.Pending() != 0 {
			t.Fatalf("%+v, %d pending", s, out.Pending())
		}
	})
}

// A source may give less than it is asked for and still have more.
func TestPumpStingySource(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		out, log := geotest.NewOutbox(actor), &scripted{answer: confirmAll}
		for i := range 100 {
			out.Mint(0, fmt.Sprint("key", i), []byte("record"))
		}
		pump := geo.NewPump(geo.PumpConfig{Region: "east", Node: "east-1", Incarnation: actor, Nodes: three}, stingy{out}, log, hclog.NewNullLogger())
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan error)
		go func() { done <- pump.Run(ctx) }()
		time.Sleep(10 * time.Second)
		if out.Pending() != 0 {
			t.Errorf("%d pending", out.Pending())
		}
		cancel()
		<-done
	})
}

type stingy struct{ *geotest.Outbox }

func (s stingy) Peek(int) ([]geo.Entry, []geo.Mark, error) { return s.Outbox.Peek(20) }

// What was minted just before the stop still leaves.
func TestPumpStopShipsTheRest(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		out, log := geotest.NewOutbox(actor), &scripted{answer: confirmAll}
		_, stop := pumping(t, out, log)
		synctest.Wait()
		out.Mint(0, "key", []byte("record"))
		stop()
		if out.Pending() != 0 {
			t.Fatal("the last write stayed behind")
		}
	})
	synctest.Test(t, func(t *testing.T) { // but a dead log does not hold the stop up
		out := geotest.NewOutbox(actor)
		log := &scripted{answer: func(int, geo.Batch) (time.Duration, error) { return time.Minute, errors.New("no answer") }}
		_, stop := pumping(t, out, log)
		synctest.Wait()
		out.Mint(0, "key", []byte("record"))
		began := time.Now()
		stop()
		if took := time.Since(began); took > 5*time.Second {
			t.Fatalf("stop took %v", took)
		}
		time.Sleep(2 * time.Minute) // late confirmations find nobody and hurt nobody
	})
}

// Over any bad cloud that does not lose what it confirmed, every dot arrives,
// the pump ends with nothing pending, and one run's numbers are never used for
// two contents (memlog panics). A restart of the pump changes nothing.
func TestPathDeliversEverything(t *testing.T) {
	type plan struct {
		seed     uint64
		faults   memlog.Faults
		writes   int
		restarts int
		cuts     []time.Duration
	}
	rapid.Check(t, func(rt *rapid.T) {
		chance := rapid.SampledFrom([]float64{0, 0.05, 0.3})
		p := plan{
			seed: rapid.Uint64().Draw(rt, "seed"),
			faults: memlog.Faults{
				DelayMax: time.Duration(rapid.IntRange(0, 300).Draw(rt, "delay")) * time.Millisecond,
				Refuse:   chance.Draw(rt, "refuse"), Unsure: chance.Draw(rt, "unsure"), Duplicate: chance.Draw(rt, "duplicate"),
			},
			writes:   rapid.IntRange(1, 400).Draw(rt, "writes"),
			restarts: rapid.IntRange(0, 3).Draw(rt, "restarts"),
			cuts: rapid.SliceOfN(rapid.Custom(func(rt *rapid.T) time.Duration {
				return time.Duration(rapid.IntRange(0, 5000).Draw(rt, "cut")) * time.Millisecond
			}), 0, 3).Draw(rt, "cuts"),
		}
		var report string
		synctest.Test(t, func(t *testing.T) {
			cloud := memlog.New(p.seed, p.faults)
			out := geotest.NewOutbox(actor)
			failures := 0
			in := geotest.NewInbox(func([]geo.Entry) error {
				if failures++; failures%7 == 3 {
					return errors.New("no quorum")
				}
				return nil
			})
			ctx, cancel := context.WithCancel(t.Context())
			var wg sync.WaitGroup
			drain := geo.NewDrain(geo.DrainConfig{Region: "west", Origin: "east"}, cloud.Feed("east", "west"), serial(in), geo.DrainEvents{}, hclog.NewNullLogger())
			wg.Go(func() { _ = drain.Run(ctx) })
			_, stop := pumping(t, out, cloud.Log("east"))
			var minted []geotest.Delivered
			for i := range p.writes {
				part := hashring.Partition(i % 37 % 5)
				d := out.Mint(part, fmt.Sprint("key", i%37), fmt.Appendf(nil, "value %d", i))
				minted = append(minted, geotest.Delivered{Partition: part, Dot: d})
				time.Sleep(3 * time.Millisecond)
				if p.restarts > 0 && i%(p.writes/p.restarts+1) == 10 {
					stop()
					out.Rewind()
					_, stop = pumping(t, out, cloud.Log("east"))
				}
			}
			for _, d := range p.cuts {
				cloud.Cut("east", "west", true)
				time.Sleep(d)
				cloud.Cut("east", "west", false)
				time.Sleep(100 * time.Millisecond)
			}
			time.Sleep(10 * time.Minute)
			stop()
			if n := out.Pending(); n != 0 {
				report += fmt.Sprintf("%d pending; ", n)
			}
			for _, d := range minted {
				if in.Times(d) == 0 {
					report += fmt.Sprintf("%v never came; ", d)
				}
			}
			if n := cloud.Backlog("east", "west"); n != 0 {
				report += fmt.Sprintf("backlog %d; ", n)
			}
			cancel()
			wg.Wait()
		})
		if report != "" {
			rt.Fatal(report)
		}
	})
}

// serial makes a sink whose hooks need not be safe for concurrent use.
func serial(s geo.Sink) geo.Sink { return &serialSink{sink: s} }

type serialSink struct {
	mu   sync.Mutex
	sink geo.Sink
}

func (s *serialSink) ApplyRemote(ctx context.Context, origin string, entries []geo.Entry) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.sink.ApplyRemote(ctx, origin, entries)
}

// A backlog is shipped no faster than Delay allows, and what is fresh at once.
func TestPumpLetsClientsGoFirst(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		out, log := geotest.NewOutbox(actor), &scripted{answer: confirmAll}
		log.unwanted.Store(true)
		bytes, least := 0, 0.
		pump := geo.NewPump(geo.PumpConfig{
			Region: "east", Node: "east-1", Incarnation: actor, Nodes: three,
			Delay: func(n int, rate float64) time.Duration {
				bytes, least = bytes+n, max(least, rate)
				return time.Second
			},
		}, out, log, hclog.NewNullLogger())
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan struct{})
		go func() { defer close(done); _ = pump.Run(ctx) }()
		mint := func(n int) {
			key := fmt.Sprint("default\x00key", n)
			v := crdt.Version{
				Dot: crdt.Dot{Actor: actor, N: uint64(n)}, Stamp: hlc.FromMillis(time.Now().UnixMilli()), Value: make([]byte, 32<<10),
			}
			out.Mint(0, key, crdt.AppendRecord(nil, hashring.KeyHash([]byte(key)), crdt.Write(crdt.Record{}, nil, v)))
		}
		const late = 20 // 640 KiB in 100 s
		for n := range late {
			mint(n + 1)
			time.Sleep(5 * time.Second)
		}
		log.unwanted.Store(false)
		begun := time.Now()
		for out.Pending() > 0 {
			time.Sleep(10 * time.Millisecond)
		}
		if took := time.Since(begun); took < 8*time.Second || took > 12*time.Second { // ten peeks of 64 KiB
			t.Errorf("took %v", took)
		}
		if bytes < late<<15 || bytes > late<<15+8<<10 || least != 1<<20 {
			t.Errorf("%d bytes, %.0f a second at least", bytes, least)
		}
		bytes = 0
		time.Sleep(10 * time.Second)
		for n := range 10 {
			mint(late + n + 1)
		}
		begun = time.Now()
		for out.Pending() > 0 {
			time.Sleep(10 * time.Millisecond)
		}
		if took := time.Since(begun); took > 200*time.Millisecond || bytes != 0 {
			t.Errorf("what is fresh took %v, %d bytes late", took, bytes)
		}
		// A pump that stops does not wait.
		log.unwanted.Store(true)
		for n := range 10 {
			mint(late + n + 11)
			time.Sleep(time.Second)
		}
		log.unwanted.Store(false)
		begun = time.Now()
		cancel()
		<-done
		if took := time.Since(begun); took > 100*time.Millisecond || out.Pending() > 0 {
			t.Errorf("stopped after %v, %d pending", took, out.Pending())
		}
	})
}
