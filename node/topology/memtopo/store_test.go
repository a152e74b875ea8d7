package memtopo_test

import (
	"context"
	"errors"
	"testing"
	"testing/synctest"
	"time"

	"github.com/atolldb/atoll/node/topology"
	"github.com/atolldb/atoll/node/topology/memtopo"
	"github.com/atolldb/atoll/node/topology/topologytest"
)

func TestStoreConformance(t *testing.T) {
	for _, c := range topologytest.StoreCases() {
		t.Run(c.Name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				s := memtopo.NewStore()
				c.Run(t, func() topology.Store { return s })
			})
		})
	}
}

// While it is down nothing answers, and a watch goes on afterwards.
func TestStoreDown(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := memtopo.NewStore()
		ctx, stop := context.WithCancel(t.Context())
		seen := make(chan topology.Epoch, 4)
		ended := make(chan error, 1)
		go func() {
			ended <- s.Watch(ctx, func(x *topology.Topology, _ topology.Revision) { seen <- x.Epoch })
		}()
		s.SetDown(true)
		short, done := context.WithTimeout(ctx, time.Second)
		defer done()
		if _, err := s.Swap(short, topologytest.Topology(t, 1, 0), 0); !errors.Is(err, memtopo.ErrDown) || !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("swap: %v", err)
		}
		time.AfterFunc(time.Minute, func() { s.SetDown(false) })
		if _, err := s.Swap(ctx, topologytest.Topology(t, 2, 0), 0); err != nil {
			t.Error(err)
		}
		if e := <-seen; e != 2 {
			t.Errorf("saw epoch %d", e)
		}
		s.Forget()
		if x, at, err := s.Load(ctx); x != nil || at != 0 || err != nil {
			t.Errorf("forgotten: %v, %d, %v", x, at, err)
		}
		if _, err := s.Swap(ctx, topologytest.Topology(t, 2, 1), 0); err != nil {
			t.Error(err)
		}
		if e := <-seen; e != 2 {
			t.Errorf("saw epoch %d", e)
		}
		stop()
		if err := <-ended; !errors.Is(err, context.Canceled) {
			t.Error(err)
		}
	})
}

// A lost answer leaves open what happened, and it happened.
func TestStoreMute(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := memtopo.NewStore()
		s.SetMute(true)
		ctx, done := context.WithTimeout(t.Context(), time.Second)
		defer done()
		if _, err := s.Swap(ctx, topologytest.Topology(t, 1, 0), 0); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("got %v", err)
		}
		if x, _, err := s.Load(t.Context()); err != nil || x == nil {
			t.Errorf("stored: %v, %v", x, err)
		}
	})
}
