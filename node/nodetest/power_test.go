package nodetest

import (
	"fmt"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"github.com/hashicorp/go-hclog"

	"github.com/atolldb/atoll/crdt/session"
	"github.com/atolldb/atoll/node/coord"
	"github.com/atolldb/atoll/node/quorum"
)

// powerLevels are those at which a session writes before the power is cut.
var powerLevels = []quorum.Level{quorum.LocalOne, quorum.LocalQuorum, quorum.LocalSerial}

// What a session was told is on disks: when the power of all nodes is cut the instant
// after an answer, whatever was not synced then is lost, and what the session wrote is
// read at every node when they are back.
func TestPowerCutOfAll(t *testing.T) {
	power(t, func(t *testing.T, w *World, key []byte, value string, token []byte) {
		for _, m := range w.all() {
			w.Crash(m)
		}
		for _, m := range w.all() {
			w.Start(m)
		}
		time.Sleep(10 * time.Second)
		for _, m := range w.all() {
			w.mustShow(t, m, key, value, token)
		}
	})
}

// The same, when the node is lost that took the write: the others answer, and take
// writes of the session, without it.
func TestPowerCutOfWriter(t *testing.T) {
	power(t, func(t *testing.T, w *World, key []byte, value string, token []byte) {
		writer := w.all()[0]
		w.Crash(writer)
		time.Sleep(3 * time.Second) // they know that it is away
		for _, m := range w.all()[1:] {
			w.mustShow(t, m, key, value, token)
		}
		for i, p := range []coord.Put{
			{Key: key, Value: []byte("next"), Overwrite: true, Level: quorum.LocalQuorum},
			{Key: key, Value: []byte("last"), Level: quorum.LocalSerial},
			{Key: []byte("beside"), Value: []byte("x"), Overwrite: true, Level: quorum.LocalQuorum},
		} {
			_, next, err := w.say(w.all()[1+i%2], p, token)
			if err != nil {
				t.Errorf("write %d of the session: %v", i, err)
				continue
			}
			if token = next; i < 2 {
				w.mustShow(t, w.all()[2], key, string(p.Value), token)
			}
		}
		w.Start(writer)
		time.Sleep(10 * time.Second)
		for _, m := range w.all() {
			w.mustShow(t, m, key, "last", token)
		}
	})
}

// power has sessions write through the first node, each a key of its own, and calls
// cut the instant after each answer.
func power(t *testing.T, cut func(t *testing.T, w *World, key []byte, value string, token []byte)) {
	for _, level := range powerLevels {
		t.Run(level.String(), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				w := New(t, 11, Shape{Regions: 1, Nodes: 3, Partitions: 1, Settled: true}, hclog.NewNullLogger())
				defer w.Close()
				if !w.settle(t.Context()) {
					t.Fatal("not whole")
				}
				for i := range 6 {
					key, value := []byte(fmt.Sprint("k", i)), fmt.Sprint("v", i)
					p := coord.Put{Key: key, Value: []byte(value), Level: level}
					_, token, err := w.say(w.all()[0], p, session.Begin())
					for n := 0; err != nil && n < 20; n++ { // it has no actor, or no ballots, yet
						time.Sleep(time.Second)
						_, token, err = w.say(w.all()[0], p, session.Begin())
					}
					if err != nil {
						t.Fatal(err)
					}
					cut(t, w, key, value, token)
				}
			})
		})
	}
}

// mustShow reads at LOCAL_ONE, for a session.
func (w *World) mustShow(t *testing.T, m *member, key []byte, value string, token []byte) {
	t.Helper()
	values, _, err := w.say(m, coord.Put{Key: key, Level: quorum.LocalOne}, token)
	if err != nil {
		t.Errorf("%s at %s: %v", key, m.id, err)
	} else if !slices.Contains(values, value) {
		t.Errorf("%s at %s shows %q, want %q", key, m.id, values, value)
	}
}
