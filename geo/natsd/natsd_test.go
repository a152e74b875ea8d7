package natsd_test

import (
	"context"
	"errors"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/hashicorp/go-hclog"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/atolldb/atoll/geo/natsd"
)

func solo(dir string) natsd.Config {
	return natsd.Config{Name: "east-1", Region: "east", DataDir: dir, Listen: "127.0.0.1:0"}
}

// run starts a server that ends with the test or with stop.
func run(t *testing.T, cfg natsd.Config) (s *natsd.Server, stop func() error) {
	t.Helper()
	return runLogged(t, cfg, hclog.NewNullLogger())
}

func runLogged(t *testing.T, cfg natsd.Config, logger hclog.Logger) (s *natsd.Server, stop func() error) {
	t.Helper()
	s = natsd.New(cfg, logger)
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- s.Run(ctx) }()
	stopped := false
	stop = func() error {
		if stopped {
			return nil
		}
		stopped = true
		cancel()
		return <-done
	}
	t.Cleanup(func() {
		if err := stop(); err != nil {
			t.Errorf("nats server: %v", err)
		}
	})
	select {
	case <-s.Ready():
	case err := <-done:
		stopped = true
		t.Fatalf("nats server: %v", err)
	}
	return s, stop
}

func fails(t *testing.T, cfg natsd.Config) error {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
	defer cancel()
	err := natsd.New(cfg, hclog.NewNullLogger()).Run(ctx)
	if err == nil || errors.Is(err, context.DeadlineExceeded) {
		t.Fatalf("run: %v", err)
	}
	return err
}

func TestSoloKeepsItsData(t *testing.T) {
	dir := t.TempDir()
	ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
	defer cancel()
	s, stop := run(t, solo(dir))
	js := client(t, s)
	if _, err := js.CreateStream(ctx, jetstream.StreamConfig{Name: "S", Subjects: []string{"s"}}); err != nil {
		t.Fatal(err)
	}
	if _, err := js.Publish(ctx, "s", []byte("kept")); err != nil {
		t.Fatal(err)
	}
	if err := stop(); err != nil {
		t.Fatal(err)
	}
	s, _ = run(t, solo(dir))
	stream, err := client(t, s).Stream(ctx, "S")
	if err != nil {
		t.Fatal(err)
	}
	if msg, err := stream.GetMsg(ctx, 1); err != nil || string(msg.Data) != "kept" {
		t.Fatalf("got %v, %v", msg, err)
	}
	entries, err := os.ReadDir(filepath.Join(dir, "js-solo"))
	if err != nil || len(entries) == 0 {
		t.Fatalf("nothing in js-solo: %v", err)
	}
}

func client(t *testing.T, s *natsd.Server) jetstream.JetStream {
	nc, err := s.Connect()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(nc.Close)
	js, err := jetstream.New(nc)
	if err != nil {
		t.Fatal(err)
	}
	return js
}

func TestListens(t *testing.T) {
	s, _ := run(t, solo(t.TempDir()))
	nc, err := nats.Connect(s.ClientURL())
	if err != nil {
		t.Fatal(err)
	}
	defer nc.Close()
	if nc.MaxPayload() != 16<<20 {
		t.Errorf("max payload %d", nc.MaxPayload())
	}
}

func TestPortInUse(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	cfg := solo(t.TempDir())
	cfg.Listen = l.Addr().String()
	if err := fails(t, cfg); !strings.Contains(err.Error(), "address already in use") {
		t.Fatalf("got %v", err)
	}
}

func TestRoutePortInUse(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	cfg := solo(t.TempDir())
	cfg.Cluster = &natsd.Cluster{Listen: l.Addr().String(), Routes: []string{"127.0.0.1:1", "127.0.0.1:2"}}
	if err := fails(t, cfg); !strings.Contains(err.Error(), "address already in use") {
		t.Fatalf("got %v", err)
	}
}

func TestDirectoryInUse(t *testing.T) {
	dir := t.TempDir()
	_, stop := run(t, solo(dir))
	if err := fails(t, solo(dir)); !errors.Is(err, natsd.ErrInUse) {
		t.Fatalf("got %v", err)
	}
	if err := stop(); err != nil {
		t.Fatal(err)
	}
	run(t, solo(dir))
}

func TestStoresDoNotMix(t *testing.T) {
	dir := t.TempDir()
	_, stop := run(t, solo(dir))
	if err := stop(); err != nil {
		t.Fatal(err)
	}
	clustered := solo(dir)
	clustered.Cluster = &natsd.Cluster{Listen: "127.0.0.1:1", Routes: []string{"127.0.0.1:2", "127.0.0.1:3"}}
	if err := fails(t, clustered); !errors.Is(err, natsd.ErrOtherStore) || !strings.Contains(err.Error(), "js-solo") {
		t.Fatalf("got %v", err)
	}
	dir = t.TempDir()
	if err := os.MkdirAll(filepath.Join(dir, "js-cluster", "jetstream"), 0o700); err != nil {
		t.Fatal(err)
	}
	if err := fails(t, solo(dir)); !errors.Is(err, natsd.ErrOtherStore) || !strings.Contains(err.Error(), "js-cluster") {
		t.Fatalf("got %v", err)
	}
}

func TestValidate(t *testing.T) {
	err := natsd.Config{Listen: "nowhere", MaxStore: -1, Cluster: &natsd.Cluster{Listen: "h:0", Routes: []string{"x"}}}.Validate()
	for _, want := range []string{"name, region", `"nowhere"`, "negative", `"h:0"`, `"x"`, "cluster of 2"} {
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%v does not mention %s", err, want)
		}
	}
	if err := solo("d").Validate(); err != nil {
		t.Error(err)
	}
}
