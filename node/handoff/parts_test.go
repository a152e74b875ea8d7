package handoff

import (
	"context"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/hashicorp/go-hclog"

	"github.com/atolldb/atoll/crdt"
	"github.com/atolldb/atoll/crdt/session"
	"github.com/atolldb/atoll/hashring"
	"github.com/atolldb/atoll/node/peer"
	"github.com/atolldb/atoll/node/topology"
	"github.com/atolldb/atoll/node/wire"
)

// silent is a replica and a transport that nothing should be asked of but the
// topology and the clock.
type silent struct {
	Replica
	top  *topology.Topology
	sent []peer.Verb
}

func (s *silent) Topology() *topology.Topology         { return s.top }
func (s *silent) BehindMark(hashring.Partition) uint64 { return 0 }
func (s *silent) Clock(hashring.Partition) *crdt.Clock { return &crdt.Clock{} }
func (s *silent) MeetFloors(context.Context, hashring.Partition, wire.Floors) error {
	return nil
}
func (s *silent) MeetLosses(hashring.Partition, *session.Losses) error { return nil }

func (s *silent) TakeSerial(ctx context.Context, _ hashring.Partition, ask func(context.Context, []byte) ([]byte, error)) error {
	_, err := ask(ctx, nil)
	return err
}
func (s *silent) Send(_ topology.NodeID, r peer.Request, done peer.Done) {
	s.sent = append(s.sent, r.Verb)
	page := wire.AppendPage(nil, wire.Page{Clock: &crdt.Clock{}})
	go done(page, nil)
}

func copying4(s *silent, epoch topology.Epoch) *copying {
	s.top = &topology.Topology{
		Region: "a", RegionID: 1, Epoch: 5, Table: hashring.MakeTable([][]string{{"n1", "n2", "n3"}}),
		Tasks: []topology.Task{{ID: 1}}, Since: []topology.Epoch{5},
		Moves: []topology.Move{{ID: 1, Task: 1, From: "n1", To: "n4", Stage: topology.Copying, Began: 5}},
	}
	c := NewCopier(Config{Self: "n4"}, Deps{
		Replica: s, Transport: s, Log: hclog.NewNullLogger(),
		Exchange: func(context.Context, topology.NodeID, *topology.Topology) (topology.Epoch, error) { return epoch, nil },
	})
	for _, k := range c.wanted(s.top) {
		return k
	}
	return nil
}

// H1: what a source has is asked only when it is known to know of the move.
func TestSourceMustKnow(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := &silent{}
		k := copying4(s, 4)
		if done, why := k.round(t.Context()); done || why != "n1 has epoch 4, not 5 yet" || len(s.sent) > 0 || len(k.progress().With) > 0 {
			t.Errorf("%t, %q, sent %v, %+v", done, why, s.sent, k.progress())
		}
		k = copying4(s, 5)
		if done, why := k.round(t.Context()); !done || why != "" || len(k.progress().With) != 1 {
			t.Errorf("%t, %q, %+v", done, why, k.progress())
		}
	})
}

func TestMeter(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var m meter
		for range 600 {
			time.Sleep(100 * time.Millisecond)
			m.add(50)
		}
		if r := m.perSecond(); r < 480 || r > 520 {
			t.Errorf("rate %d of 500", r)
		}
		time.Sleep(time.Minute)
		if r := m.perSecond(); r != 0 {
			t.Errorf("rate %d after a minute of nothing", r)
		}
	})
}

// How much of a partition's bytes lies below a key is told by its hash.
func TestReached(t *testing.T) {
	const partitions = 4
	counts := [4]int{}
	for i := range 4000 {
		key := []byte{byte(i), byte(i >> 8)}
		p := hashring.PartitionOf(hashring.KeyHash(key), partitions)
		first, last := hashring.Range(p, partitions)
		r := source{first: first, last: last}.reached(key)
		if r <= 0 || r > 1 {
			t.Fatalf("reached %v", r)
		}
		counts[min(3, int(r*4))]++
	}
	for q, n := range counts {
		if n < 850 || n > 1150 {
			t.Errorf("quarter %d has %d of 4000 keys", q, n)
		}
	}
}

func TestReportRoundTrip(t *testing.T) {
	r := Report{
		Copies:   []Progress{{Move: 1 << 40, Task: 2, Partition: 3, Began: 4, With: []topology.NodeID{"n1"}, Keys: 5, Bytes: 6, Total: 7, Waits: "x"}},
		Received: []Received{{Task: 2, Copies: 1, Bytes: 6, Size: 5, Rate: 4}},
	}
	b := encodeReport(r)
	got, err := decodeReport(b)
	if err != nil || string(encodeReport(got)) != string(b) {
		t.Errorf("%+v, %v", got, err)
	}
	for _, bad := range []string{"", "{", `{"Copies":[{"Move":-1}]}`, strings.Repeat(" ", maxReport+1)} {
		if _, err := decodeReport([]byte(bad)); err == nil {
			t.Errorf("%.20q is a report", bad)
		}
	}
}

func FuzzReport(f *testing.F) {
	f.Add(encodeReport(Report{Copies: []Progress{{Move: 1, With: []topology.NodeID{"n1"}}}}))
	f.Add([]byte(`{"Received":[{}]}`))
	f.Fuzz(func(t *testing.T, b []byte) {
		r, err := decodeReport(b)
		if err != nil {
			return
		}
		again, err := decodeReport(encodeReport(r))
		if err != nil || string(encodeReport(again)) != string(encodeReport(r)) {
			t.Fatalf("%+v became %+v, %v", r, again, err)
		}
	})
}

func TestAssemble(t *testing.T) {
	top := &topology.Topology{
		Epoch: 5, Table: hashring.MakeTable([][]string{{"n1"}, {"n1"}, {"n1"}, {"n1"}}),
		Moves: []topology.Move{
			{ID: 1, Task: 1, Partition: 0, From: "n1", To: "n2", Stage: topology.Switched, Began: 5},
			{ID: 2, Task: 1, Partition: 1, From: "n1", To: "n2", Stage: topology.Copying, Began: 5},
			{ID: 3, Task: 1, Partition: 2, From: "n1", To: "n2"},
		},
	}
	task := topology.Task{ID: 1, Moves: 4, Bytes: 4000}
	top.Tasks = []topology.Task{task}
	reports := map[topology.NodeID]Report{"n2": {
		Copies:   []Progress{{Move: 2, Task: 1, Bytes: 100, Total: 200}},
		Received: []Received{{Task: 1, Copies: 2, Bytes: 500, Size: 400, Rate: 150}, {Task: 9, Bytes: 7}},
	}}
	facts := topology.Facts{Durable: map[topology.NodeID]topology.Epoch{"n1": 5, "n2": 4}}
	got := assemble(top, task, facts, reports)
	if got.Planned != 1 || got.Copying != 1 || got.Switched != 1 || got.Done != 1 {
		t.Errorf("stages %+v", got)
	}
	if got.BytesDone != 2500 || got.Rate != 150 || got.Left != 10*time.Second || got.Received != 500 || got.Copies != 2 {
		t.Errorf("%d bytes done at %d a second, %v left, %d received", got.BytesDone, got.Rate, got.Left, got.Received)
	}
	want := []string{"1 of n2 to know of epoch 5: waiting for n2", "n2 to have what n1 has", "n2 to know of epoch 5"}
	if strings.Join(got.WaitsFor, "; ") != strings.Join(want, "; ") {
		t.Errorf("waits for %q", got.WaitsFor)
	}
	task.Ended = 7
	if got := assemble(top, task, facts, reports); got.BytesDone != 4000 || got.Left != 0 || len(got.WaitsFor) > 0 {
		t.Errorf("ended: %+v", got)
	}
}
