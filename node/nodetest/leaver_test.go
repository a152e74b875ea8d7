package nodetest

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/hashicorp/go-hclog"

	"github.com/atolldb/atoll/node/coord"
	"github.com/atolldb/atoll/node/quorum"
	"github.com/atolldb/atoll/node/topology"
)

// A node that stands in for an owner is drained while that is away. It has not left
// before it has handed over what it keeps: an acknowledgement rests on it, and its
// process is stopped when the task has ended. If it dies, nobody waits for it.
func TestLeaverHandsOver(t *testing.T) {
	for name, dies := range map[string]bool{"the owner returns": false, "the leaver dies": true} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				// In racks of which two have two nodes, so that all of the fourth's
				// partitions go to the first, and the third may be away.
				w := New(t, 11, Shape{Regions: 1, Nodes: 5, Partitions: 8, Settled: true}, hclog.NewNullLogger())
				defer w.Close()
				if !w.settle(t.Context()) {
					t.Fatal("not whole")
				}
				by, away, leaver := w.nodes[0], w.nodes[2], w.nodes[3]
				w.Crash(away)
				key := w.hintedAt(t, by, leaver.id)
				if !w.commit(t.Context(), 0, topology.Drain{Nodes: []topology.NodeID{leaver.id}}) {
					t.Fatal("the drain was refused")
				}
				time.Sleep(2 * time.Minute)
				top := w.stored(0)
				if len(top.Moves) > 0 || top.Table.Holdings()[string(leaver.id)].Owned > 0 {
					t.Fatalf("%d moves are left", len(top.Moves))
				}
				if top.Tasks[0].Ended != 0 || top.Member(leaver.id).State != topology.Draining {
					t.Fatalf("%s is %v with hints for %v", leaver.id, top.Member(leaver.id).State, leaver.running.Load().node.Hints().Owners())
				}
				tasks, err := by.running.Load().node.Operations().Membership.Tasks(t.Context())
				if err != nil {
					t.Fatal(err)
				}
				want := fmt.Sprintf("%s to hand over the hints that it keeps for %s", leaver.id, away.id)
				if got := strings.Join(tasks[0].WaitsFor, "; "); got != want {
					t.Errorf("it waits for %q", got)
				}
				if dies {
					w.Crash(leaver)
				} else {
					w.Start(away)
				}
				began := time.Now()
				for w.stored(0).Tasks[0].Ended == 0 && time.Since(began) < 2*time.Minute {
					time.Sleep(100 * time.Millisecond)
				}
				if is := w.stored(0).Member(leaver.id).State; is != topology.Left {
					t.Fatalf("it is %v after %v", is, time.Since(began))
				}
				if dies {
					return
				}
				if kept := leaver.running.Load().node.Hints().Owners(); len(kept) > 0 {
					t.Errorf("it has left with hints for %v", kept)
				}
				// The owner alone has it, and what it stood in for is all there is.
				for _, m := range w.nodes {
					if m != away && m != w.nodes[4] {
						w.Crash(m)
					}
				}
				time.Sleep(time.Second)
				if v := w.lookAlone(t, away, key); v != "v" {
					t.Errorf("the owner shows %q", v)
				}
			})
		})
	}
}

// hintedAt writes keys until one of them rests on a hint at a node, and returns it.
func (w *World) hintedAt(t *testing.T, by *member, at topology.NodeID) (key string) {
	t.Helper()
	for i := range 1000 {
		key = fmt.Sprint("k", i)
		done := make(chan []topology.NodeID, 1)
		by.running.Load().node.Coordinator().Put(
			coord.Put{Key: []byte(key), Value: []byte("v"), Level: quorum.LocalAll, Sloppy: true, Deadline: time.Now().Add(time.Second)},
			func(r coord.PutResult, err error) {
				if err != nil {
					r.Achieved.Hinted = nil
				}
				done <- r.Achieved.Hinted
			})
		if slices.Contains(<-done, at) {
			return key
		}
	}
	t.Fatalf("%s keeps no hint", at)
	return ""
}

// lookAlone reads what one owner has.
func (w *World) lookAlone(t *testing.T, m *member, key string) (value string) {
	t.Helper()
	for range 100 {
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		done := make(chan string, 1)
		m.running.Load().node.Coordinator().Get(
			coord.Get{Key: []byte(key), Level: quorum.LocalOne, Deadline: time.Now().Add(time.Second)},
			func(r coord.GetResult, err error) {
				v := ""
				if err == nil && len(r.View.Live) > 0 {
					v = string(r.View.Live[0].Value)
				}
				done <- v
			})
		select {
		case value = <-done:
		case <-ctx.Done():
		}
		cancel()
		if value != "" {
			return value
		}
		time.Sleep(100 * time.Millisecond)
	}
	return value
}
