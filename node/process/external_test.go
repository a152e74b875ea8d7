package process_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/hashicorp/go-hclog"

	"github.com/atolldb/atoll/geo/natsd/natsdtest"
	"github.com/atolldb/atoll/internal/freeport"
	"github.com/atolldb/atoll/node/process"
	"github.com/atolldb/atoll/node/topology"
)

// outside is a region of one node whose NATS somebody else runs.
func outside(t *testing.T, regions []process.Region, own int, secret string) process.Config {
	c := single(t.TempDir())
	r := regions[own]
	c.Node, c.Region, c.Regions, c.SecretFile = r.Members[0].ID, r.Name, regions, secret
	c.Listen.Peer, c.Listen.Client = r.Members[0].Peer, r.Members[0].Client
	c.Replicas, c.LoneWrites = 1, true
	c.NATS.Mode, c.NATS.Listen = process.NATSExternal, ""
	return c
}

func twoOutside(t *testing.T) (regions []process.Region, secret string) {
	secret = filepath.Join(t.TempDir(), "secret")
	if err := os.WriteFile(secret, []byte(strings.Repeat("0123456789abcdef", 4)), 0o600); err != nil {
		t.Fatal(err)
	}
	papers := natsdtest.Issue(t)
	for i, name := range []topology.Region{"eu", "us"} {
		at := freeport.For(t, 2)
		r := process.Region{Name: name, ID: topology.RegionID(i + 1), Members: []process.Member{{
			ID: topology.NodeID(name) + "-1", Weight: 1, Client: at[0], Peer: at[1],
		}}}
		if i == 0 { // with TLS on both sides, and a password
			r.NATS = []string{"tls://atoll:east%20side@" + natsdtest.External(t, "east side", &papers)}
			r.NATSAccess = &process.NATSAccess{CA: papers.CA, Cert: papers.Cert, Key: papers.Key}
		} else { // with a password
			r.NATS = []string{"nats://atoll:secret@" + natsdtest.External(t, "secret", nil)}
		}
		regions = append(regions, r)
	}
	return regions, secret
}

// runAll runs processes until the test ends, or ctx, and returns them when all are ready.
func runAll(t *testing.T, log hclog.Logger, configs ...process.Config) (ctx context.Context, nodes []*process.Process) {
	t.Helper()
	ctx, stop := context.WithTimeout(t.Context(), waitLimit)
	var running sync.WaitGroup
	t.Cleanup(func() {
		stop()
		running.Wait()
	})
	for _, c := range configs {
		p, err := process.New(c, process.Hooks{Logger: log})
		if err != nil {
			t.Fatal(err)
		}
		nodes = append(nodes, p)
		running.Go(func() {
			if err := p.Run(ctx); err != nil {
				t.Errorf("%s: %v", c.Region, err)
				stop()
			}
		})
	}
	for i, p := range nodes {
		select {
		case <-p.Ready():
		case <-ctx.Done():
			t.Fatalf("the node of %s does not get ready", configs[i].Region)
		}
	}
	return ctx, nodes
}

// Servers that somebody else runs, with TLS and passwords, keep the topologies and
// carry writes both ways.
func TestExternalNATS(t *testing.T) {
	regions, secret := twoOutside(t)
	ctx, nodes := runAll(t, logger(t), outside(t, regions, 0, secret), outside(t, regions, 1, secret))
	put(t, kvOf(t, nodes[0]), "from eu", "v")
	put(t, kvOf(t, nodes[1]), "from us", "v")
	eventually(t, "us has what eu wrote, and the other way round", func() error {
		if err := holds(ctx, kvOf(t, nodes[1]), "from eu", "v"); err != nil {
			return err
		}
		return holds(ctx, kvOf(t, nodes[0]), "from us", "v")
	})
	eventually(t, "what eu wrote comes by its log, too", func() error {
		if nodes[1].Node().Figures().Drains["eu"].Entries == 0 {
			return errors.New("nothing came")
		}
		return nil
	})
}

// A server that refuses the node is told of as such, and the node goes on trying.
func TestExternalNATSRefuses(t *testing.T) {
	regions, secret := twoOutside(t)
	for name, c := range map[string]struct {
		change func(r *process.Region)
		want   string
	}{
		"wrong password": {func(r *process.Region) { r.NATS[0] = strings.Replace(r.NATS[0], "east", "west", 1) }, "Authorization Violation"},
		"no certificate": {func(r *process.Region) { r.NATSAccess = &process.NATSAccess{CA: r.NATSAccess.CA} }, "certificate"},
		"not our CA":     {func(r *process.Region) { r.NATSAccess = nil }, "unknown authority"},
	} {
		t.Run(name, func(t *testing.T) {
			mine := []process.Region{regions[0], regions[1]}
			mine[0].NATS = append([]string(nil), regions[0].NATS...)
			c.change(&mine[0])
			said := &words{}
			p, err := process.New(outside(t, mine, 0, secret), process.Hooks{Logger: hclog.New(&hclog.LoggerOptions{Level: hclog.Warn, Output: said})})
			if err != nil {
				t.Fatal(err)
			}
			ctx, stop := context.WithTimeout(t.Context(), waitLimit)
			defer stop()
			done := make(chan error, 1)
			go func() { done <- p.Run(ctx) }()
			eventually(t, "a warning", func() error {
				if text := said.String(); !strings.Contains(text, "trouble with a nats server") || !strings.Contains(text, c.want) {
					return fmt.Errorf("it said %q", text)
				}
				return nil
			})
			if strings.Contains(said.String(), "east side") {
				t.Error("the password is in the log")
			}
			stop()
			if err := <-done; err != nil {
				t.Errorf("it ended: %v", err)
			}
		})
	}
}

// Files that are not there are told of before anything starts.
func TestExternalNATSFiles(t *testing.T) {
	regions, secret := twoOutside(t)
	regions[1].NATSAccess = &process.NATSAccess{Credentials: "/no/such.creds", CA: secret}
	c := outside(t, regions, 0, secret)
	began := time.Now()
	err := runOnce(t, c, nothing)
	for _, want := range []string{"regions[1].nats_access", "credentials: open /no/such.creds", "ca: no certificate in " + secret} {
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%v does not mention %q", err, want)
		}
	}
	if took := time.Since(began); took > 5*time.Second {
		t.Errorf("it took %v", took)
	}
}

// words is what a node has said.
type words struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (w *words) Write(b []byte) (int, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.b.Write(b)
}

func (w *words) String() string {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.b.String()
}
