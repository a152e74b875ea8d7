package arch

import (
	"slices"
	"strings"
)

// library is a dependency that only some packages may know.
type library struct {
	prefix string
	// only lists packages, "x/..." for everything at or below x.
	only []string
	// tests: it may also be imported by any test file and by test kits.
	tests bool
	why   string
}

// Who speaks gRPC: the peer transport, the services, the SDK, and whoever
// starts servers.
var grpcUsers = []string{
	"proto/...", "node/peer/grpcpeer", "node/api/...", "node/admin", "client/...",
	"node", "node/process", "node/fleet", "cmd/...", "e2e/...",
}

var libraries = []library{
	{
		prefix: "github.com/dgraph-io/badger",
		only:   []string{"node/storage/badgerstore"},
		why:    "badger's transactions, errors and options end at its adapter; everything else runs on the memory twin too",
	},
	{
		prefix: "github.com/nats-io",
		only:   []string{"geo/jetstream", "geo/natsd", "geo/natsd/natsdtest", "node/topology/jskv"},
		why:    "JetStream is a transport that is never believed; code that could see its acknowledgements would begin to",
	},
	{
		prefix: "google.golang.org/grpc",
		only:   grpcUsers,
		why:    "the core moves bytes and returns errors of its own; status codes and interceptors belong to the rim",
	},
	{
		prefix: "google.golang.org/protobuf",
		only:   grpcUsers,
		why:    "protobuf wraps the canonical encoding, the core does not know it",
	},
	{
		prefix: "google.golang.org/genproto",
		only:   grpcUsers,
		why:    "error details are put together and taken apart at the rim",
	},
	{
		prefix: module + "/proto",
		only:   grpcUsers,
		why:    "messages are formats of the rim; between packages travel this project's own types",
	},
	{
		prefix: "github.com/spf13/cobra",
		only:   []string{"cmd/..."},
		why:    "flags and usage are the command's; components take a config struct",
	},
	{
		prefix: "github.com/jedib0t/go-pretty",
		only:   []string{"cmd/..."},
		why:    "tables are for people at the command line",
	},
	{prefix: "testing", tests: true, why: whyTestKit},
	{prefix: "pgregory.net/rapid", tests: true, why: whyTestKit},
	{prefix: "github.com/anishathalye/porcupine", tests: true, why: whyTestKit},
	{prefix: "github.com/cockroachdb/datadriven", tests: true, why: whyTestKit},
	{prefix: "github.com/google/go-cmp", tests: true, why: whyTestKit},
	{prefix: "github.com/rogpeppe/go-internal", tests: true, why: whyTestKit},
}

const whyTestKit = "test tools stay in _test.go files and in the test kits (packages named ...test), so that no server carries them"

func checkLibraries(t *Tree, f *File) []Violation {
	var out []Violation
	for _, imp := range f.Imports {
		for _, lib := range libraries {
			if !within(imp.Path, lib.prefix) || lib.permits(f) {
				continue
			}
			out = append(out, t.violation(imp.pos, lib.why, "%s imports %s", f.Dir, imp.Path))
		}
	}
	return out
}

func (l library) permits(f *File) bool {
	if l.tests && (f.Test || strings.HasSuffix(f.Dir, "test")) {
		return true
	}
	return slices.ContainsFunc(l.only, func(p string) bool { return covers(p, f.Dir) })
}
