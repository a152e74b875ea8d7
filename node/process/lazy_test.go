package process

import (
	"context"
	"errors"
	"testing"
	"time"

	"github.com/atolldb/atoll/geo"
	"github.com/atolldb/atoll/geo/memlog"
	"github.com/atolldb/atoll/node/topology"
	"github.com/atolldb/atoll/node/topology/memtopo"
	"github.com/atolldb/atoll/node/topology/topologytest"
)

func TestPendingWaitsForNATS(t *testing.T) {
	to := &pending{made: make(chan struct{})}
	inForce := topologytest.Topology(t, 5, 0)
	r, l := pendingRegistry{to, func() *topology.Topology { return inForce }}, pendingLog{to}
	ended, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := r.Allocate(ended, "n", 0); !errors.Is(err, errNotConnected) {
		t.Errorf("allocate: %v", err)
	}
	if _, err := r.Resume(ended, "n", topology.Identity{}); !errors.Is(err, errNotConnected) {
		t.Errorf("resume: %v", err)
	}
	if err := l.Announce(nil); !errors.Is(err, errNotConnected) {
		t.Errorf("announce: %v", err)
	}
	told := make(chan error)
	l.Append(geo.Batch{}, func(err error) { told <- err }) // not on this stack, or it would hang
	if err := <-told; !errors.Is(err, errNotConnected) {
		t.Errorf("append: %v", err)
	}

	waiting := make(chan error)
	go func() {
		_, err := r.Allocate(t.Context(), "n", 0)
		waiting <- err
	}()
	store := memtopo.NewStore()
	to.registry, to.store, to.log = memtopo.New(1), store, memlog.New(1, memlog.Faults{}).Log("r")
	close(to.made)
	// A store that knows less than this node has lost its count of actors.
	if _, err := store.Swap(t.Context(), topologytest.Topology(t, 4, 0), 0); err != nil {
		t.Fatal(err)
	}
	short, give := context.WithTimeout(t.Context(), time.Second)
	defer give()
	if id, err := r.Allocate(short, "n", 0); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("allocated %+v, %v", id, err)
	}
	if _, err := store.Swap(t.Context(), inForce, 1); err != nil {
		t.Fatal(err)
	}
	if err := <-waiting; err != nil {
		t.Errorf("allocate that waited: %v", err)
	}
	l.Append(geo.Batch{Header: geo.Header{Origin: "r", Node: "n", Number: 1, Count: 0}}, func(err error) { told <- err })
	if err := <-told; err != nil {
		t.Errorf("append: %v", err)
	}
	if err := l.Announce(nil); err != nil {
		t.Errorf("announce: %v", err)
	}
}
