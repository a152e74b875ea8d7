package memtopo_test

import (
	"errors"
	"testing"

	"github.com/atolldb/atoll/node/topology"
	"github.com/atolldb/atoll/node/topology/memtopo"
	"github.com/atolldb/atoll/node/topology/topologytest"
)

func TestConformance(t *testing.T) {
	for _, c := range topologytest.Cases() {
		t.Run(c.Name, func(t *testing.T) {
			r := memtopo.New(topologytest.Region)
			c.Run(t, func() topology.Registry { return r })
		})
	}
}

// A registry that lost its state re-uses nothing, thanks to the floor.
func TestForget(t *testing.T) {
	ctx, r := t.Context(), memtopo.New(3)
	id, err := r.Allocate(ctx, "n1", 0)
	if err != nil {
		t.Fatal(err)
	}
	r.Forget()
	if _, err := r.Resume(ctx, "n1", id); !errors.Is(err, topology.ErrNonceSpent) {
		t.Fatalf("resume: %v", err)
	}
	next, err := r.Allocate(ctx, "n1", id.Actor)
	if err != nil || next.Actor <= id.Actor || next.Nonce == id.Nonce {
		t.Fatalf("%+v after %+v, %v", next, id, err)
	}
	r.SetDown(true)
	if _, err := r.Resume(ctx, "n1", next); !errors.Is(err, memtopo.ErrDown) {
		t.Fatalf("down: %v", err)
	}
	r.SetDown(false)
	if _, err := r.Resume(ctx, "n1", next); err != nil {
		t.Fatal(err)
	}
}
