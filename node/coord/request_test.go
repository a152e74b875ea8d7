package coord_test

import (
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"github.com/atolldb/atoll/crdt"
	"github.com/atolldb/atoll/node/coord"
	"github.com/atolldb/atoll/node/peer"
)

// request is the n-th id that is made now.
func request(n byte) coord.RequestID {
	return crdt.MakeRequestID(time.Now().UnixMilli(), [10]byte{9: n})
}

// named is a blind put of a value with a request id.
func named(k, v string, id coord.RequestID) coord.Put {
	p := put(k, v)
	p.RequestID = id
	return p
}

func values(rec crdt.Record) (out []string) {
	for i := range rec.Versions {
		out = append(out, string(rec.Versions[i].Value))
	}
	slices.Sort(out)
	return out
}

// holds fails unless all owners have exactly these versions.
func (r *region) holds(k string, want ...string) {
	r.t.Helper()
	r.settle()
	for _, o := range r.owners("default", k) {
		if got := values(o.held(r.t, "default", k)); !slices.Equal(got, want) {
			r.t.Errorf("%s holds %q, want %q", o.id, got, want)
		}
	}
}

// A forwarded write that the network delivers twice is one event, and so is one
// that is sent again to the same minter.
func TestForwardedTwice(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRegion(t, 4)
		via := r.outsider("default", "k")
		id := request(1)
		via.wire.twice(peer.VerbForward)
		first, err := via.put(t, named("k", "v", id))
		if err != nil {
			t.Fatal(err)
		}
		r.holds("k", "v")
		again, err := via.put(t, named("k", "v", id))
		if err != nil || !again.Replayed || again.Version != first.Version || again.Stamp != first.Stamp {
			t.Errorf("%+v, %+v, %v", first, again, err)
		}
		r.holds("k", "v")
		via.wire.twice(0)
		// Without an id, nobody could know.
		if _, err := via.put(t, put("k", "v")); err != nil {
			t.Error(err)
		}
		r.holds("k", "v", "v")
	})
}

// A replay gives the write to those who missed it, so that it is acknowledged by
// as many as the level asks for.
func TestReplaySpreads(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRegion(t, 3)
		a := r.owners("default", "k")[0]
		id := request(1)
		a.wire.answers(peer.VerbApply, "", time.Millisecond, peer.ErrNotSent)
		if _, err := a.put(t, named("k", "v", id)); err == nil || err.Outcome != coord.Unknown {
			t.Fatalf("%+v", err)
		}
		a.wire.clear()
		res, err := a.put(t, named("k", "v", id))
		if err != nil || !res.Replayed || len(res.Achieved.Replicas) < 2 {
			t.Fatalf("%+v, %v", res, err)
		}
		r.holds("k", "v")
	})
}
