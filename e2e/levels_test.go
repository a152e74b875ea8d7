//go:build e2e

package e2e

import (
	"context"
	"fmt"
	"testing"
	"time"

	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/status"

	"github.com/atolldb/atoll/node/fleet"
	"github.com/atolldb/atoll/node/quorum"
	"github.com/atolldb/atoll/node/quorum/leveltest"
	"github.com/atolldb/atoll/node/topology"
	atollv1 "github.com/atolldb/atoll/proto/atoll/v1"
)

const (
	// levelPatience is how long an operation of the matrix waits.
	levelPatience = 1200 * time.Millisecond
	// noticeTime bounds how long it takes until every operation ends as the table
	// says: nodes have to notice who went, and who is back.
	noticeTime = 15 * time.Second
)

// matrix is three regions of three real nodes.
type matrix struct {
	t     *testing.T
	ctx   context.Context
	fleet *fleet.Fleet
	kv    map[topology.NodeID]atollv1.KVClient
	n     int // of keys
	// early counts operations that ended otherwise until faults were noticed.
	early, reads int
}

// TestLevelsOverGRPC holds real nodes (gRPC, Badger, JetStream) to the table that
// TestLevelMatrix of node/coord makes: each level does in each situation what
// counting says, and each read that is answered sees each acknowledged write that
// it is sure to see.
func TestLevelsOverGRPC(t *testing.T) {
	t.Parallel()
	ctx, cancel := context.WithTimeout(t.Context(), 4*time.Minute)
	defer cancel()
	f := startFleet(t, ctx, fleet.Config{Regions: []topology.Region{"eu", "us", "ap"}, Partitions: 16})
	m := &matrix{t: t, ctx: ctx, fleet: f, kv: map[topology.NodeID]atollv1.KVClient{}}
	for _, region := range f.Regions() {
		for i, addr := range f.Endpoints(region) {
			cc, err := grpc.NewClient("passthrough:///"+addr, grpc.WithTransportCredentials(insecure.NewCredentials()))
			if err != nil {
				t.Fatal(err)
			}
			t.Cleanup(func() { _ = cc.Close() })
			m.kv[topology.NodeID(fmt.Sprintf("%s-%d", region, i+1))] = atollv1.NewKVClient(cc)
		}
	}
	m.check(leveltest.AllUp)
	m.kill("eu-3")
	m.check(leveltest.OneDown)
	m.kill("eu-2")
	m.check(leveltest.TwoDown)
	m.start("eu-2", "eu-3")
	m.whole()
	m.kill("us-2")
	m.kill("us-3")
	m.check(leveltest.TwoDownThere)
	m.kill("us-1")
	m.check(leveltest.RegionDown)
	m.start("us-1", "us-2", "us-3")
	m.whole()
	m.cut("us")
	m.cut("ap")
	m.check(leveltest.Cut)
	f.HealAll()
	m.whole()
	t.Logf("%d reads had to see a write, and did; %d operations ended otherwise before faults were noticed, none of them with more than was so", m.reads, m.early)
}

func (m *matrix) must(err error) {
	m.t.Helper()
	if err != nil {
		m.t.Fatal(err)
	}
}

func (m *matrix) kill(id topology.NodeID) {
	m.t.Helper()
	m.must(m.fleet.Kill(id))
}

func (m *matrix) start(ids ...topology.NodeID) {
	m.t.Helper()
	for _, id := range ids {
		m.must(m.fleet.StartNode(m.ctx, id))
	}
}

func (m *matrix) cut(region string) {
	m.t.Helper()
	m.must(m.fleet.Partition("eu", region))
}

// whole waits until everything is up again, as every node sees it.
func (m *matrix) whole() {
	m.t.Helper()
	for _, id := range m.fleet.Nodes() {
		m.settles(fmt.Sprintf("a write at all through %s", id), leveltest.OK, func() leveltest.Verdict { return m.put(id, m.key(), quorum.All) })
	}
}

func (m *matrix) key() string {
	m.n++
	return fmt.Sprint("k", m.n)
}

// check holds eu-1 to what is promised in a situation.
func (m *matrix) check(s leveltest.Situation) {
	began, reads := time.Now(), m.reads
	for _, l := range leveltest.Levels {
		want := leveltest.Promised(l, s)
		m.settles(fmt.Sprintf("%s: a write at %v", s, l), want, func() leveltest.Verdict { return m.put("eu-1", m.key(), l) })
		m.settles(fmt.Sprintf("%s: a read at %v", s, l), want, func() leveltest.Verdict {
			_, v := m.get("eu-1", "none", l)
			return v
		})
	}
	for _, wl := range leveltest.Levels {
		if leveltest.Promised(wl, s) == leveltest.OK {
			m.sees(s, wl)
		}
	}
	m.t.Logf("%s: as promised, %d reads saw what they had to, in %v", s, m.reads-reads, time.Since(began).Round(time.Millisecond))
}

// settles tries until an operation ends as it should. Until a fault is noticed it
// may end in another way, but not with more than can be so.
func (m *matrix) settles(what string, want leveltest.Verdict, try func() leveltest.Verdict) {
	m.t.Helper()
	tick := time.NewTicker(50 * time.Millisecond)
	defer tick.Stop()
	for began := time.Now(); ; {
		got := try()
		switch {
		case got == want:
			return
		case got == leveltest.OK:
			m.t.Errorf("%s: ok, want %s", what, want)
			return
		case time.Since(began) > noticeTime:
			m.t.Fatalf("%s: %s, want %s", what, got, want)
		}
		m.early++
		select {
		case <-tick.C:
		case <-m.ctx.Done():
			m.t.Fatal(m.ctx.Err())
		}
	}
}

// sees writes at a level, once for each way of reading, so that no read repairs
// what the next one meets.
func (m *matrix) sees(s leveltest.Situation, wl quorum.Level) {
	for _, rl := range leveltest.Levels {
		for at, region := range m.fleet.Regions() {
			if !leveltest.Sure(wl, rl, at == 0) || !leveltest.Met(rl, s, at) {
				continue
			}
			k := m.key()
			if v := m.put("eu-1", k, wl); v != leveltest.OK {
				m.t.Errorf("%s: another write at %v: %s", s, wl, v)
				return
			}
			for i := range leveltest.Owners {
				id := topology.NodeID(fmt.Sprintf("%s-%d", region, i+1))
				if !m.fleet.Up(id) {
					continue
				}
				if value, v := m.get(id, k, rl); v == leveltest.OK && value != k {
					m.t.Errorf("%s: written at %v, read at %v through %s: %q", s, wl, rl, id, value)
				} else if v == leveltest.OK {
					m.reads++
				}
			}
		}
	}
}

func (m *matrix) put(id topology.NodeID, k string, l quorum.Level) leveltest.Verdict {
	ctx, cancel := context.WithTimeout(m.ctx, levelPatience)
	defer cancel()
	began := time.Now()
	_, err := m.kv[id].Put(ctx, &atollv1.PutRequest{Key: []byte(k), Value: []byte(k), Level: atollv1.Level(l)})
	return told(true, err, time.Since(began))
}

// get returns the value if there is exactly one.
func (m *matrix) get(id topology.NodeID, k string, l quorum.Level) (string, leveltest.Verdict) {
	ctx, cancel := context.WithTimeout(m.ctx, levelPatience)
	defer cancel()
	began := time.Now()
	res, err := m.kv[id].Get(ctx, &atollv1.GetRequest{Key: []byte(k), Level: atollv1.Level(l)})
	v := told(false, err, time.Since(began))
	if len(res.GetSiblings()) == 1 {
		return string(res.Siblings[0].Value), v
	}
	return "", v
}

// told is what a node said of an operation.
func told(write bool, err error, took time.Duration) leveltest.Verdict {
	if err == nil {
		return leveltest.OK
	}
	var info errdetails.ErrorInfo
	for _, d := range status.Convert(err).Details() {
		if i, ok := d.(*errdetails.ErrorInfo); ok {
			info.Reason, info.Metadata = i.Reason, i.Metadata
		}
	}
	outcome := info.Metadata["outcome"]
	switch {
	case info.Reason == "UNAVAILABLE" && outcome == "not_applied" && took < levelPatience/2:
		return leveltest.Refused
	case write && info.Reason == "PARTIAL" && outcome == "applied":
		return leveltest.Waits
	case !write && info.Reason == "DEADLINE" && outcome == "not_applied":
		return leveltest.Waits
	}
	return leveltest.Verdict(fmt.Sprintf("%v (%s, %s) after %v", err, info.Reason, outcome, took))
}
