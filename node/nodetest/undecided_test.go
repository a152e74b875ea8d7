package nodetest

import (
	"fmt"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"github.com/hashicorp/go-hclog"

	"github.com/atolldb/atoll/crdt"
	"github.com/atolldb/atoll/crdt/session"
	"github.com/atolldb/atoll/hashring"
	"github.com/atolldb/atoll/node/coord"
	"github.com/atolldb/atoll/node/quorum"
)

// A proposer is gone for good right after it has acknowledged a write at LOCAL_SERIAL,
// before it told another owner or another region that it was decided; or before it was
// decided. Nobody asks for the keys. Some seconds later nothing is undecided any more,
// and all owners of all regions hold what was acknowledged.
func TestProposerIsGone(t *testing.T) {
	for seed := range uint64(6) {
		t.Run(fmt.Sprint("seed ", seed+1), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				w := New(t, seed+1, Shape{Regions: 2, Nodes: 3, Partitions: 8, Settled: true}, hclog.NewNullLogger())
				defer w.Close()
				time.Sleep(15 * time.Second)
				w.proposerIsGone(t)
			})
		})
	}
}

func (w *World) proposerIsGone(t *testing.T) {
	owners := w.all()[:3]
	first := owners[w.rng.IntN(3)]
	others := slices.DeleteFunc(slices.Clone(owners), func(m *member) bool { return m == first })
	var keys []string
	for i := 0; len(keys) < 8; i++ {
		// Those for which it proposes.
		if key := fmt.Sprint("undecided ", i); first.running.Load().node.Coordinator().Leads(fullKey(key)) {
			keys = append(keys, key)
		}
	}
	acked := make(chan bool, len(keys))
	for _, key := range keys {
		go func() {
			_, _, err := w.say(first, coord.Put{Key: []byte(key), Value: []byte("decided"), Level: quorum.LocalSerial}, session.Begin())
			acked <- err == nil
		}()
	}
	// What one owner alone had accepted is decided, or never will be.
	w.propose(t, homedKey+" of one", "perhaps", others[0])
	for range keys {
		if !<-acked {
			t.Fatal("a write is not acknowledged")
		}
	}
	w.Crash(first)
	if err := first.disk.Wipe(); err != nil {
		t.Fatal(err)
	}
	undecided := func() (n int) {
		for _, m := range others {
			n += m.running.Load().node.Replica().SerialPendingCount()
		}
		return n
	}
	if n := undecided(); n < len(keys)/2 {
		t.Fatalf("%d proposals are undecided when the proposer is gone: the test shows nothing", n)
	}
	time.Sleep(10 * time.Second)
	if n := undecided(); n != 0 {
		t.Errorf("%d proposals are still undecided", n)
	}
	settled := uint64(0)
	for _, m := range others {
		settled += m.running.Load().node.Coordinator().Stats().Settled.Load()
	}
	if settled == 0 || settled > uint64(3*(len(keys)+1)) {
		t.Errorf("%d times something was settled", settled)
	}
	for _, key := range keys {
		for _, m := range w.all() {
			if m == first {
				continue
			}
			b, err := m.running.Load().node.Replica().Read(0, hashring.KeyHash(fullKey(key)), fullKey(key))
			if err != nil {
				t.Fatal(err)
			}
			rec, err := crdt.DecodeRecord(hashring.KeyHash(fullKey(key)), b)
			if err != nil || len(rec.Versions) != 1 || string(rec.Versions[0].Value) != "decided" {
				t.Errorf("%s of %s holds %d versions of %q, %v", m.id, w.name(m.region), len(rec.Versions), key, err)
			}
		}
	}
	for _, p := range w.hist.problems {
		t.Error(p)
	}
}
