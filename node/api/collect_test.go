package api_test

import (
	"errors"
	"testing"
	"time"

	"google.golang.org/protobuf/proto"

	"github.com/atolldb/atoll/crdt"
	"github.com/atolldb/atoll/crdt/hlc"
	"github.com/atolldb/atoll/node/api"
	tombs "github.com/atolldb/atoll/node/collect"
	"github.com/atolldb/atoll/node/coord"
	adminv1 "github.com/atolldb/atoll/proto/atoll/admin/v1"
)

func TestCollect(t *testing.T) {
	at := time.UnixMilli(1_700_000_000_000)
	s := &scripted{collect: api.CollectProgress{Nodes: []api.NodeCollect{
		{ID: "a", Region: "eu", Report: tombs.Report{
			Every: time.Hour, Grace: time.Minute, Oldest: at, Owned: 2, Never: 1, Begun: 9, Done: 7, Off: 1, Dropped: 70, LastDone: at, Aside: 3,
			Demand: &tombs.Demand{Floor: hlc.FromMillis(5), Begun: at, Partitions: 4, Done: 2, Off: 1},
			Now:    &tombs.Current{Partition: 1, Pass: tombs.Settle, Waits: tombs.Cause{Reason: tombs.Silent, Node: "b", Detail: "gone"}},
			Stalls: []tombs.Group{{Partitions: 2, First: 1, Since: at, Why: tombs.Cause{Reason: tombs.Waiting, Node: "c", Detail: "hints"}}},
		}},
		{ID: "x", Region: "us", Error: "no answer"},
	}}}
	got, err := service(s).CollectStatus(t.Context(), nil)
	if err != nil {
		t.Fatal(err)
	}
	ms := at.UnixMilli()
	want := &adminv1.CollectStatusResponse{Collect: &adminv1.CollectProgress{Running: true, Nodes: []*adminv1.NodeCollect{
		{
			Id: "a", Region: "eu", EveryMs: 3600000, GraceMs: 60000, OldestFloorMs: ms, Owned: 2, NeverCollected: 1,
			RoundsBegun: 9, RoundsDone: 7, RoundsOff: 1, Dropped: 70, LastDoneMs: ms, SetAside: 3,
			Demand:  &adminv1.CollectDemand{BegunMs: ms, FloorMs: 5, Partitions: 4, Done: 2, Off: 1},
			Current: &adminv1.CollectCurrent{Partition: 1, Pass: "settle", WaitsFor: "b: gone", Node: "b"},
			Stalls:  []*adminv1.CollectStall{{Partitions: 2, First: 1, SinceMs: ms, Reason: "waiting", Node: "c", Detail: "hints"}},
		},
		{Id: "x", Region: "us", Error: "no answer"},
	}}}
	if !proto.Equal(got, want) {
		t.Errorf("got %v\nwant %v", got, want)
	}
	for _, grace := range []int64{999, -1, 1 << 62} {
		_, err := service(s).Collect(t.Context(), &adminv1.CollectRequest{GraceMs: &grace})
		if e := statusError(t, err); e.Field != "grace_ms" {
			t.Errorf("%d: %+v", grace, e)
		}
	}
	grace := int64(90_000)
	for _, q := range []*adminv1.CollectRequest{{}, {GraceMs: &grace}} {
		if _, err := service(s).Collect(t.Context(), q); err != nil {
			t.Error(err)
		}
	}
	if len(s.asked) != 2 || s.asked[0] != "collect 0s" || s.asked[1] != "collect 1m30s" {
		t.Errorf("asked %q", s.asked)
	}
}

func TestSideLog(t *testing.T) {
	s := &scripted{aside: []api.Aside{{
		ID: []byte("i"), Partition: 1, Bucket: "b", Key: []byte("k"),
		Record: crdt.Record{Versions: []crdt.Version{{Dot: crdt.Dot{Actor: 65, N: 2}, Stamp: 9, Value: []byte("v")}}},
	}}}
	c := service(s)
	got, err := c.ListAside(t.Context(), &adminv1.ListAsideRequest{Node: "b", After: []byte("h")})
	if err != nil {
		t.Fatal(err)
	}
	want := &adminv1.ListAsideResponse{More: true, Entries: []*adminv1.AsideEntry{{
		Id: []byte("i"), Partition: 1, Record: &adminv1.ExportRecord{
			Bucket: "b", Key: []byte("k"), Versions: []*adminv1.ExportVersion{{Actor: 65, N: 2, Stamp: 9, Value: []byte("v")}},
		},
	}}}
	if !proto.Equal(got, want) {
		t.Errorf("got %v\nwant %v", got, want)
	}
	if res, err := c.ForgetAside(t.Context(), &adminv1.ForgetAsideRequest{Node: "b", Ids: [][]byte{{1}, {2}}}); err != nil || res.Forgotten != 2 {
		t.Errorf("%v, %v", res, err)
	}
	_, err1 := c.ListAside(t.Context(), &adminv1.ListAsideRequest{Node: "z"})
	_, err2 := c.ForgetAside(t.Context(), &adminv1.ForgetAsideRequest{Node: "z", Ids: [][]byte{{1}}})
	_, err3 := c.ForgetAside(t.Context(), &adminv1.ForgetAsideRequest{Node: "b"})
	for err, field := range map[error]string{err1: "node", err2: "node", err3: "ids"} {
		if e := statusError(t, err); e.Field != field {
			t.Errorf("%+v, not of %s", e, field)
		}
	}
	if len(s.asked) != 2 {
		t.Errorf("asked %q", s.asked)
	}
	s.err = errors.New("broken")
	_, err = c.ForgetAside(t.Context(), &adminv1.ForgetAsideRequest{Node: "b", Ids: [][]byte{{1}}})
	if e := statusError(t, err); e.Outcome != coord.Unknown {
		t.Errorf("%+v", e)
	}
}
