package nodetest

import (
	"testing"
	"testing/synctest"
	"time"

	"github.com/hashicorp/go-hclog"

	"github.com/atolldb/atoll/node/coord"
	"github.com/atolldb/atoll/node/quorum"
)

// A data directory is put back to what it was at an earlier clean stop: the node
// answers no quorum with it before it is known to be old, however long the registry
// takes to say so, and then not before it has what it had. The third owner never got
// the write that the directory has forgotten.
func TestPutBack(t *testing.T) {
	for name, registry := range map[string]time.Duration{"at once": 0, "soon": 300 * time.Millisecond, "late": 3 * time.Second, "after a minute": time.Minute} {
		t.Run("registry "+name, func(t *testing.T) {
			stoppedCleanly(t, func(t *testing.T, w *World) {
				old, third := w.nodes[0], w.nodes[2]
				w.Stop(old)
				backup := old.disk.Copy()
				w.Start(old)
				time.Sleep(5 * time.Second)
				w.fabric.Partition(w.ids(0)[:2], w.ids(0)[2:])
				w.mustPut(t, old, "k", "new")
				w.Stop(old)
				old.disk = backup
				w.fabric.HealAll()
				// What the third one would fetch, it is not told.
				w.fabric.Cut(third.id, w.nodes[1].id)
				w.fabric.Cut(w.nodes[1].id, third.id)
				old.registry.SetDown(registry > 0)
				w.Start(old)
				began, answers := time.Now(), 0
				for time.Since(began) < registry+20*time.Second {
					if time.Since(began) >= registry {
						old.registry.SetDown(false)
					}
					if time.Since(began) > registry+10*time.Second {
						w.fabric.HealAll()
					}
					for _, by := range []*member{old, third} {
						if v, err := w.look(by, "k"); err == nil && v != "new" {
							t.Fatalf("%v after the start %s answers %q", time.Since(began), by.id, v)
						} else if err == nil {
							answers++
						}
					}
					time.Sleep(7 * time.Millisecond)
				}
				if answers == 0 {
					t.Error("nobody ever answered")
				}
				if r := old.running.Load().node.Replica(); r.BehindCount() > 0 || r.Actor() == 0 {
					t.Errorf("behind on %d partitions, actor %v", r.BehindCount(), r.Actor())
				}
			})
		})
	}
}

// A node that was stopped cleanly answers when it starts: at once when the registry
// accepts its marker, also with nobody there to compare itself with; and without the
// registry when it has met the others, or, if one of them is down, after some seconds
// those that are left.
func TestStartWithoutRegistry(t *testing.T) {
	for name, c := range map[string]struct {
		registry bool          // it answers
		down     bool          // another owner is
		least    time.Duration // until it answers
		most     time.Duration
		cut      bool // from the others
	}{
		"accepted":                 {registry: true, cut: true, most: 500 * time.Millisecond},
		"no registry":              {most: 3 * time.Second},
		"no registry, one is down": {down: true, least: 5 * time.Second, most: 8 * time.Second},
	} {
		t.Run(name, func(t *testing.T) {
			stoppedCleanly(t, func(t *testing.T, w *World) {
				m := w.nodes[0]
				w.mustPut(t, m, "k", "v")
				w.Stop(m)
				m.registry.SetDown(!c.registry)
				if c.down {
					w.Crash(w.nodes[2])
				}
				time.Sleep(5 * time.Second)
				if c.cut {
					w.fabric.Partition(w.ids(0)[:1], w.ids(0)[1:])
				}
				began := time.Now()
				w.Start(m)
				r := m.running.Load().node.Replica()
				for r.BehindCount() > 0 && time.Since(began) < time.Minute {
					time.Sleep(time.Millisecond)
				}
				if took := time.Since(began); took < c.least || took > c.most {
					t.Errorf("it answers after %v, not after %v to %v", took, c.least, c.most)
				}
				if c.cut {
					return
				}
				if v, err := w.look(m, "k"); v != "v" || err != nil {
					t.Errorf("it answers %q, %v", v, err)
				}
				m.registry.SetDown(false)
				time.Sleep(5 * time.Second)
				if r.Actor() == 0 || r.Unclean() != "" || r.BehindCount() != 0 {
					t.Errorf("actor %v, %q, %d behind", r.Actor(), r.Unclean(), r.BehindCount())
				}
				w.mustPut(t, m, "k", "next")
			})
		})
	}
}

// While the registry and an owner are away, a directory that was put back shows by
// what others have of its own: then the node waits for all of them.
func TestPutBackShows(t *testing.T) {
	stoppedCleanly(t, func(t *testing.T, w *World) {
		old, down := w.nodes[0], w.nodes[2]
		w.Stop(old)
		backup := old.disk.Copy()
		w.Start(old)
		time.Sleep(5 * time.Second)
		w.mustPut(t, old, "k", "new")
		time.Sleep(time.Second)
		w.Stop(old)
		old.disk = backup
		w.Crash(down)
		old.registry.SetDown(true)
		w.Start(old)
		r := old.running.Load().node.Replica()
		time.Sleep(20 * time.Second)
		if r.BehindCount() == 0 {
			t.Error("it answers with a directory that was put back")
		}
		old.registry.SetDown(false)
		w.Start(down)
		time.Sleep(10 * time.Second)
		if r.BehindCount() != 0 || r.Actor() == 0 {
			t.Errorf("%d behind, actor %v, when all are back", r.BehindCount(), r.Actor())
		}
		if v, err := w.look(old, "k"); v != "new" || err != nil {
			t.Errorf("it answers %q, %v", v, err)
		}
	})
}

// stoppedCleanly runs f in a region of three nodes that is whole.
func stoppedCleanly(t *testing.T, f func(*testing.T, *World)) {
	synctest.Test(t, func(t *testing.T) {
		w := New(t, 11, Shape{Regions: 1, Nodes: 3, Partitions: 1, Settled: true}, hclog.NewNullLogger())
		defer w.Close()
		if !w.settle(t.Context()) {
			t.Fatal("not whole")
		}
		f(t, w)
	})
}

func (w *World) mustPut(t *testing.T, at *member, key, value string) {
	t.Helper()
	done := make(chan error, 1)
	at.running.Load().node.Coordinator().Put(
		coord.Put{Key: []byte(key), Value: []byte(value), Overwrite: true, Level: quorum.LocalQuorum, Deadline: time.Now().Add(2 * time.Second)},
		func(_ coord.PutResult, err error) { done <- err })
	if err := <-done; err != nil {
		t.Fatal(err)
	}
}

// look reads at a quorum, "" for nothing.
func (w *World) look(at *member, key string) (string, error) {
	done := make(chan error, 1)
	value := ""
	at.running.Load().node.Coordinator().Get(
		coord.Get{Key: []byte(key), Level: quorum.LocalQuorum, Deadline: time.Now().Add(50 * time.Millisecond)},
		func(r coord.GetResult, err error) {
			if err == nil && len(r.View.Live) > 0 {
				value = string(r.View.Live[0].Value)
			}
			done <- err
		})
	err := <-done
	return value, err
}
