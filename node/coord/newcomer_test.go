package coord_test

import (
	"testing"
	"testing/synctest"
	"time"

	"github.com/atolldb/atoll/hashring"
	"github.com/atolldb/atoll/node/coord"
	"github.com/atolldb/atoll/node/peer"
	"github.com/atolldb/atoll/node/quorum"
	"github.com/atolldb/atoll/node/replica"
	"github.com/atolldb/atoll/node/topology"
)

// overtaken is a region in which d has just taken a key over from a; b and c are its
// other owners. A retry of a request was carried out before, of which d has not heard:
// the first attempt is still on its way.
type overtaken struct {
	*region
	a, b, c, d *member
	id         coord.RequestID
	retry      coord.PutResult
}

func overtake(t *testing.T) *overtaken {
	r := grown(t, 4)
	os := r.owners("default", "k")
	o := &overtaken{region: r, a: os[0], b: os[1], c: os[2], d: r.outsider("default", "k")}
	r.adopt(r.move("k", 0, o.a.id, o.d.id, topology.Copying), r.all()...)
	r.catchUp(o.d)
	time.Sleep(time.Minute)
	o.id = request(1)
	o.a.wire.answers(peer.VerbApply, o.d.id, time.Millisecond, peer.ErrNotSent)
	var err *coord.Error
	if o.retry, err = o.a.put(t, again("k", "v", o.id)); err != nil || o.retry.Replayed || o.retry.MaybeDuplicate {
		t.Fatalf("%+v, %v", o.retry, err)
	}
	o.a.wire.clear()
	r.adopt(r.move("k", 0, o.a.id, o.d.id, topology.Switched), r.all()...)
	return o
}

// The first attempt of a request that arrives after a retry, at an owner that this one
// did not ask since it was none yet, is no second event.
func TestNewcomer(t *testing.T) {
	t.Run("another owner mints", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			o := overtake(t)
			res, err := o.d.put(t, named("k", "v", o.id))
			if err != nil || !res.Replayed || res.MaybeDuplicate || res.Version != o.retry.Version {
				t.Errorf("%+v, %v; the retry was %+v", res, err, o.retry)
			}
			o.holds("k", "v")
		})
	})
	t.Run("forwarded", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			o := overtake(t)
			res, err := o.a.put(t, named("k", "v", o.id))
			if err != nil || !res.Replayed || res.MaybeDuplicate || res.Version != o.retry.Version {
				t.Errorf("%+v, %v; the retry was %+v", res, err, o.retry)
			}
			o.holds("k", "v")
		})
	})
	t.Run("nobody retried", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			o := overtake(t)
			res, err := o.d.put(t, named("k", "other", request(2)))
			if err != nil || res.Replayed || res.MaybeDuplicate || res.Version.Actor != o.b.replica.Actor() {
				t.Errorf("%+v, %v", res, err)
			}
			time.Sleep(replica.RequestAhead + time.Second)
			res, err = o.d.put(t, named("k", "later", request(3)))
			if err != nil || res.Replayed || res.MaybeDuplicate || res.Version.Actor != o.d.replica.Actor() {
				t.Errorf("%+v, %v: it is a newcomer no more", res, err)
			}
		})
	})
	t.Run("all others are away", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			o := overtake(t)
			o.kill(o.b.id)
			o.kill(o.c.id)
			p := named("k", "v", o.id)
			p.Level = quorum.LocalOne
			// Who served the key before has it.
			res, err := o.d.put(t, p)
			if err != nil || !res.Replayed || res.Version != o.retry.Version {
				t.Errorf("%+v, %v; the retry was %+v", res, err, o.retry)
			}
		})
		synctest.Test(t, func(t *testing.T) {
			o := overtake(t)
			done := o.top.Clone()
			done.Epoch++
			done.Since[o.partition("default", "k")] = done.Epoch
			table, err := hashring.Apply(done.Table, []hashring.Move{{Partition: o.partition("default", "k"), Slot: 0, From: string(o.a.id), To: string(o.d.id)}})
			if err != nil {
				t.Fatal(err)
			}
			done.Table, done.Moves, done.Tasks = table, nil, nil
			o.adopt(done, o.all()...)
			o.kill(o.b.id)
			o.kill(o.c.id)
			p := named("k", "v", o.id)
			p.Level = quorum.LocalOne
			res, failed := o.d.put(t, p)
			if failed != nil || res.Replayed || !res.MaybeDuplicate {
				t.Errorf("%+v, %v; it may be there twice", res, failed)
			}
		})
	})
}
