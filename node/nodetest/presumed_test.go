package nodetest

import (
	"testing"
	"testing/synctest"
	"time"

	"github.com/hashicorp/go-hclog"

	"github.com/atolldb/atoll/crdt"
	"github.com/atolldb/atoll/node/coord"
	"github.com/atolldb/atoll/node/quorum"
)

// A writer that has seen nothing gets the context of its own write, at LOCAL_ONE: it
// does not cover what somebody else had replaced at that node before, and nobody but
// that node knows by what. So when the writer goes on at the others, while that node is
// away, what a quorum had acknowledged is still there.
func TestContextPresumesNothing(t *testing.T) {
	stoppedCleanly(t, func(t *testing.T, w *World) {
		first, second, third := w.nodes[0], w.nodes[1], w.nodes[2]
		w.put(t, second, coord.Put{Value: []byte("oldest"), Level: quorum.LocalAll})
		_, ctx := w.get(t, first, quorum.LocalAll)
		// Minted by the first, on top of the oldest; a quorum has it.
		promised := w.put(t, first, coord.Put{Value: []byte("promised"), Context: ctx, Level: quorum.LocalAll})
		w.fabric.Partition(w.ids(0)[:1], w.ids(0)[1:])
		// Only the first has what replaces it, and a write beside that.
		w.put(t, first, coord.Put{Value: []byte("replaces"), Context: promised.Context, Level: quorum.LocalOne})
		beside := w.put(t, first, coord.Put{Value: []byte("beside"), Level: quorum.LocalOne})
		w.Crash(first)
		w.fabric.HealAll()
		time.Sleep(5 * time.Second)
		w.put(t, second, coord.Put{Value: []byte("next"), Context: beside.Context, Level: quorum.LocalQuorum})
		shows, _ := w.get(t, third, quorum.LocalQuorum)
		if !shows["promised"] || !shows["next"] {
			t.Errorf("while the first is away a quorum shows %v", shows)
		}
		w.Start(first)
		time.Sleep(10 * time.Second)
		if shows, _ := w.get(t, third, quorum.LocalAll); !shows["replaces"] || !shows["next"] || len(shows) != 2 {
			t.Errorf("when it is back they show %v", shows)
		}
	})
}

// The same between regions, where a quorum of the one has it all: the context of its
// answer is used in the other one before the log brings what it has replaced there.
func TestContextPresumesNothingAbroad(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := New(t, 12, Shape{Regions: 2, Nodes: 3, Partitions: 1, Settled: true}, hclog.NewNullLogger())
		defer w.Close()
		if !w.settle(t.Context()) {
			t.Fatal("not whole")
		}
		here, there := w.in(0), w.in(1)
		promised := w.put(t, here, coord.Put{Value: []byte("promised"), Level: quorum.EachQuorum})
		for _, c := range [][2]int{{0, 1}, {1, 0}} {
			w.fabric.Partition(w.ids(c[0]), w.ids(c[1]))
			w.cloud.Cut(w.name(c[0]), w.name(c[1]), true)
		}
		w.put(t, here, coord.Put{Value: []byte("replaces"), Context: promised.Context, Level: quorum.LocalQuorum})
		beside := w.put(t, here, coord.Put{Value: []byte("beside"), Level: quorum.LocalQuorum})
		w.put(t, there, coord.Put{Value: []byte("next"), Context: beside.Context, Level: quorum.LocalQuorum})
		if shows, _ := w.get(t, there, quorum.LocalQuorum); !shows["promised"] || !shows["next"] || len(shows) != 2 {
			t.Errorf("while the regions are apart, the other one shows %v", shows)
		}
		w.fabric.HealAll()
		for _, c := range [][2]int{{0, 1}, {1, 0}} {
			w.cloud.Cut(w.name(c[0]), w.name(c[1]), false)
		}
		time.Sleep(30 * time.Second)
		for _, m := range []*member{here, there} {
			if shows, _ := w.get(t, m, quorum.LocalAll); !shows["replaces"] || !shows["next"] || len(shows) != 2 {
				t.Errorf("when they have met, %s shows %v", m.id, shows)
			}
		}
	})
}

// in is the first node of a region.
func (w *World) in(region int) *member {
	for _, m := range w.all() {
		if m.region == region {
			return m
		}
	}
	return nil
}

func (w *World) put(t *testing.T, at *member, p coord.Put) coord.PutResult {
	t.Helper()
	p.Key, p.Deadline = []byte("k"), time.Now().Add(2*time.Second)
	var res coord.PutResult
	done := make(chan error, 1)
	at.running.Load().node.Coordinator().Put(p, func(r coord.PutResult, err error) { res = r; done <- err })
	if err := <-done; err != nil {
		t.Fatalf("put %s: %v", p.Value, err)
	}
	// Its bearer has seen his own write, at all levels.
	if ctx, err := crdt.DecodeContext(crdt.Keys{secret}, fullKey("k"), res.Context); err != nil || !ctx.Seen.Covers(res.Version) {
		t.Fatalf("the context of the answer to %s is %v, %v", p.Value, ctx, err)
	}
	return res
}

func (w *World) get(t *testing.T, at *member, level quorum.Level) (shows map[string]bool, context []byte) {
	t.Helper()
	shows = map[string]bool{}
	done := make(chan error, 1)
	at.running.Load().node.Coordinator().Get(coord.Get{Key: []byte("k"), Level: level, Deadline: time.Now().Add(2 * time.Second)},
		func(r coord.GetResult, err error) {
			for _, v := range r.View.Live {
				shows[string(v.Value)] = true
			}
			context = r.Context
			done <- err
		})
	if err := <-done; err != nil {
		t.Fatalf("get at %v: %v", level, err)
	}
	return shows, context
}
