package process_test

import (
	"context"
	"errors"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/atolldb/atoll/geo/natsd"
	"github.com/atolldb/atoll/internal/freeport"
	"github.com/atolldb/atoll/node/process"
	"github.com/atolldb/atoll/node/replica"
	"github.com/atolldb/atoll/node/storage"
	"github.com/atolldb/atoll/node/storage/badgerstore"
)

// single is a node of its own, on free ports.
func single(dir string) process.Config {
	c := process.Dev(dir)
	c.Listen.Client, c.Listen.Admin = "127.0.0.1:0", "127.0.0.1:0"
	c.Partitions = 16
	c.Memory.Memtable, c.Memory.BlockCache = 8*process.MiB, 1*process.MiB
	c.NATS.MaxStore = 256 * process.MiB
	return c
}

// runOnce runs a node until it is ready, and then do.
func runOnce(t *testing.T, c process.Config, do func(*process.Process)) error {
	t.Helper()
	p, err := process.New(c, process.Hooks{Logger: logger(t)})
	if err != nil {
		return err
	}
	ctx, stop := context.WithTimeout(t.Context(), waitLimit)
	defer stop()
	done := make(chan error, 1)
	go func() { done <- p.Run(ctx) }()
	select {
	case <-p.Ready():
	case err := <-done:
		if err == nil {
			t.Error("it stopped before it was ready")
		}
		return err
	}
	do(p)
	stop()
	return <-done
}

func nothing(*process.Process) {}

// failsToStart starts a node that cannot, and sees that it frees what it took.
func failsToStart(t *testing.T, c process.Config, is error, want ...string) {
	t.Helper()
	if strings.HasSuffix(c.Listen.Client, ":0") {
		c.Listen.Client = freeport.For(t, 1)[0]
	}
	began := time.Now()
	err := runOnce(t, c, nothing)
	if err == nil {
		t.Fatal("it started")
	}
	if is != nil && !errors.Is(err, is) {
		t.Errorf("got %v, not %v", err, is)
	}
	if strings.Contains(err.Error(), "server has been stopped") {
		t.Errorf("a server that never served counts as a failure: %v", err)
	}
	for _, w := range want {
		if !strings.Contains(err.Error(), w) {
			t.Errorf("%q does not mention %q", err, w)
		}
	}
	if took := time.Since(began); took > 10*time.Second {
		t.Errorf("it took %s", took)
	}
	l, err := net.Listen("tcp", c.Listen.Client)
	if err != nil {
		if !strings.Contains(strings.Join(want, " "), c.Listen.Client) { // taken by the test
			t.Errorf("the client address is still taken: %v", err)
		}
		return
	}
	l.Close()
}

func TestPortInUse(t *testing.T) {
	for field, set := range map[string]func(*process.Config, string){
		"listen.client": func(c *process.Config, a string) { c.Listen.Client = a },
		"listen.peer":   func(c *process.Config, a string) { c.Listen.Peer = a },
		"listen.admin":  func(c *process.Config, a string) { c.Listen.Admin = a },
		"nats.listen":   func(c *process.Config, a string) { c.NATS.Listen = a },
	} {
		t.Run(field, func(t *testing.T) {
			taken, err := net.Listen("tcp", "127.0.0.1:0")
			if err != nil {
				t.Fatal(err)
			}
			defer taken.Close()
			c := single(t.TempDir())
			set(&c, taken.Addr().String())
			failsToStart(t, c, nil, field, taken.Addr().String(), "in use")
		})
	}
}

func TestDataDirectory(t *testing.T) {
	dir := t.TempDir()
	c := single(dir)
	err := runOnce(t, c, func(*process.Process) {
		failsToStart(t, single(dir), badgerstore.ErrInUse, dir)
	})
	if err != nil {
		t.Fatal(err)
	}

	other := single(dir)
	other.Node, other.Regions[0].Members[0].ID = "else", "else"
	failsToStart(t, other, replica.ErrForeignDirectory, dir, "node dev", "node else")

	other = single(dir)
	other.Region, other.Regions[0].Name = "mars", "mars"
	failsToStart(t, other, replica.ErrForeignDirectory, dir, "region local", "region mars")

	other = single(dir)
	other.Regions[0].ID = 9
	failsToStart(t, other, replica.ErrForeignDirectory, "id 1", "id 9")

	other = single(dir)
	other.Partitions = 32
	failsToStart(t, other, replica.ErrForeignDirectory, "16 partitions", "32 partitions")

	other = single(dir)
	other.Regions[0].NATS = []string{"nats://127.0.0.1:1"}
	other.NATS.Cluster = &process.Cluster{Listen: "127.0.0.1:1", Routes: []string{"127.0.0.1:2", "127.0.0.1:3"}}
	failsToStart(t, other, natsd.ErrOtherStore, dir)

	if err := runOnce(t, c, nothing); err != nil {
		t.Errorf("and then its own node: %v", err)
	}
}

// A damaged store is not set aside where nobody else has what is in it.
func TestDamagedStoreOfOneNode(t *testing.T) {
	dir := t.TempDir()
	if err := runOnce(t, single(dir), nothing); err != nil {
		t.Fatal(err)
	}
	manifest := filepath.Join(dir, "store", "lsm", "MANIFEST")
	if err := os.WriteFile(manifest, []byte("junk"), 0o600); err != nil {
		t.Fatal(err)
	}
	failsToStart(t, single(dir), storage.ErrCorrupt, dir, "no other owners")
	if b, err := os.ReadFile(manifest); err != nil || string(b) != "junk" {
		t.Errorf("the store is not where it was: %q, %v", b, err)
	}
}

func TestDataDirectoryIsAFile(t *testing.T) {
	file := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	failsToStart(t, single(file), nil, file, "not a directory")
}

func TestSecret(t *testing.T) {
	dir := t.TempDir()
	file := func(name, text string) string {
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		return path
	}
	c := single(filepath.Join(dir, "data"))
	c.SecretFile = filepath.Join(dir, "missing")
	failsToStart(t, c, os.ErrNotExist, "secret_file", "missing")

	c.SecretFile = file("short", "  0123456789abcdef0123456789abcde \n")
	failsToStart(t, c, nil, "secret_file: must hold a secret of at least 32 bytes a line", "32..1024 bytes, not 31", "short")

	c.SecretFile = file("good", "0123456789abcdef0123456789abcdef")
	if err := runOnce(t, c, nothing); err != nil {
		t.Fatal(err)
	}
	c.SecretFile = file("same", "\n0123456789abcdef0123456789abcdef\n")
	if err := runOnce(t, c, nothing); err != nil {
		t.Errorf("with spaces around it: %v", err)
	}
	c.SecretFile = file("another", "0123456789abcdef0123456789abcdeX")
	failsToStart(t, c, process.ErrSecretChanged, c.DataDir)
	c.SecretFile = "" // one that it makes itself
	failsToStart(t, c, process.ErrSecretChanged)
}

func TestMadeSecretIsKept(t *testing.T) {
	c := single(t.TempDir())
	for range 2 {
		if err := runOnce(t, c, nothing); err != nil {
			t.Fatal(err)
		}
	}
	info, err := os.Stat(filepath.Join(c.DataDir, "secret"))
	if err != nil || info.Mode() != 0o600 || info.Size() < 32 {
		t.Errorf("secret: %v, %v", info, err)
	}
}

func TestNewRefusesBadConfig(t *testing.T) {
	c := single(t.TempDir())
	c.Replicas = -1
	var ps process.Problems
	if _, err := process.New(c, process.Hooks{}); !errors.As(err, &ps) || len(ps) != 1 {
		t.Errorf("got %v", err)
	}
}

// Without NATS a node that never had a topology says what it waits for, and
// stops.
func TestFirstStartWithoutNATS(t *testing.T) {
	c := single(t.TempDir())
	p, done, stop := withoutNATS(t, c)
	eventually(t, "it says what it waits for", func() error {
		if p.Addrs().Admin == "" {
			return errors.New("it does not listen")
		}
		code, body := get(t, p, "/readyz?verbose")
		if code != 503 || !strings.Contains(body, "FAILED   store: starting: the region's nats does not answer yet") {
			return errors.New(body)
		}
		return nil
	})
	if p.Node() != nil {
		t.Error("it is a node of a region that it knows nothing of")
	}
	if code, _ := get(t, p, "/livez"); code != 200 {
		t.Errorf("livez: %d", code)
	}
	stop()
	if err := <-done; err != nil {
		t.Error(err)
	}
}

// Without NATS a node that has been started before serves what it has, and
// says why it is not ready.
func TestWithoutNATS(t *testing.T) {
	c := single(t.TempDir())
	err := runOnce(t, c, func(p *process.Process) {
		put(t, kvOf(t, p), "k", "v")
	})
	if err != nil {
		t.Fatal(err)
	}
	p, done, stop := withoutNATS(t, c)
	eventually(t, "the node serves", func() error {
		if p.Node() == nil {
			return errors.New("no node")
		}
		code, body := get(t, p, "/readyz?verbose")
		if code != 503 || !strings.Contains(body, "FAILED   actor: ") || !strings.Contains(body, "ok       store\n") {
			return errors.New(body)
		}
		return nil
	})
	if err := holds(t.Context(), kvOf(t, p), "k", "v"); err != nil {
		t.Error(err)
	}
	stop()
	if err := <-done; err != nil {
		t.Error(err)
	}
}

// withoutNATS starts a node whose NATS servers are a black hole, and returns
// when it has begun to look for them.
func withoutNATS(t *testing.T, c process.Config) (*process.Process, <-chan error, func()) {
	t.Helper()
	c.NATS.Mode, c.NATS.Listen = process.NATSExternal, ""
	c.Regions[0].NATS = []string{"nats://192.0.2.1:4222"}
	hung := make(chan struct{}, 64)
	p, err := process.New(c, process.Hooks{Logger: logger(t), Dial: func(ctx context.Context, _, _ string) (net.Conn, error) {
		hung <- struct{}{}
		<-ctx.Done() // a black hole
		return nil, ctx.Err()
	}})
	if err != nil {
		t.Fatal(err)
	}
	ctx, stop := context.WithCancel(t.Context())
	t.Cleanup(stop)
	done := make(chan error, 1)
	go func() { done <- p.Run(ctx) }()
	<-hung
	return p, done, stop
}
