package coord_test

import (
	"testing"
	"testing/synctest"
	"time"

	"github.com/atolldb/atoll/crdt"
	"github.com/atolldb/atoll/node/coord"
	"github.com/atolldb/atoll/node/peer"
)

// A node whose clock is far ahead proposes nothing once it knows; others do. What
// it had promised itself before it knew keeps nobody from deciding, neither while
// the clock is off nor when it is right again.
func TestSerialWithAClockThatIsAhead(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRegion(t, 3)
		owners := r.owners("default", "k")
		off, right := owners[0], owners[1]
		time.Sleep(time.Second) // until new acceptors take the ballots of now
		off.mustPut(t, serialPut("k", "0", crdt.Condition{}))
		off.skew.Store(int64(time.Hour))
		for _, v := range []string{"1", "2"} { // the first by a ballot that was promised before
			if _, err := off.put(t, serialPut("k", v, crdt.Condition{})); err == nil {
				t.Fatal("a promise of the far future was given")
			}
		}
		off.replica.SetSkewed(true)
		quick := func(m *member, value string) {
			t.Helper()
			began := time.Now()
			if _, err := m.put(t, serialPut("k", value, crdt.Condition{})); err != nil {
				t.Errorf("%s at %s: %v", value, m.id, err)
			}
			if took := time.Since(began); took > 200*time.Millisecond {
				t.Errorf("%s at %s took %v", value, m.id, took)
			}
		}
		for _, v := range []string{"3", "4", "5"} {
			quick(off, v)
			quick(right, v)
		}
		off.skew.Store(0)
		off.replica.SetSkewed(false)
		for _, v := range []string{"6", "7", "8"} {
			quick(off, v)
			quick(right, v)
		}
		if got := right.mustGet(t, serialGet("k")); len(got.View.Live) != 1 || string(got.View.Live[0].Value) != "8" {
			t.Errorf("in the end: %v", live(got.View))
		}
	})
}

// What a node holds undecided is settled by the others, too, where its own clock keeps
// it from that.
func TestSettleWithAClockThatIsAhead(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRegion(t, 3)
		owners := r.owners("default", "k")
		off := owners[0]
		time.Sleep(time.Second)
		off.mustPut(t, serialPut("k", "0", crdt.Condition{}))
		r.settle()
		off.wire.loses(peer.VerbSerial) // it is accepted, and nobody hears of that
		p := serialPut("k", "1", crdt.Condition{})
		p.Deadline = time.Now().Add(300 * time.Millisecond)
		if _, err := off.put(t, p); err == nil || err.Outcome != coord.Unknown {
			t.Fatalf("%+v", err)
		}
		off.wire.loses(0)
		full := coord.FullKey("default", []byte("k"))
		if !off.replica.SerialPending(full) {
			t.Fatal("nothing is undecided")
		}
		time.Sleep(2 * time.Second)
		off.skew.Store(int64(600 * time.Millisecond)) // more than others bear
		done := make(chan struct{})
		off.Settle(full, time.Now().Add(patience), func() { close(done) })
		<-done
		r.settle()
		if off.replica.SerialPending(full) {
			t.Error("it is still undecided")
		}
	})
}
