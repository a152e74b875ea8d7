//go:build e2e

package e2e

import (
	"bytes"
	"context"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/status"

	"github.com/atolldb/atoll/e2e/program"
	"github.com/atolldb/atoll/internal/freeport"
	atollv1 "github.com/atolldb/atoll/proto/atoll/v1"
)

// Bad input over gRPC and the command line, against real nodes: the error names
// field, limit and value seen, the code is right, and nothing is lost.
func TestBadInput(t *testing.T) {
	ctx, cancel := context.WithTimeout(t.Context(), 3*time.Minute)
	defer cancel()
	d := startDemo(t, "--nodes", "1", "--nats", "1", "--latency", "0s")
	addr := d.endpoints["eu"]
	must(t, ctx, "put", "precious", "kept", "--endpoints", addr)
	foreign := strings.TrimSpace(contextOf(t, ctx, addr, "precious"))

	t.Run("grpc", func(t *testing.T) { badRequests(t, ctx, addr) })
	t.Run("command line", func(t *testing.T) {
		dir := t.TempDir()
		big := filepath.Join(dir, "big")
		if err := os.WriteFile(big, bytes.Repeat([]byte("v"), 1<<20+1), 0o600); err != nil {
			t.Fatal(err)
		}
		const usage = 2
		for _, c := range []struct {
			name string
			args []string
			code int
			says []string
		}{
			{"empty key", []string{"put", "", "v"}, usage, []string{"field key", "limit 1..1024 bytes", "seen 0 bytes"}},
			{"oversize key", []string{"get", strings.Repeat("k", 1025)}, usage, []string{"field key", "limit 1024 bytes", "seen 1025 bytes"}},
			{"oversize value", []string{"put", "k", "--file", big}, usage, []string{"field value", "limit 1048576 bytes", "seen 1048577 bytes"}},
			{"unknown flag", []string{"put", "k", "v", "--consistancy", "local-one"}, usage, []string{"--consistancy"}},
			{"unknown level", []string{"get", "k", "--consistency", "most"}, usage, []string{"field consistency", "local-quorum", "seen most"}},
			{"too many owners", []string{"put", "k", "v", "--w", "5"}, usage, []string{"field w", "limit 1..1", "seen 5"}},
			{"garbage context", []string{"put", "precious", "v", "--after", "bm9uc2Vuc2U"}, usage, []string{"context"}},
			{"context of another key", []string{"put", "other", "v", "--after", foreign}, usage, []string{"context"}},
			{"unknown bucket", []string{"get", "k", "--bucket", "nowhere"}, usage, []string{"bucket", "nowhere"}},
			{"export of an unknown bucket", []string{"export", "--bucket", "nowhere"}, usage, []string{"no such bucket", "nowhere"}},
			{"too few arguments", []string{"put", "k"}, usage, nil},
			{"unknown command", []string{"pot", "k"}, usage, nil},
			{"nothing there", []string{"get", "absent"}, 3, nil},
		} {
			t.Run(c.name, func(t *testing.T) {
				r, err := atoll(ctx, nil, append(c.args, "--endpoints", addr)...)
				if err != nil {
					t.Fatal(err)
				}
				if r.code != c.code {
					t.Errorf("exit code %d, want %d", r.code, c.code)
				}
				for _, want := range c.says {
					if !strings.Contains(r.stderr, want) {
						t.Errorf("standard error does not say %q:\n%s", want, r.stderr)
					}
				}
				if r.stdout != "" {
					t.Errorf("standard output says %q", r.stdout)
				}
			})
		}
	})
	if r := must(t, ctx, "get", "precious", "--endpoints", addr); r.stdout != "kept" {
		t.Errorf("precious is %q", r.stdout)
	}
	if r := must(t, ctx, "export", "--endpoints", addr); strings.Count(r.stdout, "\n") != 1 {
		t.Errorf("something else was stored:\n%s", r.stdout)
	}
}

func contextOf(t *testing.T, ctx context.Context, addr, key string) string {
	t.Helper()
	r := must(t, ctx, "get", key, "-o", "json", "--endpoints", addr)
	_, rest, ok := strings.Cut(r.stdout, `"context"`)
	if !ok {
		t.Fatalf("no context in %s", r.stdout)
	}
	parts := strings.Split(rest, `"`)
	return parts[1]
}

func badRequests(t *testing.T, ctx context.Context, addr string) {
	cc, err := grpc.NewClient(addr, grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		t.Fatal(err)
	}
	defer cc.Close()
	kv := atollv1.NewKVClient(cc)
	put := func(r *atollv1.PutRequest) func() error {
		return func() error { _, err := kv.Put(ctx, r); return err }
	}
	get := func(r *atollv1.GetRequest) func() error {
		return func() error { _, err := kv.Get(ctx, r); return err }
	}
	k := []byte("k")
	for _, c := range []struct {
		name               string
		call               func() error
		code               codes.Code
		field, limit, seen string
	}{
		{"empty key", put(&atollv1.PutRequest{Value: k}), codes.InvalidArgument, "key", "1..1024 bytes", "0 bytes"},
		{"oversize key", get(&atollv1.GetRequest{Key: make([]byte, 1025)}), codes.InvalidArgument, "key", "1024 bytes", "1025 bytes"},
		{"oversize value", put(&atollv1.PutRequest{Key: k, Value: make([]byte, 1<<20+1)}), codes.InvalidArgument, "value", "1048576 bytes", "1048577 bytes"},
		{"unknown level", get(&atollv1.GetRequest{Key: k, Level: 77}), codes.InvalidArgument, "level", "", "77"},
		{"too many owners", put(&atollv1.PutRequest{Key: k, W: 9}), codes.InvalidArgument, "w", "1..1", "9"},
		{"garbage context", put(&atollv1.PutRequest{Key: k, Context: []byte("nonsense")}), codes.InvalidArgument, "context", "", "8 bytes"},
		{"negative ttl", put(&atollv1.PutRequest{Key: k, TtlMs: -1}), codes.InvalidArgument, "ttl_ms", "", ""},
		{"unknown bucket", get(&atollv1.GetRequest{Bucket: "nowhere", Key: k}), codes.NotFound, "bucket", "", `"nowhere"`},
	} {
		t.Run(c.name, func(t *testing.T) {
			st := status.Convert(c.call())
			if st.Code() != c.code {
				t.Errorf("code %v, want %v: %s", st.Code(), c.code, st.Message())
			}
			var info *errdetails.ErrorInfo
			for _, detail := range st.Details() {
				if i, ok := detail.(*errdetails.ErrorInfo); ok {
					info = i
				}
			}
			if info == nil {
				t.Fatalf("no ErrorInfo in %v", st)
			}
			for key, want := range map[string]string{"field": c.field, "limit": c.limit, "seen": c.seen} {
				if want != "" && info.Metadata[key] != want {
					t.Errorf("%s is %q, want %q", key, info.Metadata[key], want)
				}
			}
		})
	}
}

// What keeps a node from starting is said in the words of its configuration.
func TestBadStarts(t *testing.T) {
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute)
	defer cancel()
	dir := t.TempDir()
	addrs := freeport.For(t, 4)
	config := func(name, node, region, data, extra string) string {
		text := fmt.Sprintf(`node: %s
region: %s
data_dir: %s
partitions: 16
replicas: 1
listen: {client: %q, peer: %q, admin: %q}
nats: {listen: %q, max_store: 256MiB}
regions:
  - name: %s
    id: 1
    members:
      - {id: %s, client: %q, peer: %q}
%s`, node, region, data, addrs[0], addrs[1], addrs[2], addrs[3], region, node, addrs[0], addrs[1], extra)
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		return path
	}
	data := filepath.Join(dir, "data")
	good := config("good.yaml", "eu-1", "eu", data, "")

	// A first run leaves a data directory that belongs to eu-1.
	first := &region{t: t, ids: []string{"eu-1"}, configs: []string{good}, procs: []*program.Process{program.New("eu-1", filepath.Join(t.TempDir(), "log"))}}
	first.start(0)
	eventually(t, ctx, "the node takes writes", func() bool {
		r, err := atoll(ctx, nil, "put", "k", "v", "--endpoints", addrs[0])
		return err == nil && r.code == 0
	})

	t.Run("data directory in use", func(t *testing.T) {
		other := config("inuse.yaml", "eu-1", "eu", data, "")
		expectStart(t, ctx, other, 1, "in use")
	})
	first.terminate(0)

	t.Run("port in use", func(t *testing.T) {
		l, err := net.Listen("tcp", addrs[0])
		if err != nil {
			t.Fatal(err)
		}
		defer l.Close()
		expectStart(t, ctx, good, 1, addrs[0], "listen.client", "in use")
	})
	t.Run("data directory of another region", func(t *testing.T) {
		expectStart(t, ctx, config("foreign.yaml", "us-1", "us", data, ""), 1, "eu-1", "region eu", "us-1")
	})
	t.Run("unknown key", func(t *testing.T) {
		expectStart(t, ctx, config("unknown.yaml", "eu-1", "eu", data, "partitons: 16\n"), 2, "partitons")
	})
	t.Run("several bad values at once", func(t *testing.T) {
		path := config("bad.yaml", "Eu 1", "eu", data, "")
		b, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		b = bytes.Replace(b, []byte("partitions: 16"), []byte("partitions: 17"), 1)
		if err := os.WriteFile(path, b, 0o600); err != nil {
			t.Fatal(err)
		}
		expectStart(t, ctx, path, 2, "partitions", "17", "power of two", "Eu 1")
	})
	// Nothing of that has touched the data.
	first.start(0)
	eventually(t, ctx, "the data are still there", func() bool {
		r, err := atoll(ctx, nil, "get", "k", "--endpoints", addrs[0])
		return err == nil && r.code == 0 && r.stdout == "v"
	})
	first.terminate(0)
}

func expectStart(t *testing.T, ctx context.Context, config string, code int, says ...string) {
	t.Helper()
	ctx, cancel := context.WithTimeout(ctx, 20*time.Second)
	defer cancel()
	r, err := atoll(ctx, nil, "start", "--config", config)
	if err != nil {
		t.Fatal(err)
	}
	if r.code != code {
		t.Errorf("exit code %d, want %d", r.code, code)
	}
	for _, want := range says {
		if !strings.Contains(r.stderr, want) {
			t.Errorf("standard error does not say %q:\n%s", want, program.Tail(r.stderr, 10))
		}
	}
}
