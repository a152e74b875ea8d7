package process

import (
	"context"
	"errors"
	"testing"

	"github.com/atolldb/atoll/geo"
	"github.com/atolldb/atoll/geo/memlog"
	"github.com/atolldb/atoll/node/topology"
	"github.com/atolldb/atoll/node/topology/memtopo"
)

func TestPendingWaitsForNATS(t *testing.T) {
	to := &pending{made: make(chan struct{})}
	r, l := pendingRegistry{to}, pendingLog{to}
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
	to.registry, to.log = memtopo.New(1), memlog.New(1, memlog.Faults{}).Log("r")
	close(to.made)
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
