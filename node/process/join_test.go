package process_test

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/hashicorp/go-hclog"

	"github.com/atolldb/atoll/crdt"
	"github.com/atolldb/atoll/geo/jetstream"
	"github.com/atolldb/atoll/node/process"
	"github.com/atolldb/atoll/node/topology"
	"github.com/atolldb/atoll/node/topology/jskv"
	atollv1 "github.com/atolldb/atoll/proto/atoll/v1"
)

// store is the metadata store of a region, for a test that changes it.
func (f *fleet) store(region int) topology.Store {
	f.t.Helper()
	r := f.regions[region]
	nc, err := jetstream.Dial("test", []string{f.addrs(r.Members[0].ID).NATS}, jetstream.Access{}, nil, hclog.NewNullLogger())
	if err != nil {
		f.t.Fatal(err)
	}
	f.t.Cleanup(nc.Close)
	s, err := jskv.NewStore(jskv.Config{Region: r.Name, RegionID: r.ID}, nc)
	if err != nil {
		f.t.Fatal(err)
	}
	return s
}

// change changes the stored topology of a region.
func (f *fleet) change(region int, how func(*topology.Topology)) {
	f.t.Helper()
	s := f.store(region)
	for {
		t, at, err := s.Load(f.t.Context())
		if err != nil || t == nil {
			f.t.Fatalf("%v, %v", t, err)
		}
		next := t.Clone()
		next.Epoch++
		how(next)
		_, err = s.Swap(f.t.Context(), next, at)
		if err == nil {
			return
		}
		if !errors.Is(err, topology.ErrConflict) {
			f.t.Fatal(err)
		}
	}
}

// sees waits until nodes know a member as it is.
func (f *fleet) sees(want topology.Member, by ...topology.NodeID) {
	f.t.Helper()
	for _, id := range by {
		eventually(f.t, fmt.Sprintf("%s knows %s", id, want.ID), func() error {
			if m := f.topology(id).Member(want.ID); m == nil || *m != want {
				return fmt.Errorf("it has %+v, not %+v", m, want)
			}
			return nil
		})
	}
}

// A node that is not listed joins while the region runs, is reached by all, and
// serves clients; when its address changes, all learn of that.
func TestJoin(t *testing.T) {
	f := newFleet(t, 1, 3)
	f.start()
	put(t, f.kv("a1"), "k", "v")
	f.join("a4", 0)
	f.start("a4")
	all := []topology.NodeID{"a1", "a2", "a3", "a4"}
	want := topology.Member{ID: "a4", Rack: "new", Weight: 1, PeerAddr: "192.0.2.100:4", ClientAddr: "192.0.2.100:1", State: topology.Joining}
	f.sees(want, all...)
	for _, id := range all {
		eventually(t, string(id)+" reaches everybody", func() error {
			if down := f.nodes[id].p.Node().PeersDown(); len(down) > 0 {
				return fmt.Errorf("down: %v", down)
			}
			return nil
		})
	}
	if err := holds(t.Context(), f.kv("a4"), "k", "v"); err != nil {
		t.Error(err)
	}
	put(t, f.kv("a4"), "k4", "v4")
	if err := holds(t.Context(), f.kv("a2"), "k4", "v4"); err != nil {
		t.Error(err)
	}
	if n := len(f.nodes["a4"].p.Node().Replica().Owned()); n != 0 {
		t.Errorf("it owns %d partitions before a plan", n)
	}

	if err := f.stop("a4"); err != nil {
		t.Fatal(err)
	}
	moved := *f.nodes["a4"].cfg.Join
	moved.Peer, moved.Rack = "192.0.2.101:1", "elsewhere" // the rack is a plan's business
	f.nodes["a4"].cfg.Join = &moved
	f.leads("192.0.2.100:4", nil)
	f.leads(moved.Peer, func() string { return f.addrs("a4").Peer })
	f.start("a4")
	want.PeerAddr = moved.Peer
	f.sees(want, all...)
	eventually(t, "a1 reaches it there", func() error {
		if down := f.nodes["a1"].p.Node().PeersDown(); len(down) > 0 {
			return fmt.Errorf("down: %v", down)
		}
		return nil
	})

	// Who has left does not come back.
	if err := f.stop("a4"); err != nil {
		t.Fatal(err)
	}
	f.change(0, func(x *topology.Topology) { x.Member("a4").State = topology.Left })
	f.launch("a4")
	r := f.nodes["a4"]
	if err := <-r.done; !errors.Is(err, process.ErrLeft) {
		t.Errorf("it ended with %v", err)
	}
	r.done <- nil
}

// Every node of an old region has the list of its members that it was started
// with. A longer list in the configuration of a new one makes no other region.
func TestListedLater(t *testing.T) {
	f := newFleet(t, 1, 2)
	for _, r := range f.nodes {
		r.cfg.Replicas = 2
	}
	f.start()
	r := f.join("a3", 0)
	regions := []process.Region{f.regions[0]}
	regions[0].Members = append(regions[0].Members[:2:2], process.Member{ID: "a3", Rack: "z", Weight: 7, Client: r.cfg.Join.Client, Peer: r.cfg.Join.Peer})
	r.cfg.Replicas, r.cfg.Regions, r.cfg.Join = 2, regions, nil
	f.start("a3")
	f.sees(topology.Member{ID: "a3", Rack: "z", Weight: 7, PeerAddr: "192.0.2.100:3", ClientAddr: "192.0.2.100:1", State: topology.Joining}, "a1", "a2", "a3")
	if is, was := f.topology("a3").Table.Fingerprint(), f.topology("a1").Table.Fingerprint(); is != was {
		t.Error("it goes by another table")
	}
}

// A region is made when all its listed members have started; until then they
// say whom they wait for.
func TestNewRegionWaitsForAll(t *testing.T) {
	f := newFleet(t, 1, 3)
	f.launch("a1", "a2")
	for _, id := range []topology.NodeID{"a1", "a2"} {
		eventually(t, "it says whom it waits for", func() error {
			if f.addrs(id).Admin == "" {
				return errors.New("it does not listen")
			}
			if _, body := get(t, f.nodes[id].p, "/readyz?verbose"); !strings.Contains(body, "no answer from a3\n") {
				return errors.New(body)
			}
			return nil
		})
		if f.nodes[id].p.Node() != nil {
			t.Errorf("%s is a node already", id)
		}
	}
	f.start("a3")
	f.await("a1", "a2")
	put(t, f.kv("a2"), "k", "v")
}

func TestOtherSecretIsRefused(t *testing.T) {
	f := newFleet(t, 1, 1)
	f.nodes["a1"].cfg.Replicas = 1
	f.start()
	r := f.join("a2", 0)
	r.cfg.SecretFile = filepath.Join(f.dir, "other")
	if err := os.WriteFile(r.cfg.SecretFile, []byte("0123456789abcdef0123456789abcdeX"), 0o600); err != nil {
		t.Fatal(err)
	}
	f.launch("a2")
	if err := <-r.done; !errors.Is(err, process.ErrOtherSecret) {
		t.Errorf("it ended with %v", err)
	}
	r.done <- nil
	if m := f.topology("a1").Member("a2"); m != nil {
		t.Errorf("it is a member: %+v", m)
	}
}

// With the servers of the metadata down, nodes start from what is on their
// disks: clients read, and a node that kept its actor takes writes.
func TestMetadataDown(t *testing.T) {
	f := newFleet(t, 1, 3)
	f.start()
	f.join("a4", 0)
	f.start("a4")
	put(t, f.kv("a4"), "k", "v")
	f.sees(topology.Member{ID: "a4", Rack: "new", Weight: 1, PeerAddr: "192.0.2.100:4", ClientAddr: "192.0.2.100:1", State: topology.Joining}, "a2", "a3", "a4")
	for _, id := range []topology.NodeID{"a1", "a2"} { // a1 has the servers
		if err := f.stop(id); err != nil {
			t.Fatal(err)
		}
	}
	f.launch("a2")
	eventually(t, "a2 serves", func() error {
		p := f.nodes["a2"].p
		if p.Node() == nil {
			return errors.New("no node")
		}
		return holds(t.Context(), kvOf(t, p), "k", "v")
	})
	if m := f.topology("a2").Member("a4"); m == nil {
		t.Error("a2 has forgotten that a4 joined")
	}
	key := "" // one for each try: those whose outcome is unknown may be stored
	eventually(t, "a2 takes writes through a3, which has an actor", func() error {
		key += "x"
		ctx, cancel := context.WithTimeout(t.Context(), 2*time.Second)
		defer cancel()
		_, err := f.kv("a2").Put(ctx, &atollv1.PutRequest{Key: []byte(key), Value: []byte("a3")})
		return err
	})
	for _, id := range []topology.NodeID{"a2", "a3", "a4"} {
		// a4 may not have found out yet that a2 is back.
		eventually(t, "a read at "+string(id), func() error { return holds(t.Context(), f.kv(id), key, "a3") })
	}
}

// The disks of the metadata servers are lost: the region gets back what its
// nodes hold, and no actor is handed out twice.
func TestMetadataLost(t *testing.T) {
	f := newFleet(t, 1, 3)
	f.start()
	for i := range 2 {
		f.change(0, func(x *topology.Topology) { x.Pace.BytesPerSecond = uint64(i + 1) })
	}
	eventually(t, "all are at the newest", func() error {
		for _, id := range []topology.NodeID{"a1", "a2", "a3"} {
			if e := f.topology(id).Epoch; e < 3 {
				return fmt.Errorf("%s is at %d", id, e)
			}
		}
		return nil
	})
	was, seen := f.topology("a2"), map[crdt.Actor]string{}
	own := func(id topology.NodeID) crdt.Actor { return f.nodes[id].p.Node().Replica().Actor() }
	for _, id := range []topology.NodeID{"a1", "a2", "a3"} {
		seen[own(id)] = string(id) + " had before"
	}
	kept := own("a3")
	if err := f.stop("a1"); err != nil {
		t.Fatal(err)
	}
	f.nodes["a2"].p.CloseStore() // its actor is gone with it
	_ = f.stop("a2")
	if err := os.RemoveAll(filepath.Join(f.nodes["a1"].cfg.DataDir, "nats")); err != nil {
		t.Fatal(err)
	}
	f.start("a1", "a2") // nobody has minted: they have heard of no actor
	f.join("a4", 0)
	f.start("a4")
	now := f.topology("a4")
	if now.Epoch <= was.Epoch || now.Pace != was.Pace || now.Table.Fingerprint() != was.Table.Fingerprint() {
		t.Errorf("epoch %d with %+v, before it was %d with %+v", now.Epoch, now.Pace, was.Epoch, was.Pace)
	}
	put(t, f.kv("a4"), "k", "v")
	for _, id := range []topology.NodeID{"a1", "a2", "a4"} {
		if other := seen[own(id)]; other != "" || own(id) == 0 {
			t.Errorf("%s is actor %v, which %s", id, own(id), other)
		}
		seen[own(id)] = string(id) + " is"
	}
	if own("a3") != kept {
		t.Errorf("a3 is actor %v, it was %v", own("a3"), kept)
	}
}

// Another region learns who has joined, and remembers it.
func TestOtherRegionsLearn(t *testing.T) {
	f := newFleet(t, 2, 1)
	for _, n := range f.nodes {
		n.cfg.Replicas = 1
	}
	f.start()
	f.join("a2", 0).cfg.Replicas = 1
	f.start("a2")
	knows := func() error {
		if at := f.nodes["b1"].p.Find("a2"); at != "192.0.2.100:3" {
			return fmt.Errorf("a2 is at %q", at)
		}
		return nil
	}
	eventually(t, "b1 knows a2", knows)
	kept := filepath.Join(f.nodes["b1"].cfg.DataDir, "regions", "a.topology")
	eventually(t, "b1 keeps it", func() error {
		b, err := os.ReadFile(kept)
		if err != nil {
			return err
		}
		x, err := topology.Decode(b)
		if err == nil && x.Member("a2") == nil {
			err = errors.New("no a2")
		}
		return err
	})
	for _, id := range []topology.NodeID{"a1", "a2", "b1"} {
		if err := f.stop(id); err != nil {
			t.Fatal(err)
		}
	}
	f.start("b1")
	if err := knows(); err != nil {
		t.Error(err)
	}
	if err := f.stop("b1"); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(kept, []byte("garbage"), 0o600); err != nil {
		t.Fatal(err)
	}
	f.start("b1") // it costs no more than what it knew
	if at := f.nodes["b1"].p.Find("a1"); at != "192.0.2.1:8000" {
		t.Errorf("a1 is at %q", at)
	}
}
