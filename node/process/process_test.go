package process_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"testing"
	"time"

	"github.com/atolldb/atoll/crdt"
	"github.com/atolldb/atoll/node/topology"
	atollv1 "github.com/atolldb/atoll/proto/atoll/v1"
)

func put(t *testing.T, kv atollv1.KVClient, key, value string) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	if _, err := kv.Put(ctx, &atollv1.PutRequest{Key: []byte(key), Value: []byte(value)}); err != nil {
		t.Fatalf("put %s: %v", key, err)
	}
}

// holds says how what kv has of a key differs from one value.
func holds(ctx context.Context, kv atollv1.KVClient, key, value string) error {
	ctx, cancel := context.WithTimeout(ctx, 10*time.Second)
	defer cancel()
	res, err := kv.Get(ctx, &atollv1.GetRequest{Key: []byte(key)})
	if err != nil {
		return err
	}
	if len(res.Siblings) != 1 || !bytes.Equal(res.Siblings[0].Value, []byte(value)) {
		return fmt.Errorf("got %v, want %q", res.Siblings, value)
	}
	return nil
}

func TestRegion(t *testing.T) {
	f := newFleet(t, 1, 3)
	f.start()
	for i := range 50 {
		put(t, f.kv("a1"), fmt.Sprint("key", i), "v1")
	}
	for _, id := range []topology.NodeID{"a2", "a3"} {
		kv := f.kv(id)
		for i := range 50 {
			if err := holds(t.Context(), kv, fmt.Sprint("key", i), "v1"); err != nil {
				t.Errorf("%s: %v", id, err)
			}
		}
	}

	actor := func(id topology.NodeID) crdt.Actor { return f.nodes[id].p.Node().Replica().Actor() }
	was := actor("a2")
	if err := f.stop("a2"); err != nil {
		t.Fatal(err)
	}
	put(t, f.kv("a1"), "while-away", "v2") // two of three are enough
	f.start("a2")
	if is := actor("a2"); is != was {
		t.Errorf("after a clean stop a2 has actor %v, not %v", is, was)
	}
	put(t, f.kv("a2"), "again", "v3")

	// The engine vanishes under the node: the marker cannot be written.
	f.nodes["a2"].p.CloseStore()
	if err := f.stop("a2"); err == nil {
		t.Error("a stop without a marker was no error")
	}
	f.start("a2")
	if is := actor("a2"); is == was {
		t.Errorf("after an unclean stop a2 still has actor %v", is)
	}
	put(t, f.kv("a2"), "and-again", "v4")
	for _, key := range []string{"while-away", "again", "and-again"} {
		if err := holds(t.Context(), f.kv("a3"), key, map[string]string{"while-away": "v2", "again": "v3", "and-again": "v4"}[key]); err != nil {
			t.Error(err)
		}
	}
	eventually(t, "owners are equal", func() error {
		a, b := f.nodes["a1"].p.Node().Replica(), f.nodes["a2"].p.Node().Replica()
		for _, p := range a.Owned() {
			if x, y := a.Sum(p), b.Sum(p); x != y {
				return fmt.Errorf("partition %d: %v and %v", p, x, y)
			}
		}
		return nil
	})
}

func TestTwoRegions(t *testing.T) {
	f := newFleet(t, 2, 1)
	for _, n := range f.nodes {
		n.cfg.Replicas = 1
	}
	f.start()
	a, b := f.kv("a1"), f.kv("b1")
	put(t, a, "from-a", "1")
	put(t, b, "from-b", "2")
	eventually(t, "a's write reaches b", func() error { return holds(t.Context(), b, "from-a", "1") })
	eventually(t, "b's write reaches a", func() error { return holds(t.Context(), a, "from-b", "2") })
	for id, origin := range map[topology.NodeID]topology.Region{"a1": "b", "b1": "a"} {
		eventually(t, "it came through the log, and not by anti-entropy", func() error {
			if f.nodes[id].p.Node().Figures().Drains[origin].Entries == 0 {
				return fmt.Errorf("%s drained nothing", id)
			}
			return nil
		})
	}
	// Both sides at once: siblings in both.
	put(t, a, "both", "a")
	put(t, b, "both", "b")
	for id, kv := range map[string]atollv1.KVClient{"a": a, "b": b} {
		eventually(t, "siblings in "+id, func() error {
			res, err := kv.Get(t.Context(), &atollv1.GetRequest{Key: []byte("both")})
			if err != nil {
				return err
			}
			if len(res.Siblings) != 2 {
				return errors.New("no siblings")
			}
			return nil
		})
	}
}
