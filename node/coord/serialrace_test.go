package coord_test

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"github.com/atolldb/atoll/node/coord"
	"github.com/atolldb/atoll/node/peer/memnet"
)

// A write on a condition races with a plain write that any of the owners takes: the
// condition fails if that was acknowledged before; else it fails, or both are there. The
// plain write is never lost, and what the condition was on is replaced only where it held.
func TestConditionsRacePlainWrites(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRegion(t, 3)
		for _, a := range r.ids() {
			for _, b := range r.ids() {
				if a != b {
					r.fabric.SetLink(a, b, memnet.Faults{MaxDelay: 10 * time.Millisecond})
				}
			}
		}
		time.Sleep(time.Second) // until new acceptors take the ballots of now
		rng := rand.New(rand.NewPCG(4, 4))
		both, before, refused := 0, 0, 0
		for n := range 300 {
			k := fmt.Sprint("k", n)
			owners := r.owners("default", k)
			base := owners[0].mustPut(t, serialPut(k, "base", ifAbsent))
			plain, decided := put(k, "plain"), serialPut(k, "decided", ifVersion(base.Version))
			plain.Deadline, decided.Deadline = time.Now().Add(patience), time.Now().Add(patience)
			write := func(p coord.Put) *once[coord.PutResult] { return owners[rng.IntN(3)].startPut(t, p) }
			var a, b *once[coord.PutResult]
			pause := func() { time.Sleep(time.Duration(rng.IntN(20)) * time.Millisecond) }
			if rng.IntN(2) == 0 {
				a = write(plain)
				pause()
			}
			b = write(decided)
			began := time.Now()
			if a == nil {
				pause()
				a = write(plain)
			}
			if _, err := a.wait(); err != nil {
				t.Fatalf("the plain write: %v", err)
			}
			_, err := b.wait()
			want := []string{"decided", "plain"}
			switch {
			case err == nil && a.at.Before(began):
				t.Errorf("%s: the condition held though a plain write was acknowledged before", k)
			case err == nil:
				both++
			case err.Code != coord.CodeConditionFailed || err.Outcome != coord.NotApplied:
				t.Fatalf("the write on a condition: %v", err)
			case a.at.Before(began):
				before++
				want[0] = "base"
			default:
				refused++
				want[0] = "base"
			}
			r.settle()
			for _, o := range owners {
				rec := o.held(t, "default", k)
				var got []string
				for i := range rec.Versions {
					got = append(got, string(rec.Versions[i].Value))
				}
				if slices.Sort(got); !slices.Equal(got, slices.Sorted(slices.Values(want))) {
					t.Errorf("%s: %s holds %q, want %q", k, o.id, got, want)
				}
			}
			if len(owners[1].mustGet(t, coord.Get{Key: []byte(k), Level: serialGet(k).Level}).View.Live) != 2 {
				t.Errorf("%s: a read at this level does not show both", k)
			}
		}
		t.Logf("%d times both, %d times refused, and %d times of what was acknowledged before", both, refused, before)
		if both < 10 || refused < 10 || before < 10 {
			t.Error("there were not all outcomes")
		}
	})
}
