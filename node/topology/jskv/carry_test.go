package jskv_test

import (
	"bytes"
	"testing"

	"github.com/atolldb/atoll/geo/natsd/natsdtest"
	"github.com/atolldb/atoll/node/topology/jskv"
	"github.com/atolldb/atoll/node/topology/topologytest"
)

// From one standalone server to three others: identities, counters, facts and
// the topology are there, and the nonce of before the move is spent once.
func TestCarry(t *testing.T) {
	solo, cfg := natsdtest.Solo(t, "east", t.TempDir()), jskv.Config{Region: "east", RegionID: topologytest.Region, Replicas: 1}
	ctx := t.Context()
	if empty, err := jskv.Export(ctx, cfg, solo.Client(t)); err != nil || bytes.Contains(empty, []byte("key")) {
		t.Fatalf("nothing is %s, %v", empty, err)
	}
	old, store := open(t, solo.Client(t), 1), openStore(t, solo.Client(t), 1)
	id, err := old.Allocate(ctx, "n1", 0)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := store.Swap(ctx, topologytest.Topology(t, 7, 7), 0); err != nil {
		t.Fatal(err)
	}
	if _, err := store.Agree(ctx, "secret", "s"); err != nil {
		t.Fatal(err)
	}
	if l := mustLead(t, store, "n1"); l != "n1" {
		t.Fatalf("%s leads", l)
	}
	data, err := jskv.Export(ctx, cfg, solo.Client(t))
	if err != nil {
		t.Fatal(err)
	}
	solo.Stop()

	nodes := natsdtest.Cluster(t, "east")
	cfg.Replicas = 3
	for range 2 { // once more changes nothing
		if err := jskv.Import(ctx, cfg, nodes[1].Client(t), data); err != nil {
			t.Fatal(err)
		}
	}
	r, s := open(t, nodes[2].Client(t), 3), openStore(t, nodes[2].Client(t), 3)
	if x, _, err := s.Load(ctx); err != nil || topologytest.Same(topologytest.Topology(t, 7, 7), x) != "" {
		t.Errorf("%+v, %v", x, err)
	}
	if have, err := s.Agree(ctx, "secret", "x"); err != nil || have != "s" {
		t.Errorf("secret %q, %v", have, err)
	}
	if l := mustLead(t, s, "n2"); l != "n2" {
		t.Errorf("the lease of n1 was carried: %s leads", l)
	}
	next, err := r.Allocate(ctx, "n2", 0)
	if err != nil || next.Actor <= id.Actor {
		t.Errorf("%+v after %+v, %v", next, id, err)
	}
	again, err := r.Resume(ctx, "n1", id)
	if err != nil || again.Actor != id.Actor {
		t.Errorf("resumed %+v, %v", again, err)
	}
	// What has moved on is not put back.
	_, at, err := s.Load(ctx)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := s.Swap(ctx, topologytest.Topology(t, 8, 8), at); err != nil {
		t.Fatal(err)
	}
	if err := jskv.Import(ctx, cfg, nodes[0].Client(t), data); err != nil {
		t.Fatal(err)
	}
	if x, _, err := s.Load(ctx); err != nil || x.Epoch != 8 {
		t.Errorf("epoch %d, %v", x.Epoch, err)
	}
	if _, err := r.Resume(ctx, "n1", again); err != nil {
		t.Errorf("its last identity: %v", err)
	}
	if more, err := r.Allocate(ctx, "n3", 0); err != nil || more.Actor <= next.Actor {
		t.Errorf("%+v after %+v, %v", more, next, err)
	}

	for name, bad := range map[string][]byte{
		"nothing": nil,
		"format":  bytes.Replace(data, []byte(`"format": 1`), []byte(`"format": 2`), 1),
		"region":  bytes.Replace(data, []byte(`"east"`), []byte(`"west"`), 1),
	} {
		if err := jskv.Import(ctx, cfg, nodes[0].Client(t), bad); err == nil {
			t.Errorf("%s: imported", name)
		}
	}
}

// A registry that lost its count goes on far above what a node has seen.
func TestRaise(t *testing.T) {
	s := natsdtest.Solo(t, "east", t.TempDir())
	r := open(t, s.Client(t), 1)
	id, err := r.Allocate(t.Context(), "n1", 0)
	if err != nil {
		t.Fatal(err)
	}
	for range 2 { // it is not raised twice
		if err := r.Raise(t.Context(), id.Actor, 1000); err != nil {
			t.Fatal(err)
		}
	}
	next, err := r.Allocate(t.Context(), "n2", 0)
	if err != nil || next.Actor.Seq() != id.Actor.Seq()+1001 {
		t.Errorf("%v after %v, %v", next.Actor, id.Actor, err)
	}
}
