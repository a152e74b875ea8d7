package crdt

import (
	"fmt"
	"math/bits"
	"slices"
	"strings"
	"testing"

	"github.com/atolldb/atoll/crdt/hlc"
	"pgregory.net/rapid"
)

// The dumb twin of a record: sets of events. An event knows which events its
// writer had seen; a state is the set of all events that went into it; what is
// live is every event of the set that no other one of the set has seen.
type twinEvent struct {
	dot  Dot
	seen uint64 // events seen by the writer, closed
}

// twinState is a record beside the set of events that made it.
type twinState struct {
	rec Record
	set uint64
}

// twinHistory is a random history of one key without faults: owners mint on
// their own state, clients write with what they read, records travel whole.
type twinHistory struct {
	events []twinEvent
	// states are all that was reached, by owners and by clients' reads.
	states []twinState
}

// GoString keeps rapid's reports short.
func (h *twinHistory) GoString() string {
	var b strings.Builder
	for i, e := range h.events {
		fmt.Fprintf(&b, "%d:%v saw %b; ", i, e.dot, e.seen)
	}
	return b.String()
}

func (h *twinHistory) live(set uint64) []Dot {
	var out []Dot
	for i := range h.events {
		if set>>i&1 == 0 {
			continue
		}
		covered := false
		for j, e := range h.events {
			covered = covered || set>>j&1 == 1 && e.seen>>i&1 == 1
		}
		if !covered {
			out = append(out, h.events[i].dot)
		}
	}
	slices.SortFunc(out, Dot.Compare)
	return out
}

func dotsOf(r Record) []Dot {
	var out []Dot
	for i := range r.Versions {
		out = append(out, r.Versions[i].Dot)
	}
	return out
}

var histories = rapid.Custom(func(t *rapid.T) *twinHistory {
	h := &twinHistory{states: []twinState{{}}}
	owners := make([]twinState, rapid.IntRange(1, 4).Draw(t, "owners"))
	actors := rapid.Permutation([]Actor{MakeActor(1, 1), MakeActor(2, 1), MakeActor(900, 2), MakeActor(1<<20, 63)}).Draw(t, "actors")
	counters := make([]uint64, len(owners))
	steps := rapid.IntRange(1, 30).Draw(t, "steps")
	for range steps {
		o := rapid.IntRange(0, len(owners)-1).Draw(t, "owner")
		own := &owners[o]
		if rapid.Bool().Draw(t, "exchange") {
			p := rapid.IntRange(0, len(owners)-1).Draw(t, "peer")
			*own = twinState{Join(own.rec, owners[p].rec), own.set | owners[p].set}
			h.states = append(h.states, *own)
			continue
		}
		// The writer has seen one earlier state, which may be stale, or that
		// of the minter (overwrite), or nothing.
		var read twinState
		switch rapid.IntRange(0, 3).Draw(t, "context") {
		case 0:
		case 1:
			read = *own
		default:
			read = rapid.SampledFrom(h.states).Draw(t, "read")
		}
		ctx := read.rec.Context()
		counters[o] += rapid.Uint64Range(1, 3).Draw(t, "counter")
		v := Version{
			Dot:   Dot{actors[o], counters[o]},
			Stamp: max(ctx.Stamp, own.rec.MaxStamp()) + hlc.Stamp(rapid.Uint64Range(1, 1<<20).Draw(t, "stamp")),
			Dead:  rapid.IntRange(0, 2).Draw(t, "dead") == 0,
		}
		if !v.Dead {
			v.Value = []byte(fmt.Sprint(len(h.events)))
		}
		if rapid.IntRange(0, 4).Draw(t, "meta") == 0 {
			v.Meta = []byte{1, 2, 3}
		}
		if rapid.IntRange(0, 4).Draw(t, "expiry") == 0 {
			v.Expiry = rapid.Int64Range(1, 100).Draw(t, "at")
		}
		h.events = append(h.events, twinEvent{v.Dot, read.set})
		*own = twinState{Write(own.rec, ctx.Seen, v), own.set | read.set | 1<<(len(h.events)-1)}
		// A reader's answer may join several owners' records.
		h.states = append(h.states, *own)
	}
	return h
})

// state draws one reached state, or a join of two.
func (h *twinHistory) state(t *rapid.T, name string) twinState {
	return rapid.SampledFrom(h.states).Draw(t, name)
}

// A write with a context that its minter has not received takes the minter's
// state past events it does not know; the twin counts them as part of it. The
// twin is sound only if that is so everywhere: the sets must be closed.
func TestTwinIsClosed(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		h := histories.Draw(t, "history")
		for _, s := range h.states {
			for i, e := range h.events {
				if s.set>>i&1 == 1 && e.seen&^s.set != 0 {
					t.Fatalf("state %b has event %d without its past %b", s.set, i, e.seen)
				}
			}
		}
	})
}

func TestHistoriesAreRich(t *testing.T) {
	most, dead := 0, 0
	rapid.Check(t, func(t *rapid.T) {
		h := histories.Draw(t, "history")
		for _, s := range h.states {
			most = max(most, len(s.rec.Versions))
			if s.rec.Dead(0) && bits.OnesCount64(s.set) > 1 {
				dead++
			}
		}
	})
	if most < 3 || dead == 0 {
		t.Fatalf("at most %d siblings, %d deleted states: the generator tests too little", most, dead)
	}
}
