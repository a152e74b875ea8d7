package coord_test

import (
	"fmt"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"github.com/atolldb/atoll/node/coord"
	"github.com/atolldb/atoll/node/peer"
	"github.com/atolldb/atoll/node/quorum"
	"github.com/atolldb/atoll/node/topology"
	"github.com/atolldb/atoll/node/wire"
)

// slowReads has the owners read at once and answer m after a while.
func (r *region) slowReads(m *member, after time.Duration) {
	m.wire.mu.Lock()
	defer m.wire.mu.Unlock()
	m.wire.answer = func(to topology.NodeID, req peer.Request) (time.Duration, []byte, error, bool) {
		if req.Verb != peer.VerbRead {
			return 0, nil, nil, false
		}
		b, err := r.nodes[to].replica.Read(0, keyHash(req.Body[1:]), req.Body[1:])
		return after, wire.EncodeHeld(wire.Held{Record: b}), err, true
	}
}

// Readers that come while a read of their key runs share the next one, and
// never the one that runs: it may not know of a write that they know of.
func TestJoinedReadsSeeWhatCameBefore(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRegion(t, 4)
		out := r.outsider("default", "k")
		const slow = 20 * time.Millisecond // below the time after which one more is asked
		r.slowReads(out, slow)
		before := out.startGet(t, get("k"))
		r.owners("default", "k")[0].mustPut(t, put("k", "v"))
		var after []*once[coord.GetResult]
		for range 10 {
			after = append(after, out.startGet(t, get("k")))
		}
		other := get("k")
		other.Level = quorum.LocalAll
		all := out.startGet(t, other)
		k2 := "k2"
		for out.replica.Owns(r.partition("default", k2)) {
			k2 += "2"
		}
		elsewhere := out.startGet(t, get(k2))
		if got, err := before.wait(); err != nil || len(live(got.View)) != 0 {
			t.Errorf("the read before the write: %q, %v", live(got.View), err)
		}
		began := time.Now()
		for i, o := range after {
			if got, err := o.wait(); err != nil || !slices.Equal(live(got.View), []string{"v"}) {
				t.Errorf("reader %d after the write: %q, %v", i, live(got.View), err)
			}
		}
		if took := time.Since(began); took > slow {
			t.Errorf("the second read ended %v after the first", took)
		}
		if got, err := all.wait(); err != nil || !slices.Equal(live(got.View), []string{"v"}) {
			t.Errorf("%q, %v", live(got.View), err)
		}
		if _, err := elsewhere.wait(); err != nil {
			t.Error(err)
		}
		// Two owners each for the first read, the ten and the other key, three
		// for the other level.
		if n := out.wire.count(peer.VerbRead); n != 2+2+2+3 {
			t.Errorf("asked %d times", n)
		}
		if n := out.Stats().Joined.Load(); n != 10 {
			t.Errorf("%d joined", n)
		}
		if n := out.Stats().Gets.Load(); n != 13 {
			t.Errorf("%d gets", n)
		}
	})
}

// Each reader is answered at its own deadline, whoever it waits with.
func TestJoinedReadsHaveTheirOwnDeadlines(t *testing.T) {
	for name, deadlines := range map[string][]time.Duration{ // in milliseconds
		"mixed":                         {2000, 500, 3000, 100, 1000, 2500, 4000, 2000},
		"all who waited have gone":      {2000, 100, 200},
		"the one that runs is the last": {4000, 100, 2000},
		"alone":                         {500},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				r := newRegion(t, 4)
				out := r.outsider("default", "k")
				for _, o := range r.owners("default", "k") {
					out.wire.answers(peer.VerbRead, o.id, time.Hour, peer.ErrTimeout)
				}
				began := time.Now()
				var readers []*once[coord.GetResult]
				start := func(ms time.Duration) {
					g := get("k")
					g.Deadline = began.Add(ms * time.Millisecond)
					readers = append(readers, out.startGet(t, g))
				}
				for _, ms := range deadlines {
					start(ms)
				}
				time.Sleep(300 * time.Millisecond)
				start(1700)
				for i, o := range readers {
					want := append(deadlines, 1700)[i] * time.Millisecond
					_, err := o.wait()
					if took := o.at.Sub(began); err == nil || err.Code != coord.CodeDeadline || err.Needed != 2 || took != want {
						t.Errorf("reader %d, deadline %v: after %v: %+v", i, want, took, err)
					}
				}
				if n := out.Stats().Failures.Load(); n != uint64(len(readers)) {
					t.Errorf("%d failures", n)
				}
				time.Sleep(2 * time.Hour)
				out.wire.clear()
				out.mustGet(t, get("k")) // nothing is left of it
			})
		})
	}
}

// A read that waits for a crowd does not wait for ever: those beyond the bound
// read alone.
func TestJoinedReadsAreBounded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRegion(t, 4)
		out := r.outsider("default", "k")
		r.slowReads(out, 10*time.Millisecond)
		var readers []*once[coord.GetResult]
		for range 1 + 4096 + 5 {
			readers = append(readers, out.startGet(t, get("k")))
		}
		for _, o := range readers {
			if _, err := o.wait(); err != nil {
				t.Fatal(err)
			}
		}
		if n := out.wire.count(peer.VerbRead); n != 2*(1+1+5) {
			t.Errorf("asked %d times", n)
		}
	})
}

// Many readers and writers of some keys, in step: whatever was acknowledged
// before a read began is in it.
func TestJoinedReadsMissNothing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRegion(t, 4)
		for _, m := range r.nodes {
			r.slowReads(m, 3*time.Millisecond)
		}
		done := make(chan bool)
		for w := range 4 {
			go func() {
				k := fmt.Sprint("k", w%2)
				out := r.outsider("default", k)
				for i := range 30 {
					p := put(k, fmt.Sprint(w, "/", i))
					p.Overwrite = true
					stamp := out.mustPut(t, p).Stamp
					var readers []*once[coord.GetResult]
					for range 1 + i%4 {
						readers = append(readers, out.startGet(t, get(k)))
					}
					for _, o := range readers {
						got, err := o.wait()
						if err != nil || len(got.View.Live) == 0 || got.View.Live[0].Stamp < stamp {
							t.Errorf("%s misses the write of %v: %+v, %v", k, stamp, got.View, err)
						}
					}
				}
				done <- true
			}()
		}
		for range 4 {
			<-done
		}
		if out := r.outsider("default", "k0"); out.Stats().Joined.Load() == 0 {
			t.Error("nobody joined")
		}
	})
}
