package replica_test

import (
	"fmt"
	"slices"
	"testing"
	"testing/synctest"

	"github.com/atolldb/atoll/crdt"
	"github.com/atolldb/atoll/hashring"
	"github.com/atolldb/atoll/node/replica"
)

// rivals are writers of one key who go on from their own answers, in turn, and never
// read.
type rivals struct {
	p    *place
	last [2]crdt.Context
}

// write has each write so many times, and returns how many ranges the first one had
// to be told of at most.
func (w *rivals) write(t *testing.T, times int) (most int) {
	t.Helper()
	for i := range 2 * times {
		m, err := w.p.write(replica.Mint{Key: []byte(key), Context: w.last[i%2], Value: fmt.Append(nil, "writer ", i%2)})
		if err != nil {
			t.Fatal(err)
		}
		if w.last[i%2] = m.Context; i%2 == 0 {
			most = max(most, m.Context.Seen.Ranges())
		}
	}
	rec := w.p.record(key)
	if got := values(rec); !slices.Equal(got, []string{"writer 0", "writer 1"}) {
		t.Errorf("record has %q", got)
	}
	for i, v := range rec.Versions {
		if w.last[1-i].Seen.Covers(v.Dot) || !w.last[i].Seen.Covers(v.Dot) {
			t.Errorf("%v: %v, and that of the other writer %v", v.Dot, w.last[i].Seen, w.last[1-i].Seen)
		}
	}
	return most
}

// Each is told of every time that the other one came between, until all owners are
// known to have what both wrote: also while both go on, so that what all have is
// never what there is now.
func TestHolesAreClosed(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := owner(t)
		part := partOf(key)
		w := &rivals{p: p}
		if n := w.write(t, 4); n != 3 || len(p.Crowded()) > 0 {
			t.Errorf("%d ranges after 4 writes of each", n)
		}
		if n := w.write(t, 16); n != 19 {
			t.Errorf("%d ranges after 20 writes of each", n)
		}
		if got := p.Crowded(); !slices.Equal(got, []hashring.Partition{part}) || len(p.Crowded()) > 0 {
			t.Errorf("crowded are %v", got)
		}
		for range 20 {
			was := p.Clock(part)
			w.write(t, 50)
			p.HeldByAll(part, was)
		}
		w.write(t, 1)
		if n := w.last[0].Seen.Ranges(); n > 110 {
			t.Errorf("%d ranges, though all have what was before the last 100 writes of each", n)
		}
		// What is told takes the place of what was told before.
		p.HeldByAll(part, &crdt.Clock{})
		most := w.last[0].Seen.Ranges()
		if n := w.write(t, 200); n < most+190 {
			t.Errorf("%d ranges after 200 writes of each that nobody is known to have, on top of %d", n, most)
		}
		p.HeldByAll(part, p.Clock(part))
		w.write(t, 2)
		w.write(t, 1)
		if n := w.last[0].Seen.Ranges(); n > 10 {
			t.Errorf("%d ranges when all had what was before the last writes", n)
		}
		p.stop()
	})
}
