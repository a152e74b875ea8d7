package arch

import (
	"strings"
	"testing"
	"testing/fstest"
)

// Each case plants one violation in an otherwise clean file, and names what
// the checker must say; an empty want must pass.
func TestPlantedViolationsAreFound(t *testing.T) {
	cases := []struct {
		name, file, src string
		want            string
	}{
		{"pure knows a seam", "crdt/a.go", pkg("crdt", `import _ "github.com/atolldb/atoll/node/storage"`), "crdt (pure) imports node/storage (seam)"},
		{"pure knows other pure", "hashring/a.go", pkg("hashring", `import _ "github.com/atolldb/atoll/crdt"`), "hashring (pure) imports crdt (pure)"},
		{"pure knows what is beside it", "crdt/a.go", pkg("crdt", `import _ "github.com/atolldb/atoll/crdt/hlc"`), ""},
		{"seam knows a driver", "node/peer/a.go", pkg("peer", `import _ "github.com/atolldb/atoll/node/coord"`), "node/peer (seam) imports node/coord (driver)"},
		{"seam knows its adapter", "node/storage/a.go", pkg("storage", `import _ "github.com/atolldb/atoll/node/storage/memstore"`), "(seam) imports node/storage/memstore (adapter)"},
		{"driver knows an adapter", "node/replica/a.go", pkg("replica", `import _ "github.com/atolldb/atoll/node/storage/badgerstore"`), "(driver) imports"},
		{"driver's test knows a twin", "node/replica/a_test.go", pkg("replica", `import _ "github.com/atolldb/atoll/node/storage/memstore"`), ""},
		{"replica knows its sibling", "node/replica/a.go", pkg("replica", `import _ "github.com/atolldb/atoll/node/coord"`), "node/replica (driver) imports node/coord (driver)"},
		{"coord stands on replica", "node/coord/a.go", pkg("coord", `import _ "github.com/atolldb/atoll/node/replica"`), ""},
		{"adapter knows an adapter", "node/api/a.go", pkg("api", `import _ "github.com/atolldb/atoll/node/peer/grpcpeer"`), "(adapter) imports"},
		{"adapter knows the wiring", "client/a.go", pkg("client", `import _ "github.com/atolldb/atoll/node"`), "client (adapter) imports node (wiring)"},
		{"wiring knows all", "node/process/a.go", pkg("process", `import _ "github.com/atolldb/atoll/geo/natsd"`), ""},
		{"wiring knows a command", "node/a.go", pkg("node", `import _ "github.com/atolldb/atoll/cmd/atoll"`), "node (wiring) imports cmd/atoll (wiring)"},
		{"code knows the tooling", "cmd/atoll/a.go", pkg("main", `import _ "github.com/atolldb/atoll/internal/arch"`), "imports internal/arch (tooling)"},
		{"geo knows node", "geo/jetstream/a.go", pkg("jetstream", `import _ "github.com/atolldb/atoll/node/topology"`), "geo/jetstream imports node/topology"},

		{"badger outside", "node/replica/a.go", pkg("replica", `import _ "github.com/dgraph-io/badger/v4"`), "imports github.com/dgraph-io/badger/v4"},
		{"badger outside, in a test", "node/replica/a_test.go", pkg("replica", `import _ "github.com/dgraph-io/badger/v4"`), "imports github.com/dgraph-io/badger/v4"},
		{"badger inside", "node/storage/badgerstore/a.go", pkg("badgerstore", `import _ "github.com/dgraph-io/badger/v4"`), ""},
		{"nats outside", "geo/a.go", pkg("geo", `import _ "github.com/nats-io/nats.go/jetstream"`), "imports github.com/nats-io/nats.go/jetstream"},
		{"nats inside", "node/topology/jskv/a.go", pkg("jskv", `import _ "github.com/nats-io/nats.go"`), ""},
		{"grpc in a driver", "node/coord/a.go", pkg("coord", `import _ "google.golang.org/grpc/codes"`), "imports google.golang.org/grpc/codes"},
		{"proto in a driver", "node/coord/a.go", pkg("coord", `import _ "github.com/atolldb/atoll/proto/atoll/v1"`), "imports github.com/atolldb/atoll/proto/atoll/v1"},
		{"proto in a service", "node/api/a.go", pkg("api", `import _ "github.com/atolldb/atoll/proto/atoll/v1"`), ""},
		{"protobuf in the core", "crdt/a_test.go", pkg("crdt", `import _ "google.golang.org/protobuf/proto"`), "imports google.golang.org/protobuf/proto"},
		{"cobra in a component", "node/process/a.go", pkg("process", `import _ "github.com/spf13/cobra"`), "imports github.com/spf13/cobra"},
		{"testing in production", "node/coord/a.go", pkg("coord", `import _ "testing"`), "imports testing"},
		{"testing in a kit", "node/storage/storagetest/a.go", pkg("storagetest", `import _ "testing"`), ""},

		{"pure reads the time", "node/quorum/a.go", pkg("quorum", `import _ "time"`), "is pure and imports time"},
		{"pure locks", "hashring/a.go", pkg("hashring", `import _ "sync"`), "is pure and imports sync"},
		{"pure rolls dice", "crdt/a.go", pkg("crdt", `import _ "math/rand/v2"`), "is pure and imports math/rand/v2"},
		{"the clock may lock", "crdt/hlc/a.go", pkg("hlc", `import (_ "sync"; _ "time")`), ""},
		{"pure starts a goroutine", "crdt/a.go", pkg("crdt", `func F() { go F() }`), "starts a goroutine"},
		{"pure has a channel", "crdt/a.go", pkg("crdt", `var C chan int`), "has a channel"},
		{"pure sends", "crdt/a.go", pkg("crdt", `func F(c C) { c <- 1 }`), "uses a channel"},
		{"pure receives", "crdt/hlc/a.go", pkg("hlc", `func F(c C) { <-c }`), "uses a channel"},
		{"pure selects", "crdt/a.go", pkg("crdt", `func F() { select {} }`), "uses a channel"},
		{"a pure package's test runs wild", "crdt/a_test.go", pkg("crdt", `import _ "os"; func F(c chan int) { go F(c) }`), ""},

		{"test sleeps", "geo/a_test.go", pkg("geo", `import "time"; func F() { time.Sleep(1) }`), "time.Sleep in a test"},
		{"test sleeps in disguise", "geo/a_test.go", pkg("geo", `import "time"; func F() { <-time.After(1) }`), "a bare <-time.After in a test"},
		{"test has a timeout", "geo/a_test.go", pkg("geo", `import "time"; func F() { select { case <-time.After(1): } }`), ""},
		{"test sleeps in a bubble", "geo/a_test.go", pkg("geo", bubbles+`func TestA() { synctest.Test(nil, func() { time.Sleep(1) }) }`), ""},
		{"test sleeps in a helper's bubble", "geo/a_test.go", pkg("geo", bubbles+`func in() { synctest.Test(nil, nil) }; func two() { in() }; func TestA() { two(); time.Sleep(1) }`), ""},
		{"helper sleeps in others' bubble", "geo/a_test.go", pkg("geo", bubbles+`func TestA() { synctest.Test(nil, help) }; func help() { time.Sleep(1) }`), ""},
		{"test sleeps beside a bubble", "geo/a_test.go", pkg("geo", bubbles+`func TestA() { synctest.Test(nil, nil) }; func TestB() { time.Sleep(1) }`), "time.Sleep in a test"},
		{"production sleeps", "node/repair/a.go", pkg("repair", `import "time"; func F() { time.Sleep(1) }`), ""},
		{"package prints", "node/coord/a.go", pkg("coord", `import "fmt"; func F() { fmt.Println() }`), "calls fmt.Println"},
		{"command prints", "cmd/atoll/a.go", pkg("main", `import "fmt"; func F() { fmt.Println() }`), ""},
		{"package formats", "node/coord/a.go", pkg("coord", `import "fmt"; func F() error { return fmt.Errorf("x") }`), ""},
		{"second logger", "node/coord/a.go", pkg("coord", `import _ "log/slog"`), "imports log/slog"},
		{"init", "node/coord/a.go", pkg("coord", `func init() {}`), "has an init function"},
		{"method named init", "node/coord/a.go", pkg("coord", `type T int; func (T) init() {}`), ""},
		{"muddle", "cmd/atoll/util/a.go", pkg("util", ``), "cmd/atoll/util is no concept"},
		{"no place", "node/gossip/a.go", pkg("gossip", ``), "node/gossip is in no layer"},
		{"no package comment", "node/coord/a.go", "package coord\n", "node/coord has no package comment"},
		{"generated code is left alone", "proto/x/a.go", "// Code generated by hand. DO NOT EDIT.\n\npackage x\n\nfunc init() {}\n", ""},
		{"other modules' files", "testdata/a.go", "package util\n\nimport _ \"log\"\n", ""},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			tree, err := Load(fstest.MapFS{c.file: {Data: []byte(c.src)}})
			if err != nil {
				t.Fatal(err)
			}
			got := Check(tree)
			switch {
			case c.want == "" && len(got) > 0:
				t.Errorf("clean file, but: %v", got)
			case c.want != "" && len(got) != 1:
				t.Errorf("want one violation with %q, got %d: %v", c.want, len(got), got)
			case c.want != "" && !strings.Contains(got[0].What, c.want):
				t.Errorf("want %q, got %v", c.want, got[0])
			case c.want != "" && got[0].Why == "":
				t.Errorf("no reason given for %v", got[0])
			}
		})
	}
}

func TestServerPackagesAreNotForClients(t *testing.T) {
	for dep, bad := range map[string]bool{
		"github.com/nats-io/nats.go":            true,
		"github.com/dgraph-io/badger/v4/y":      true,
		module + "/node/coord":                  true,
		module + "/proto/atoll/v1":              false,
		"github.com/nats-iodine/salt":           false,
		"google.golang.org/grpc/internal/xds/a": false,
	} {
		if got := notForClients(dep) != ""; got != bad {
			t.Errorf("%s: refused = %v, want %v", dep, got, bad)
		}
	}
}

// Rows are looked up in order; a row behind a wider one would never be seen.
func TestEveryRowCanBeReached(t *testing.T) {
	for _, want := range table {
		dir := strings.TrimSuffix(want.path, "/...")
		if got, ok := rowOf(dir); !ok || got.path != want.path {
			t.Errorf("row %s is hidden by row %s", want.path, got.path)
		}
		for _, p := range want.beside {
			other, ok := rowOf(strings.TrimSuffix(p, "/..."))
			if !ok || other.layer != want.layer {
				t.Errorf("row %s names %s as beside it, which is in layer %s", want.path, p, other.layer)
			}
		}
	}
}

const bubbles = `import ("time"; "testing/synctest"); `

func pkg(name, body string) string {
	return "// Package comment.\npackage " + name + "\n\n" + body + "\n"
}
