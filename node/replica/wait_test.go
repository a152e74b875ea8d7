package replica_test

import (
	"errors"
	"testing"
	"testing/synctest"
	"time"

	"github.com/atolldb/atoll/crdt"
	"github.com/atolldb/atoll/crdt/hlc"
	"github.com/atolldb/atoll/hashring"
	"github.com/atolldb/atoll/node/peer"
	"github.com/atolldb/atoll/node/replica"
	"github.com/atolldb/atoll/node/storage"
	"github.com/atolldb/atoll/node/wire"
)

func needs(dots ...crdt.Dot) *crdt.Clock {
	c := &crdt.Clock{}
	for _, d := range dots {
		c.Add(d)
	}
	return c
}

// outcome of an Await.
type outcome struct {
	missing *crdt.Clock
	err     error
	after   time.Duration
}

func (p *place) await(part hashring.Partition, c *crdt.Clock, within time.Duration) <-chan outcome {
	began := time.Now()
	ch := make(chan outcome, 1)
	p.Await(part, c, 0, began.Add(within), func(missing *crdt.Clock, err error) { ch <- outcome{missing, err, time.Since(began)} })
	return ch
}

// Who waits for dots is woken when the last of them is durable, whichever way it
// came, and not before.
func TestAwait(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := owner(t)
		part := partOf(key)
		d1, d3 := crdt.Dot{Actor: stranger, N: 1}, crdt.Dot{Actor: stranger, N: 3}
		both, first := p.await(part, needs(d1, d3), time.Minute), p.await(part, needs(d1), time.Minute)
		whole := p.await(part, needs(d1, crdt.Dot{Actor: stranger, N: 2}, d3), time.Minute)
		if p.Waiting() != 3 {
			t.Fatalf("%d wait", p.Waiting())
		}
		time.Sleep(time.Second)
		p.mustApply(foreign(key, stranger, 3, nil, "three"))
		synctest.Wait()
		if len(both)+len(first)+len(whole) > 0 {
			t.Fatal("woken too early")
		}
		time.Sleep(time.Second)
		p.mustApply(foreign(key, stranger, 1, nil, "one"))
		synctest.Wait()
		for _, ch := range []<-chan outcome{both, first} {
			if o := <-ch; o.missing != nil || o.err != nil || o.after < 2*time.Second || o.after > 2100*time.Millisecond {
				t.Errorf("woken with %+v", o)
			}
		}
		c := &crdt.Clock{}
		c.AddSpan(crdt.Dots{Actor: stranger, Span: crdt.Span{Lo: 1, Hi: 9}})
		if err := p.joinClock(part, c); err != nil {
			t.Fatal(err)
		}
		if o := <-whole; o.missing != nil || o.err != nil {
			t.Errorf("woken with %+v", o)
		}
		if o := <-p.await(part, needs(d1), 0); o.missing != nil || o.err != nil || o.after != 0 {
			t.Errorf("what is here is waited for: %+v", o)
		}
		if p.Waiting() != 0 || p.Stats().Waits.Load() != 3 {
			t.Errorf("%d wait", p.Waiting())
		}
		p.stop()
	})
}

// What does not come is told at the deadline; who is too many, or too late, at
// once.
func TestAwaitBounds(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := owner(t)
		part := partOf(key)
		d := crdt.Dot{Actor: stranger, N: 7}
		if o := <-p.await(part, needs(d), time.Second); o.err != nil || o.missing == nil || !o.missing.Contains(d) || o.after != time.Second {
			t.Errorf("%+v", o)
		}
		var all []<-chan outcome
		refused := 0
		for range 4200 {
			ch := p.await(part, needs(d), time.Hour)
			select {
			case o := <-ch:
				if !errors.Is(o.err, storage.ErrOverloaded) {
					t.Fatalf("%+v", o)
				}
				refused++
			default:
				all = append(all, ch)
			}
		}
		if len(all) != 4096 || refused != 4200-4096 || p.Stats().WaitsRefused.Load() != uint64(refused) {
			t.Errorf("%d wait, %d refused", len(all), refused)
		}
		stopped := p.Replica
		p.stop()
		for _, ch := range all {
			if o := <-ch; !errors.Is(o.err, replica.ErrStopping) {
				t.Fatalf("%+v", o)
			}
		}
		stopped.Await(part, needs(d), 0, time.Now().Add(time.Hour), func(_ *crdt.Clock, err error) {
			if !errors.Is(err, replica.ErrStopping) {
				t.Errorf("%+v", err)
			}
		})
		if n := stopped.Waiting(); n != 0 {
			t.Errorf("%d wait", n)
		}
	})
}

// A read that names what it needs says what is missing, or waits for it; what it
// then shows is no older.
func TestReadKnowing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := owner(t)
		d := crdt.Dot{Actor: stranger, N: 1}
		ask := func(wait bool, timeout time.Duration) <-chan wire.Held {
			ch := make(chan wire.Held, 1)
			m := wire.Read{Key: []byte(key), Needs: needs(d), Wait: wait}
			p.Handle(peer.Request{Verb: peer.VerbRead, Timeout: timeout, Body: wire.AppendRead(nil, m)}, func(b []byte, err error) {
				held, bad := wire.DecodeHeld(b)
				if err != nil || bad != nil {
					t.Error(err, bad)
				}
				ch <- held
			})
			return ch
		}
		if held := <-ask(false, time.Second); held.Missing == nil || !held.Missing.Contains(d) || len(held.Record) > 0 {
			t.Errorf("%+v", held)
		}
		if held := <-ask(true, time.Second); held.Missing == nil {
			t.Errorf("nothing came, and it says %+v", held)
		}
		waiting := ask(true, time.Minute)
		p.mustApply(foreign(key, stranger, 1, nil, "v"))
		if held := <-waiting; held.Missing != nil || len(held.Record) == 0 {
			t.Errorf("%+v", held)
		}
		p.stop()
	})
}

// A write that comes after others is minted where they are, and with a higher
// stamp; elsewhere nothing is written.
func TestMintInformed(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := owner(t)
		d := crdt.Dot{Actor: stranger, N: 1}
		above := hlc.FromMillis(time.Now().Add(time.Hour).UnixMilli())
		m := replica.Mint{Key: []byte(key), KeyHash: hashring.KeyHash([]byte(key)), Value: []byte("mine"), Needs: needs(d), Above: above}
		if _, err := p.write(m); !errors.Is(err, replica.ErrUninformed) {
			t.Fatal(err)
		}
		if rec := p.record(key); len(rec.Versions) > 0 || p.Stats().MintsBehind.Load() != 1 {
			t.Errorf("written: %v", rec)
		}
		p.mustApply(foreign("elsewhere in the partition", stranger, 1, nil, "v"))
		if partOf("elsewhere in the partition") != partOf(key) {
			p.mustApply(foreign(keysIn(partOf(key), 1)[0], stranger, 1, nil, "v"))
		}
		minted, err := p.write(m)
		if err != nil || minted.Stamp <= above {
			t.Errorf("%+v, %v", minted, err)
		}
		p.stop()
	})
}
