package main

import (
	"bytes"
	"context"
	"errors"
	"net"
	"strings"
	"testing"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	adminv1 "github.com/atolldb/atoll/proto/atoll/admin/v1"
)

// canned is a Cluster service that answers what it is told.
type canned struct {
	adminv1.UnimplementedClusterServer
	status  *adminv1.GetStatusResponse
	export  []*adminv1.ExportResponse
	exports error
	hold    bool // the export neither goes on nor ends
}

func (c *canned) GetTopology(context.Context, *adminv1.GetTopologyRequest) (*adminv1.GetTopologyResponse, error) {
	return &adminv1.GetTopologyResponse{Region: "eu", Epoch: 3}, nil
}

func (c *canned) GetStatus(context.Context, *adminv1.GetStatusRequest) (*adminv1.GetStatusResponse, error) {
	return c.status, nil
}

func (c *canned) Export(_ *adminv1.ExportRequest, stream adminv1.Cluster_ExportServer) error {
	for _, m := range c.export {
		if err := stream.Send(m); err != nil {
			return err
		}
	}
	if c.hold {
		<-stream.Context().Done()
	}
	return c.exports
}

// serve returns where c, and what else there is, listens until the test ends.
func serve(t *testing.T, c *canned, regions ...adminv1.RegionsServer) string {
	t.Helper()
	lis, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	srv := grpc.NewServer()
	adminv1.RegisterClusterServer(srv, c)
	for _, r := range regions {
		adminv1.RegisterRegionsServer(srv, r)
	}
	done := make(chan struct{})
	go func() {
		srv.Serve(lis) //nolint:errcheck // it ends with Stop
		close(done)
	}()
	t.Cleanup(func() { srv.Stop(); <-done })
	return lis.Addr().String()
}

// execute runs the command in this process.
func execute(t *testing.T, args ...string) (stdout, message string, code int) {
	t.Helper()
	var out, msg bytes.Buffer
	cmd := root()
	cmd.SetArgs(args)
	cmd.SetOut(&out)
	cmd.SetErr(&msg)
	err := cmd.ExecuteContext(t.Context())
	if err != nil {
		msg.WriteString(err.Error())
	}
	return out.String(), msg.String(), exitCode(err)
}

func healthy(id string) *adminv1.NodeStatus {
	return &adminv1.NodeStatus{
		Id: id, Actor: 65, Ready: true, PartitionsOwned: 64, PartitionsPrimary: 21, OpenGaps: 1, RepairedKeys: 1234,
		ReadRepairs: 7, ClockDigest: 0xdeadbeef_00000000, DataDigest: 0x0102030405060708, StoreBytes: 5 << 20,
		DiskFree: 3 << 30, DiskTotal: 4 << 30, GeoPending: 9, UptimeMs: 3_723_000, Version: "v1.2.3",
	}
}

func TestStatus(t *testing.T) {
	alive := &adminv1.LinkStatus{Origin: "us", Node: "n1", Alive: true, HeartbeatAgeMs: 412, Pending: 5, OldestMs: 61_000, PendingBytes: 2048}
	for _, c := range []struct {
		name   string
		change func(*adminv1.GetStatusResponse)
		code   int
		rows   []string // of the tables, white space made even
		says   string
	}{
		{
			"healthy", func(*adminv1.GetStatusResponse) {}, exitOK,
			[]string{
				"region eu, epoch 3",
				"ST NODE ACTOR PARTS REPAIRED READS GAPS CLOCKS DATA STORE DISK FREE GEO UP VERSION",
				"UN n1 1@1 64/21 1234 7 1 deadbeef 01020304 5.0 MiB 3.0 GiB (75 %) 9 1h02m v1.2.3",
				"FROM SEEN BY ALIVE HEARTBEAT MISSING OLDEST BYTES",
				"us n1 yes 412ms 5 1m1s 2.0 KiB",
			},
			"",
		},
		{
			"down", func(st *adminv1.GetStatusResponse) { st.Nodes[1] = &adminv1.NodeStatus{Id: "n2", Error: "no route"} }, exitDegraded,
			[]string{"DN n2"}, "node n2 does not answer: no route",
		},
		{
			"starting", func(st *adminv1.GetStatusResponse) { st.Nodes[1].Ready = false }, exitDegraded,
			[]string{"UJ n2 1@1 64/21 1234 7 1 deadbeef 01020304 5.0 MiB 3.0 GiB (75 %) 9 1h02m v1.2.3"}, "node n2 is not ready",
		},
		{
			"peers", func(st *adminv1.GetStatusResponse) { st.Nodes[0].PeersDown = []string{"n2", "n3"} }, exitDegraded,
			nil, "node n1 does not reach n2, n3",
		},
		{
			"clock ahead", func(st *adminv1.GetStatusResponse) { st.Nodes[1].ClockAheadMs, st.Nodes[1].ClockOff = 30_012, true }, exitDegraded,
			nil, "node n2 has a clock that is 30s ahead of other nodes': it takes no writes",
		},
		{
			"clock behind", func(st *adminv1.GetStatusResponse) { st.Nodes[1].ClockAheadMs, st.Nodes[1].ClockOff = -251, true }, exitDegraded,
			nil, "node n2 has a clock that is 251ms behind other nodes': it takes no writes",
		},
		{
			"disk full", func(st *adminv1.GetStatusResponse) {
				st.Nodes[1].DiskFull, st.Nodes[1].DiskFree, st.Nodes[1].DiskNeeds = true, 100<<20, 512<<20
			}, exitDegraded,
			nil, "node n2 has no room on its disk (100.0 MiB (2 %) free, of 512.0 MiB that it needs): it takes no writes; make room",
		},
		{
			"metadata servers away", func(st *adminv1.GetStatusResponse) {
				st.Nodes[0].MetadataSilentMs, st.Nodes[1].MetadataSilentMs = 61_000, 46_000
			}, exitDegraded,
			nil, "the region's metadata servers have not answered n1, n2 for 1m1s: no node can join, leave or be replaced",
		},
		{
			"a metadata server is away", func(st *adminv1.GetStatusResponse) {
				for _, n := range st.Nodes {
					n.MetadataServer, n.MetadataServers = true, 3
				}
			}, exitOK, []string{`2 of 3 metadata servers run: those of n1, n2; more than half have to. If a node that ran one is gone for good, let another one take its part over (docs/operations.md, "A metadata server moves")`}, "",
		},
		{
			"a metadata server has just started", func(st *adminv1.GetStatusResponse) {
				st.Nodes = append(st.Nodes, healthy("n3"))
				for _, n := range st.Nodes {
					n.MetadataServer, n.MetadataServers = n.Id != "n3", 3
				}
				st.Nodes[2].MetadataServerBehind = true
			}, exitOK, []string{`2 of 3 metadata servers run: those of n1, n2; n3 just started one, which counts when it has what they have`}, "",
		},
		{
			"the metadata servers of two that have left run on", func(st *adminv1.GetStatusResponse) {
				st.Nodes[0].MetadataServer, st.Nodes[0].MetadataServers = true, 3
			}, exitOK, []string{`1 of 3 metadata servers run: those of n1; more than half have to. If a node that ran one is gone for good, let another one take its part over (docs/operations.md, "A metadata server moves")`}, "",
		},
		{"metadata servers are asked", func(st *adminv1.GetStatusResponse) { st.Nodes[1].MetadataSilentMs = 44_000 }, exitOK, nil, ""},
		{"clock right", func(st *adminv1.GetStatusResponse) { st.Nodes[1].ClockAheadMs = -249 }, exitOK, nil, ""},
		{
			"link", func(st *adminv1.GetStatusResponse) { st.Links[0].Alive = false; st.Links[0].HeartbeatAgeMs = 7000 }, exitDegraded,
			[]string{"us n1 NO 7s 5 1m1s 2.0 KiB"}, "node n1 hears nothing from region us for 7s",
		},
		{
			"link not heard yet", func(st *adminv1.GetStatusResponse) { st.Links[0].Alive = false; st.Links[0].HeartbeatAgeMs = 52 }, exitDegraded,
			[]string{"us n1 NO none yet 5 1m1s 2.0 KiB"}, "node n1 has just started and not heard region us yet",
		},
	} {
		st := &adminv1.GetStatusResponse{Region: "eu", Epoch: 3, Nodes: []*adminv1.NodeStatus{healthy("n1"), healthy("n2")}}
		st.Links = []*adminv1.LinkStatus{{
			Origin: alive.Origin, Node: alive.Node, Alive: true, HeartbeatAgeMs: alive.HeartbeatAgeMs,
			Pending: alive.Pending, OldestMs: alive.OldestMs, PendingBytes: alive.PendingBytes,
		}}
		c.change(st)
		addr := serve(t, &canned{status: st})
		out, msg, code := execute(t, "status", "--endpoints", addr)
		if code != c.code || !strings.Contains(msg, c.says) || (c.says == "") != (msg == "") {
			t.Errorf("%s: exit code %d, message %q", c.name, code, msg)
		}
		var rows []string
		for line := range strings.Lines(out) {
			rows = append(rows, strings.Join(strings.Fields(line), " "))
		}
		all := "\n" + strings.Join(rows, "\n") + "\n"
		for _, r := range c.rows {
			if !strings.Contains(all, "\n"+r+"\n") {
				t.Errorf("%s: no row %q in\n%s", c.name, r, out)
			}
		}
		if _, _, code := execute(t, "status", "-o", "json", "--endpoints", addr); code != c.code {
			t.Errorf("%s: exit code %d with JSON", c.name, code)
		}
	}
}

// A dump that is cut off is not taken for a whole one.
func TestExportThatBreaksOff(t *testing.T) {
	record := &adminv1.ExportRecord{Bucket: "b", Key: []byte("k"), Versions: []*adminv1.ExportVersion{{Actor: 65, N: 1}}}
	part := []*adminv1.ExportResponse{{Records: []*adminv1.ExportRecord{record}}}
	for _, c := range []struct {
		name string
		canned
		code int
		says string
	}{
		{"unavailable", canned{export: part, exports: status.Error(codes.Unavailable, "an owner is gone")}, exitUnavailable, "an owner is gone"},
		{"corrupt", canned{export: part, exports: status.Error(codes.DataLoss, "bad record")}, exitError, "bad record"},
		{"silent", canned{export: part, hold: true}, exitUnavailable, "nothing came for 1s"},
	} {
		args := []string{"export", "--endpoints", serve(t, &c.canned)}
		if c.hold {
			args = append(args, "--timeout", "1s")
		}
		out, msg, code := execute(t, args...)
		if code != c.code || !strings.Contains(msg, c.says) || !strings.Contains(msg, "incomplete: it ends after 1 records") {
			t.Errorf("%s: exit code %d, message %q", c.name, code, msg)
		}
		if strings.Count(out, "\n") != 1 {
			t.Errorf("%s: printed %q", c.name, out)
		}
	}
}

// What cannot be written, a full disk for one, is an error.
func TestExportToABrokenPipe(t *testing.T) {
	record := &adminv1.ExportRecord{Bucket: "b", Key: []byte("k"), Versions: []*adminv1.ExportVersion{{Actor: 65, N: 1}}}
	cmd := root()
	cmd.SetArgs([]string{"export", "--endpoints", serve(t, &canned{export: []*adminv1.ExportResponse{{Records: []*adminv1.ExportRecord{record}}}})})
	cmd.SetOut(brokenWriter{})
	cmd.SetErr(&bytes.Buffer{})
	if err := cmd.ExecuteContext(t.Context()); !errors.Is(err, errBroken) || exitCode(err) != exitError {
		t.Errorf("it ended with %v", err)
	}
}

var errBroken = errors.New("broken pipe")

type brokenWriter struct{}

func (brokenWriter) Write([]byte) (int, error) { return 0, errBroken }
