package collect

import (
	"math/rand/v2"
	"testing"

	"github.com/atolldb/atoll/crdt"
	"github.com/atolldb/atoll/crdt/hlc"
	"github.com/atolldb/atoll/node/topology"
)

// Under any order, loss and repetition of questions and answers, of rounds that
// compete, with restarts, new actors, lost tombstones and writes in between:
// a floor is completed only when every owner has raised it, and then no owner
// has anything alive that a dropped tombstone covered.
func TestRoundsKeepTheirWord(t *testing.T) {
	seeds, completed := 3000, 0
	if testing.Short() {
		seeds = 300
	}
	for seed := range seeds {
		w := &chaos{owners: newOwners(3), rng: rand.New(rand.NewPCG(uint64(seed), 1)), seed: seed}
		for _, o := range w.owners {
			o.onComplete = func(by *owner, floor hlc.Stamp) { w.check(t, by, floor) }
		}
		for range 400 {
			w.step()
		}
		completed += w.completed
	}
	t.Logf("%d rounds were completed with %d seeds", completed, seeds)
	if completed < seeds {
		t.Error("rounds are hardly ever completed")
	}
}

type chaos struct {
	owners    []*owner
	rounds    []*Round
	mail      []letter
	ids       ID
	now       hlc.Stamp
	actors    crdt.Actor
	completed int
	rng       *rand.Rand
	seed      int
}

// letter is a question or an answer on its way.
type letter struct {
	round *Round
	to    *owner // of a question
	ask   Ask
	from  topology.NodeID // of an answer
	ans   Answer
	err   error
}

func (w *chaos) step() {
	w.now++
	o := w.owners[w.rng.IntN(100)%len(w.owners)]
	key := string(rune('a' + w.rng.IntN(100)%3))
	switch n := w.rng.IntN(100); {
	case n < 6:
		o.write(key, max(w.now*10, o.floors.Promised+1), n%2 == 0)
	case n < 16:
		o.sync(w.owners[w.rng.IntN(100)%len(w.owners)])
	case n < 22:
		for range 3 { // everybody
			for _, x := range w.owners {
				for _, y := range w.owners {
					x.sync(y)
				}
			}
		}
	case n < 23:
		o.restart(0)
	case n < 24:
		w.actors++
		o.restart(100 + w.actors)
	case n < 25:
		delete(o.records, key) // a disk loses a record
	case n < 35 && (len(w.rounds) == 0 || n == 25 && len(w.rounds) < 2):
		w.ids++
		w.rounds = append(w.rounds, NewRound(w.ids, 0, w.now*10, ids(w.owners)))
	case n < 65 && len(w.mail) < 20:
		for _, r := range w.rounds {
			to, ask := r.Asks()
			for _, x := range w.owners {
				for _, id := range to {
					if id == x.id {
						w.mail = append(w.mail, letter{round: r, to: x, ask: ask})
					}
				}
			}
		}
	case n < 97:
		for range min(len(w.mail), 8) {
			w.deliver()
		}
	default:
		if len(w.mail) > 0 {
			w.mail = w.mail[1:]
		}
		for i, r := range w.rounds {
			if r.Ended() || w.rng.IntN(100) < 5 {
				r.Stop(Cause{Detail: "given up"})
				if r.Done() {
					w.completed++
				}
				w.rounds = append(w.rounds[:i:i], w.rounds[i+1:]...)
				break
			}
		}
	}
}

func (w *chaos) deliver() {
	i := w.rng.IntN(100) % len(w.mail)
	l := w.mail[i]
	if w.rng.IntN(100) > 10 {
		w.mail = append(w.mail[:i:i], w.mail[i+1:]...)
	}
	switch {
	case l.to != nil:
		a, err := l.to.duty.Answer(l.ask)
		w.mail = append(w.mail, letter{round: l.round, from: l.to.id, ans: a, err: err})
	case l.err != nil:
		l.round.Stop(Cause{Detail: l.err.Error()})
	default:
		l.round.Answered(l.from, l.ans)
	}
}

// check is called before an owner completes a floor, the first one first.
func (w *chaos) check(t *testing.T, by *owner, floor hlc.Stamp) {
	for _, o := range w.owners {
		if o.floors.Raised < floor {
			t.Fatalf("seed %d: %s completes %v, and %s has raised %v only", w.seed, by.id, floor, o.id, o.floors.Raised)
		}
	}
	for key, r := range by.records {
		if !crdt.Collectible(r, floor) {
			continue
		}
		for _, o := range w.owners {
			for i := range o.records[key].Versions {
				v := &o.records[key].Versions[i]
				if !v.Dead && r.Covers(v.Dot) {
					t.Fatalf("seed %d: %s drops %s, and %s has %v of it alive", w.seed, by.id, key, o.id, v.Dot)
				}
			}
		}
	}
}
