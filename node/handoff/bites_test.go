package handoff

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/atolldb/atoll/crdt"
	"github.com/atolldb/atoll/crdt/hlc"
	"github.com/atolldb/atoll/hashring"
	"github.com/atolldb/atoll/internal/pause"
	"github.com/atolldb/atoll/node/peer"
	"github.com/atolldb/atoll/node/replica"
	"github.com/atolldb/atoll/node/topology"
	"github.com/atolldb/atoll/node/wire"
	"github.com/atolldb/atoll/node/yield"
)

// shelf is a source of records, in order, and the replica that takes them.
type shelf struct {
	silent
	entries []wire.Entry
	asked   []int             // how much at a time
	bites   [][]string        // the keys that were applied at a time
	onBite  func(n int) error // for the nth one; nil for no error
	joined  int               // how often a clock was
	mark    uint64            // of what the replica lacks
	clock   *crdt.Clock       // of the source, nil for an empty one
	floor   hlc.Stamp         // that was raised when a page was read
	vouched []hlc.Stamp
}

func (s *shelf) BehindMark(hashring.Partition) uint64       { return s.mark }
func (s *shelf) CaughtUp(_ hashring.Partition, mark uint64) {}

func (s *shelf) ApplyFrom(from replica.Source, _ topology.Epoch, entries []wire.Entry, done func(int, error)) {
	var keys []string
	for _, e := range entries {
		keys = append(keys, string(e.Key))
	}
	s.vouched = append(s.vouched, from.Floor)
	s.bites = append(s.bites, keys)
	if s.onBite != nil {
		if err := s.onBite(len(s.bites)); err != nil {
			done(0, err)
			return
		}
	}
	done(len(keys), nil)
}

func (s *shelf) JoinClock(_ hashring.Partition, _ *crdt.Clock, done func(error)) {
	s.joined++
	done(nil)
}

// full is a disk that is so for the nth bite.
func full(nth int) func(int) error {
	return func(n int) error {
		if n == nth {
			return errors.New("the disk is full")
		}
		return nil
	}
}

func (s *shelf) Send(_ topology.NodeID, r peer.Request, done peer.Done) {
	q, err := wire.DecodeScan(r.Body)
	if err != nil {
		go done(nil, err)
		return
	}
	s.asked = append(s.asked, q.MaxBytes)
	page, size := wire.Page{Clock: cmp.Or(s.clock, &crdt.Clock{}), Floors: wire.Floors{Raised: s.floor}}, 0
	for _, e := range s.entries {
		if string(e.Key) <= string(q.After) {
			continue
		}
		if page.More = size >= q.MaxBytes; page.More {
			break
		}
		page.Entries = append(page.Entries, e)
		size += e.Size()
	}
	go done(wire.AppendPage(nil, page), nil)
}

// begins is a copy from a shelf of records of 1000 bytes, to a node with clients.
func (s *shelf) begins(records int) (k *copying, src source, bite int) {
	for i := range records {
		s.entries = append(s.entries, wire.Entry{Key: fmt.Appendf(nil, "%03d", i), Record: make([]byte, 1000)})
	}
	k = copying4(&s.silent, 5)
	k.c.deps.Replica, k.c.deps.Transport, k.c.deps.Yield = s, s, yield.New()
	k.c.pace.Governor = k.c.deps.Yield
	for range 2 * yield.Cycle / (10 * time.Millisecond) {
		time.Sleep(10 * time.Millisecond)
		k.c.deps.Yield.Observe(yield.Commits, time.Millisecond)
	}
	return k, k.c.deps.source("n1", 0, k.c.cfg.PageBytes), k.c.deps.Yield.Page(k.c.cfg.PageBytes)
}

// A page has several bites, of which each is applied by itself where there are clients,
// and paid for. What ends in between goes on behind the last one, with what has come, and
// for which the source vouches as it did.
func TestBites(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := &shelf{onBite: full(11), floor: 7}
		k, src, bite := s.begins(100)
		if err := k.pass(t.Context(), src); err == nil || !strings.Contains(err.Error(), "the disk is full") {
			t.Fatalf("what cannot be applied: %v", err)
		}
		s.bites, s.onBite, s.floor = s.bites[:len(s.bites)-1], nil, 8
		asked, stopped := len(s.asked), len(s.bites)
		ended, end := context.WithCancel(t.Context())
		end()
		if err := k.pass(ended, src); err == nil || len(s.bites) != stopped+1 || len(s.asked) != asked {
			t.Fatalf("when it is stopped: %v, %d more bites, asked %d times more", err, len(s.bites)-stopped, len(s.asked)-asked)
		}
		if last := s.vouched[len(s.vouched)-1]; last != 7 {
			t.Errorf("of what was read at floor 7 the source says %d", last)
		}
		if err := k.pass(t.Context(), src); err != nil {
			t.Fatal(err)
		}
		var all []string
		for _, keys := range s.bites {
			if all = append(all, keys...); len(keys) > bite/1000+1 {
				t.Errorf("%d records of 1000 bytes at a time, of which %d may be", len(keys), bite)
			}
		}
		if len(all) != 100 || !slices.IsSorted(all) || len(slices.Compact(all)) != 100 {
			t.Errorf("applied %v", all)
		}
		if s.asked[0] != bites*bite || len(s.asked) > 8 {
			t.Errorf("asked for %v, in bites of %d", s.asked, bite)
		}
		bytes := uint64(100 * s.entries[0].Size())
		if got := k.progress(); got.Keys != 100 || got.Bytes != bytes || k.c.ReceivedBytes() != bytes {
			t.Errorf("%+v, %d bytes received", got, k.c.ReceivedBytes())
		}
	})
}

// Who finds that it lacks something in the middle of a pass begins it anew: what was
// applied before may be what is gone, and the clock at the end of the pass names it.
func TestAPassBeginsAnew(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := &shelf{mark: 1, clock: &crdt.Clock{}}
		s.clock.Add(crdt.Dot{Actor: 1, N: 1})
		k, _, _ := s.begins(100)
		goesOn := func(mark uint64) string {
			s.bites, s.onBite, s.mark = nil, full(3), mark
			if _, why := k.round(t.Context()); !strings.Contains(why, "the disk is full") {
				t.Fatalf("%q", why)
			}
			return s.bites[0][0]
		}
		if first, next, anew := goesOn(1), goesOn(1), goesOn(2); first != "000" || next == "000" || anew != "000" {
			t.Errorf("it begins with %s, goes on with %s, and with %s when it lacks more", first, next, anew)
		}
		s.bites, s.onBite = nil, func(n int) error {
			if n == 3 {
				s.mark = 3
			}
			return nil
		}
		if _, why := k.round(t.Context()); s.joined > 0 {
			t.Errorf("the clock of a pass in the middle of which something was lost is joined: %q", why)
		}
		s.onBite = nil
		if k.round(t.Context()); s.joined == 0 {
			t.Error("no clock is joined after a whole pass")
		}
	})
}

// Where the one who gives up a partition is dead it has an owner less until the copy is
// complete: that one does not go as slowly as others do for clients.
func TestWhatIsLackingIsNotPatient(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		took := func(dead bool) time.Duration {
			s := &shelf{}
			k, _, _ := s.begins(8000)
			ctx, stop := context.WithCancel(t.Context())
			var clients sync.WaitGroup
			defer clients.Wait()
			defer stop()
			clients.Go(func() { // of whom none bears anything
				for pause.For(ctx, 2*time.Millisecond) {
					waits := time.Millisecond
					if phase, _ := yield.PhaseAt(time.Now()); phase == yield.Working {
						waits = time.Second
					}
					k.c.deps.Yield.Observe(yield.Commits, waits)
				}
			})
			if dead {
				k.c.absent.missed("n1")
			}
			time.Sleep(yield.Cycle) // longer than its patience
			if dead {
				k.c.absent.missed("n1")
			}
			begun := time.Now()
			if _, _, err := k.take(t.Context(), replica.Source{From: "n2"}, s.entries); err != nil {
				t.Fatal(err)
			}
			return time.Since(begun)
		}
		if alive, dead := took(false), took(true); dead*2 > alive {
			t.Errorf("8 MB take %v, and %v where the owner is dead", alive, dead)
		}
	})
}
