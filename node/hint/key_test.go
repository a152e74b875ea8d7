package hint

import (
	"bytes"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	"pgregory.net/rapid"

	"github.com/atolldb/atoll/crdt"
	"github.com/atolldb/atoll/crdt/hlc"
	"github.com/atolldb/atoll/hashring"
	"github.com/atolldb/atoll/node/topology"
	"github.com/atolldb/atoll/node/wire"
)

var (
	someOwner = rapid.Map(rapid.StringMatching(`[a-z0-9-]{1,63}`), func(s string) topology.NodeID { return topology.NodeID(s) })
	someKey   = rapid.SliceOfN(rapid.Byte(), 1, 30)
)

// Keys are taken apart again, and lie in the range of their owner alone.
func TestKeys(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		owner, full, hash := someOwner.Draw(t, "owner"), someKey.Draw(t, "key"), rapid.Uint64().Draw(t, "hash")
		k := hintKey(owner, hash, full)
		gotOwner, gotFull, err := splitKey(k)
		if gotOwner != owner || !bytes.Equal(gotFull, full) || err != nil {
			t.Fatalf("%q: %q %q %v", k, gotOwner, gotFull, err)
		}
		in := func(o topology.NodeID) bool {
			return bytes.Compare(ownerPrefix(o), k) <= 0 && bytes.Compare(k, ownerEnd(o)) < 0
		}
		if other := someOwner.Draw(t, "other"); !in(owner) || other != owner && in(other) {
			t.Fatalf("%q: in the range of %q: %t, of %q: %t", k, owner, in(owner), other, in(other))
		}
		if _, _, err := splitKey(k[:rapid.IntRange(0, 2+len(owner)+7).Draw(t, "cut")]); err == nil {
			t.Fatal("took a part of a key")
		}
	})
}

func drawEntry(t *rapid.T, full []byte) wire.Entry {
	rec := crdt.Record{}
	for range rapid.IntRange(1, 4).Draw(t, "versions") {
		var seen crdt.VV
		if rapid.Bool().Draw(t, "follows") {
			seen = rec.Context().Seen
		}
		d := crdt.Dot{Actor: crdt.Actor(rapid.Uint32Range(1, 3).Draw(t, "actor")), N: rapid.Uint64Range(1, 50).Draw(t, "n")}
		if rec.Covers(d) || rec.Find(d) != nil || seen.Covers(d) {
			continue
		}
		rec = crdt.Write(rec, seen, crdt.Version{Dot: d, Stamp: hlc.FromMillis(int64(d.N)), Value: []byte{byte(d.Actor), byte(d.N)}})
	}
	return wire.Entry{Key: full, Record: crdt.AppendRecord(nil, hashring.KeyHash(full), rec)}
}

// The join of hints shows what the join of their records does, and names every
// dot that came.
func TestJoin(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		full := someKey.Draw(t, "key")
		hash := hashring.KeyHash(full)
		var all crdt.Record
		dots, ids := map[crdt.Dot]bool{}, map[crdt.EventID]bool{}
		var k kept
		for i := range rapid.IntRange(1, 6).Draw(t, "hints") {
			e := drawEntry(t, full)
			rec, err := crdt.DecodeRecord(hash, e.Record)
			if err != nil {
				t.Fatal(err)
			}
			for _, v := range rec.Versions {
				dots[v.Dot] = true
				if rapid.Bool().Draw(t, "named") {
					id := crdt.EventID{Dot: v.Dot, ID: crdt.RequestID{byte(v.Dot.Actor), byte(v.Dot.N), 1}}
					ids[id] = true
					e.IDs = append(e.IDs, id)
				}
			}
			all = crdt.Join(all, rec)
			if i == 0 {
				k = kept{since: 77, entry: e}
			} else if k, err = join(k, hash, e); err != nil {
				t.Fatal(err)
			}
			b := appendKept(nil, &k)
			got, err := decodeKept(b)
			if diff := cmp.Diff(k, got, cmpopts.EquateEmpty(), cmp.AllowUnexported(kept{})); diff != "" || err != nil {
				t.Fatal(diff, err)
			}
			if cut := rapid.IntRange(0, len(b)-1).Draw(t, "cut"); true {
				if _, err := decodeKept(b[:cut]); err == nil {
					t.Fatal("took a part of a hint")
				}
			}
		}
		rec, err := crdt.DecodeRecord(hash, k.entry.Record)
		if err != nil || !rec.SameDots(all) || k.since != 77 {
			t.Fatalf("%+v, want %+v, %v", rec, all, err)
		}
		for _, id := range k.entry.IDs {
			if !ids[id] {
				t.Fatalf("request %v twice, or of nowhere", id)
			}
			delete(ids, id)
		}
		if len(ids) > 0 {
			t.Fatalf("requests not named: %v", ids)
		}
		for _, v := range rec.Versions {
			delete(dots, v.Dot)
		}
		for _, d := range k.entry.Dots {
			if !dots[d] {
				t.Fatalf("dot %v twice, or of nowhere", d)
			}
			delete(dots, d)
		}
		if len(dots) > 0 {
			t.Fatalf("not named: %v", dots)
		}
	})
}

// The dots that a hint remembers are bounded.
func TestJoinIsBounded(t *testing.T) {
	full := []byte("k")
	hash := hashring.KeyHash(full)
	var k kept
	var seen crdt.VV
	for n := range uint64(2 * maxDots) {
		v := crdt.Version{Dot: crdt.Dot{Actor: 1, N: n + 1}, Stamp: hlc.FromMillis(int64(n))}
		e := wire.Entry{Key: full, Record: crdt.AppendRecord(nil, hash, crdt.Write(crdt.Record{}, seen, v))}
		if seen = seen.With(v.Dot); n == 0 {
			k = kept{entry: e}
			continue
		}
		var err error
		if k, err = join(k, hash, e); err != nil {
			t.Fatal(err)
		}
	}
	if rec, err := crdt.DecodeRecord(hash, k.entry.Record); err != nil || len(rec.Versions) != 1 || len(k.entry.Dots) != maxDots {
		t.Errorf("%d versions, %d dots, %v", len(rec.Versions), len(k.entry.Dots), err)
	}
}

func FuzzDecodeKept(f *testing.F) {
	k := kept{since: 5, entry: wire.Entry{Key: []byte("k"), Record: []byte("r"), Dots: []crdt.Dot{{Actor: 1, N: 2}}}}
	f.Add(appendKept(nil, &k))
	f.Fuzz(func(t *testing.T, b []byte) {
		k, err := decodeKept(b)
		if err != nil {
			return
		}
		again, err := decodeKept(appendKept(nil, &k))
		if diff := cmp.Diff(k, again, cmpopts.EquateEmpty(), cmp.AllowUnexported(kept{})); diff != "" || err != nil {
			t.Fatal(diff, err)
		}
	})
}
