package admin_test

import (
	"context"
	"errors"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/hashicorp/go-hclog"
	"github.com/prometheus/client_golang/prometheus/testutil/promlint"

	"github.com/atolldb/atoll/crdt"
	"github.com/atolldb/atoll/geo"
	"github.com/atolldb/atoll/node/admin"
	"github.com/atolldb/atoll/node/api"
	"github.com/atolldb/atoll/node/collect"
	"github.com/atolldb/atoll/node/coord"
	"github.com/atolldb/atoll/node/hint"
	"github.com/atolldb/atoll/node/liveness"
	"github.com/atolldb/atoll/node/overload"
	"github.com/atolldb/atoll/node/quorum"
	"github.com/atolldb/atoll/node/regions"
	"github.com/atolldb/atoll/node/repair"
	"github.com/atolldb/atoll/node/replica"
	"github.com/atolldb/atoll/node/storage"
	"github.com/atolldb/atoll/node/topology"
)

// full has something of everything.
func full() *admin.Figures {
	f := &admin.Figures{
		Ready: true,
		Actor: crdt.MakeActor(7, 2), PartitionsOwned: 256, PartitionsPrimary: 85, OpenGaps: 3,
		PeersDown: []topology.NodeID{"n3"},
		Coord:     &coord.Stats{}, Repair: &repair.Stats{},
		Commits:     storage.CommitterStats{Groups: 6, Ops: 40, Bytes: 4000, SyncTime: 1500 * time.Millisecond, RefusedFull: 2},
		Usage:       storage.Usage{Store: 1 << 20, Free: 1 << 30, Total: 1 << 31},
		Pump:        &geo.PumpStats{Batches: 5, BytesWire: 999},
		Unconfirmed: 11,
		Drains:      map[topology.Region]geo.DrainStats{"us": {Batches: 4, Entries: 44}},
		Incoming:    []geo.LagReport{{Origin: "us", Alive: true, HeartbeatAge: 300 * time.Millisecond, Pending: 12, PendingAge: 2 * time.Second}},
		Outgoing:    []geo.LagReport{{Destination: "us", Alive: true, Pending: 13, Unheld: 14, Unknown: 2}},

		ConvergedAsOf: map[topology.Region]time.Time{"us": {}}, NeedFullSync: []topology.Region{"us"},

		CompleteAsOf: map[topology.Region]time.Time{"us": time.UnixMilli(1_700_000_000_500)},
		Asking:       map[topology.NodeID]admin.Link{"n2": {Up: true, MessagesOut: 21, BytesIn: 22}},
		Asked:        map[topology.NodeID]admin.Link{"n2": {Pending: 5}},
	}
	f.Peers = map[topology.NodeID]liveness.PeerStats{"n2": {
		State: liveness.Down, Falls: 3, Pings: 90, Latency: [liveness.Kinds]time.Duration{liveness.Writes: 30 * time.Millisecond},
		Slow: [liveness.Kinds]bool{liveness.Writes: true}, Turns: [liveness.Kinds]uint64{liveness.Writes: 1},
	}}
	f.Rim, f.HotShare = &api.LimiterStats{Bytes: 77}, .25
	f.Rim.Classes[overload.Write] = overload.Stats{Limit: 512, Waiting: 8, Target: 1e8}
	f.Rim.Classes[overload.Write].Verdicts[overload.RefusedAge] = 9
	f.Coord.Gets.Store(17)
	f.PartitionsBehind, f.Leftovers, f.Unreadable, f.Quarantined = 6, 7, 13, 1
	f.Changes = admin.Changes{
		Epoch: 23, Isolated: true, Leads: true, Moves: [3]int{2, 4, 1}, Running: 2, Paused: 1, Copies: 3, Received: 4096,
	}
	f.Metadata = &admin.Metadata{Servers: 3, Up: 2}
	f.Owed = []hint.Owed{{Owner: "n3", Count: 14, Bytes: 1500, Oldest: time.Now().Add(-time.Hour)}}
	f.Secrets, f.Buckets, f.BucketsRead = []string{"0a1b", "2c3d"}, 5, time.Now().Add(-time.Minute)
	f.Lease = regions.LeaseStats{
		Lasts: 15 * time.Second, Left: 12 * time.Second, Grants: map[string]time.Duration{"us": 12 * time.Second},
		Asked: map[string]regions.Asked{"us": {Granted: 41, Refused: 42, Silent: 43}},
	}
	f.Hints, f.Replica = &hint.Stats{}, &replica.Stats{}
	f.Hints.Refused.Store(15)
	f.Replica.Healed.Store(16)
	f.Replica.Pruned.Store(18)
	f.Replica.LateKept.Store(31)
	f.Replica.Sifted.Store(2)
	f.Collect = collect.Report{
		Oldest: time.Now().Add(-time.Hour), Never: 4, Begun: 30, Done: 20, Dropped: 500, Aside: 6,
		Stalls: []collect.Group{{Partitions: 9, Why: collect.Cause{Reason: collect.Silent, Node: "n9"}}},
	}
	f.CollectOff = map[collect.Reason]uint64{collect.Silent: 8, collect.Refused: 2}
	f.OnDemand = repair.Progress{Running: true, Partitions: 8, Done: 2}
	f.Repair.RepairedKeys.Store(19)
	f.Commits.GroupSizes = [12]uint64{2, 1, 0, 3}
	return f
}

func ask(t *testing.T, s *admin.Server, path string) (code int, body string) {
	t.Helper()
	rec := httptest.NewRecorder()
	s.Handler().ServeHTTP(rec, httptest.NewRequest(http.MethodGet, path, nil))
	return rec.Code, rec.Body.String()
}

func server(cfg admin.Config) *admin.Server {
	if cfg.Figures == nil {
		cfg.Figures = full
	}
	cfg.Node, cfg.Region, cfg.Version, cfg.Logger = "n1", "eu", "v1", hclog.NewNullLogger()
	return admin.New(cfg)
}

func TestMetrics(t *testing.T) {
	requests := admin.NewRequests()
	c := requests.Coordinator(&fake{err: &coord.Error{Code: coord.CodeDeadline, Outcome: coord.Unknown}})
	c.Put(coord.Put{Level: quorum.LocalAll}, func(coord.PutResult, error) {})
	c.Put(coord.Put{Delete: true, W: 2}, func(coord.PutResult, error) {})
	c.Get(coord.Get{}, func(coord.GetResult, error) {})
	code, body := ask(t, server(admin.Config{Requests: requests}), "/metrics")
	if code != http.StatusOK {
		t.Fatalf("status %d: %s", code, body)
	}
	lines := map[string]bool{}
	for line := range strings.SplitSeq(body, "\n") {
		lines[line] = true
	}
	for _, want := range []string{
		`atoll_build_info{node="n1",region="eu",version="v1"} 1`,
		`atoll_ready 1`,
		`atoll_actor_info{actor="` + crdt.MakeActor(7, 2).String() + `"} 1`,
		`atoll_partitions_owned 256`,
		`atoll_clock_gaps 3`,
		`atoll_peers_down 1`,
		`atoll_peer_state{peer="n2"} 2`,
		`atoll_peer_falls_total{peer="n2"} 3`,
		`atoll_peer_latency_seconds{kind="write",peer="n2"} 0.03`,
		`atoll_peer_slow{kind="write",peer="n2"} 1`,
		`atoll_secret_info{mark="0a1b",signs="true"} 1`, `atoll_secret_info{mark="2c3d",signs="false"} 1`,
		`atoll_buckets 5`,
		`atoll_peer_pace_changes_total{kind="read",peer="n2"} 0`,
		`atoll_rim_limit_units{class="write"} 512`,
		`atoll_rim_waiting_operations{class="write"} 8`,
		`atoll_rim_target_seconds{class="write"} 0.1`,
		`atoll_rim_operations_total{class="write",verdict="waited"} 9`,
		`atoll_rim_held_bytes 77`,
		`atoll_hot_key_share_ratio 0.25`,
		`atoll_partitions_behind 6`,
		`atoll_partitions_leftover 7`,
		`atoll_topology_epoch 23`,
		`atoll_topology_isolated 1`,
		`atoll_topology_leads 1`,
		`atoll_metadata_servers 3`,
		`atoll_metadata_servers_up 2`,
		`atoll_topology_moves{stage="planned"} 2`,
		`atoll_topology_moves{stage="copying"} 4`,
		`atoll_topology_moves{stage="switched"} 1`,
		`atoll_topology_tasks{state="running"} 2`,
		`atoll_topology_tasks{state="paused"} 1`,
		`atoll_handoff_copies 3`,
		`atoll_collect_never_partitions 4`,
		`atoll_collect_rounds_begun_total 30`,
		`atoll_collect_rounds_done_total 20`,
		`atoll_collect_rounds_off_total{reason="silent"} 8`,
		`atoll_collect_rounds_off_total{reason="refused"} 2`,
		`atoll_collect_stalled_partitions{reason="silent",waits_for="n9"} 9`,
		`atoll_collect_dropped_records_total 500`,
		`atoll_late_aside_entries 6`,
		`atoll_late_set_aside_total 33`,
		`atoll_handoff_received_bytes_total 4096`,
		`atoll_hint_records{peer="n3"} 14`,
		`atoll_hint_bytes{peer="n3"} 1500`,
		`atoll_hint_refused_total 15`,
		`atoll_unreadable_records 13`,
		`atoll_unreadable_records_healed_total 16`,
		`atoll_quarantined_stores 1`,
		`atoll_index_pruned_dots_total 18`,
		`atoll_repair_running 1`,
		`atoll_repair_progress_ratio 0.25`,
		`atoll_coordinator_gets_total 17`,
		`atoll_repair_repaired_keys_total 19`,
		`atoll_commit_ops_total 40`,
		`atoll_commit_sync_seconds_total 1.5`,
		`atoll_commit_refused_ops_total{reason="disk_full"} 2`,
		`atoll_commit_group_ops_bucket{le="1"} 2`,
		`atoll_commit_group_ops_bucket{le="2"} 3`,
		`atoll_commit_group_ops_bucket{le="8"} 6`,
		`atoll_commit_group_ops_sum 40`,
		`atoll_store_bytes 1.048576e+06`,
		`atoll_link_up{peer="n2",side="asking"} 1`,
		`atoll_link_messages_total{direction="out",peer="n2",side="asking"} 21`,
		`atoll_link_bytes_total{direction="in",peer="n2",side="asking"} 22`,
		`atoll_link_pending{peer="n2",side="asked"} 5`,
		`atoll_geo_unconfirmed_dots 11`,
		`atoll_geo_pump_sent_bytes_total 999`,
		`atoll_geo_drain_entries_total{origin="us"} 44`,
		`atoll_geo_link_alive{origin="us"} 1`,
		`atoll_geo_heartbeat_age_seconds{origin="us"} 0.3`,
		`atoll_geo_pending_dots{destination="us"} 13`,
		`atoll_geo_unheld_dots{destination="us"} 14`,
		`atoll_geo_pending_unknown_partitions{destination="us"} 2`,
		`atoll_geo_converged_as_of_seconds{with="us"} 0`,
		`atoll_geo_complete_as_of_seconds{origin="us"} 1.7000000005e+09`,
		`atoll_geo_lag_dots{origin="us"} 12`,
		`atoll_request_duration_seconds_count{code="unknown_outcome",consistency="local_all",op="put"} 1`,
		`atoll_request_duration_seconds_count{code="unknown_outcome",consistency="explicit",op="delete"} 1`,
		`atoll_request_duration_seconds_count{code="ok",consistency="local_quorum",op="get"} 1`,
	} {
		if !lines[want] {
			t.Errorf("no line %s", want)
		}
	}
	if !strings.Contains(body, "\natoll_hint_oldest_age_seconds{peer=\"n3\"} 360") {
		t.Error("the oldest hint is not an hour old")
	}
	for _, want := range []string{"go_goroutines", "process_open_fds"} {
		if !strings.Contains(body, "\n"+want+" ") {
			t.Errorf("no %s", want)
		}
	}
}

// Names and help are what the customs of Prometheus ask for.
func TestMetricNames(t *testing.T) {
	requests := admin.NewRequests()
	requests.Coordinator(&fake{}).Get(coord.Get{}, func(coord.GetResult, error) {})
	_, body := ask(t, server(admin.Config{Requests: requests}), "/metrics")
	problems, err := promlint.New(strings.NewReader(body)).Lint()
	if err != nil {
		t.Fatal(err)
	}
	for _, p := range problems {
		t.Errorf("%s: %s", p.Metric, p.Text)
	}
	for line := range strings.SplitSeq(body, "\n") {
		name, kind, is := strings.Cut(strings.TrimPrefix(line, "# TYPE "), " ")
		if !is || !strings.HasPrefix(line, "# TYPE ") {
			continue
		}
		if !strings.HasPrefix(name, "atoll_") && !strings.HasPrefix(name, "go_") && !strings.HasPrefix(name, "process_") && !strings.HasPrefix(name, "promhttp_") {
			t.Errorf("%s has a foreign prefix", name)
		}
		if strings.HasPrefix(name, "atoll_") && (kind == "counter") != strings.HasSuffix(name, "_total") {
			t.Errorf("%s is a %s", name, kind)
		}
		if !strings.Contains(body, "# HELP "+name+" ") {
			t.Errorf("%s has no help", name)
		}
	}
}

func TestMetricsBeforeThereIsANode(t *testing.T) {
	code, body := ask(t, server(admin.Config{Figures: func() *admin.Figures { return nil }}), "/metrics")
	if code != http.StatusOK || !strings.Contains(body, "\natoll_ready 0\n") || strings.Contains(body, "atoll_store_bytes") {
		t.Errorf("status %d: %s", code, body)
	}
}

func TestReady(t *testing.T) {
	var actor, link error
	s := server(admin.Config{Checks: []admin.Check{
		{Name: "store", Critical: true, Run: func() error { return nil }},
		{Name: "actor", Critical: true, Run: func() error { return actor }},
		{Name: "geo link", Run: func() error { return link }},
	}})
	for _, c := range []struct {
		actor, link error
		path        string
		code        int
		body        string
	}{
		{nil, nil, "/readyz", 200, "ready\n"},
		{nil, nil, "/readyz?verbose", 200, "ok       store\nok       actor\nok       geo link\nready\n"},
		{nil, errors.New("cut"), "/readyz", 200, "ready\n"},
		{nil, errors.New("cut"), "/readyz?verbose", 200, "ok       store\nok       actor\nwarning  geo link: cut\nready\n"},
		{errors.New("none"), errors.New("cut"), "/readyz", 503, "FAILED   actor: none\nnot ready\n"},
		{errors.New("none"), errors.New("cut"), "/readyz?verbose", 503, "ok       store\nFAILED   actor: none\nwarning  geo link: cut\nnot ready\n"},
	} {
		actor, link = c.actor, c.link
		if code, body := ask(t, s, c.path); code != c.code || body != c.body {
			t.Errorf("%s with %v, %v: %d %q", c.path, c.actor, c.link, code, body)
		}
	}
}

func TestLive(t *testing.T) {
	var dead error
	s := server(admin.Config{Dead: func() error { return dead }})
	if code, body := ask(t, s, "/livez"); code != 200 || body != "ok\n" {
		t.Errorf("alive: %d %q", code, body)
	}
	dead = errors.New("storage engine failed")
	if code, body := ask(t, s, "/livez"); code != 503 || !strings.Contains(body, dead.Error()) {
		t.Errorf("dead: %d %q", code, body)
	}
}

func TestPaths(t *testing.T) {
	s := server(admin.Config{})
	for path, want := range map[string]string{
		"/":                              "/readyz?verbose",
		"/debug/pprof/":                  "goroutine",
		"/debug/pprof/heap?debug=1":      "heap profile",
		"/debug/pprof/cmdline":           "admin",
		"/debug/pprof/symbol":            "num_symbols",
		"/debug/pprof/goroutine?debug=1": "goroutine profile",
	} {
		if code, body := ask(t, s, path); code != 200 || !strings.Contains(body, want) {
			t.Errorf("%s: %d without %q", path, code, want)
		}
	}
	if code, _ := ask(t, s, "/nosuch"); code != 404 {
		t.Errorf("/nosuch: %d", code)
	}
	rec := httptest.NewRecorder()
	s.Handler().ServeHTTP(rec, httptest.NewRequest(http.MethodPost, "/metrics", nil))
	if rec.Code != http.StatusMethodNotAllowed {
		t.Errorf("post: %d", rec.Code)
	}
}

func TestRun(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	ctx, stop := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- server(admin.Config{}).Run(ctx, l) }()
	res, err := http.Get("http://" + l.Addr().String() + "/livez")
	if err != nil {
		t.Fatal(err)
	}
	body, err := io.ReadAll(res.Body)
	res.Body.Close()
	if err != nil || string(body) != "ok\n" {
		t.Errorf("got %q, %v", body, err)
	}
	stop()
	if err := <-done; err != nil {
		t.Error(err)
	}
	if _, err := net.Dial("tcp", l.Addr().String()); err == nil {
		t.Error("it still listens")
	}
}

// fake answers at once.
type fake struct{ err error }

func (f *fake) Get(_ coord.Get, done func(coord.GetResult, error)) { done(coord.GetResult{}, nil) }
func (f *fake) Put(_ coord.Put, done func(coord.PutResult, error)) { done(coord.PutResult{}, f.err) }

func BenchmarkRequests(b *testing.B) {
	c := admin.NewRequests().Coordinator(&fake{})
	done := func(coord.GetResult, error) {}
	g := coord.Get{Key: []byte("k"), Level: quorum.LocalOne}
	b.ReportAllocs()
	for b.Loop() {
		c.Get(g, done)
	}
}

func (f *fake) Outcome(coord.OutcomeQuery, func(coord.OutcomeResult, error)) {}

func (f *fake) Await(_ coord.Await, done func([]coord.RegionAchieved, error)) { done(nil, nil) }
