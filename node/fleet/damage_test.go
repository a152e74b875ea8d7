package fleet_test

import (
	"fmt"
	"os"
	"path/filepath"
	"testing"

	"github.com/atolldb/atoll/node/fleet"
	"github.com/atolldb/atoll/node/topology"
)

// A node whose store is damaged sets it aside, begins an empty one, answers for
// nothing before it has everything again, and then has it.
func TestDamagedStoreIsRebuilt(t *testing.T) {
	for name, harm := range map[string]func(manifest []byte) []byte{
		"manifest is junk":         func([]byte) []byte { return []byte("junk") },
		"bit of its version flips": func(b []byte) []byte { b[7] ^= 1; return b },
	} {
		t.Run(name, func(t *testing.T) { rebuiltAfter(t, harm) })
	}
}

func rebuiltAfter(t *testing.T, harm func(manifest []byte) []byte) {
	dir := t.TempDir()
	f, ctx := start(t, fleet.Config{Dir: dir, Regions: []topology.Region{"eu"}, Nodes: 3, Partitions: 8})
	eu := open(t, ctx, f, "eu")
	for i := range 50 {
		if _, err := eu.Put(ctx, fmt.Sprint("k", i), []byte("v")); err != nil {
			t.Fatal(err)
		}
	}
	victim := f.Nodes()[2]
	actor := f.Process(victim).Node().Replica().Actor()
	if err := f.StopNode(victim); err != nil {
		t.Fatal(err)
	}
	var manifests []string
	err := filepath.WalkDir(filepath.Join(dir, string(victim)), func(path string, e os.DirEntry, err error) error {
		if err == nil && e.Name() == "MANIFEST" {
			manifests = append(manifests, path)
		}
		return err
	})
	if err != nil || len(manifests) != 1 {
		t.Fatalf("manifests: %q, %v", manifests, err)
	}
	b, err := os.ReadFile(manifests[0])
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(manifests[0], harm(b), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := f.StartNode(ctx, victim); err != nil {
		t.Fatal(err)
	}
	aside, err := filepath.Glob(filepath.Join(filepath.Dir(filepath.Dir(manifests[0])), "quarantine-1", "lsm", "MANIFEST"))
	if err != nil || len(aside) != 1 {
		t.Errorf("set aside: %q, %v", aside, err)
	}
	eventually(t, ctx, "the node has everything again", func() bool {
		r := f.Process(victim).Node().Replica()
		if r.BehindCount() > 0 || r.Actor() == 0 || r.Actor() == actor {
			return false
		}
		for _, id := range f.Nodes() {
			other := f.Process(id).Node().Replica()
			for _, p := range r.Owned() {
				if other.Sum(p) != r.Sum(p) {
					return false
				}
			}
		}
		return true
	})
}
