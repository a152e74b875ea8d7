package coord_test

import (
	"testing"
	"testing/synctest"
	"time"

	"github.com/atolldb/atoll/crdt"
	"github.com/atolldb/atoll/node/coord"
	"github.com/atolldb/atoll/node/peer"
	"github.com/atolldb/atoll/node/storage/memstore"
	"github.com/atolldb/atoll/node/topology/memtopo"
)

// A write that reached too few owners may still take effect: it is never
// called "not applied".
func TestTooFewAcks(t *testing.T) {
	for name, err := range map[string]error{
		"not sent": peer.ErrNotSent,
		"refused":  &peer.Refusal{Code: peer.CodeFull},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				r := newRegion(t, 3)
				a := r.owners("default", "k")[0]
				a.wire.answers(peer.VerbApply, "", time.Millisecond, err)
				began := time.Now()
				_, e := a.put(t, put("k", "v"))
				if e == nil || e.Code != coord.CodeUnavailable || e.Outcome != coord.Unknown {
					t.Errorf("%+v", e)
				}
				if took := time.Since(began); took > 10*time.Millisecond {
					t.Errorf("found out only after %v", took)
				}
				if a.Stats().Missed.Load() != 2 {
					t.Errorf("%d missed", a.Stats().Missed.Load())
				}
			})
		})
	}
}

// A sync that failed leaves open what became of the write, also when others may
// have it by then.
func TestFailedSync(t *testing.T) {
	for name, err := range map[string]error{"peers are silent": peer.ErrTimeout, "peers never got it": peer.ErrNotSent} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				r := newRegion(t, 3)
				a := r.owners("default", "k")[0]
				a.wire.answers(peer.VerbApply, "", time.Hour, err)
				a.disk.FailNextSync()
				began := time.Now()
				_, e := a.put(t, put("k", "v"))
				if e == nil || e.Outcome != coord.Unknown || e.Code != coord.CodeInternal || time.Since(began) > time.Second {
					t.Errorf("after %v: %+v", time.Since(began), e)
				}
				time.Sleep(2 * time.Hour)
			})
		})
	}
}

// The client is answered at its deadline, once, whatever comes later (K1): a
// disk that stalls, peers that are silent, a node that then finds out that it
// cannot mint and would pass the write on.
func TestDeadline(t *testing.T) {
	for name, arrange := range map[string]func(r *region, a *member){
		"silent peers": func(_ *region, a *member) { a.wire.answers(peer.VerbApply, "", 3*time.Second, peer.ErrTimeout) },
		"late peers":   func(_ *region, a *member) { a.wire.answers(peer.VerbApply, "", 3*time.Second, nil) },
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				r := newRegion(t, 3)
				a := r.owners("default", "k")[0]
				arrange(r, a)
				began := time.Now()
				o := a.startPut(t, put("k", "v"))
				_, err := o.wait()
				if err == nil || err.Code != coord.CodeDeadline || err.Outcome != coord.Unknown || o.at.Sub(began) != patience {
					t.Errorf("after %v: %+v", o.at.Sub(began), err)
				}
				time.Sleep(10 * time.Second)
			})
		})
	}
	t.Run("stalled disk, then no actor", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			r := newRegionOn(t, 3, memtopo.New(1), memstore.Config{SyncMin: 5 * time.Second})
			time.Sleep(20 * time.Second)
			a := r.owners("default", "k")[0]
			// The first write takes 5 s to sync; the second one waits behind it,
			// and is decided after the actor has ended.
			first := a.startPut(t, put("k", "first"))
			synctest.Wait()
			r.registry.SetDown(true)
			amnesia := crdt.Context{Seen: crdt.VV(nil).With(crdt.Dot{Actor: a.replica.Actor(), N: 99})}
			full := coord.FullKey("default", []byte("k"))
			p := put("k", "second")
			p.Context = crdt.AppendContext(nil, crdt.Keys{secret}, full, amnesia)
			second := a.startPut(t, p)
			third := a.startPut(t, put("k", "third"))
			for _, o := range []*once[coord.PutResult]{first, second, third} {
				if _, err := o.wait(); err == nil || err.Outcome != coord.Unknown {
					t.Errorf("%+v", err)
				}
			}
			time.Sleep(time.Minute)
			if n := a.wire.count(peer.VerbForward); n > 0 {
				t.Errorf("forwarded %d writes that were given up", n)
			}
			r.registry.SetDown(false)
		})
	})
}

// What has expired is not begun.
func TestExpired(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRegion(t, 4)
		for _, m := range []*member{r.outsider("default", "k"), r.owners("default", "k")[0]} {
			p := put("k", "v")
			p.Deadline = time.Now()
			if _, err := m.put(t, p); err == nil || err.Code != coord.CodeDeadline || err.Outcome != coord.NotApplied {
				t.Errorf("put via %s: %+v", m.id, err)
			}
			g := get("k")
			g.Deadline = time.Now().Add(-time.Second)
			if _, err := m.get(t, g); err == nil || err.Code != coord.CodeDeadline || err.Outcome != coord.NotApplied {
				t.Errorf("get via %s: %+v", m.id, err)
			}
			if sent := m.wire.requests(); len(sent) > 0 {
				t.Errorf("sent %+v", sent)
			}
		}
		r.settle()
		for _, o := range r.owners("default", "k") {
			if len(o.held(t, "default", "k").Versions) > 0 {
				t.Errorf("%s has it", o.id)
			}
		}
	})
}
