package nodetest

import (
	"errors"
	"fmt"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"github.com/hashicorp/go-hclog"

	"github.com/atolldb/atoll/crdt/session"
	"github.com/atolldb/atoll/hashring"
	"github.com/atolldb/atoll/node/coord"
	"github.com/atolldb/atoll/node/quorum"
	"github.com/atolldb/atoll/node/topology"
)

// say runs one operation of a session through a node and returns what it showed,
// and the session's token with it.
func (w *World) say(m *member, p coord.Put, token []byte) (values []string, next []byte, err *coord.Error) {
	type outcome struct {
		values []string
		token  []byte
		err    error
	}
	done := make(chan outcome, 1)
	node := m.running.Load().node.Coordinator()
	if p.Value != nil {
		p.Session, p.Deadline = token, time.Now().Add(2*time.Second)
		node.Put(p, func(r coord.PutResult, err error) { done <- outcome{token: r.Session, err: err} })
	} else {
		node.Get(coord.Get{Key: p.Key, Level: p.Level, Session: token, Deadline: time.Now().Add(2 * time.Second)}, func(r coord.GetResult, err error) {
			o := outcome{token: r.Session, err: err}
			for i := range r.View.Live {
				o.values = append(o.values, string(r.View.Live[i].Value))
			}
			done <- o
		})
	}
	o := <-done
	errors.As(o.err, &err)
	return o.values, o.token, err
}

// TestLossIsTold: a write that one disk alone acknowledged is lost with it. The
// session that made it is told that it is behind, and from the next round of
// collection on that it is lost: once, at every node of every region; never is it
// answered as if the write had not been, before it has accepted that. Where rounds are
// a day apart its own asking begins the next one.
func TestLossIsTold(t *testing.T) {
	for _, c := range []struct {
		regions int
		unheard bool
		daily   bool
	}{{1, false, false}, {2, false, false}, {1, true, false}, {2, true, false}, {1, false, true}, {2, false, true}, {2, true, true}} {
		regions, unheard := c.regions, c.unheard
		t.Run(fmt.Sprintf("%d regions, of an incarnation that is unheard of: %v, with rounds once a day: %v", regions, unheard, c.daily), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				w := New(t, 7, Shape{Regions: regions, Nodes: 3, Partitions: 2, Settled: true, Collect: true, Daily: c.daily}, hclog.NewNullLogger())
				defer w.Close()
				if !w.settle(t.Context()) {
					t.Fatal("not whole")
				}
				tellsOfLoss(t, w, unheard)
			})
		})
	}
}

func tellsOfLoss(t *testing.T, w *World, unheard bool) {
	key := []byte("k")
	put := func(value string, level quorum.Level) coord.Put {
		return coord.Put{Key: key, Value: []byte(value), Overwrite: true, Level: level}
	}
	get := coord.Put{Key: key, Level: quorum.LocalOne}
	witness := w.all()[0]
	must := func(p coord.Put, token []byte) []byte {
		t.Helper()
		_, token, err := w.say(witness, p, token)
		if err != nil {
			t.Fatal(err)
		}
		return token
	}
	token := must(put("everywhere", quorum.LocalAll), session.Begin())
	time.Sleep(10 * time.Second)
	if unheard {
		// What it writes next is the first of another incarnation.
		w.Crash(witness)
		w.Start(witness)
		if !w.settle(t.Context()) {
			t.Fatal("not whole")
		}
	}
	var others []topology.NodeID
	for _, m := range w.all()[1:] {
		others = append(others, m.id)
	}
	w.fabric.Partition([]topology.NodeID{witness.id}, others)
	if len(w.tops) > 1 {
		w.cloud.Cut(w.name(0), w.name(1), true)
	}
	token = must(put("alone", quorum.LocalOne), token)
	w.Crash(witness)
	if err := witness.disk.Wipe(); err != nil {
		t.Fatal(err)
	}
	if len(w.tops) > 1 {
		w.cloud.Recreate(w.name(0))
		w.cloud.Cut(w.name(0), w.name(1), false)
	}
	w.fabric.HealAll()
	w.Start(witness)

	// Everybody tells, sooner or later, and nobody is silent.
	told := map[topology.NodeID][]byte{}
	behind := 0
	for began := time.Now(); len(told) < len(w.all()); {
		if time.Since(began) > 10*time.Minute {
			t.Fatalf("after %v only %d nodes tell of the loss", time.Since(began), len(told))
		}
		for _, m := range w.all() {
			if told[m.id] != nil {
				continue
			}
			values, _, err := w.say(m, get, token)
			switch {
			case err == nil && slices.Contains(values, "alone"):
				t.Fatal("it was not lost: the test shows nothing")
			case err == nil:
				t.Fatalf("%s answers %q in silence, %v after the loss", m.id, values, time.Since(began))
			case err.Code == coord.CodeSessionBehind:
				behind++
			case err.Code == coord.CodeSessionLost:
				told[m.id] = err.Session
				if err.Missing != 1 || !slices.Equal(err.MissingFrom, []topology.Region{w.tops[0].Region}) || err.Outcome != coord.NotApplied || len(err.Session) == 0 {
					t.Errorf("%s tells of %d writes of %v, %v, token %x", m.id, err.Missing, err.MissingFrom, err.Outcome, err.Session)
				}
			}
		}
		time.Sleep(time.Second)
	}
	// A write is refused, too.
	if _, _, err := w.say(w.all()[1], put("after", quorum.LocalQuorum), token); err == nil || err.Code != coord.CodeSessionLost || err.Outcome != coord.NotApplied {
		t.Errorf("a write of the session that was not told: %v", err)
	}
	// Once is enough, wherever it goes on.
	for id, next := range told {
		for _, m := range w.all() {
			if values, _, err := w.say(m, get, next); err != nil || !slices.Equal(values, []string{"everywhere"}) {
				t.Errorf("told by %s it reads %q at %s, %v", id, values, m.id, err)
			}
		}
	}
	next := told[witness.id]
	if _, token, err := w.say(w.all()[2], put("after", quorum.LocalQuorum), next); err != nil {
		t.Error(err)
	} else if values, _, err := w.say(witness, get, token); err != nil || !slices.Equal(values, []string{"after"}) {
		t.Errorf("%q, %v", values, err)
	}
	// It is durable, and who comes to hold the partition knows, too.
	losses := witness.running.Load().node.Replica().Losses(hashring.PartitionOf(hashring.KeyHash(fullKey("k")), w.shape.Partitions))
	if losses.Empty() {
		t.Error("nothing is lost any more")
	}
	for _, m := range w.all()[1:3] {
		w.Crash(m)
		if m == w.all()[2] {
			if err := m.disk.Wipe(); err != nil {
				t.Fatal(err)
			}
		}
		w.Start(m)
		if !w.settle(t.Context()) {
			t.Fatal("not whole")
		}
		_, _, err := w.say(m, get, token)
		if err == nil || err.Code != coord.CodeSessionLost {
			t.Errorf("%s after a crash: %v", m.id, err)
		}
	}
	t.Logf("told by all %d; behind %d times before", len(told), behind)
}
