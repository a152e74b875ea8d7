package jskv

import (
	"context"
	"fmt"
	"testing"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"github.com/atolldb/atoll/geo/natsd/natsdtest"
	"github.com/atolldb/atoll/internal/pause"
	"github.com/atolldb/atoll/node/topology/topologytest"
)

func TestServersByWhatALeaderSays(t *testing.T) {
	const led = "n1"
	up := func(active time.Duration) *jetstream.PeerInfo {
		return &jetstream.PeerInfo{Current: true, Active: active}
	}
	for name, c := range map[string]struct {
		leader   string
		replicas []*jetstream.PeerInfo
		want     Servers
		quorum   bool
	}{
		"alone":                  {led, nil, Servers{1, 1}, true},
		"all":                    {led, []*jetstream.PeerInfo{up(900 * time.Millisecond), up(time.Millisecond)}, Servers{3, 3}, true},
		"heard this instant":     {led, []*jetstream.PeerInfo{up(0), up(0)}, Servers{3, 3}, true},
		"one stopped in order":   {led, []*jetstream.PeerInfo{up(time.Second), {Current: true, Offline: true, Active: time.Second}}, Servers{3, 2}, true},
		"one was killed":         {led, []*jetstream.PeerInfo{up(time.Second), up(6 * time.Second)}, Servers{3, 2}, true},
		"one catches up":         {led, []*jetstream.PeerInfo{up(time.Second), {Active: time.Second, Lag: 7}}, Servers{3, 3}, true},
		"one was never heard":    {led, []*jetstream.PeerInfo{up(time.Second), {Lag: 7}}, Servers{3, 2}, true},
		"two were killed":        {led, []*jetstream.PeerInfo{up(6 * time.Second), up(7 * time.Second)}, Servers{3, 1}, false},
		"two of four":            {led, []*jetstream.PeerInfo{up(time.Second), {Offline: true}, {Offline: true}}, Servers{4, 2}, false},
		"none leads":             {"", []*jetstream.PeerInfo{up(0), {Active: time.Second}, {Offline: true}}, Servers{3, 0}, false},
		"it leads, and is alone": {led, []*jetstream.PeerInfo{{Offline: true}, {Offline: true}}, Servers{3, 1}, false},
	} {
		t.Run(name, func(t *testing.T) {
			got := serversOf(&jetstream.ClusterInfo{Leader: c.leader, Replicas: c.replicas})
			if got != c.want || got.Quorum() != c.quorum {
				t.Errorf("%+v, quorum %v, want %+v, %v", got, got.Quorum(), c.want, c.quorum)
			}
		})
	}
}

func servers(ctx context.Context, s *Store) (Servers, error) {
	ctx, cancel := context.WithTimeout(ctx, tryTimeout)
	defer cancel()
	return s.Servers(ctx)
}

func storeOn(t *testing.T, n *natsdtest.Node, replicas int) *Store {
	t.Helper()
	s, err := NewStore(Config{Region: "east", RegionID: topologytest.Region, Replicas: replicas}, n.Client(t))
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// One server alone is one of one.
func TestServersAlone(t *testing.T) {
	s := storeOn(t, natsdtest.Solo(t, "east", t.TempDir()), 1)
	if got, err := servers(t.Context(), s); err == nil {
		t.Errorf("before there is a bucket: %+v", got)
	}
	if _, err := s.Swap(t.Context(), topologytest.Topology(t, 1, 0), 0); err != nil {
		t.Fatal(err)
	}
	if got, err := servers(t.Context(), s); err != nil || got != (Servers{1, 1}) {
		t.Errorf("%+v, %v", got, err)
	}
}

// Of three servers one ends, whoever leads, and then another one.
func TestServersEnd(t *testing.T) {
	nodes := natsdtest.Cluster(t, "east")
	last := storeOn(t, nodes[2], 3)
	ctx, cancel := context.WithTimeout(t.Context(), 90*time.Second)
	defer cancel()
	if _, err := last.Swap(ctx, topologytest.Topology(t, 1, 0), 0); err != nil {
		t.Fatal(err)
	}
	tells := func(what string, is func(Servers, error) bool) {
		t.Helper()
		began := time.Now()
		if err := pause.Until(ctx, 50*time.Millisecond, func() error {
			if got, err := servers(ctx, last); !is(got, err) {
				return fmt.Errorf("%+v, %w", got, err)
			}
			return nil
		}); err != nil {
			t.Fatalf("%s: %v", what, err)
		}
		t.Logf("%s: told after %v", what, time.Since(began).Round(time.Millisecond))
	}
	tells("3 of 3", func(s Servers, err error) bool { return err == nil && s == Servers{3, 3} })
	nodes[0].Stop()
	tells("2 of 3", func(s Servers, err error) bool { return err == nil && s == Servers{3, 2} })
	nodes[1].Stop()
	tells("without a quorum", func(s Servers, err error) bool { return err != nil || s.Total == 3 && !s.Quorum() })
}
