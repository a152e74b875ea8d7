package arch

import (
	"os"
	"os/exec"
	"strings"
	"testing"
)

const root = "../.."

func TestTreeKeepsTheRules(t *testing.T) {
	tree, err := Load(os.DirFS(root))
	if err != nil {
		t.Fatal(err)
	}
	if len(tree.Files) < 10 {
		t.Fatalf("only %d files found: is this the root of the module?", len(tree.Files))
	}
	for _, v := range Check(tree) {
		t.Error(v)
	}
}

// What a program that uses the SDK would have to link.
func TestClientDragsInNoServer(t *testing.T) {
	cmd := exec.Command("go", "list", "-deps", "./client")
	cmd.Dir = root
	cmd.Stderr = os.Stderr
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("list what client depends on: %v", err)
	}
	for _, dep := range strings.Fields(string(out)) {
		if where := notForClients(dep); where != "" {
			t.Errorf("client depends on %s (%s)\n\twhy not: an application links the SDK, not a database server", dep, where)
		}
	}
}

func notForClients(dep string) string {
	for _, prefix := range []string{"github.com/dgraph-io/badger", "github.com/nats-io", module + "/node", module + "/geo"} {
		if within(dep, prefix) {
			return prefix
		}
	}
	return ""
}
