// Package topologytest holds the conformance suites of topology.Registry and
// topology.Store.
package topologytest

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"testing"
	"time"

	"github.com/atolldb/atoll/crdt"
	"github.com/atolldb/atoll/node/topology"
)

// Region is the region of the registries under test.
const Region topology.RegionID = 3

// Open returns a registry on the state of one test; called again, another one
// on the same state, as another node or the same node after a restart has it.
type Open func() topology.Registry

// Case is one thing a registry must do.
type Case struct {
	Name string
	Run  func(t *testing.T, open Open)
}

// Cases is the suite. Run each on a state of its own.
func Cases() []Case {
	return []Case{
		{"allocate", allocate},
		{"allocate at once", allocateAtOnce},
		{"floor", floor},
		{"resume once", resumeOnce},
		{"resume at once", resumeAtOnce},
		{"resume what is not mine", resumeForeign},
		{"allocate spends the nonce", allocateSpends},
		{"open again", openAgain},
		{"deadline", deadline},
	}
}

func within(t *testing.T) context.Context {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
	t.Cleanup(cancel)
	return ctx
}

func must(t *testing.T) func(topology.Identity, error) topology.Identity {
	return func(id topology.Identity, err error) topology.Identity {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
		if id.Actor == 0 || id.Actor.Region() != uint8(Region) || id.Nonce == "" {
			t.Fatalf("identity %+v", id)
		}
		return id
	}
}

func allocate(t *testing.T, open Open) {
	ctx, r := within(t), open()
	one := must(t)(r.Allocate(ctx, "n1", 0))
	two := must(t)(r.Allocate(ctx, "n2", 0))
	if one.Actor == two.Actor || one.Nonce == two.Nonce {
		t.Fatalf("%+v and %+v", one, two)
	}
	if one.Actor.Seq() == 0 {
		t.Fatal("sequence 0 was handed out")
	}
}

func allocateAtOnce(t *testing.T, open Open) {
	ctx := within(t)
	const nodes, each = 8, 5
	ids := make([][]topology.Identity, nodes)
	errs := make([]error, nodes)
	var wg sync.WaitGroup
	for n := range nodes {
		r := open()
		wg.Go(func() {
			for range each {
				id, err := r.Allocate(ctx, topology.NodeID(fmt.Sprintf("n%d", n)), 0)
				if err != nil {
					errs[n] = err
					return
				}
				ids[n] = append(ids[n], id)
			}
		})
	}
	wg.Wait()
	if err := errors.Join(errs...); err != nil {
		t.Fatal(err)
	}
	actors, nonces := make(map[crdt.Actor]bool), make(map[string]bool)
	for n := range ids {
		for i, id := range ids[n] {
			if actors[id.Actor] || nonces[id.Nonce] {
				t.Fatalf("%+v was handed out twice", id)
			}
			actors[id.Actor], nonces[id.Nonce] = true, true
			if i > 0 && id.Actor <= ids[n][i-1].Actor {
				t.Fatalf("actor %s after %s", id.Actor, ids[n][i-1].Actor)
			}
		}
	}
}

func floor(t *testing.T, open Open) {
	ctx, r := within(t), open()
	must(t)(r.Allocate(ctx, "n1", 0))
	high := crdt.MakeActor(1000, uint8(Region))
	if id := must(t)(r.Allocate(ctx, "n2", high)); id.Actor <= high {
		t.Fatalf("%s is not above the floor", id.Actor)
	}
	// The registry has learnt from it.
	if id := must(t)(r.Allocate(ctx, "n1", 0)); id.Actor <= high {
		t.Fatalf("%s is not above the floor of another", id.Actor)
	}
	low := crdt.MakeActor(2, uint8(Region))
	if id := must(t)(r.Allocate(ctx, "n1", low)); id.Actor <= high {
		t.Fatalf("%s: a low floor took the registry back", id.Actor)
	}
	if id, err := r.Allocate(ctx, "n1", crdt.MakeActor(5, uint8(Region)+1)); err == nil {
		t.Fatalf("a floor of another region gave %+v", id)
	}
	if id, err := r.Allocate(ctx, "n1", crdt.MakeActor(crdt.BallotEpochs-1, uint8(Region))); err == nil {
		t.Fatalf("above the last actor there is %+v", id)
	}
}

func resumeOnce(t *testing.T, open Open) {
	ctx, r := within(t), open()
	id := must(t)(r.Allocate(ctx, "n1", 0))
	for range 3 {
		next := must(t)(r.Resume(ctx, "n1", id))
		if next.Actor != id.Actor || next.Nonce == id.Nonce {
			t.Fatalf("resumed %+v as %+v", id, next)
		}
		if again, err := r.Resume(ctx, "n1", id); !errors.Is(err, topology.ErrNonceSpent) {
			t.Fatalf("a spent nonce gave %+v, %v", again, err)
		}
		id = next
	}
}

// A copied data directory: of many that offer one nonce, one goes on.
func resumeAtOnce(t *testing.T, open Open) {
	ctx := within(t)
	id := must(t)(open().Allocate(ctx, "n1", 0))
	const copies = 6
	errs := make([]error, copies)
	var wg sync.WaitGroup
	for n := range copies {
		r := open()
		wg.Go(func() { _, errs[n] = r.Resume(ctx, "n1", id) })
	}
	wg.Wait()
	won := 0
	for _, err := range errs {
		switch {
		case err == nil:
			won++
		case !errors.Is(err, topology.ErrNonceSpent):
			t.Error(err)
		}
	}
	if won != 1 {
		t.Fatalf("%d of %d copies resumed", won, copies)
	}
}

func resumeForeign(t *testing.T, open Open) {
	ctx, r := within(t), open()
	id := must(t)(r.Allocate(ctx, "n1", 0))
	for name, try := range map[string]struct {
		node topology.NodeID
		id   topology.Identity
	}{
		"another node":     {"n2", id},
		"another actor":    {"n1", topology.Identity{Actor: id.Actor + 1<<crdt.RegionBits, Nonce: id.Nonce}},
		"another nonce":    {"n1", topology.Identity{Actor: id.Actor, Nonce: id.Nonce + "x"}},
		"no nonce":         {"n1", topology.Identity{Actor: id.Actor}},
		"never registered": {"n3", topology.Identity{Actor: id.Actor, Nonce: "x"}},
	} {
		if got, err := r.Resume(ctx, try.node, try.id); !errors.Is(err, topology.ErrNonceSpent) {
			t.Errorf("%s: %+v, %v", name, got, err)
		}
	}
	must(t)(r.Resume(ctx, "n1", id)) // none of it spent the right one
}

func allocateSpends(t *testing.T, open Open) {
	ctx, r := within(t), open()
	old := must(t)(r.Allocate(ctx, "n1", 0))
	id := must(t)(r.Allocate(ctx, "n1", old.Actor))
	if id.Before != old.Actor || old.Before != 0 {
		t.Fatalf("after %+v came %+v", old, id)
	}
	if got, err := r.Resume(ctx, "n1", old); !errors.Is(err, topology.ErrNonceSpent) {
		t.Fatalf("the older actor was resumed: %+v, %v", got, err)
	}
	must(t)(r.Resume(ctx, "n1", id))
}

func openAgain(t *testing.T, open Open) {
	ctx := within(t)
	id := must(t)(open().Allocate(ctx, "n1", 0))
	r := open()
	next := must(t)(r.Resume(ctx, "n1", id))
	if got, err := open().Resume(ctx, "n1", id); !errors.Is(err, topology.ErrNonceSpent) {
		t.Fatalf("opened again, a spent nonce gave %+v, %v", got, err)
	}
	if other := must(t)(open().Allocate(ctx, "n2", 0)); other.Actor == next.Actor {
		t.Fatalf("opened again, %s was handed out twice", other.Actor)
	}
}

func deadline(t *testing.T, open Open) {
	r := open()
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	if id, err := r.Allocate(ctx, "n1", 0); !errors.Is(err, context.Canceled) {
		t.Fatalf("after the deadline: %+v, %v", id, err)
	}
	if id, err := r.Resume(ctx, "n1", topology.Identity{Actor: crdt.MakeActor(1, uint8(Region)), Nonce: "x"}); !errors.Is(err, context.Canceled) {
		t.Fatalf("after the deadline: %+v, %v", id, err)
	}
}
