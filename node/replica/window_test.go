package replica

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"math"
	"runtime"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"pgregory.net/rapid"

	"github.com/atolldb/atoll/crdt"
	"github.com/atolldb/atoll/crdt/hlc"
	"github.com/atolldb/atoll/node/storage"
	"github.com/atolldb/atoll/node/storage/memstore"
)

// remembering is a window on a memory engine, as the committer uses it.
type remembering struct {
	t      testing.TB
	engine *memstore.Engine
	w      *window
	print  func(name) uint32
}

func (m *remembering) start() {
	m.t.Helper()
	m.w = &window{print: m.print}
	if err := m.w.load(m.engine, time.Now()); err != nil {
		m.t.Fatal(err)
	}
}

// group runs decide in a transaction, and writes what it has left.
func (m *remembering) group(decide func(tx storage.Txn)) {
	m.t.Helper()
	tx, err := m.engine.Begin()
	if err != nil {
		m.t.Fatal(err)
	}
	defer tx.Discard()
	decide(tx)
	if m.w.Len() > 0 {
		if err := m.w.Put(tx); err != nil {
			m.t.Fatal(err)
		}
	}
	if err := tx.Commit(); err != nil {
		m.t.Fatal(err)
	}
}

// The window against a map: what was noted last of a request is found until
// traceLife is over, and a few seconds later at most; what was not is not found,
// though fingerprints are alike; also after restarts.
func TestWindowLikeAMap(t *testing.T) {
	type noted struct {
		t  trace
		at time.Time
	}
	type op struct {
		hash  uint64
		id    crdt.RequestID
		notes bool
	}
	type step struct {
		sleeps time.Duration
		starts bool
		ops    []op
	}
	anOp := rapid.Custom(func(t *rapid.T) op {
		return op{uint64(rapid.IntRange(0, 1).Draw(t, "key")), crdt.RequestID{15: byte(rapid.IntRange(1, 12).Draw(t, "id"))}, rapid.Bool().Draw(t, "notes")}
	})
	aStep := rapid.Custom(func(t *rapid.T) step {
		switch rapid.IntRange(0, 5).Draw(t, "step") {
		case 0:
			return step{sleeps: time.Duration(rapid.IntRange(1, 200).Draw(t, "seconds")) * time.Second}
		case 1:
			return step{starts: true}
		}
		return step{ops: rapid.SliceOfN(anOp, 1, 6).Draw(t, "ops")}
	})
	play := func(t *testing.T, few uint32, steps []step) (wrong string) {
		engine, err := memstore.NewDisk(memstore.Config{}).Open()
		if err != nil {
			t.Fatal(err)
		}
		defer engine.Close()
		m := &remembering{t: t, engine: engine, print: func(n name) uint32 { return uint32(n[15]) % few }}
		m.start()
		twin := map[name]noted{}
		n := uint64(0)
		for _, s := range steps {
			time.Sleep(s.sleeps)
			if s.starts {
				m.start()
			}
			m.group(func(tx storage.Txn) {
				for _, o := range s.ops {
					got, err := m.w.find(tx, o.hash, o.id)
					was, ok := twin[nameOf(o.hash, o.id)]
					age := time.Since(was.at)
					switch {
					case err != nil:
						wrong = err.Error()
					case !ok && got != (trace{}), ok && got != (trace{}) && got != was.t:
						wrong = fmt.Sprintf("found %+v of %v, not %+v", got, o.id, was)
					case ok && got == (trace{}) && age < traceLife:
						wrong = fmt.Sprintf("%v is forgotten after %v", o.id, age)
					case ok && got != (trace{}) && age > spanLife+spanTime:
						wrong = fmt.Sprintf("%v is remembered after %v", o.id, age)
					}
					if !o.notes {
						continue
					}
					n++
					is := []trace{
						{dot: crdt.Dot{Actor: 129, N: n}, stamp: 9},
						{ballot: n},
						{dot: crdt.Dot{Actor: 129, N: n}, version: crdt.Dot{Actor: 1 << 31, N: n}, stamp: 8},
						{version: crdt.Dot{Actor: 1 << 31, N: n}, doubt: true},
					}[n%4]
					m.w.note(o.hash, o.id, is)
					twin[nameOf(o.hash, o.id)] = noted{is, time.Now()}
				}
			})
			if wrong != "" {
				return wrong
			}
		}
		return ""
	}
	rapid.Check(t, func(rt *rapid.T) {
		few := rapid.Uint32Range(1, 5).Draw(rt, "fingerprints")
		steps := rapid.SliceOfN(aStep, 1, 30).Draw(rt, "steps")
		wrong := ""
		synctest.Test(t, func(t *testing.T) { wrong = play(t, few, steps) })
		if wrong != "" {
			rt.Fatal(wrong)
		}
	})
}

// What is noted in one group is one entry of the store, or as many as its size
// takes; and what has ended is forgotten in memory, too.
func TestWindowIsSmall(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		engine, err := memstore.NewDisk(memstore.Config{}).Open()
		if err != nil {
			t.Fatal(err)
		}
		defer engine.Close()
		m := &remembering{t: t, engine: engine}
		m.start()
		id := func(n int) crdt.RequestID {
			return crdt.MakeRequestID(time.Now().UnixMilli(), [10]byte{2: byte(n >> 16), 3: byte(n >> 8), 4: byte(n)})
		}
		write := func(n int) {
			m.group(func(storage.Txn) {
				for i := range n {
					m.w.note(uint64(i), id(i), trace{dot: crdt.Dot{Actor: 129, N: uint64(i + 1)}})
				}
				if size := m.w.Size(); size < n*45 || size > n*45+(n/1000+1)*100 {
					t.Errorf("%d bytes for %d traces", size, n)
				}
			})
		}
		entries := func() (n int) {
			err := m.engine.Scan([]byte{spaceRequest}, []byte{spaceRequest + 1}, func(kv storage.KV) bool {
				if len(kv.Value) > storage.MaxBrief {
					t.Errorf("a block of %d bytes", len(kv.Value))
				}
				n++
				return true
			})
			if err != nil {
				t.Fatal(err)
			}
			return n
		}
		write(64)
		if n := entries(); n != 1 {
			t.Errorf("%d entries for 64 traces", n)
		}
		write(5000)
		if n := entries(); n != 1+4 {
			t.Errorf("%d entries for 64 and 5000 traces", n)
		}
		m.group(func(tx storage.Txn) {
			if got, err := m.w.find(tx, 4999, id(4999)); err != nil || got.dot.N != 5000 {
				t.Error(got, err)
			}
		})
		for range 20 {
			time.Sleep(time.Minute)
			write(100)
		}
		if n := entries(); n > 12 {
			t.Errorf("%d entries are left", n)
		}
		if n := len(m.w.spans); n > 5 {
			t.Errorf("%d spans are left", n)
		}
	})
}

// A clock that was ahead, and is set back, costs no memory: what was noted meanwhile
// is remembered, since its ids may be of that time; what came after is forgotten in
// its own time, and found until then.
func TestWindowOfAClockSetBack(t *testing.T) {
	engine, err := memstore.NewDisk(memstore.Config{}).Open()
	if err != nil {
		t.Fatal(err)
	}
	defer engine.Close()
	m := &remembering{t: t, engine: engine}
	m.start()
	n := 0
	note := func(now time.Time) {
		n++
		m.group(func(storage.Txn) {
			m.w.open = append(m.w.open, m.w.begin(now))
			m.w.note(1, crdt.RequestID{14: byte(n >> 8), 15: byte(n)}, trace{ballot: uint64(n)})
		})
	}
	finds := func(n int) (found bool) {
		m.group(func(tx storage.Txn) {
			got, err := m.w.find(tx, 1, crdt.RequestID{14: byte(n >> 8), 15: byte(n)})
			if err != nil {
				t.Error(err)
			}
			found = got.ballot == uint64(n)
		})
		return found
	}
	now := time.Now()
	note(now.Add(24 * time.Hour))
	for i := range 600 {
		note(now.Add(time.Duration(i) * 10 * time.Second))
		for back := range min(n, 66) { // 11 minutes
			if !finds(n - back) {
				t.Fatalf("number %d of %d is forgotten", n-back, n)
			}
		}
		traces := 0
		for _, s := range m.w.spans {
			traces += len(s.at)
		}
		if traces > 1+91+2 { // 15 minutes and 5 seconds
			t.Fatalf("%d traces are in memory after %d", traces, n)
		}
	}
	if !finds(1) {
		t.Error("what was noted while the clock was ahead is forgotten")
	}
	note(now.Add(25 * time.Hour))
	if len(m.w.spans) != 1 || finds(1) {
		t.Error("it is not forgotten when its time is over")
	}
}

// What a trace takes in memory; hashring/capacity counts on 21 bytes.
func TestWindowMemory(t *testing.T) {
	heap := func() int64 {
		runtime.GC()
		runtime.GC()
		var m runtime.MemStats
		runtime.ReadMemStats(&m)
		return int64(m.HeapAlloc)
	}
	least, most := math.Inf(1), 0.0
	for _, traces := range []int{100_000, 130_000, 170_000, 220_000, 280_000} {
		before := heap()
		w := &window{print: func(n name) uint32 { return binary.BigEndian.Uint32(n[:]) }}
		for i := range uint32(traces) {
			var n name
			binary.BigEndian.PutUint32(n[:], i*2654435761) // one to one
			w.add(n, uint64(i), 0)
		}
		each := float64(heap()-before) / float64(traces)
		runtime.KeepAlive(w)
		least, most = min(least, each), max(most, each)
	}
	t.Logf("%.1f to %.1f bytes a trace", least, most)
	if most > 21 || least < 10 {
		t.Errorf("a trace takes %.1f to %.1f bytes of memory", least, most)
	}
}

// Traces that a former version wrote, an entry for each, are found; a block that
// cannot be read is noticed at the start.
func TestWindowOfAnotherTime(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		disk := memstore.NewDisk(memstore.Config{})
		engine, err := disk.Open()
		if err != nil {
			t.Fatal(err)
		}
		defer engine.Close()
		m := &remembering{t: t, engine: engine}
		was := trace{dot: crdt.Dot{Actor: 129, N: 3}, stamp: 7}
		id := crdt.MakeRequestID(time.Now().UnixMilli(), [10]byte{1})
		former := nameOf(5, id)
		m.w = &window{}
		m.group(func(tx storage.Txn) {
			if err := tx.PutFor(append([]byte{spaceRequest}, former[:]...), was.encode(nil), traceLife); err != nil {
				t.Fatal(err)
			}
		})
		m.start()
		is := trace{dot: crdt.Dot{Actor: 129, N: 4}, stamp: 8}
		m.group(func(tx storage.Txn) {
			if got, err := m.w.find(tx, 5, id); err != nil || got != was {
				t.Errorf("%+v, %v", got, err)
			}
			if got, err := m.w.find(tx, 6, id); err != nil || got != (trace{}) {
				t.Errorf("%+v, %v", got, err)
			}
			m.w.note(5, id, is)
		})
		m.start()
		m.group(func(tx storage.Txn) {
			if got, err := m.w.find(tx, 5, id); err != nil || got != is {
				t.Errorf("%+v, %v", got, err)
			}
		})
		if m.w.unreadable {
			t.Error("all of it can be read")
		}
		m.group(func(tx storage.Txn) {
			if err := tx.PutFor(blockKey(1), []byte("no traces"), traceLife); err != nil {
				t.Fatal(err)
			}
		})
		m.start()
		if !m.w.unreadable {
			t.Error("nobody noticed a block that is none")
		}
	})
}

func FuzzCutTrace(f *testing.F) {
	for _, t := range []trace{
		{dot: crdt.Dot{Actor: 129, N: 1}, stamp: hlc.Stamp(3)}, {ballot: 5},
		{dot: crdt.Dot{Actor: 129, N: 1}, version: crdt.Dot{Actor: 1 << 31, N: 2}},
		{version: crdt.Dot{Actor: 1 << 31, N: 2}, doubt: true},
	} {
		n := nameOf(1, crdt.RequestID{1})
		f.Add(t.encode(slices.Clone(n[:])))
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		for len(b) > 0 {
			n, is, rest, err := cutTrace(b)
			if err != nil {
				if !errors.Is(err, storage.ErrCorrupt) {
					t.Error(err)
				}
				return
			}
			if len(rest) >= len(b) || !bytes.HasSuffix(b, rest) {
				t.Fatalf("%d bytes are left of %d", len(rest), len(b))
			}
			// What a trace says, and not how: the zero version has two ways.
			again, _, err := func() (trace, []byte, error) {
				_, t, rest, err := cutTrace(is.encode(slices.Clone(n[:])))
				return t, rest, err
			}()
			if err != nil || again != is {
				t.Fatalf("%+v, %+v, %v", is, again, err)
			}
			b = rest
		}
	})
}

// BenchmarkWindow tells what it costs to find that a request is new and to note
// it, in groups of 64, with two million in the window.
func BenchmarkWindow(b *testing.B) {
	engine, err := memstore.NewDisk(memstore.Config{}).Open()
	if err != nil {
		b.Fatal(err)
	}
	defer engine.Close()
	w := &window{}
	if err := w.load(engine, time.Now()); err != nil {
		b.Fatal(err)
	}
	id := func(n uint64) (id crdt.RequestID) {
		id = crdt.MakeRequestID(time.Now().UnixMilli(), [10]byte{})
		for i := range 8 {
			id[8+i] = byte(n >> (8 * i))
		}
		return id
	}
	n := uint64(0)
	for range 2 << 20 {
		n++
		w.add(nameOf(n, id(n)), w.next+n/64, time.Now().UnixMilli())
	}
	w.next += n
	b.ReportAllocs()
	for b.Loop() {
		n++
		if t, err := w.find(engine, n, id(n)); err != nil || t.happened() {
			b.Fatal(t, err)
		}
		w.note(n, id(n), trace{dot: crdt.Dot{Actor: 129, N: n}})
		if w.Len() == 64 {
			w.kept, w.open, w.notes = w.open[0].data, w.open[:0], 0
		}
	}
}
