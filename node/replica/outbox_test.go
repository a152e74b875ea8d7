package replica_test

import (
	"errors"
	"fmt"
	"maps"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"pgregory.net/rapid"

	"github.com/atolldb/atoll/crdt"
	"github.com/atolldb/atoll/geo"
	"github.com/atolldb/atoll/hashring"
	"github.com/atolldb/atoll/node/replica"
	"github.com/atolldb/atoll/node/storage"
	"github.com/atolldb/atoll/node/storage/memstore"
	"github.com/atolldb/atoll/node/topology/memtopo"
)

// shipper is an owner whose writes go to other regions.
func shipper(t *testing.T) *place {
	p := newPlace(t, "n1", memtopo.New(1), memstore.Config{})
	p.cfg.Ship = true
	p.start()
	return p
}

func (p *place) peek(max int) ([]geo.Entry, []geo.Mark) {
	p.t.Helper()
	entries, marks, err := p.Outbox().Peek(max)
	if err != nil {
		p.t.Fatalf("peek: %v", err)
	}
	return entries, marks
}

func (p *place) confirm(marks []geo.Mark) {
	p.t.Helper()
	if err := p.Outbox().Confirm(marks); err != nil {
		p.t.Fatalf("confirm: %v", err)
	}
}

// shipped are the keys of entries with the number of dots of each.
func shipped(entries []geo.Entry) map[string]int {
	out := map[string]int{}
	for _, e := range entries {
		out[string(e.Key)] += len(e.Dots)
	}
	return out
}

// Many writes of a key travel once, as its newest record with all dots.
func TestOutboxCoalesces(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := shipper(t)
		other := keysIn(partOf(key), 1)[0]
		p.follow(key, "1")
		p.follow(other, "x")
		p.follow(key, "2")
		last := p.follow(key, "3")
		select {
		case <-p.Outbox().Wake():
		default:
			t.Error("nobody was woken")
		}
		if n := p.Outbox().Pending(); n != 4 {
			t.Errorf("%d pending", n)
		}
		entries, marks := p.peek(1 << 20)
		if got := shipped(entries); !maps.Equal(got, map[string]int{key: 3, other: 1}) || len(entries) != 2 {
			t.Fatalf("shipped %v", got)
		}
		for _, e := range entries {
			rec, err := crdt.DecodeRecord(hashring.KeyHash(e.Key), e.Record)
			if err != nil || !rec.SameDots(p.record(string(e.Key))) || e.Partition != partOf(string(e.Key)) {
				t.Errorf("%q: %v, %v", e.Key, rec, err)
			}
		}
		if want := []geo.Mark{{Partition: partOf(key), Actor: p.Actor(), N: last.Dot.N}}; !slices.Equal(marks, want) {
			t.Errorf("marks %v, want %v", marks, want)
		}
		if entries, marks := p.peek(1 << 20); len(entries)+len(marks) > 0 {
			t.Errorf("again: %v, %v", entries, marks)
		}
		if n := p.Outbox().Pending(); n != 4 {
			t.Errorf("%d pending before the log has confirmed", n)
		}
		p.confirm(marks)
		if n := p.Outbox().Pending(); n != 0 {
			t.Errorf("%d pending", n)
		}
		p.stop()
	})
}

// What others minted is not shipped (R4).
func TestOutboxShipsOwnWritesOnly(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := shipper(t)
		p.mustApply(foreign(key, stranger, 1, nil, "v"))
		p.Outbox().Rewind()
		if entries, marks := p.peek(1 << 20); len(entries)+len(marks) > 0 || p.Outbox().Pending() != 0 {
			t.Errorf("%v, %v", entries, marks)
		}
		p.put(key, "mine")
		if entries, _ := p.peek(1 << 20); len(entries) != 1 || !slices.Equal(entries[0].Dots, []crdt.Dot{{Actor: p.Actor(), N: 1}}) {
			t.Errorf("%v", entries)
		}
		p.stop()

		q := owner(t) // a single region keeps nothing
		q.put(key, "v")
		q.Outbox().Rewind()
		if entries, _ := q.peek(1 << 20); len(entries) > 0 || q.Outbox().Pending() != 0 {
			t.Errorf("%v", entries)
		}
		q.stop()
	})
}

// A clean stop writes all cursors; a crash ships again what was confirmed since
// they were written last, and loses nothing.
func TestOutboxAfterRestarts(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := shipper(t)
		keys := keysIn(partOf(key), 3)
		for range 2 { // the second one is confirmed too soon to be written at once
			p.put(keys[0], "a")
			_, marks := p.peek(1 << 20)
			p.confirm(marks)
		}
		p.put(keys[1], "b")
		p.put(keys[2], "c")
		p.restart()
		if n := p.Outbox().Pending(); n != 2 {
			t.Errorf("%d pending after a clean stop", n)
		}
		entries, marks := p.peek(1 << 20)
		if got := shipped(entries); !maps.Equal(got, map[string]int{keys[1]: 1, keys[2]: 1}) {
			t.Errorf("shipped %v", got)
		}
		p.confirm(marks)
		p.crash(true)
		p.start()
		p.put(keys[0], "by the next actor")
		entries, marks = p.peek(1 << 20)
		if got := shipped(entries); got[keys[0]] != 1 || len(marks) < 1 {
			t.Errorf("shipped %v", got)
		}
		p.confirm(marks)
		// Confirmed marks are written about once a second.
		time.Sleep(2 * time.Second)
		p.put(keys[0], "more")
		_, marks = p.peek(1 << 20)
		p.confirm(marks)
		p.settle()
		p.crash(true)
		p.start()
		if entries, _ := p.peek(1 << 20); len(entries) > 0 || p.Outbox().Pending() != 0 {
			t.Errorf("shipped again: %v, %d pending", shipped(entries), p.Outbox().Pending())
		}
		p.stop()
	})
}

// What does not fit in memory is found again by the index.
func TestOutboxOverflow(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := shipper(t)
		value := string(make([]byte, 1<<20))
		keys := keysIn(partOf(key), 40)
		for _, k := range keys {
			p.put(k, value)
		}
		if n := p.Outbox().Pending(); n != 40 {
			t.Errorf("%d pending", n)
		}
		got := map[string]int{}
		var last uint64
		for {
			entries, marks := p.peek(3 << 20)
			if len(entries) == 0 {
				break
			}
			for _, m := range marks {
				if m.N < last {
					t.Fatalf("mark %v after %d", m, last)
				}
				last = m.N
			}
			if len(entries) > 4 || len(marks) > 1 {
				t.Fatalf("%d entries, marks %v", len(entries), marks)
			}
			for k, n := range shipped(entries) {
				got[k] += n
			}
			p.confirm(marks)
		}
		if len(got) != 40 || p.Outbox().Pending() != 0 {
			t.Errorf("shipped %d keys, %d pending", len(got), p.Outbox().Pending())
		}
		p.stop()
	})
}

// However many other keys were written between, and wherever its events wait, a
// key that was written often crosses a few times.
func TestOutboxShipsAHotKeyAFewTimes(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := shipper(t)
		hot, others := key, keysIn(partOf(key), 500)
		const writes = 6000
		// 20 MB of others: some of it does not wait in memory, though the hot key does.
		value, large := string(make([]byte, 4<<10)), string(make([]byte, 40<<10))
		for i := range writes {
			p.follow(hot, value)
			if i%12 == 0 {
				p.put(others[i/12], large)
			}
		}
		times, dots, keys := 0, 0, map[string]bool{}
		for {
			entries, marks := p.peek(64 << 10)
			if len(entries)+len(marks) == 0 {
				break
			}
			for _, e := range entries {
				keys[string(e.Key)] = true
				if string(e.Key) == hot {
					times++
					dots += len(e.Dots)
				}
			}
			p.confirm(marks)
		}
		if times > 4 || dots != writes || len(keys) != 501 || p.Outbox().Pending() != 0 {
			t.Errorf("crossed %d times with %d dots, %d keys, %d pending", times, dots, len(keys), p.Outbox().Pending())
		}
		p.stop()
	})
}

// A record that cannot be read holds nobody up, and nothing that was on its way
// out when reading failed is left out (O1).
func TestOutboxPassesTheUnreadable(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := shipper(t)
		keys := keysIn(partOf(key), 5)
		for _, k := range keys {
			p.put(k, "v")
		}
		p.disk.CorruptValue(recordKey(keys[1]))
		p.disk.LoseRecord(recordKey(keys[2]))
		p.disk.LoseRecord(indexKey(partOf(key), crdt.Dot{Actor: p.Actor(), N: 5}))
		p.Outbox().Rewind()
		entries, marks := p.peek(1 << 20)
		if got := shipped(entries); !maps.Equal(got, map[string]int{keys[0]: 1, keys[3]: 1}) || marks[0].N != 5 {
			t.Errorf("shipped %v, marks %v", got, marks)
		}
		p.stop()
	})
}

var errNoRead = errors.New("no read today")

// moody is an engine that fails, or holds up, the reads of some keys.
type moody struct {
	storage.Engine
	mu    sync.Mutex
	fails string
	hold  chan struct{}
}

func (m *moody) set(fails string, hold chan struct{}) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.fails, m.hold = fails, hold
}

func (m *moody) Get(k []byte) ([]byte, error) {
	m.mu.Lock()
	fails, hold := m.fails, m.hold
	m.mu.Unlock()
	if hold != nil {
		<-hold
	}
	if fails != "" && string(k) == string(recordKey(fails)) {
		return nil, errNoRead
	}
	return m.Engine.Get(k)
}

func moodyShipper(t *testing.T) (*place, *moody) {
	m := &moody{}
	p := newPlace(t, "n1", memtopo.New(1), memstore.Config{})
	p.cfg.Ship = true
	p.wrap = func(e storage.Engine) storage.Engine { m.Engine = e; return m }
	p.start()
	return p, m
}

func TestOutboxPeekFails(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p, m := moodyShipper(t)
		keys := slices.Concat(keysIn(0, 2), keysIn(1, 3))
		for _, k := range keys {
			p.put(k, "v")
		}
		p.Outbox().Rewind()
		m.set(keys[3], nil)
		if entries, marks, err := p.Outbox().Peek(1 << 20); !errors.Is(err, errNoRead) || len(entries)+len(marks) > 0 {
			t.Fatalf("%v, %v, %v", entries, marks, err)
		}
		m.set("", nil)
		entries, _ := p.peek(1 << 20)
		if got := shipped(entries); len(got) != len(keys) {
			t.Errorf("shipped %v", got)
		}
		p.stop()
	})
}

// A read of the store that takes its time does not hold up writes.
func TestOutboxReadsWithoutTheLock(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p, m := moodyShipper(t)
		p.put(key, "v")
		p.Outbox().Rewind()
		hold := make(chan struct{})
		m.set("", hold)
		peeked := make(chan []geo.Entry, 1)
		go func() {
			entries, _, err := p.Outbox().Peek(1 << 20)
			if err != nil {
				t.Error(err)
			}
			peeked <- entries
		}()
		synctest.Wait()
		m.set("", nil)
		late := keysIn(partOf(key), 1)[0]
		wrote := false
		p.Mint(replica.Mint{
			Key: []byte(late), KeyHash: hashring.KeyHash([]byte(late)), Value: []byte("w"),
			Done: func(_ *replica.Minted, err error) { wrote = err == nil },
		})
		p.settle()
		if !wrote || p.Outbox().Pending() != 2 {
			t.Error("a write waits for the outbox to be read")
		}
		close(hold)
		entries, more := <-peeked, p.Outbox()
		rest, _, err := more.Peek(1 << 20)
		if got := shipped(append(entries, rest...)); got[key] != 1 || got[late] != 1 || err != nil {
			t.Errorf("shipped %v, %v", got, err)
		}
		p.stop()
	})
}

// A rewind while the store is being read: what was read may be given out, and
// all that the rewind brought back comes, before anything newer (O1).
func TestOutboxRewindDuringPeek(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p, m := moodyShipper(t)
		keys := keysIn(partOf(key), 3)
		p.put(keys[0], "1")
		p.Outbox().Rewind()
		hold := make(chan struct{})
		m.set("", hold)
		peeked := make(chan []geo.Mark, 1)
		go func() {
			_, marks, err := p.Outbox().Peek(1 << 20)
			if err != nil {
				t.Error(err)
			}
			peeked <- marks
		}()
		synctest.Wait()
		m.set("", nil)
		p.put(keys[1], "2")
		p.Outbox().Rewind()
		p.put(keys[2], "3")
		close(hold)
		if marks := <-peeked; len(marks) != 1 || marks[0].N != 1 {
			t.Errorf("marks %v for the first dot", marks)
		}
		entries, marks := p.peek(1 << 20)
		if got := shipped(entries); len(got) != 3 || len(marks) != 1 || marks[0].N != 3 {
			t.Errorf("shipped %v, marks %v", got, marks)
		}
		p.stop()
	})
}

// TestOutboxAgainstTwin: whatever the order of writes, peeks, confirmations,
// rewinds and restarts, each mark comes with or after all dots up to it (O1),
// each entry's record covers its dots, and in the end nothing was left out.
func TestOutboxAgainstTwin(t *testing.T) {
	type op struct{ do, arg int }
	rapid.Check(t, func(rt *rapid.T) {
		plan := rapid.SliceOfN(rapid.Custom(func(t *rapid.T) op {
			return op{rapid.IntRange(0, 11).Draw(t, "do"), rapid.IntRange(0, 99).Draw(t, "arg")}
		}), 5, 80).Draw(rt, "plan")
		var problem string
		synctest.Test(t, func(t *testing.T) {
			x := newOutboxTwin(t)
			defer x.close()
			for i, s := range plan {
				x.step(s.do, s.arg)
				if x.problem != "" {
					problem = fmt.Sprintf("step %d (%d, %d): %s", i, s.do, s.arg, x.problem)
					return
				}
			}
			if x.finish(); x.problem != "" {
				problem = "at the end: " + x.problem
			}
		})
		if problem != "" {
			rt.Fatal(problem)
		}
	})
}

type outboxSlot struct {
	part  hashring.Partition
	actor crdt.Actor
}

// outboxTwin knows which dots were minted and which the log holds.
type outboxTwin struct {
	*place
	minted    map[outboxSlot]uint64 // 1..n
	given     map[outboxSlot]map[uint64]bool
	log       map[outboxSlot]map[uint64]bool // what was given out and confirmed
	confirmed map[outboxSlot]uint64
	flights   []flight
	problem   string
}

type flight struct {
	entries []geo.Entry
	marks   []geo.Mark
}

func newOutboxTwin(t *testing.T) *outboxTwin {
	return &outboxTwin{
		place: shipper(t), minted: map[outboxSlot]uint64{},
		log: map[outboxSlot]map[uint64]bool{}, confirmed: map[outboxSlot]uint64{},
		given: map[outboxSlot]map[uint64]bool{},
	}
}

func (x *outboxTwin) step(do, arg int) {
	switch do {
	case 0, 1, 2, 3:
		m := x.follow(keyNames[arg%len(keyNames)], "v")
		x.minted[outboxSlot{partOf(keyNames[arg%len(keyNames)]), m.Dot.Actor}] = m.Dot.N
	case 4, 5, 6:
		x.take(arg * arg / 4)
	case 7, 8:
		if len(x.flights) > 0 {
			f := x.flights[0]
			x.flights = x.flights[1:]
			x.land(f)
		}
	case 9:
		x.Outbox().Rewind()
		x.flights = nil
	case 10:
		time.Sleep(time.Duration(arg) * 30 * time.Millisecond)
	case 11:
		x.flights = nil
		if arg%2 == 0 {
			x.restart()
		} else {
			x.crash(true)
			x.start()
		}
	}
	x.check()
}

// take peeks and checks what it gets.
func (x *outboxTwin) take(max int) {
	entries, marks := x.peek(max)
	keys := map[string]bool{}
	for _, e := range entries {
		rec, err := crdt.DecodeRecord(hashring.KeyHash(e.Key), e.Record)
		if err != nil || keys[string(e.Key)] {
			x.problem = fmt.Sprintf("entry %q: %v", e.Key, err)
		}
		keys[string(e.Key)] = true
		for _, d := range e.Dots {
			if !rec.Covers(d) {
				x.problem = fmt.Sprintf("record %v does not cover %v", rec, d)
			}
			add(x.given, outboxSlot{e.Partition, d.Actor}, d.N)
		}
	}
	for _, m := range marks {
		s := outboxSlot{m.Partition, m.Actor}
		for n := x.confirmed[s] + 1; n <= m.N; n++ {
			if !x.given[s][n] {
				x.problem = fmt.Sprintf("O1: mark %v before dot %d was given out", m, n)
			}
		}
	}
	if len(entries)+len(marks) > 0 {
		x.flights = append(x.flights, flight{entries, marks})
	}
}

func (x *outboxTwin) land(f flight) {
	for _, e := range f.entries {
		for _, d := range e.Dots {
			add(x.log, outboxSlot{e.Partition, d.Actor}, d.N)
		}
	}
	for _, m := range f.marks {
		s := outboxSlot{m.Partition, m.Actor}
		x.confirmed[s] = max(x.confirmed[s], m.N)
	}
	x.confirm(f.marks)
}

func add(to map[outboxSlot]map[uint64]bool, s outboxSlot, n uint64) {
	if to[s] == nil {
		to[s] = map[uint64]bool{}
	}
	to[s][n] = true
}

func (x *outboxTwin) check() {
	for s, n := range x.confirmed {
		for i := uint64(1); i <= n; i++ {
			if !x.log[s][i] {
				x.problem = fmt.Sprintf("confirmed up to %d of %+v, but the log never got %d", n, s, i)
			}
		}
	}
}

// finish ships the rest: then the log has everything.
func (x *outboxTwin) finish() {
	x.Outbox().Rewind()
	x.flights = nil
	for range 1000 {
		x.take(300)
		if len(x.flights) == 0 {
			break
		}
		x.land(x.flights[0])
		x.flights = nil
	}
	x.check()
	for s, n := range x.minted {
		if x.confirmed[s] != n {
			x.problem = fmt.Sprintf("%+v: shipped up to %d of %d", s, x.confirmed[s], n)
		}
	}
	if n := x.Outbox().Pending(); n != 0 {
		x.problem = fmt.Sprintf("%d pending when all is shipped", n)
	}
}

func (x *outboxTwin) close() {
	if x.Replica != nil {
		x.crash(false)
	}
}
