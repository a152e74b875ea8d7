package geo

import (
	"bytes"
	"context"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/hashicorp/go-hclog"

	"github.com/atolldb/atoll/crdt"
	"github.com/atolldb/atoll/hashring"
)

// shelf is the clocks of a node that owns some partitions.
type shelf struct {
	mu     sync.Mutex
	clocks map[hashring.Partition]*crdt.Clock
}

func newShelf(partitions int) *shelf {
	s := &shelf{clocks: make(map[hashring.Partition]*crdt.Clock)}
	for p := range partitions {
		s.clocks[hashring.Partition(p)] = new(crdt.Clock)
	}
	return s
}

func (s *shelf) Owned() (ps []hashring.Partition) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for p := range s.clocks {
		ps = append(ps, p)
	}
	return ps
}

func (s *shelf) Clock(p hashring.Partition) *crdt.Clock {
	s.mu.Lock()
	defer s.mu.Unlock()
	if c := s.clocks[p]; c != nil {
		return c.Clone()
	}
	return nil
}

func (s *shelf) add(p hashring.Partition, d crdt.Dot) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.clocks[p].Add(d)
}

var (
	eastActor = crdt.MakeActor(7, 1)
	westActor = crdt.MakeActor(9, 2)
)

// wire is a log that hands announcements to a function.
type wire func([]byte)

func (w wire) Append(Batch, func(error))  {}
func (w wire) Announce(data []byte) error { w(data); return nil }
func (w wire) Wanted() bool               { return true }
func (w wire) Silent() time.Duration      { return 0 }

// newLag of a node of west, which is region 2.
func newLag(now time.Time, here Clocks, others ...string) *Lag {
	return NewLag(now, LagConfig{Region: "west", RegionID: 2, Others: others}, here)
}

func heard(l *Lag, now time.Time, data []byte) error {
	h, err := DecodeHeartbeat(data)
	if err != nil {
		return err
	}
	_, err = l.Heard(now, h)
	return err
}

func incoming(l *Lag, now time.Time) []LagReport {
	in, _ := l.Report(now, nil)
	return in
}

func outgoing(l *Lag, now time.Time) []LagReport {
	_, out := l.Report(now, nil)
	return out
}

// However many steps there are, memory stays bounded and no age is told too
// low.
func TestLagManySteps(t *testing.T) {
	now := time.UnixMilli(0)
	far, here := newShelf(1), newShelf(1)
	lag := newLag(now, here, "east")
	a := NewAnnouncer(AnnouncerConfig{Region: "east", Node: "east-1", RegionID: 1}, far, wire(func(data []byte) {
		if err := heard(lag, now, data); err != nil {
			t.Fatal(err)
		}
	}), hclog.NewNullLogger())
	const writes = 2000
	for n := range uint64(writes) {
		now = now.Add(time.Second)
		far.add(0, crdt.Dot{Actor: eastActor, N: n + 1})
		a.announce(now, false)
		if steps := len(lag.links["east"].in[0].steps); steps > maxSteps {
			t.Fatalf("%d steps", steps)
		}
	}
	for n := range uint64(writes) {
		r := incoming(lag, now)[0]
		age := time.Duration(writes-1-n) * time.Second
		if r.Pending != writes-n || r.PendingAge < age || r.PendingAge > age+2*writes/maxSteps*time.Second {
			t.Fatalf("%d pending for %v, want %d for %v", r.Pending, r.PendingAge, writes-n, age)
		}
		here.add(0, crdt.Dot{Actor: eastActor, N: n + 1})
	}
	if r := incoming(lag, now)[0]; r.Pending != 0 || r.PendingAge != 0 {
		t.Fatalf("%+v", r)
	}
}

// A node that loses what it had lags again.
func TestLagAfterRollback(t *testing.T) {
	now := time.UnixMilli(0)
	far, here := newShelf(1), newShelf(1)
	lag := newLag(now, here, "east")
	a := NewAnnouncer(AnnouncerConfig{Region: "east", Node: "east-1", RegionID: 1}, far, wire(func(data []byte) { _ = heard(lag, now, data) }), hclog.NewNullLogger())
	d := crdt.Dot{Actor: eastActor, N: 1}
	far.add(0, d)
	here.add(0, d)
	a.announce(now, true)
	if r := incoming(lag, now)[0]; r.Pending != 0 {
		t.Fatalf("%+v", r)
	}
	here.clocks[0] = new(crdt.Clock)
	incoming(lag, now)
	now = now.Add(time.Minute)
	if r := incoming(lag, now)[0]; r.Pending != 1 || r.PendingAge != time.Minute {
		t.Fatalf("%+v", r)
	}
}

func TestLagDeadLink(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		far, here := newShelf(4), newShelf(4)
		lag := newLag(time.Now(), here, "east", "north")
		var cut atomic.Bool
		var beats atomic.Int32
		var a *Announcer
		a = NewAnnouncer(AnnouncerConfig{Region: "east", Node: "east-1", RegionID: 1}, far, wire(func(data []byte) {
			if beats.Add(1); cut.Load() {
				return
			}
			switch ask, err := lag.Heard(time.Now(), decode(t, data)); {
			case err != nil:
				t.Error(err)
			case ask:
				a.Full()
			}
		}), hclog.NewNullLogger())
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan error)
		go func() { done <- a.Run(ctx) }()
		time.Sleep(10*time.Second + time.Millisecond)
		synctest.Wait()
		r := incoming(lag, time.Now())
		if !r[0].Alive || r[0].HeartbeatAge > 300*time.Millisecond || r[0].Pending != 0 {
			t.Errorf("a live and idle link: %+v", r[0])
		}
		if r[1].Origin != "north" || r[1].Alive || r[1].Heard || r[1].HeartbeatAge < 10*time.Second {
			t.Errorf("a region never heard: %+v", r[1])
		}
		if n := beats.Load(); n > 40 {
			t.Errorf("%d heartbeats in 10 s", n)
		}
		far.add(2, crdt.Dot{Actor: eastActor, N: 1})
		time.Sleep(time.Second)
		cut.Store(true)
		far.add(2, crdt.Dot{Actor: eastActor, N: 2})
		time.Sleep(2999 * time.Millisecond)
		if r := incoming(lag, time.Now())[0]; r.Alive || r.Pending != 1 || r.PendingAge < 2900*time.Millisecond {
			t.Errorf("a dead link: %+v", r)
		}
		cut.Store(false)
		time.Sleep(4 * time.Second) // the lost delta comes when it was asked for
		if r := incoming(lag, time.Now())[0]; !r.Alive || r.Pending != 2 {
			t.Errorf("a link that came back: %+v", r)
		}
		cancel()
		<-done
	})
}

// A heartbeat delivered late is no sign of life; a restarted node's first is.
func TestLagLateHeartbeats(t *testing.T) {
	start := time.UnixMilli(0)
	lag := newLag(start, newShelf(1), "east")
	send := func(at time.Duration, session, seq uint64) LagReport {
		if err := heard(lag, start.Add(at), encodeHeartbeat(&heartbeat{region: "east", regionID: 1, node: "n", session: session, seq: seq})); err != nil {
			t.Fatal(err)
		}
		return incoming(lag, start.Add(at))[0]
	}
	send(time.Second, 5, 10)
	if r := send(2*time.Second, 5, 9); r.HeartbeatAge != time.Second {
		t.Errorf("an older one: %+v", r)
	}
	if r := send(3*time.Second, 6, 1); r.HeartbeatAge != 0 {
		t.Errorf("a new session: %+v", r)
	}
	if r := send(4*time.Second, 5, 11); r.HeartbeatAge != time.Second {
		t.Errorf("an older session: %+v", r)
	}
	if err := heard(lag, start, encodeHeartbeat(&heartbeat{region: "south", regionID: 4, node: "n"})); err == nil {
		t.Error("a heartbeat of an unknown region was taken")
	}
}

// Much to tell is told in several messages, each within the bound.
func TestAnnouncerSplits(t *testing.T) {
	const partitions = 512
	far, here := newShelf(partitions), newShelf(partitions)
	for p := range hashring.Partition(partitions) {
		for n := range uint64(600) {
			far.clocks[p].Add(crdt.Dot{Actor: eastActor, N: 3 * (n*n%997 + 1)})
		}
	}
	now := time.UnixMilli(0)
	lag := newLag(now, here, "east")
	messages := 0
	a := NewAnnouncer(AnnouncerConfig{Region: "east", Node: "east-1", RegionID: 1}, far, wire(func(data []byte) {
		messages++
		if len(data) > maxHeartbeat {
			t.Errorf("message of %d bytes", len(data))
		}
		if err := heard(lag, now, data); err != nil {
			t.Error(err)
		}
	}), hclog.NewNullLogger())
	a.announce(now, true)
	want := uint64(0)
	for p := range hashring.Partition(partitions) {
		want += new(crdt.Clock).CountMissing(far.clocks[p])
	}
	if got := incoming(lag, now)[0].Pending; got != want || messages < 2 {
		t.Fatalf("%d of %d dots in %d messages", got, want, messages)
	}
	messages = 0
	a.announce(now, false)
	if messages != 1 {
		t.Fatalf("%d messages when nothing changed", messages)
	}
}

// The decoder takes only what encodes to the same body.
func FuzzDecodeHeartbeat(f *testing.F) {
	c := new(crdt.Clock)
	c.Add(crdt.Dot{Actor: eastActor, N: 1})
	c.Add(crdt.Dot{Actor: eastActor, N: 5})
	whole := encodeHeartbeat(&heartbeat{region: "east", regionID: 1, node: "east-1", session: 5, seq: 9, millis: 1, entryBytes: 200, clocks: []partitionClock{{3, c}, {7, c}}})
	f.Add(whole[2:len(whole)-4], false)
	f.Add(whole[2:len(whole)-4], true)
	f.Fuzz(func(t *testing.T, body []byte, packed bool) {
		kind := byte(0)
		if packed {
			kind = 1
		}
		h, err := decodeHeartbeat(seal(append([]byte{heartbeatFormat, kind}, body...)))
		if err != nil || packed {
			return
		}
		if again := appendHeartbeat(nil, h); !bytes.Equal(again, body) {
			t.Fatalf("accepted %x, which encodes as %x", body, again)
		}
	})
}

// A newcomer asks for a full round, and so does who has missed a heartbeat: not for
// one that was only overtaken, and not again and again.
func TestLagAsks(t *testing.T) {
	start := time.UnixMilli(0)
	lag := newLag(start, newShelf(1), "east")
	for i, c := range []struct {
		at        time.Duration
		seq, base uint64
		ask       bool
	}{
		{0, 5, 1, true},                // it has begun before
		{1 * time.Second, 6, 1, false}, // asked a moment ago
		{2 * time.Second, 7, 7, false}, // a full round
		{3 * time.Second, 9, 7, false}, // one is overtaken,
		{3500 * time.Millisecond, 8, 7, false},
		{10 * time.Second, 10, 7, false}, // and has come
		{11 * time.Second, 12, 7, false}, // one is lost
		{12 * time.Second, 13, 7, true},
		{16 * time.Second, 14, 7, false},
		{17 * time.Second, 15, 7, true}, // nobody has answered
		{18 * time.Second, 17, 16, false},
		{19 * time.Second, 18, 16, false}, // half of the round is lost
		{22 * time.Second, 19, 16, true},
	} {
		h := &Heartbeat{heartbeat{region: "east", regionID: 1, node: "n", session: 3, seq: c.seq, base: c.base}}
		if ask, err := lag.Heard(start.Add(c.at), h); err != nil || ask != c.ask {
			t.Errorf("heartbeat %d: asks %v, %v", i, ask, err)
		}
	}
}

// Heartbeats tell what is new, however much there is; and everything again where
// something is gone.
func TestAnnouncerTellsDeltas(t *testing.T) {
	const partitions = 1000
	far := newShelf(partitions)
	for p := range hashring.Partition(partitions) {
		for a := range uint32(12) {
			far.clocks[p].AddSpan(crdt.Dots{Actor: crdt.MakeActor(a+1, uint8(a%2+1)), Span: crdt.Span{Lo: 1, Hi: 1 << 30}})
		}
	}
	var bytes int
	var last *Heartbeat
	a := NewAnnouncer(AnnouncerConfig{Region: "east", Node: "east-1", RegionID: 1}, far, wire(func(data []byte) {
		bytes += len(appendHeartbeat(nil, &decode(t, data).heartbeat))
		last = decode(t, data)
	}), hclog.NewNullLogger())
	a.announce(time.UnixMilli(0), true)
	whole := bytes
	for p := range hashring.Partition(100) {
		far.add(p, crdt.Dot{Actor: crdt.MakeActor(1, 2), N: 1<<30 + 1})
	}
	bytes = 0
	a.announce(time.UnixMilli(300), false)
	if len(last.clocks) != 100 || bytes > 100*16+60 || whole < 1000*12*5 {
		t.Errorf("%d partitions in %d bytes; all took %d", len(last.clocks), bytes, whole)
	}
	session := last.session
	bytes = 0
	a.announce(time.UnixMilli(600), false)
	if len(last.clocks) != 0 || bytes > 60 {
		t.Errorf("%d bytes when nothing changed", bytes)
	}
	far.clocks[7] = new(crdt.Clock)
	a.announce(time.UnixMilli(900), false)
	if last.session <= session || last.base != 1 || len(last.clocks) == 0 {
		t.Errorf("something is gone: %d after %d, with %d partitions", last.session, session, len(last.clocks))
	}
}

// What was written during a cut is owed since the cut began, though nobody heard of it
// before it was over; what is written later, since it was heard of.
func TestLagOwed(t *testing.T) {
	now := time.UnixMilli(0)
	far, here := newShelf(2), newShelf(2)
	lag := newLag(now, here, "east")
	cut := false
	a := NewAnnouncer(AnnouncerConfig{Region: "east", Node: "east-1", RegionID: 1, EntryBytes: func() uint64 { return 100 }}, far, wire(func(data []byte) {
		if cut {
			return
		}
		if err := heard(lag, now, data); err != nil {
			t.Fatal(err)
		}
	}), hclog.NewNullLogger())
	owed := func(bytes uint64, span time.Duration) {
		t.Helper()
		if b, s := lag.Owed(now, "east"); b != bytes || s != span {
			t.Errorf("%d bytes since %v, want %d since %v", b, s, bytes, span)
		}
	}
	owed(0, 0)
	a.announce(now, true)
	owed(0, 0)
	cut = true
	for n := range uint64(60) {
		now = now.Add(time.Second)
		far.add(hashring.Partition(n%2), crdt.Dot{Actor: eastActor, N: n/2 + 1})
		a.announce(now, false)
	}
	owed(0, 0) // nobody has told
	cut = false
	now = now.Add(time.Second)
	a.announce(now, true)
	owed(6000, 61*time.Second)
	now = now.Add(time.Second)
	for n := range uint64(60) {
		here.add(hashring.Partition(n%2), crdt.Dot{Actor: eastActor, N: n/2 + 1})
	}
	owed(0, 0)
	for range 20 { // seconds
		a.announce(now, true)
		now = now.Add(time.Second)
	}
	far.add(0, crdt.Dot{Actor: eastActor, N: 31})
	a.announce(now, false)
	now = now.Add(time.Second)
	owed(100, time.Second)
	if b, s := lag.Owed(now, "north"); b != 0 || s != 0 {
		t.Errorf("of a region that nobody knows %d bytes since %v", b, s)
	}
}
