package handoff

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/atolldb/atoll/crdt"
	"github.com/atolldb/atoll/hashring"
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
	asked   []int      // how much at a time
	bites   [][]string // the keys that were applied at a time
	fails   int        // the number of the bite that cannot be applied
}

func (s *shelf) ApplyFrom(_ replica.Source, _ topology.Epoch, entries []wire.Entry, done func(int, error)) {
	var keys []string
	for _, e := range entries {
		keys = append(keys, string(e.Key))
	}
	if s.bites = append(s.bites, keys); len(s.bites) == s.fails {
		done(0, errors.New("the disk is full"))
		return
	}
	done(len(keys), nil)
}

func (s *shelf) JoinClock(_ hashring.Partition, _ *crdt.Clock, done func(error)) { done(nil) }

func (s *shelf) Send(_ topology.NodeID, r peer.Request, done peer.Done) {
	q, err := wire.DecodeScan(r.Body)
	if err != nil {
		go done(nil, err)
		return
	}
	s.asked = append(s.asked, q.MaxBytes)
	page, size := wire.Page{Clock: &crdt.Clock{}}, 0
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

// A page has several bites, of which each is applied by itself where there are clients,
// and paid for; what ends in between goes on behind the last one.
func TestBites(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := &shelf{fails: 11}
		for i := range 100 {
			s.entries = append(s.entries, wire.Entry{Key: fmt.Appendf(nil, "%03d", i), Record: make([]byte, 1000)})
		}
		k := copying4(&s.silent, 5)
		k.c.deps.Replica, k.c.deps.Transport, k.c.deps.Yield = s, s, yield.New()
		for range 2 * yield.Cycle / (10 * time.Millisecond) { // clients
			time.Sleep(10 * time.Millisecond)
			k.c.deps.Yield.Observe(yield.Commits, time.Millisecond)
		}
		bite := k.c.deps.Yield.Page(k.c.cfg.PageBytes)
		src := k.c.deps.source("n1", 0, k.c.cfg.PageBytes)
		if err := k.pass(t.Context(), src); err == nil || !strings.Contains(err.Error(), "the disk is full") {
			t.Fatalf("what cannot be applied: %v", err)
		}
		s.bites, s.fails = s.bites[:len(s.bites)-1], 0
		paid, stop := context.WithCancel(t.Context())
		stop()
		if err := k.pass(paid, src); err == nil {
			t.Fatal("it goes on when it is stopped")
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
		if got := k.progress(); got.Keys != 100 || got.Bytes != uint64(100*s.entries[0].Size()) {
			t.Errorf("%+v", got)
		}
	})
}
