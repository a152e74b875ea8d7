package fleet_test

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/atolldb/atoll/client"
	"github.com/atolldb/atoll/crdt"
	"github.com/atolldb/atoll/node/fleet"
	"github.com/atolldb/atoll/node/keyring"
	"github.com/atolldb/atoll/node/topology"
)

// A bucket that one region makes is there in the other one, with its policies,
// survives a restart of everything, and changes that were made while the regions
// were cut off from each other come together.
func TestBucketsAcrossRegions(t *testing.T) {
	f, ctx := start(t, fleet.Config{Regions: []topology.Region{"eu", "us"}, Nodes: 2})
	eu, us := open(t, ctx, f, "eu"), open(t, ctx, f, "us")
	if _, err := us.In("carts").Put(ctx, "k", []byte("v")); !errors.Is(err, client.ErrNoBucket) {
		t.Fatal(err)
	}
	made, err := eu.Buckets().Create(ctx, client.BucketInfo{Name: "carts", Kind: client.LWW, MaxValue: 10, Home: "us"})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := eu.In("carts").Put(ctx, "eu", []byte("v")); err != nil {
		t.Errorf("at once, on any node of the region: %v", err)
	}
	eventually(t, ctx, "the bucket in us", func() bool {
		_, err := us.In("carts").Put(ctx, "us", []byte("v"))
		return err == nil
	})
	if _, err := us.In("carts").Put(ctx, "us", make([]byte, 11)); !errors.Is(err, client.ErrTooLarge) {
		t.Errorf("its policy in us: %v", err)
	}

	if err := f.Partition("eu", "us"); err != nil {
		t.Fatal(err)
	}
	made.MaxValue = 20
	if _, err := eu.Buckets().Update(ctx, made); err != nil {
		t.Fatal(err)
	}
	made.MaxValue = 30
	last, err := us.Buckets().Update(ctx, made)
	if err != nil || last.Revision != 2 {
		t.Fatal(last, err)
	}
	for region, c := range map[string]*client.Client{"eu": eu, "us": us} {
		if _, err := c.Buckets().Create(ctx, client.BucketInfo{Name: "of-" + region}); err != nil {
			t.Fatal(err)
		}
	}
	if err := f.Heal("eu", "us"); err != nil {
		t.Fatal(err)
	}
	for _, c := range []*client.Client{eu, us} {
		eventually(t, ctx, "what both changed", func() bool {
			all, err := c.Buckets().List(ctx)
			var got []string
			for _, b := range all {
				got = append(got, fmt.Sprintf("%s:%d:%d", b.Name, b.Revision, b.MaxValue))
			}
			return err == nil && strings.Join(got, " ") == "carts:2:30 default:0:0 of-eu:1:0 of-us:1:0"
		})
	}
	if _, err := eu.Buckets().Update(ctx, made); !errors.Is(err, client.ErrRevision) {
		t.Errorf("a change of what is old: %v", err)
	}

	for _, id := range f.Nodes() {
		if err := f.StopNode(id); err != nil {
			t.Fatal(err)
		}
	}
	if err := f.Start(ctx); err != nil {
		t.Fatal(err)
	}
	eventually(t, ctx, "the buckets after a restart of all", func() bool {
		b, err := us.Buckets().Get(ctx, "carts")
		obj, err2 := eu.In("carts").Get(ctx, "us")
		return err == nil && b.MaxValue == 30 && err2 == nil && string(obj.Value()) == "v"
	})
	if _, err := us.In("nowhere").Get(ctx, "k"); !errors.Is(err, client.ErrNoBucket) {
		t.Error(err)
	}
	if _, err := us.In(".atoll").Get(ctx, "buckets"); !errors.Is(err, client.ErrNoBucket) {
		t.Errorf("a client reads the system's bucket: %v", err)
	}
}

// The secret is replaced while nodes run and clients hold contexts: everything
// that was signed is taken, in either region, until the old secret is retired; and
// owners' digests stay equal.
func TestSecretIsReplacedLive(t *testing.T) {
	dir := t.TempDir()
	f, ctx := start(t, fleet.Config{Regions: []topology.Region{"eu", "us"}, Nodes: 2, Dir: dir})
	file := filepath.Join(dir, "secret")
	b, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	ring, err := keyring.Parse(b)
	if err != nil {
		t.Fatal(err)
	}
	clients := []*client.Client{open(t, ctx, f, "eu"), open(t, ctx, f, "us")}
	oldest := client.Version{} // of the secret that goes
	held := client.Version{}
	writes, retired := 0, false
	write := func(stage string) {
		t.Helper()
		for _, c := range clients {
			v, err := c.Put(ctx, fmt.Sprint("k", writes), []byte(stage))
			if retired && errors.Is(err, client.ErrBadSession) {
				// What it saw of this partition was signed long ago. It is told so once.
				v, err = c.Put(ctx, fmt.Sprint("k", writes), []byte(stage))
			}
			if err != nil {
				t.Fatal(stage, err)
			}
			if writes++; oldest.IsZero() {
				oldest = v
			}
		}
		next, err := clients[0].Put(ctx, "chain", []byte(stage), client.After(held))
		if err != nil {
			t.Fatalf("%s: with a context of the stage before: %v", stage, err)
		}
		held = next
	}
	write("before")
	for _, step := range []struct {
		name string
		do   func(keyring.Ring) (keyring.Ring, error)
	}{
		{"added", func(r keyring.Ring) (keyring.Ring, error) { return r.Add(crdt.Secret(strings.Repeat("new", 20))) }},
		{"promoted", keyring.Ring.Promote},
		{"retired", keyring.Ring.Retire},
	} {
		if ring, err = step.do(ring); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(file+".next", ring.Format(), 0o600); err != nil {
			t.Fatal(err)
		}
		if err := os.Rename(file+".next", file); err != nil {
			t.Fatal(err)
		}
		retired = step.name == "retired"
		want := strings.Join(ring.Marks(), ",")
		eventually(t, ctx, step.name+" everywhere", func() bool {
			write("while it is " + step.name)
			for _, id := range f.Nodes() {
				if strings.Join(f.Process(id).Secrets(), ",") != want {
					return false
				}
			}
			return true
		})
		write(step.name)
	}
	if _, err := clients[0].Put(ctx, "k0", nil, client.After(oldest)); !errors.Is(err, client.ErrBadVersion) {
		t.Errorf("a context of a secret that is retired: %v", err)
	}
	eventually(t, ctx, "equal digests", func() bool { return f.Converged() == nil })
	// A file that is spoiled changes nothing; a node that starts by the new secret
	// alone is of the same deployment.
	if err := os.WriteFile(file, []byte("short"), 0o600); err != nil {
		t.Fatal(err)
	}
	write("spoiled")
	if err := os.WriteFile(file, ring.Format(), 0o600); err != nil {
		t.Fatal(err)
	}
	id := f.Nodes()[0]
	if err := f.StopNode(id); err != nil {
		t.Fatal(err)
	}
	if err := f.StartNode(ctx, id); err != nil {
		t.Fatal(err)
	}
	eventually(t, ctx, "equal digests after a restart", func() bool { return f.Converged() == nil })
}
