package topology_test

import (
	"context"
	"errors"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/hashicorp/go-hclog"

	"github.com/atolldb/atoll/node/topology"
	"github.com/atolldb/atoll/node/topology/memtopo"
	"github.com/atolldb/atoll/node/topology/topologytest"
)

// member is a node as a keeper sees it.
type member struct {
	mu      sync.Mutex
	durable *topology.Topology
	fail    atomic.Bool
	heard   atomic.Int64 // answers to a survey; -1 asks nobody
	logged  lines
}

func (m *member) current() *topology.Topology {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.durable
}

func (m *member) adopt(_ context.Context, t *topology.Topology) error {
	if m.fail.Load() {
		return errors.New("the disk is full")
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	if t.Epoch > m.durable.Epoch {
		m.durable = t
	}
	return nil
}

type lines struct{ n atomic.Int64 }

func (l *lines) Write(b []byte) (int, error) {
	l.n.Add(1)
	return len(b), nil
}

// run runs a keeper of a member until the test ends.
func run(t *testing.T, s topology.Store, has *topology.Topology) *member {
	m := &member{durable: has}
	m.heard.Store(2)
	k := topology.NewKeeper(topology.KeeperConfig{
		Store: s, Current: m.current, Adopt: m.adopt,
		Survey: func(context.Context) (int, bool) {
			heard := int(m.heard.Load())
			return heard, 2*(1+heard) > len(m.current().Present())
		},
		Logger: hclog.New(&hclog.LoggerOptions{Level: hclog.Error, Output: &m.logged}),
	})
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- k.Run(ctx) }()
	t.Cleanup(func() {
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
	return m
}

func epochs(ms ...*member) (es []topology.Epoch) {
	for _, m := range ms {
		es = append(es, m.current().Epoch)
	}
	return es
}

func stored(t *testing.T, s topology.Store) *topology.Topology {
	t.Helper()
	x, _, err := s.Load(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	return x
}

func all(t *testing.T, want topology.Epoch, ms ...*member) {
	t.Helper()
	for _, e := range epochs(ms...) {
		if e != want {
			t.Errorf("epochs %v, want %d", epochs(ms...), want)
			return
		}
	}
}

// A new region: the store gets what everybody was configured with.
func TestKeeperBootstraps(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := memtopo.NewStore()
		first := topologytest.Topology(t, 1, 0)
		a, b := run(t, s, first), run(t, s, first)
		time.Sleep(time.Minute)
		if d := topologytest.Same(first, stored(t, s)); d != "" {
			t.Error(d)
		}
		all(t, 1, a, b)
	})
}

func TestKeeperFollows(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := memtopo.NewStore()
		a, b := run(t, s, topologytest.Topology(t, 1, 0)), run(t, s, topologytest.Topology(t, 1, 0))
		time.Sleep(time.Minute)
		_, at, err := s.Load(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		b.fail.Store(true)
		at, err = s.Swap(t.Context(), topologytest.Topology(t, 5, 0), at)
		if err != nil {
			t.Fatal(err)
		}
		synctest.Wait()
		all(t, 5, a)
		all(t, 1, b)
		if b.logged.n.Load() == 0 {
			t.Error("b did not say that it could not adopt")
		}
		b.fail.Store(false)
		time.Sleep(time.Minute)
		all(t, 5, a, b)
		// An outage: they go on, and see what came meanwhile.
		s.SetDown(true)
		time.Sleep(time.Hour)
		s.SetDown(false)
		if _, err := s.Swap(t.Context(), topologytest.Topology(t, 6, 0), at); err != nil {
			t.Fatal(err)
		}
		synctest.Wait()
		all(t, 6, a, b)
	})
}

// A store that lost everything, or was put back, gets the newest that nodes
// have; those that were behind get it from there.
func TestKeeperMends(t *testing.T) {
	for name, spoil := range map[string]func(*memtopo.Store){
		"lost": func(s *memtopo.Store) { s.Forget() },
		"put back": func(s *memtopo.Store) {
			s.Forget()
			if _, err := s.Swap(t.Context(), topologytest.Topology(t, 3, 0), 0); err != nil {
				t.Error(err)
			}
		},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				s := memtopo.NewStore()
				spoil(s)
				newest := topologytest.Topology(t, 9, 9)
				a, b, c := run(t, s, topologytest.Topology(t, 8, 0)), run(t, s, newest), run(t, s, topologytest.Topology(t, 2, 0))
				time.Sleep(2 * time.Minute)
				if d := topologytest.Same(newest, stored(t, s)); d != "" {
					t.Error(d)
				}
				all(t, 9, a, b, c)
				s.Forget()
				time.Sleep(time.Minute)
				if d := topologytest.Same(newest, stored(t, s)); d != "" {
					t.Errorf("while they ran: %s", d)
				}
			})
		})
	}
}

// Without a majority nobody can say what is the newest.
func TestKeeperAsksAMajority(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := memtopo.NewStore()
		a := run(t, s, topologytest.Topology(t, 7, 0))
		a.heard.Store(0)
		time.Sleep(time.Hour)
		if x := stored(t, s); x != nil {
			t.Errorf("one of three stored epoch %d", x.Epoch)
		}
		a.heard.Store(1)
		time.Sleep(time.Minute)
		if x := stored(t, s); x == nil || x.Epoch != 7 {
			t.Errorf("two of three stored %v", x)
		}
	})
}

// Two topologies of one epoch are told, once, and the next change ends it.
func TestKeeperSplit(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := memtopo.NewStore()
		at, err := s.Swap(t.Context(), topologytest.Topology(t, 4, 1), 0)
		if err != nil {
			t.Fatal(err)
		}
		a := run(t, s, topologytest.Topology(t, 4, 2))
		time.Sleep(time.Hour)
		if n := a.logged.n.Load(); n != 1 {
			t.Errorf("%d lines", n)
		}
		if _, err := s.Swap(t.Context(), topologytest.Topology(t, 5, 1), at); err != nil {
			t.Fatal(err)
		}
		synctest.Wait()
		if d := topologytest.Same(stored(t, s), a.current()); d != "" {
			t.Error(d)
		}
	})
}
