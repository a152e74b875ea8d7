package grpcpeer_test

import (
	"bytes"
	"context"
	"errors"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/hashicorp/go-hclog"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/status"

	"github.com/atolldb/atoll/node/peer"
	"github.com/atolldb/atoll/node/peer/grpcpeer"
	"github.com/atolldb/atoll/node/topology"
	peerv1 "github.com/atolldb/atoll/proto/atoll/peer/v1"
)

// journal is a logger's output.
type journal struct {
	mu  sync.Mutex
	buf bytes.Buffer
}

func (j *journal) Write(b []byte) (int, error) {
	j.mu.Lock()
	defer j.mu.Unlock()
	return j.buf.Write(b)
}

func (j *journal) String() string {
	j.mu.Lock()
	defer j.mu.Unlock()
	return j.buf.String()
}

func (j *journal) logger() hclog.Logger { return hclog.New(&hclog.LoggerOptions{Output: j}) }

func mirror(_ topology.NodeID, req peer.Request, reply peer.Done) { reply(req.Body, nil) }

func ping(t testing.TB, tr peer.Transport, to topology.NodeID) error {
	_, err := peer.Call(t.Context(), tr, to, peer.Request{Verb: peer.VerbPing, Timeout: 10 * time.Second})
	return err
}

func TestLinkRefused(t *testing.T) {
	for name, c := range map[string]struct {
		tune func(*grpcpeer.Config, *grpcpeer.ServerConfig)
		want string
	}{
		"region": {func(c *grpcpeer.Config, _ *grpcpeer.ServerConfig) {
			if c.Self == "a" {
				c.Region = "us"
			}
		}, `node "a" says it is in region "us", here it is known to be in "eu"`},
		"not where it is known to be": {func(_ *grpcpeer.Config, s *grpcpeer.ServerConfig) {
			s.RegionOf = func(topology.NodeID) (topology.Region, bool) { return "us", true }
		}, `node "a" says it is in region "eu", here it is known to be in "us"`},
		"not known": {func(_ *grpcpeer.Config, s *grpcpeer.ServerConfig) {
			s.RegionOf = func(topology.NodeID) (topology.Region, bool) { return "", false }
		}, `node "a" is not configured here`},
		"partitions": {func(c *grpcpeer.Config, _ *grpcpeer.ServerConfig) {
			if c.Self == "a" {
				c.Partitions = 128
			}
		}, "128 partitions, this node has 64"},
		"another node": {func(_ *grpcpeer.Config, s *grpcpeer.ServerConfig) {
			if s.Self == "b" {
				s.Self = "z"
			}
		}, `"z" is at 127.0.0.1`},
		"my own id": {func(_ *grpcpeer.Config, s *grpcpeer.ServerConfig) {
			if s.Self == "b" {
				s.Self = "a"
			}
		}, "this node has your id: a"},
		"not admitted": {func(_ *grpcpeer.Config, s *grpcpeer.ServerConfig) {
			s.Admit = func(_ context.Context, from topology.NodeID) error { return errors.New("no entry for " + string(from)) }
		}, "no entry for a"},
	} {
		t.Run(name, func(t *testing.T) {
			n := newLoopback(t)
			var log journal
			n.tune = func(cfg *grpcpeer.Config, serverCfg *grpcpeer.ServerConfig) {
				cfg.Logger = log.logger()
				c.tune(cfg, serverCfg)
			}
			a := n.Start("a", mirror)
			n.Start("b", func(topology.NodeID, peer.Request, peer.Done) { t.Error("the handler was called") })
			for range 5 {
				if err := ping(t, a, "b"); !errors.Is(err, peer.ErrNotSent) || !strings.Contains(err.Error(), c.want) {
					t.Fatalf("got %v, want %q", err, c.want)
				}
			}
			n.Stop("a")
			lines := log.String()
			if strings.Count(lines, "peer link refused") != 1 || !strings.Contains(lines, "[ERROR]") {
				t.Errorf("logged not once:\n%s", lines)
			}
		})
	}
}

// Nodes of two regions talk when both know of each other.
func TestLinkAcrossRegions(t *testing.T) {
	n := newLoopback(t)
	regions := map[topology.NodeID]topology.Region{"a": "eu", "b": "us"}
	of := func(id topology.NodeID) (topology.Region, bool) { r, ok := regions[id]; return r, ok }
	n.tune = func(cfg *grpcpeer.Config, serverCfg *grpcpeer.ServerConfig) {
		cfg.Region, serverCfg.Region = regions[cfg.Self], regions[cfg.Self]
		cfg.RegionOf, serverCfg.RegionOf = of, of
	}
	a, b := n.Start("a", mirror), n.Start("b", mirror)
	if err := ping(t, a, "b"); err != nil {
		t.Error(err)
	}
	if err := ping(t, b, "a"); err != nil {
		t.Error(err)
	}
}

// raw dials a node as any gRPC client does, with the generated code.
func raw(t *testing.T, n *loopback, hello *peerv1.Hello) (peerv1.Peer_LinkClient, error) {
	t.Helper()
	addr, _ := n.addr("b")
	conn, err := grpc.NewClient(addr, grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	t.Cleanup(cancel)
	s, err := peerv1.NewPeerClient(conn).Link(ctx)
	if err != nil {
		t.Fatal(err)
	}
	if err := s.Send(&peerv1.LinkRequest{Hello: hello}); err != nil {
		t.Fatal(err)
	}
	resp, err := s.Recv()
	if err == nil && (resp.Hello.GetNode() != "b" || resp.Hello.Large != hello.Large || resp.Hello.Wire != peer.Wire) {
		t.Errorf("the server's hello is %v", resp.Hello)
	}
	return s, err
}

func hello(session uint64, large bool) *peerv1.Hello {
	return &peerv1.Hello{Node: "x", Region: "eu", Wire: peer.Wire, Partitions: 64, Session: session, Large: large}
}

func TestServerRefusesStrangers(t *testing.T) {
	n := newLoopback(t)
	n.Start("b", mirror)
	wrongWire := hello(1, false)
	wrongWire.Wire = 99
	longName := hello(1, false)
	longName.Node = strings.Repeat("x", 64)
	for name, h := range map[string]*peerv1.Hello{"none": nil, "wire": wrongWire, "long name": longName, "no name": {}} {
		if _, err := raw(t, n, h); status.Code(err) != codes.FailedPrecondition {
			t.Errorf("%s: got %v", name, err)
		}
	}
	if _, err := raw(t, n, hello(7, false)); err != nil {
		t.Fatal(err)
	}
	if _, err := raw(t, n, hello(7, false)); status.Code(err) != codes.AlreadyExists {
		t.Errorf("the same stream twice: got %v", err)
	}
	var err error
	for i := range uint64(8) {
		_, err = raw(t, n, hello(100+i, false))
	}
	if status.Code(err) != codes.ResourceExhausted {
		t.Errorf("many sessions: got %v", err)
	}
}

// One stream's end is the end of the session (G2).
func TestStreamsDieTogether(t *testing.T) {
	n := newLoopback(t)
	n.Start("b", mirror)
	small, err := raw(t, n, hello(1, false))
	if err != nil {
		t.Fatal(err)
	}
	large, err := raw(t, n, hello(1, true))
	if err != nil {
		t.Fatal(err)
	}
	if st := n.servers["b"].Stats()["x"]; !st.Up || st.Sessions != 1 {
		t.Errorf("before: %+v", st)
	}
	if err := large.CloseSend(); err != nil {
		t.Fatal(err)
	}
	if _, err := small.Recv(); status.Code(err) != codes.Unavailable {
		t.Errorf("the small stream: got %v", err)
	}
	if st := n.servers["b"].Stats()["x"]; st.Up {
		t.Errorf("after: %+v", st)
	}
}

// Requests by the generated code: replies of both sizes come on the stream
// they belong on, refusals come back, the expired is not begun.
func TestRawLink(t *testing.T) {
	n := newLoopback(t)
	n.Start("b", func(_ topology.NodeID, req peer.Request, reply peer.Done) {
		switch req.Verb {
		case peer.VerbScan:
			reply(make([]byte, peer.LargeMessage+1), nil)
		case peer.VerbCompare:
			// Against the rules: what is behind must wait, until it is expired.
			expired, cancel := context.WithTimeout(context.Background(), 30*time.Millisecond)
			defer cancel()
			<-expired.Done()
			reply(nil, nil)
		case peer.VerbPull:
			t.Error("an expired request was begun")
			reply(nil, nil)
		default:
			reply(req.Body, nil)
		}
	})
	small, err := raw(t, n, hello(1, false))
	if err != nil {
		t.Fatal(err)
	}
	large, err := raw(t, n, hello(1, true))
	if err != nil {
		t.Fatal(err)
	}
	var f []byte
	f = append(peer.AppendRequestHead(f, 1, peer.Request{Verb: peer.VerbRead, Timeout: time.Second, Body: []byte("abc")}), "abc"...)
	f = peer.AppendRequestHead(f, 2, peer.Request{Verb: peer.VerbScan, Timeout: time.Second})
	f = peer.AppendRequestHead(f, 3, peer.Request{Verb: peer.VerbCompare, Timeout: time.Second})
	f = peer.AppendRequestHead(f, 4, peer.Request{Verb: peer.VerbPull, Timeout: 10 * time.Millisecond})
	f = peer.AppendRequestHead(f, 5, peer.Request{Verb: peer.VerbPull, Timeout: 0})
	if err := small.Send(&peerv1.LinkRequest{Frame: f}); err != nil {
		t.Fatal(err)
	}
	got := map[uint64]peer.Code{}
	for len(got) < 4 {
		resp, err := small.Recv()
		if err != nil {
			t.Fatal(err)
		}
		for rest := resp.Frame; len(rest) > 0; {
			var id uint64
			var code peer.Code
			var body []byte
			if id, code, body, rest, err = peer.NextReply(rest); err != nil {
				t.Fatal(err)
			}
			got[id] = code
			if id == 1 && string(body) != "abc" {
				t.Errorf("got %q", body)
			}
		}
	}
	if _, here := got[2]; here || got[1] != 0 || got[3] != 0 || got[4] != peer.CodeExpired || got[5] != peer.CodeExpired {
		t.Errorf("on the small stream: %v", got)
	}
	resp, err := large.Recv()
	if err != nil {
		t.Fatal(err)
	}
	if id, code, body, rest, err := peer.NextReply(resp.Frame); err != nil || id != 2 || code != 0 || len(body) != peer.LargeMessage+1 || len(rest) != 0 {
		t.Errorf("on the large stream: %d %d %d bytes, %v", id, code, len(body), err)
	}
	// An empty frame asks for a sign of life.
	if err := small.Send(&peerv1.LinkRequest{}); err != nil {
		t.Fatal(err)
	}
	if resp, err := small.Recv(); err != nil || len(resp.Frame) != 0 {
		t.Errorf("the sign of life: %v, %v", resp, err)
	}
	// What cannot be read ends the session.
	if err := small.Send(&peerv1.LinkRequest{Frame: []byte{1, 0}}); err != nil {
		t.Fatal(err)
	}
	if _, err := small.Recv(); status.Code(err) != codes.Unavailable || !strings.Contains(err.Error(), "malformed frame") {
		t.Errorf("after a malformed frame: %v", err)
	}
}
