package replica_test

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"pgregory.net/rapid"

	"github.com/atolldb/atoll/crdt"
	"github.com/atolldb/atoll/crdt/hlc"
	"github.com/atolldb/atoll/hashring"
	"github.com/atolldb/atoll/node/replica"
	"github.com/atolldb/atoll/node/storage/memstore"
	"github.com/atolldb/atoll/node/topology/memtopo"
	"github.com/atolldb/atoll/node/wire"
)

// TestMachine runs random operations against a replica and a dumb twin that
// keeps every event it ever heard of: a version is live if no event has it in
// its past, and a clock is a set of dots. The replica is stopped and crashed
// at random moments; what a crash may take is taken from the twin, and what
// was acknowledged must be there.
func TestMachine(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		seed := rapid.Uint64().Draw(rt, "seed")
		plan := rapid.SliceOfN(rapid.Custom(func(t *rapid.T) step {
			return step{
				do:  rapid.IntRange(0, len(actions)-1).Draw(t, "do"),
				key: rapid.IntRange(0, 4).Draw(t, "key"),
				arg: rapid.IntRange(0, 999).Draw(t, "arg"),
			}
		}), 5, 80).Draw(rt, "plan")
		var problem string
		synctest.Test(t, func(t *testing.T) {
			m := newMachine(t, seed)
			defer m.close()
			for i, s := range plan {
				actions[s.do].run(m, s)
				if m.problem == "" {
					m.check()
				}
				if m.problem != "" {
					problem = fmt.Sprintf("step %d (%s of key %d, %d): %s", i, actions[s.do].name, s.key, s.arg, m.problem)
					return
				}
			}
		})
		if problem != "" {
			rt.Fatal(problem)
		}
	})
}

type step struct{ do, key, arg int }

var actions = []struct {
	name string
	run  func(*machine, step)
}{
	{"blind write", func(m *machine, s step) { m.mint(s, replica.Mint{}) }},
	{"write after a read", func(m *machine, s step) { m.mint(s, replica.Mint{Context: m.record(keyNames[s.key]).Context()}) }},
	{"write after the last write", func(m *machine, s step) { m.mint(s, replica.Mint{Context: m.answer(keyNames[s.key])}) }},
	{"overwrite", func(m *machine, s step) { m.mint(s, replica.Mint{Overwrite: true}) }},
	{"delete", func(m *machine, s step) {
		m.mint(s, replica.Mint{Context: m.record(keyNames[s.key]).Context(), Dead: true})
	}},
	{"foreign write", func(m *machine, s step) { m.hear(m.say(s)) }},
	{"foreign write that is late", func(m *machine, s step) { m.say(s) }},
	{"messages, some again", (*machine).hearSome},
	{"full clock of what was said", (*machine).joinClock},
	{"recount", func(m *machine, s step) {
		if differed, err := m.Recount(partOf(keyNames[s.key])); differed || err != nil {
			m.fail("recount: differed %t, %v", differed, err)
		}
	}},
	{"pause", (*machine).pause},
	{"clean restart", (*machine).cleanRestart},
	{"crash", (*machine).crashRestart},
}

// keyNames are in two partitions.
var keyNames = slices.Concat(keysIn(0, 3), keysIn(3, 2))

// event is one version that somebody wrote.
type event struct {
	key  string
	dot  crdt.Dot
	past crdt.VV
}

// doubt is an operation whose outcome is not known yet.
type doubt struct {
	events []event
	// message are the dots that it delivers.
	message []crdt.Dot
	part    hashring.Partition
	done    bool
	err     error
}

type partDot struct {
	part hashring.Partition
	crdt.Dot
}

type machine struct {
	*place
	rng *rand.Rand

	// mu guards what callbacks, on the committer's goroutine, write: the
	// doubts, minted, answers and problem.
	mu sync.Mutex

	// The twin.
	events    map[string][]event
	delivered map[partDot]bool
	doubts    []*doubt
	answers   map[string]crdt.Context // of the last write of each key

	minted map[partDot]bool // by this node, ever (I10)
	actors []crdt.Actor     // that it had
	said   []said
	others [2]uint64 // counters of the stranger in both partitions
	writes int

	problem string
}

// said is a message that a stranger sent.
type said struct {
	entry wire.Entry
	event event
}

func newMachine(t *testing.T, seed uint64) *machine {
	m := &machine{
		place: newPlace(t, "n1", memtopo.New(1), memstore.Config{Seed: seed, SyncMin: time.Millisecond, SyncMax: 2 * time.Millisecond}),
		rng:   rand.New(rand.NewPCG(seed, 1)), events: map[string][]event{}, delivered: map[partDot]bool{},
		answers: map[string]crdt.Context{}, minted: map[partDot]bool{},
	}
	m.start()
	m.actors = append(m.actors, m.Actor())
	return m
}

func (m *machine) fail(format string, args ...any) {
	if m.problem == "" {
		m.problem = fmt.Sprintf(format, args...)
	}
}

func (m *machine) answer(key string) crdt.Context {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.answers[key]
}

// mint starts a write and does not wait for it, except every other time.
func (m *machine) mint(s step, w replica.Mint) {
	m.writes++
	w.Key = []byte(keyNames[s.key])
	w.KeyHash = hashring.KeyHash(w.Key)
	w.Value = fmt.Append(nil, "write ", m.writes)
	d := &doubt{part: partOf(keyNames[s.key])}
	m.doubts = append(m.doubts, d)
	w.Decided = func(x *replica.Minted) {
		m.mu.Lock()
		defer m.mu.Unlock()
		rec, err := crdt.DecodeRecord(w.KeyHash, x.Record)
		v := rec.Find(x.Dot)
		if err != nil || v == nil || !v.Dead && string(v.Value) != string(w.Value) || v.Dead != w.Dead {
			m.fail("minted %v: record %v, %v", x.Dot, rec, err)
			return
		}
		if p := (partDot{d.part, x.Dot}); m.minted[p] {
			m.fail("I10: %v of partition %d names two writes", x.Dot, d.part)
		} else {
			m.minted[p] = true
		}
		if !x.Context.Seen.Covers(x.Dot) || !x.Context.Seen.CoversAll(w.Context.Seen) || x.Context.Stamp != v.Stamp {
			m.fail("minted %v: answer's context %v", x.Dot, x.Context)
		}
		d.events = []event{{keyNames[s.key], x.Dot, v.Past}}
		d.message = []crdt.Dot{x.Dot}
	}
	w.Done = func(x *replica.Minted, err error) {
		m.mu.Lock()
		defer m.mu.Unlock()
		d.done, d.err = true, err
		if err == nil {
			m.answers[keyNames[s.key]] = x.Context
		}
	}
	m.Mint(w)
	m.wait(s)
}

func (m *machine) wait(s step) {
	if s.arg%2 == 0 {
		time.Sleep(5 * time.Millisecond)
	}
	synctest.Wait()
	m.take()
}

// take moves into the twin what has been acknowledged.
func (m *machine) take() {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.doubts = slices.DeleteFunc(m.doubts, func(d *doubt) bool {
		if d.done && d.err != nil {
			m.fail("an operation failed: %v", d.err)
		}
		if d.done {
			m.believe(d)
		}
		return d.done
	})
}

func (m *machine) believe(d *doubt) {
	for _, e := range d.events {
		m.events[e.key] = append(m.events[e.key], e)
	}
	for _, dot := range d.message {
		m.delivered[partDot{d.part, dot}] = true
	}
}

// say has a stranger write on top of some of what is there.
func (m *machine) say(s step) said {
	key, n := keyNames[s.key], &m.others[min(partOf(keyNames[s.key]), 1)]
	*n++
	past := crdt.VV(nil)
	if s.arg%3 > 0 {
		past = m.record(key).Context().Seen
	}
	if e, ok := m.lastSaid(key); ok && s.arg%3 == 2 {
		past = past.Join(e.past).With(e.dot)
	}
	x := said{foreign(key, stranger, *n, past, fmt.Sprint("stranger ", *n)), event{key, crdt.Dot{Actor: stranger, N: *n}, past}}
	m.said = append(m.said, x)
	return x
}

func (m *machine) lastSaid(key string) (event, bool) {
	for _, x := range slices.Backward(m.said) {
		if x.event.key == key {
			return x.event, true
		}
	}
	return event{}, false
}

// hear applies messages, all of one partition, in one operation.
func (m *machine) hear(xs ...said) {
	d := &doubt{part: partOf(xs[0].event.key)}
	var entries []wire.Entry
	for _, x := range xs {
		entries = append(entries, x.entry)
		d.events = append(d.events, x.event)
		d.message = append(d.message, x.event.dot)
		d.message = append(d.message, x.entry.Dots...)
	}
	m.doubts = append(m.doubts, d)
	m.Apply(entries, func(_ int, err error) { m.told(d, err) })
	synctest.Wait()
	m.take()
}

func (m *machine) told(d *doubt, err error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	d.done, d.err = true, err
}

// hearSome applies some of all messages ever said, of one partition, in any
// order, a key more than once, with event dots that their pasts cover.
func (m *machine) hearSome(s step) {
	var xs []said
	for _, x := range m.said {
		if partOf(x.event.key) == partOf(keyNames[s.key]) && m.rng.IntN(3) == 0 {
			for _, e := range m.said {
				if e.event.key == x.event.key && x.event.past.Covers(e.event.dot) && m.rng.IntN(2) == 0 {
					x.entry.Dots = append(slices.Clip(x.entry.Dots), e.event.dot)
				}
			}
			xs = append(xs, x)
		}
	}
	m.rng.Shuffle(len(xs), func(i, j int) { xs[i], xs[j] = xs[j], xs[i] })
	if len(xs) > 0 {
		m.hear(xs...)
		m.wait(s)
	}
}

// joinClock is the end of a full sync: all messages of a partition, then their
// clock.
func (m *machine) joinClock(s step) {
	part := partOf(keyNames[s.key])
	d := &doubt{part: part}
	var entries []wire.Entry
	c := &crdt.Clock{}
	for _, x := range m.said {
		if partOf(x.event.key) == part {
			entries = append(entries, x.entry)
			d.events = append(d.events, x.event)
			d.message = append(d.message, x.event.dot)
			c.Add(x.event.dot)
		}
	}
	if len(entries) == 0 {
		return
	}
	m.doubts = append(m.doubts, d)
	m.Apply(entries, func(_ int, err error) {
		if err != nil {
			m.told(d, err)
			return
		}
		m.JoinClock(part, c, func(err error) { m.told(d, err) })
	})
	time.Sleep(10 * time.Millisecond) // two groups: not left in doubt
	synctest.Wait()
	m.take()
}

func (m *machine) pause(s step) { time.Sleep(time.Duration(s.arg) * 4 * time.Microsecond) }

func (m *machine) cleanRestart(step) {
	actor := m.Actor()
	m.stop()
	m.take()
	if len(m.doubts) > 0 {
		m.fail("%d operations were left without an answer by a clean stop", len(m.doubts))
	}
	m.start()
	if m.Actor() != actor || m.Unclean() != "" {
		m.fail("actor %v after a clean stop of %v: %s", m.Actor(), actor, m.Unclean())
	}
}

func (m *machine) crashRestart(s step) {
	m.crash(s.arg%2 == 0)
	synctest.Wait()
	m.start()
	if slices.Contains(m.actors, m.Actor()) {
		m.fail("actor %v again after a crash", m.Actor())
	}
	m.actors = append(m.actors, m.Actor())
	m.mu.Lock()
	defer m.mu.Unlock()
	// What was in doubt is there as a whole, or not at all.
	for _, d := range m.doubts {
		if d.err != nil || !d.done {
			fresh, there := 0, 0
			for _, dot := range d.message {
				if !m.delivered[partDot{d.part, dot}] {
					fresh++
					if m.Clock(d.part).Contains(dot) {
						there++
					}
				}
			}
			if fresh > 0 && there == 0 {
				continue
			}
		}
		m.believe(d)
	}
	m.doubts = nil
	clear(m.answers)
}

// check compares replica and twin, where nothing is under way.
func (m *machine) check() {
	synctest.Wait()
	m.take()
	if len(m.doubts) > 0 {
		return
	}
	for _, key := range keyNames {
		var want []crdt.Dot
		for _, e := range m.events[key] {
			live := !slices.Contains(want, e.dot)
			for _, f := range m.events[key] {
				live = live && !f.past.Covers(e.dot)
			}
			if live {
				want = append(want, e.dot)
			}
		}
		slices.SortFunc(want, crdt.Dot.Compare)
		var got []crdt.Dot
		rec := m.record(key)
		for i := range rec.Versions {
			got = append(got, rec.Versions[i].Dot)
		}
		if !slices.Equal(got, want) {
			m.fail("key %q has %v, want %v", key, got, want)
		}
	}
	for _, part := range []hashring.Partition{0, 1, 3} {
		c := &crdt.Clock{}
		for d := range m.delivered {
			if d.part == part {
				c.Add(d.Dot)
			}
		}
		if got := m.Clock(part); !got.Equal(c) {
			m.fail("clock of partition %d is %v, want %v", part, got.All(), c.All())
		}
		if got, err := m.DigestFromStore(part); err != nil || got != m.Sum(part).Digest {
			m.fail("partition %d: kept digest %x, records give %x, %v", part, m.Sum(part).Digest, got, err)
		}
	}
}

func (m *machine) close() {
	if m.Replica == nil {
		return
	}
	m.Replica.Abandon()
	m.place.end()
	if err := <-m.ended; err != nil {
		m.fail("end: %v", err)
	}
	m.engine.Close()
	m.Replica = nil
}

// Stamps ascend along causality, whatever the clocks say (LWW relies on it).
func TestStampsFollowCausality(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := owner(t)
		far := hlc.FromMillis(time.Now().Add(time.Hour).UnixMilli())
		hash := hashring.KeyHash([]byte(key))
		v := crdt.Version{Dot: crdt.Dot{Actor: stranger, N: 1}, Stamp: far, Value: []byte("from the future")}
		p.mustApply(wire.Entry{Key: []byte(key), Record: crdt.AppendRecord(nil, hash, crdt.Write(crdt.Record{}, nil, v))})
		if m := p.put(key, "blind"); m.Stamp <= far {
			t.Errorf("stamp %v is not above the record's %v", m.Stamp, far)
		}
		other := "b\x00other"
		m, err := p.write(replica.Mint{Key: []byte(other), Context: crdt.Context{Stamp: far + 5<<16}})
		if err != nil || m.Stamp <= far+5<<16 {
			t.Errorf("stamp %v is not above the context's, %v", m.Stamp, err)
		}
		if m := p.put("b\x00third", "v"); m.Stamp >= far {
			t.Errorf("one key from the future drags another to %v", m.Stamp)
		}
		p.stop()
	})
}
