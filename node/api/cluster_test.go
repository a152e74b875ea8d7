package api_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"testing"
	"time"

	"google.golang.org/protobuf/proto"

	"github.com/atolldb/atoll/crdt"
	"github.com/atolldb/atoll/hashring"
	"github.com/atolldb/atoll/node/api"
	"github.com/atolldb/atoll/node/api/apitest"
	"github.com/atolldb/atoll/node/coord"
	"github.com/atolldb/atoll/node/topology"
	adminv1 "github.com/atolldb/atoll/proto/atoll/admin/v1"
)

func TestTopologyAndLocateAgree(t *testing.T) {
	r := apitest.NewRegion(t, 5)
	c := adminv1.NewClusterClient(dial(t, r.Nodes[3]))
	ctx := testContext(t)
	top, err := c.GetTopology(ctx, &adminv1.GetTopologyRequest{})
	if err != nil {
		t.Fatal(err)
	}
	if top.Region != "eu" || top.Epoch != 1 || top.Replicas != 3 || len(top.Members) != 5 ||
		len(top.Owners) != int(top.Partitions*top.Replicas) || top.Members[4].ClientAddr != r.Nodes[4].Addr {
		t.Fatalf("%v", top)
	}
	for i := range 100 {
		key := fmt.Sprint("key ", i)
		at, err := c.Locate(ctx, &adminv1.LocateRequest{Key: []byte(key)})
		if err != nil {
			t.Fatal(err)
		}
		if want := hashring.KeyHash([]byte("default\x00" + key)); at.KeyHash != want {
			t.Fatalf("hash %x, want %x", at.KeyHash, want)
		}
		for j, owner := range at.Owners {
			m := top.Members[top.Owners[int(at.Partition*top.Replicas)+j]]
			if m.Id != owner || owner != string(r.Owners(key)[j].ID) {
				t.Fatalf("%s: owner %d is %s by Locate, %s by the table", key, j, owner, m.Id)
			}
		}
	}
	_, err = c.Locate(ctx, &adminv1.LocateRequest{Key: make([]byte, 1025)})
	if e := statusError(t, err); e.Field != "key" || e.Seen != "1025 bytes" {
		t.Errorf("%+v", e)
	}
}

func TestExportStreamsAllInBatches(t *testing.T) {
	r := apitest.NewRegion(t, 1)
	c := adminv1.NewClusterClient(dial(t, r.Nodes[0]))
	value := make([]byte, 10_000)
	want := make(map[string]crdt.Record)
	for i := range 100 {
		key := fmt.Sprint("k", i)
		r.Store.Blind("", key, crdt.MakeActor(1, 1), string(value))
		r.Store.Blind("", key, crdt.MakeActor(2, 2), "sibling")
		r.Nodes[0].Put(coord.Put{Key: []byte("gone" + key), Delete: true}, func(coord.PutResult, error) {})
		want[key] = r.Store.Record("", key)
		want["gone"+key] = r.Store.Record("", "gone"+key)
	}
	r.Store.Blind("lww", "other", crdt.MakeActor(1, 1), "x")

	s, err := c.Export(testContext(t), &adminv1.ExportRequest{Bucket: "default"})
	if err != nil {
		t.Fatal(err)
	}
	messages := 0
	var last uint64
	for {
		msg, err := s.Recv()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			t.Fatal(err)
		}
		messages++
		if n := proto.Size(msg); n > 300<<10 {
			t.Errorf("a message of %d bytes", n)
		}
		for _, rec := range msg.Records {
			hash := hashring.KeyHash([]byte(rec.Bucket + "\x00" + string(rec.Key)))
			if hash < last {
				t.Error("out of order")
			}
			last = hash
			w, ok := want[string(rec.Key)]
			if !ok || len(w.Versions) != len(rec.Versions) {
				t.Fatalf("%s: %v, want %v", rec.Key, rec.Versions, w)
			}
			delete(want, string(rec.Key))
			for i, v := range rec.Versions {
				o := w.Versions[i]
				if v.N != o.Dot.N || crdt.Actor(v.Actor) != o.Dot.Actor || v.Deleted != o.Dead ||
					string(v.Value) != string(o.Value) || len(v.Past) != len(o.Past) || v.Stamp != uint64(o.Stamp) {
					t.Errorf("%s: %v, want %v", rec.Key, v, o)
				}
			}
		}
	}
	if len(want) != 0 {
		t.Errorf("%d keys are missing", len(want))
	}
	if messages < 4 || messages > 10 {
		t.Errorf("1 MB came in %d messages", messages)
	}
}

// Of records with siblings alone, without their values, only sizes travel.
func TestExportOfSiblings(t *testing.T) {
	r := apitest.NewRegion(t, 3)
	c := adminv1.NewClusterClient(dial(t, r.Nodes[0]))
	for i, key := range []string{"one", "two", "three"} {
		for j := range i + 1 {
			r.Store.Blind("", key, crdt.MakeActor(uint32(j+1), 1), "12345")
		}
	}
	for least, want := range []int{3, 3, 2, 1, 0} {
		s, err := c.Export(testContext(t), &adminv1.ExportRequest{MinVersions: uint32(least), NoValues: true})
		if err != nil {
			t.Fatal(err)
		}
		got := 0
		for {
			msg, err := s.Recv()
			if errors.Is(err, io.EOF) {
				break
			}
			if err != nil {
				t.Fatal(err)
			}
			for _, rec := range msg.Records {
				got++
				if len(rec.Versions) < least {
					t.Errorf("%s has %d versions, fewer than %d", rec.Key, len(rec.Versions), least)
				}
				for _, v := range rec.Versions {
					if len(v.Value) != 0 || v.Size != 5 || v.Stamp == 0 || v.Actor == 0 {
						t.Errorf("%s: %v", rec.Key, v)
					}
				}
			}
		}
		if got != want {
			t.Errorf("with %d versions: %d records, not %d", least, got, want)
		}
	}
}

// fixed is a Cluster that answers what it was given.
type fixed struct {
	top *topology.Topology
	st  api.Status
	err error
}

func (f *fixed) Topology() *topology.Topology               { return f.top }
func (f *fixed) Status(context.Context) (api.Status, error) { return f.st, f.err }
func (f *fixed) Export(context.Context, string, func(api.ExportedRecord) error) error {
	return f.err
}

func TestStatus(t *testing.T) {
	f := &fixed{
		top: &topology.Topology{Region: "eu", Epoch: 3},
		st: api.Status{
			Nodes: []api.NodeStatus{
				{ID: "n1", Actor: 65, Ready: true, OpenGaps: 4, Uptime: 3 * time.Second, PeersDown: []topology.NodeID{"n2"},
					Epoch: 3, PartitionsBehind: 1, Leftovers: 2, Hints: 3, HintBytes: 4, Unreadable: 5},
				{ID: "n2", Error: "connection refused", Actor: 66},
			},
			Links: []api.LinkStatus{{Origin: "us", Node: "n1", Alive: true, Pending: 7, Oldest: 1500 * time.Millisecond}},
		},
	}
	s := api.NewClusterService(f, api.Operations{})
	got, err := s.GetStatus(t.Context(), nil)
	if err != nil {
		t.Fatal(err)
	}
	want := &adminv1.GetStatusResponse{
		Region: "eu", Epoch: 3,
		Nodes: []*adminv1.NodeStatus{
			{Id: "n1", Actor: 65, Ready: true, OpenGaps: 4, UptimeMs: 3000, PeersDown: []string{"n2"},
				Epoch: 3, PartitionsBehind: 1, Leftovers: 2, Hints: 3, HintBytes: 4, Unreadable: 5},
			{Id: "n2", Error: "connection refused"},
		},
		Links: []*adminv1.LinkStatus{{Origin: "us", Node: "n1", Alive: true, Pending: 7, OldestMs: 1500}},
	}
	if !proto.Equal(got, want) {
		t.Errorf("got %v\nwant %v", got, want)
	}
	f.err = &coord.Error{Code: coord.CodeUnavailable, Detail: "no quorum"}
	_, err = s.GetStatus(t.Context(), nil)
	if e := statusError(t, err); e.Code != coord.CodeUnavailable {
		t.Errorf("%+v", e)
	}
}

func TestTopologyThatMakesNoSense(t *testing.T) {
	top := &topology.Topology{
		Members: []topology.Member{{ID: "a"}, {ID: "c", State: topology.Left}},
		Table:   hashring.MakeTable([][]string{{"a"}, {"c"}}),
	}
	if _, err := api.NewClusterService(&fixed{top: top}, api.Operations{}).GetTopology(t.Context(), nil); err == nil {
		t.Error("an owner that has left is no error")
	}
}

func TestTopologyInTransition(t *testing.T) {
	table := hashring.MakeTable([][]string{{"a", "b"}, {"b", "a"}})
	members := []topology.Member{
		{ID: "a"}, {ID: "gone", State: topology.Left}, {ID: "b", State: topology.Draining}, {ID: "c", State: topology.Joining},
	}
	for _, c := range []struct {
		name   string
		moves  []topology.Move
		owners []uint32
		rows   string
	}{
		{"at rest", nil, []uint32{0, 1, 1, 0}, ""},
		{"copying", []topology.Move{{Partition: 1, From: "b", To: "c", Stage: topology.Copying}}, []uint32{0, 1, 1, 0}, ""},
		{"switched", []topology.Move{{Partition: 1, From: "b", To: "c", Stage: topology.Switched}}, []uint32{0, 1, 2, 0}, ""},
		{"one more", []topology.Move{{Partition: 1, Slot: 2, To: "c", Stage: topology.Switched}}, nil, "[0 1] [1 0 2]"},
		{"one less", []topology.Move{{Partition: 0, Slot: 0, From: "a", Stage: topology.Switched}}, nil, "[1] [1 0]"},
	} {
		top := &topology.Topology{
			Region: "eu", Epoch: 9, Members: members, Table: table, Moves: c.moves, Since: []topology.Epoch{3, 9},
			Rules: hashring.Rules{Replicas: 2},
		}
		got, err := api.NewClusterService(&fixed{top: top}, api.Operations{}).GetTopology(t.Context(), nil)
		if err != nil {
			t.Fatal(err)
		}
		var rows []string
		for _, r := range got.Rows {
			rows = append(rows, fmt.Sprint(r.Owners))
		}
		if !slices.Equal(got.Owners, c.owners) || strings.Join(rows, " ") != c.rows || got.Replicas != 2 {
			t.Errorf("%s: owners %v, rows %v", c.name, got.Owners, rows)
		}
		if len(got.Moves) != len(c.moves) || len(c.moves) > 0 && int(got.Moves[0].Stage) != int(c.moves[0].Stage)+1 {
			t.Errorf("%s: moves %v", c.name, got.Moves)
		}
		if len(got.Members) != 3 || !slices.Equal(got.Left, []string{"gone"}) || !slices.Equal(got.Since, []uint64{3, 9}) ||
			got.Members[1].State != adminv1.MemberState_MEMBER_STATE_DRAINING ||
			got.Pace.BytesPerSecond != 64<<20 || got.Pace.Concurrent != 16 {
			t.Errorf("%s: %v", c.name, got)
		}
	}
}
