package main

import (
	"bytes"
	"strings"
	"testing"

	"github.com/atolldb/atoll/node/api/apitest"
	adminv1 "github.com/atolldb/atoll/proto/atoll/admin/v1"
)

// A person is asked, and only a yes commits.
func TestAsksAtATerminal(t *testing.T) {
	r := apitest.NewRegion(t, 3)
	if err := r.Members.Register("n4"); err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		answer string
		code   int
		tasks  int
	}{{"\n", exitError, 0}, {"nein\n", exitError, 0}, {"\x04", exitError, 0}, {"Y\n", exitOK, 1}} {
		person, program := openTerminal(t)
		if _, err := person.WriteString(c.answer); err != nil {
			t.Fatal(err)
		}
		var out, msg bytes.Buffer
		cmd := root()
		cmd.SetArgs([]string{"node", "join", "n4", "--endpoints", r.Nodes[0].Addr})
		cmd.SetIn(program)
		cmd.SetOut(&out)
		cmd.SetErr(&msg)
		if code := exitCode(cmd.ExecuteContext(t.Context())); code != c.code {
			t.Errorf("%q: exit code %d", c.answer, code)
		}
		if !strings.Contains(out.String(), "join n4, planned on epoch 2") || !strings.Contains(msg.String(), "commit this plan? [y/N] ") {
			t.Errorf("%q: %s%s", c.answer, out.String(), msg.String())
		}
		if n := len(r.Topology().Tasks); n != c.tasks {
			t.Errorf("%q: %d tasks", c.answer, n)
		}
		program.Close()
	}
}

func TestProgressLine(t *testing.T) {
	for _, c := range []struct {
		task *adminv1.Task
		bar  bool
		want string
	}{
		{
			&adminv1.Task{Moves: 8, Planned: 2, Copying: 2, Switched: 1, Done: 3, Bytes: 8 << 20, BytesDone: 5 << 20, BytesPerSecond: 1 << 20, EtaMs: 3456}, true,
			"[############........] 62 %, 5.0 MiB of about 8.0 MiB, moves: 3 done, 1 switched, 2 copying, 2 planned, 1.0 MiB/s, 3s left",
		},
		{
			&adminv1.Task{Moves: 4, Planned: 4, EtaMs: -1, WaitsFor: []string{"n2 to answer", "n3 to answer"}}, false,
			"0 %, 0 B of about 0 B, moves: 0 done, 0 switched, 0 copying, 4 planned, waiting for n2 to answer and 1 more",
		},
		{
			&adminv1.Task{Moves: 4, Copying: 1, Done: 3, Paused: true, EtaMs: -1}, true,
			"[###############.....] 75 %, 0 B of about 0 B, moves: 3 done, 0 switched, 1 copying, 0 planned, paused",
		},
	} {
		if got := progressLine(c.task, c.bar); got != c.want {
			t.Errorf("got  %s\nwant %s", got, c.want)
		}
	}
	for share, want := range map[float64]string{-1: "....................", 0.5: "##########..........", 7: "####################"} {
		if got := barText(share); got != "["+want+"]" {
			t.Errorf("%f: %s", share, got)
		}
	}
}

func TestTaskState(t *testing.T) {
	for want, task := range map[string]*adminv1.Task{
		"running":  {WaitsFor: []string{"a copy"}, BytesPerSecond: 1},
		"waiting":  {WaitsFor: []string{"a copy"}},
		"paused":   {Paused: true, WaitsFor: []string{"a copy"}},
		"aborting": {Aborted: true},
		"aborted":  {Aborted: true, EndedMs: 1},
		"done":     {EndedMs: 1},
	} {
		if got := taskState(task); got != want {
			t.Errorf("%v is %s, want %s", task, got, want)
		}
	}
}

func TestStatesOfNodes(t *testing.T) {
	top := &adminv1.GetTopologyResponse{Members: []*adminv1.Member{
		{Id: "up", State: adminv1.MemberState_MEMBER_STATE_UP},
		{Id: "new", State: adminv1.MemberState_MEMBER_STATE_JOINING},
		{Id: "old", State: adminv1.MemberState_MEMBER_STATE_DRAINING},
	}}
	for _, c := range []struct {
		node *adminv1.NodeStatus
		want string
	}{
		{&adminv1.NodeStatus{Id: "up", Ready: true}, "UN"},
		{&adminv1.NodeStatus{Id: "up"}, "UJ"},
		{&adminv1.NodeStatus{Id: "new", Ready: true}, "UJ"},
		{&adminv1.NodeStatus{Id: "old", Ready: true}, "UL"},
		{&adminv1.NodeStatus{Id: "old", Error: "no answer"}, "DL"},
	} {
		if got := nodeState(top, c.node); got != c.want {
			t.Errorf("%v is %s, want %s", c.node, got, c.want)
		}
	}
	notes := strings.Join(nodeNotes(&adminv1.NodeStatus{PartitionsBehind: 3, Leftovers: 2, Hints: 7, HintBytes: 2048}), "; ")
	if want := "catches up with 3 partitions; holds 2 partitions that it has given away, and deletes them later; keeps 7 hints (2.0 KiB) for owners that were away"; notes != want {
		t.Errorf("got %s", notes)
	}
	if bad := degraded(&adminv1.GetStatusResponse{Nodes: []*adminv1.NodeStatus{{Id: "up", Ready: true, Unreadable: 4}}}); len(bad) != 1 ||
		!strings.Contains(bad[0], "cannot read 4 records") {
		t.Errorf("%q", bad)
	}
}
