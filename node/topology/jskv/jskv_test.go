package jskv_test

import (
	"context"
	"errors"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	natsjs "github.com/nats-io/nats.go/jetstream"

	"github.com/atolldb/atoll/geo/natsd/natsdtest"
	"github.com/atolldb/atoll/node/topology"
	"github.com/atolldb/atoll/node/topology/jskv"
	"github.com/atolldb/atoll/node/topology/topologytest"
)

func open(t *testing.T, nc *nats.Conn, replicas int) *jskv.Registry {
	t.Helper()
	r, err := jskv.New(jskv.Config{Region: "east", RegionID: topologytest.Region, Replicas: replicas}, nc)
	if err != nil {
		t.Fatal(err)
	}
	return r
}

func TestConformance(t *testing.T) {
	for _, c := range topologytest.Cases() {
		t.Run(c.Name, func(t *testing.T) {
			t.Parallel()
			s := natsdtest.Solo(t, "east", t.TempDir())
			c.Run(t, func() topology.Registry { return open(t, s.Client(t), 1) })
		})
	}
}

func TestBucketReadsFromTheLeader(t *testing.T) {
	s := natsdtest.Solo(t, "east", t.TempDir())
	if _, err := open(t, s.Client(t), 1).Allocate(t.Context(), "n1", 0); err != nil {
		t.Fatal(err)
	}
	js, err := natsjs.New(s.Client(t))
	if err != nil {
		t.Fatal(err)
	}
	stream, err := js.Stream(t.Context(), "KV_TOPO_east")
	if err != nil {
		t.Fatal(err)
	}
	if c := stream.CachedInfo().Config; c.AllowDirect || c.Storage != natsjs.FileStorage || c.MaxAge != 0 {
		t.Fatalf("bucket is %+v", c)
	}
}

// What was handed out outlives the servers.
func TestSurvivesRestart(t *testing.T) {
	dir := t.TempDir()
	s := natsdtest.Solo(t, "east", dir)
	id, err := open(t, s.Client(t), 1).Allocate(t.Context(), "n1", 0)
	if err != nil {
		t.Fatal(err)
	}
	s.Stop()
	r := open(t, natsdtest.Solo(t, "east", dir).Client(t), 1)
	if _, err := r.Resume(t.Context(), "n1", id); err != nil {
		t.Fatal(err)
	}
	if _, err := r.Resume(t.Context(), "n1", id); !errors.Is(err, topology.ErrNonceSpent) {
		t.Fatalf("resume: %v", err)
	}
	next, err := r.Allocate(t.Context(), "n2", 0)
	if err != nil || next.Actor <= id.Actor {
		t.Fatalf("%+v after %+v, %v", next, id, err)
	}
}

// Called at once after the start of a cluster, when nobody answers yet, and
// again without one of the servers.
func TestCluster(t *testing.T) {
	nodes := natsdtest.Cluster(t, "east")
	ctx, cancel := context.WithTimeout(t.Context(), 60*time.Second)
	defer cancel()
	began := time.Now()
	r := open(t, nodes[0].Client(t), 3)
	id, err := r.Allocate(ctx, "n1", 0)
	if err != nil {
		t.Fatal(err)
	}
	t.Logf("first identity %v after the servers listened", time.Since(began))
	nodes[2].Stop()
	began = time.Now()
	if id, err = r.Resume(ctx, "n1", id); err != nil {
		t.Fatal(err)
	}
	t.Logf("resumed %v after a server stopped", time.Since(began))
	nodes[1].Stop() // no majority: no answer, and no identity
	short, done := context.WithTimeout(ctx, 3*time.Second)
	defer done()
	if got, err := r.Resume(short, "n1", id); !errors.Is(err, context.DeadlineExceeded) {
		t.Fatalf("without a majority: %+v, %v", got, err)
	}
}
