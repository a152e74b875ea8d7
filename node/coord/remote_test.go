package coord_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"github.com/atolldb/atoll/crdt"
	"github.com/atolldb/atoll/crdt/hlc"
	"github.com/atolldb/atoll/geo"
	"github.com/atolldb/atoll/node/coord"
	"github.com/atolldb/atoll/node/peer"
	"github.com/atolldb/atoll/node/quorum"
	"github.com/atolldb/atoll/node/topology"
)

// stranger is an actor of another region.
const stranger = crdt.Actor(1<<crdt.RegionBits | 2)

func remote(k string, n uint64, value string) geo.Entry {
	full := coord.FullKey("default", []byte(k))
	v := crdt.Version{Dot: crdt.Dot{Actor: stranger, N: n}, Stamp: hlc.FromMillis(int64(n)), Value: []byte(value)}
	return geo.Entry{
		Key: full, Dots: []crdt.Dot{v.Dot},
		Record: crdt.AppendRecord(nil, keyHash(full), crdt.Write(crdt.Record{}, nil, v)),
	}
}

// batch is entries of many partitions.
func batch(n int) (entries []geo.Entry, keys []string) {
	for i := range n {
		keys = append(keys, fmt.Sprint("key", i))
		entries = append(entries, remote(keys[i], uint64(i+1), "v"))
	}
	return entries, keys
}

func (m *member) applyRemote(entries []geo.Entry) error {
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	return m.ApplyRemote(ctx, "west", entries)
}

// What comes from another region goes to all owners, and counts when a quorum
// of each partition has it.
func TestApplyRemote(t *testing.T) {
	// Of three nodes each gets all of it, of five a part.
	t.Run("all", func(t *testing.T) { applyRemote(t, 3) })
	t.Run("parts", func(t *testing.T) { applyRemote(t, 5) })
}

func applyRemote(t *testing.T, nodes int) {
	synctest.Test(t, func(t *testing.T) {
		r := newRegion(t, nodes)
		entries, keys := batch(40)
		a := r.nodes["n1"]
		if err := a.applyRemote(entries); err != nil {
			t.Fatal(err)
		}
		if n := a.wire.count(peer.VerbApply); n != nodes-1 {
			t.Errorf("%d messages to %d nodes", n, nodes-1)
		}
		r.settle()
		for _, k := range keys {
			for _, o := range r.owners("default", k) {
				rec := o.held(t, "default", k)
				if len(rec.Versions) != 1 || rec.Versions[0].Dot.Actor != stranger || !o.replica.Clock(r.partition("default", k)).Contains(rec.Versions[0].Dot) {
					t.Errorf("%s of %s: %+v", k, o.id, rec)
				}
			}
		}
		if err := a.applyRemote(nil); err != nil {
			t.Errorf("nothing: %v", err)
		}
	})
}

func TestApplyRemoteNeedsAQuorumOfEach(t *testing.T) {
	for name, arrange := range map[string]func(r *region, id topology.NodeID){
		"known to be dead": func(r *region, id topology.NodeID) { r.kill(id) },
		"not reachable":    func(r *region, id topology.NodeID) { r.fabric.Down(id) },
		"refuses": func(r *region, id topology.NodeID) {
			r.nodes["n1"].wire.answers(peer.VerbApply, id, time.Millisecond, &peer.Refusal{Code: peer.CodeFull})
		},
		"silent": func(r *region, id topology.NodeID) {
			r.nodes["n1"].wire.answers(peer.VerbApply, id, time.Hour, peer.ErrTimeout)
		},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				r := newRegion(t, 5)
				a := r.nodes["n1"]
				entries, _ := batch(40)
				arrange(r, "n2")
				if err := a.applyRemote(entries); err != nil {
					t.Fatalf("one node of five: %v", err)
				}
				arrange(r, "n3")
				// Some partition has both among its three owners.
				if err := a.applyRemote(entries); err == nil {
					t.Error("two nodes of five: no error")
				} else if errors.Is(err, geo.ErrPoison) {
					t.Errorf("given up for good: %v", err)
				}
				// Others have not, and are served.
				some := slices.DeleteFunc(slices.Clone(entries), func(e geo.Entry) bool {
					_, k := coord.SplitKey(e.Key)
					n := 0
					for _, o := range r.owners("default", string(k)) {
						if o.id == "n2" || o.id == "n3" {
							n++
						}
					}
					return n == 2
				})
				if err := a.applyRemote(some); err != nil || len(some) == 0 {
					t.Errorf("%d entries of other partitions: %v", len(some), err)
				}
				time.Sleep(2 * time.Hour)
			})
		})
	}
}

// What can never be applied is told so, wherever that is found out.
func TestApplyRemotePoison(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRegion(t, 5)
		bad := remote("k", 1, "v")
		bad.Record = bytes.Clone(bad.Record)
		bad.Record[5] ^= 1
		for _, m := range []*member{r.owners("default", "k")[0], r.outsider("default", "k")} {
			if err := m.applyRemote([]geo.Entry{remote("other", 2, "v"), bad}); !errors.Is(err, geo.ErrPoison) {
				t.Errorf("via %s: %v", m.id, err)
			}
		}
	})
}

func (m *member) export(t *testing.T, bucket string) (keys []string, all []byte, err error) {
	t.Helper()
	err = m.Export(context.Background(), bucket, func(e coord.Exported) error {
		keys = append(keys, e.Bucket+"/"+string(e.Key))
		full := coord.FullKey(e.Bucket, e.Key)
		all = append(all, full...)
		all = crdt.AppendRecord(all, keyHash(full), e.Record)
		return nil
	})
	return keys, all, err
}

// An export has each record once, merged over a quorum, and is the same bytes
// whoever makes it.
func TestExport(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRegion(t, 4)
		out := r.outsider("default", "missed")
		for i := range 100 {
			p := put(fmt.Sprint("k", i), string(make([]byte, 20<<10))) // several pages
			p.Bucket = []string{"default", "lww"}[i%2]
			out.mustPut(t, p)
		}
		out.mustPut(t, coord.Put{Key: []byte("k0"), Delete: true})
		// One that the first owner missed, and one that it alone has.
		r.miss(r.owners("default", "missed")[1], "missed", "v")
		lone := put("lone", "v")
		lone.Level = quorum.LocalOne
		for _, o := range r.owners("default", "lone")[1:] {
			r.fabric.Cut(r.owners("default", "lone")[0].id, o.id)
		}
		r.owners("default", "lone")[0].mustPut(t, lone)
		r.settle()
		r.fabric.HealAll()
		var first []byte
		for _, m := range r.nodes {
			keys, all, err := m.export(t, "")
			if err != nil || len(keys) != 102 {
				t.Fatalf("%s: %d keys, %v", m.id, len(keys), err)
			}
			slices.Sort(keys)
			if len(slices.Compact(keys)) != 102 {
				t.Errorf("%s: keys twice", m.id)
			}
			if first == nil {
				first = all
			}
			if !bytes.Equal(all, first) {
				t.Errorf("%s exports other bytes", m.id)
			}
			if keys, _, err := m.export(t, "lww"); len(keys) != 50 || err != nil {
				t.Errorf("%s: %d keys of a bucket, %v", m.id, len(keys), err)
			}
		}
		stop := errors.New("enough")
		n := 0
		err := out.Export(context.Background(), "", func(coord.Exported) error { n++; return stop })
		if !errors.Is(err, stop) || n != 1 {
			t.Errorf("went on after an error: %d, %v", n, err)
		}
	})
}

// Without a quorum of each partition there is no export, and with one there is
// the whole.
func TestExportNeedsAQuorum(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRegion(t, 3)
		entries, _ := batch(20)
		if err := r.nodes["n1"].applyRemote(entries); err != nil {
			t.Fatal(err)
		}
		r.settle()
		r.fabric.Down("n2") // nobody has noticed
		if keys, _, err := r.nodes["n1"].export(t, ""); len(keys) != 20 || err != nil {
			t.Errorf("%d keys, %v", len(keys), err)
		}
		r.kill("n3")
		_, _, err := r.nodes["n1"].export(t, "")
		var e *coord.Error
		if !errors.As(err, &e) || e.Code != coord.CodeUnavailable {
			t.Errorf("%v", err)
		}
	})
}
