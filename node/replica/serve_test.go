package replica_test

import (
	"bytes"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"testing/synctest"

	"github.com/atolldb/atoll/crdt"
	"github.com/atolldb/atoll/hashring"
	"github.com/atolldb/atoll/node/peer"
	"github.com/atolldb/atoll/node/replica"
	"github.com/atolldb/atoll/node/storage"
	"github.com/atolldb/atoll/node/storage/memstore"
	"github.com/atolldb/atoll/node/topology/memtopo"
	"github.com/atolldb/atoll/node/wire"
)

// second is another owner in the same bubble.
func second(t *testing.T, p *place) *place {
	q := newPlace(t, "n2", p.registry, memstore.Config{})
	q.start()
	return q
}

// A Pull delivers exactly the missing dots, page by page, with the records
// that cover them; afterwards both sides are equal.
func TestPull(t *testing.T) {
	for _, maxBytes := range []int{0, 1, 200, 1 << 20} {
		t.Run(fmt.Sprint(maxBytes), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				p := owner(t)
				q := second(t, p)
				part := partOf(key)
				keys := append(keysIn(part, 6), key)
				for i := range 40 {
					p.follow(keys[i%len(keys)], fmt.Sprint("v", i))
				}
				// The asker has some already, with a gap, and something of its own.
				have := crdt.Dots{Actor: p.Actor(), Span: crdt.Span{Lo: 10, Hi: 20}}
				c := &crdt.Clock{}
				c.AddSpan(have)
				if err := q.joinClock(part, c); err != nil {
					t.Fatal(err)
				}
				q.put("b\x00own", "v")

				delivered := map[crdt.Dot]int{}
				pages := 0
				for more := true; more; pages++ {
					got, err := p.Pull(wire.Pull{Partition: part, Clock: q.Clock(part), MaxBytes: maxBytes})
					if err != nil || got.Full || got.More && len(got.Entries) == 0 {
						t.Fatalf("page %d: %+v, %v", pages, got, err)
					}
					size := 0
					for i, e := range got.Entries {
						if i > 0 && size > maxBytes {
							t.Fatalf("page %d goes on after %d bytes", pages, size)
						}
						size += e.Size()
						for _, d := range e.Dots {
							delivered[d]++
							if rec, err := crdt.DecodeRecord(hashring.KeyHash(e.Key), e.Record); err != nil || !rec.Covers(d) {
								t.Fatalf("%v does not show in its record, %v", d, err)
							}
						}
					}
					q.mustApply(got.Entries...)
					more = got.More
				}
				// The newest version of a key may come with an older dot of it, and
				// is not asked for again.
				for d, n := range delivered {
					if n > 1 || d.N >= have.Lo && d.N <= have.Hi {
						t.Errorf("%v was delivered %d times", d, n)
					}
				}
				if !q.Clock(part).Covers(p.Clock(part)) || maxBytes <= 1 && pages != len(delivered) || maxBytes > 1000 && pages != 1 {
					t.Errorf("%d dots in %d pages, clock %v", len(delivered), pages, q.Clock(part).All())
				}
				for _, k := range keys {
					if !q.record(k).SameDots(p.record(k)) {
						t.Errorf("%q: %v, want %v", k, q.record(k), p.record(k))
					}
				}
				p.stop()
				q.stop()
			})
		})
	}
}

// Many dots of one key are many index entries at the asker, each with the key:
// they count.
func TestPullCountsWhatDotsCost(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := owner(t)
		long := "b\x00" + strings.Repeat("k", 1000)
		for range 300 {
			p.follow(long, "v")
		}
		got, err := p.Pull(wire.Pull{Partition: partOf(long), Clock: &crdt.Clock{}, MaxBytes: 100_000})
		if err != nil || !got.More || len(got.Entries) != 1 || len(got.Entries[0].Dots) > 100 {
			t.Errorf("more %t, %d dots, %v", got.More, len(got.Entries[0].Dots), err)
		}
		p.stop()
	})
}

// What the index does not know, only a full sync can deliver; what it does
// know comes along.
func TestPullFull(t *testing.T) {
	for name, damage := range map[string]func(p *place, part hashring.Partition){
		"joined clock": func(p *place, part hashring.Partition) {
			c := &crdt.Clock{}
			c.AddSpan(crdt.Dots{Actor: stranger, Span: crdt.Span{Lo: 3, Hi: 5}})
			if err := p.joinClock(part, c); err != nil {
				t.Fatal(err)
			}
		},
		"index entry lost": func(p *place, part hashring.Partition) {
			p.disk.LoseRecord(indexKey(part, crdt.Dot{Actor: stranger, N: 2}))
		},
		"first index entry lost": func(p *place, part hashring.Partition) {
			p.disk.LoseRecord(indexKey(part, crdt.Dot{Actor: stranger, N: 1}))
		},
		"record lost":               func(p *place, _ hashring.Partition) { p.disk.LoseRecord(recordKey(key)) },
		"record lost, and the last": func(p *place, _ hashring.Partition) { p.disk.LoseRecord(recordKey(keysIn(partOf(key), 1)[0])) },
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				p := owner(t)
				part := partOf(key)
				p.mustApply(foreign(key, stranger, 1, nil, "a"), foreign(keysIn(part, 1)[0], stranger, 2, nil, "b"))
				mine := p.put(keysIn(part, 2)[1], "v").Dot
				damage(p, part)
				got, err := p.Pull(wire.Pull{Partition: part, Clock: &crdt.Clock{}, MaxBytes: 1 << 20})
				if err != nil || !got.Full {
					t.Fatalf("%+v, %v", got, err)
				}
				if !slices.ContainsFunc(got.Entries, func(e wire.Entry) bool { return slices.Contains(e.Dots, mine) }) {
					t.Errorf("what the index knows of other actors does not come: %+v", got.Entries)
				}
				p.stop()
			})
		})
	}
}

// Scan pages through a range in the store's order, each record once, and gives
// the clock of before.
func TestScan(t *testing.T) {
	for _, maxBytes := range []int{0, 1, 300, 1 << 20} {
		t.Run(fmt.Sprint(maxBytes), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				p := owner(t)
				part := partOf(key)
				keys := keysIn(part, 50)
				for _, k := range keys {
					p.put(k, "v")
				}
				p.put(keysIn((part+1)%partitions, 1)[0], "of the next partition")
				slices.SortFunc(keys, func(a, b string) int { return bytes.Compare(recordKey(a), recordKey(b)) })
				for _, bounds := range [][2]int{{0, 49}, {10, 20}, {7, 7}, {30, 29}} {
					q := wire.Scan{Partition: part, MaxBytes: maxBytes, First: hashring.KeyHash([]byte(keys[bounds[0]])), Last: hashring.KeyHash([]byte(keys[bounds[1]]))}
					if bounds == [2]int{0, 49} {
						q.First, q.Last = 0, 1<<64-1
					}
					var got []string
					for more := true; more; {
						page, err := p.Replica.Scan(q)
						if err != nil || !page.Clock.Equal(p.Clock(part)) {
							t.Fatalf("%+v, %v", page, err)
						}
						for _, e := range page.Entries {
							got = append(got, string(e.Key))
							q.After = e.Key
						}
						if n := len(page.Entries); maxBytes <= 1 && n > 1 || page.More && n == 0 {
							t.Fatalf("%d entries", n)
						}
						more = page.More
					}
					if want := keys[bounds[0] : bounds[1]+1]; !slices.Equal(got, want) {
						t.Errorf("%v: %q, want %q", bounds, got, want)
					}
				}
				p.stop()
			})
		})
	}
}

// Buckets are the digests of the 16 parts of any range of key hashes.
func TestBuckets(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := owner(t)
		var entries []wire.Entry
		for i := range 2000 {
			entries = append(entries, foreign(fmt.Sprint("b\x00k", i), stranger, uint64(i+1), nil, "v"))
		}
		p.mustApply(entries...)
		h := hashring.KeyHash([]byte("b\x00k7"))
		for _, bits := range []uint8{0, 1, 2, 8, 59, 60} {
			q := wire.Buckets{Bits: bits, Prefix: h >> 1 >> (63 - bits)}
			want := make([]wire.Bucket, 16)
			for i := range want {
				first, last := replica.BucketRange(q, i)
				if i > 0 {
					if _, before := replica.BucketRange(q, i-1); before+1 != first {
						t.Fatalf("%d bits: part %d does not begin behind the one before", bits, i)
					}
				}
				for _, e := range entries {
					if x := hashring.KeyHash(e.Key); x >= first && x <= last {
						rec, err := crdt.DecodeRecord(x, e.Record)
						if err != nil {
							t.Fatal(err)
						}
						want[i].Digest ^= crdt.Digest(7, x, rec)
						want[i].Keys++
					}
				}
			}
			got, err := p.Buckets(q)
			if err != nil || !slices.Equal(got, want) {
				t.Errorf("%d bits: %v, %v", bits, got, err)
			}
			first, _ := replica.BucketRange(q, 0)
			_, last := replica.BucketRange(q, 15)
			if h < first || h > last {
				t.Errorf("%d bits: %x..%x is not the range of %x", bits, first, last, h)
			}
		}
		p.stop()
	})
}

// Differing names the owned partitions whose clock or digest is another here.
func TestDiffering(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := owner(t)
		q := second(t, p)
		var sums []wire.Sum
		for _, part := range p.Owned() {
			sums = append(sums, q.Sum(part))
		}
		if d := p.Differing(wire.Compare{Sums: sums}); len(d) != 0 {
			t.Errorf("empty replicas differ: %+v", d)
		}
		m := p.put(key, "v")
		d := p.Differing(wire.Compare{Sums: sums})
		if len(d) != 1 || d[0].Sum != p.Sum(partOf(key)) || !d[0].Clock.Contains(m.Dot) {
			t.Errorf("differs: %+v", d)
		}
		q.mustApply(p.entry(key))
		if p.Sum(partOf(key)) != q.Sum(partOf(key)) {
			t.Error("equal replicas have other sums")
		}
		// The same clock without the record.
		r := newPlace(t, "n3", p.registry, memstore.Config{})
		r.start()
		if err := r.joinClock(partOf(key), p.Clock(partOf(key))); err != nil {
			t.Fatal(err)
		}
		a, b := p.Sum(partOf(key)), r.Sum(partOf(key))
		if a.Clock != b.Clock || a.Digest == b.Digest {
			t.Errorf("%+v and %+v", a, b)
		}
		p.stop()
		q.stop()
		r.stop()
	})
}

// A recount finds a silently lost record, corrects the digest by the
// difference, durably, and finds nothing the second time.
func TestRecount(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := owner(t)
		part := partOf(key)
		p.put(key, "v")
		for _, k := range keysIn(part, 5) {
			p.put(k, "v")
		}
		recount := func(want bool) {
			t.Helper()
			if differed, err := p.Recount(part); differed != want || err != nil {
				t.Errorf("differed %t, %v", differed, err)
			}
		}
		recount(false)
		p.disk.LoseRecord(recordKey(key))
		before := p.Sum(part)
		recount(true)
		if now := p.Sum(part); now.Clock != before.Clock || now.Digest == before.Digest {
			t.Errorf("%+v, before %+v", now, before)
		}
		p.digests()
		recount(false)
		p.crash(true)
		p.start()
		p.digests()
		recount(false)
		p.stop()
	})
}

// Writes that go on during a recount are not taken for a difference.
func TestRecountUnderLoad(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := newPlace(t, "n1", memtopo.New(1), memstore.Config{SyncMin: 1000})
		p.start()
		done := make(chan error, 200)
		for i := range 200 {
			k := keysIn(partOf(key), 7)[i%7]
			p.Mint(replica.Mint{
				Key: []byte(k), KeyHash: hashring.KeyHash([]byte(k)), Value: []byte("v"), Overwrite: true,
				Done: func(_ *replica.Minted, err error) { done <- err },
			})
			if i%20 == 0 {
				if differed, err := p.Recount(partOf(key)); differed || err != nil {
					t.Errorf("differed %t, %v", differed, err)
				}
			}
		}
		for range 200 {
			if err := <-done; err != nil {
				t.Error(err)
			}
		}
		p.digests()
		p.stop()
	})
}

// ask sends a request to a replica as a peer does.
func ask(p *place, verb peer.Verb, body []byte) ([]byte, error) {
	type outcome struct {
		b   []byte
		err error
	}
	ch := make(chan outcome, 1)
	if !p.Handle(peer.Request{Verb: verb, Body: body}, func(b []byte, err error) { ch <- outcome{b, err} }) {
		return nil, errors.New("not served")
	}
	o := <-ch
	return o.b, o.err
}

func TestHandle(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := owner(t)
		q := second(t, p)
		part := partOf(key)
		d := p.put(key, "v").Dot

		b, err := ask(p, peer.VerbCompare, wire.AppendCompare(nil, wire.Compare{Sums: []wire.Sum{q.Sum(part)}}))
		diff, bad := wire.DecodeDifferences(b)
		if err != nil || bad != nil || len(diff) != 1 || !diff[0].Clock.Contains(d) {
			t.Fatalf("compare: %+v, %v, %v", diff, err, bad)
		}
		b, err = ask(p, peer.VerbPull, wire.AppendPull(nil, wire.Pull{Partition: part, Clock: q.Clock(part), MaxBytes: 1 << 20}))
		pulled, bad := wire.DecodePulled(b)
		if err != nil || bad != nil || len(pulled.Entries) != 1 {
			t.Fatalf("pull: %+v, %v, %v", pulled, err, bad)
		}
		if b, err = ask(q, peer.VerbApply, wire.AppendApply(nil, wire.Apply{Entries: pulled.Entries})); len(b) != 0 || err != nil {
			t.Fatalf("apply: %x, %v", b, err)
		}
		b, err = ask(q, peer.VerbRead, reading(key))
		if held, bad := wire.DecodeHeld(b); err != nil || bad != nil || held.Pending || !bytes.Equal(held.Record, p.entry(key).Record) {
			t.Fatalf("read: %x, %v", b, err)
		}
		if b, err = ask(q, peer.VerbRead, reading("b\x00absent")); len(b) != 1 || err != nil {
			t.Fatalf("read of an absent key: %x, %v", b, err)
		}
		b, err = ask(q, peer.VerbBuckets, wire.AppendBuckets(nil, wire.Buckets{}))
		list, bad := wire.DecodeBucketList(b)
		if err != nil || bad != nil || len(list) != 16 {
			t.Fatalf("buckets: %d, %v, %v", len(list), err, bad)
		}
		b, err = ask(q, peer.VerbScan, wire.AppendScan(nil, wire.Scan{Partition: part, Last: 1<<64 - 1}))
		page, bad := wire.DecodePage(b)
		if err != nil || bad != nil || len(page.Entries) != 1 || !page.Clock.Contains(d) {
			t.Fatalf("scan: %+v, %v, %v", page, err, bad)
		}
		if p.Handle(peer.Request{Verb: peer.VerbForward}, nil) || p.Handle(peer.Request{Verb: 99}, nil) {
			t.Error("serves verbs that are not its own")
		}
		p.stop()
		q.stop()
	})
}

// An asker cannot make a node gather, or scan, without bound.
func TestHandleIsBounded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := &moody{}
		p := newPlace(t, "n1", memtopo.New(1), memstore.Config{})
		p.wrap = func(e storage.Engine) storage.Engine { m.Engine = e; return m }
		p.start()
		part := partOf(key)
		for _, k := range keysIn(part, 8) {
			p.put(k, string(make([]byte, 1<<20)))
		}
		b, err := ask(p, peer.VerbPull, wire.AppendPull(nil, wire.Pull{Partition: part, Clock: &crdt.Clock{}, MaxBytes: 16 << 20}))
		if len(b) > 5<<20 || err != nil {
			t.Errorf("pull: %d bytes, %v", len(b), err)
		}
		b, err = ask(p, peer.VerbScan, wire.AppendScan(nil, wire.Scan{Partition: part, Last: 1<<64 - 1, MaxBytes: 16 << 20}))
		if len(b) > 5<<20 || err != nil {
			t.Errorf("scan: %d bytes, %v", len(b), err)
		}
		hold := make(chan struct{})
		m.set("", hold)
		answers := make(chan error, 40)
		body := wire.AppendPull(nil, wire.Pull{Partition: part, Clock: &crdt.Clock{}, MaxBytes: 1})
		for range 40 {
			p.Handle(peer.Request{Verb: peer.VerbPull, Body: body}, func(_ []byte, err error) { answers <- err })
		}
		synctest.Wait()
		refused := len(answers)
		for range refused {
			var no *peer.Refusal
			if err := <-answers; !errors.As(err, &no) || no.Code != peer.CodeOverloaded {
				t.Errorf("refused with %v", err)
			}
		}
		if refused < 20 || refused == 40 {
			t.Errorf("%d of 40 scans at once were refused", refused)
		}
		m.set("", nil)
		close(hold)
		for range 40 - refused {
			if err := <-answers; err != nil {
				t.Error(err)
			}
		}
		if _, err := ask(p, peer.VerbPull, body); err != nil {
			t.Errorf("afterwards: %v", err)
		}
		p.stop()
	})
}

// Whatever a peer sends gets one answer, and a refusal says why.
func TestHandleRefusals(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := newPlace(t, "n1", memtopo.New(1), memstore.Config{})
		part := partOf(key)
		p.cfg.Topology = onlyOwner(part)
		p.start()
		other := keysIn((part+1)%partitions, 1)[0]
		apply := func(es ...wire.Entry) []byte { return wire.AppendApply(nil, wire.Apply{Entries: es}) }
		long := "b\x00" + strings.Repeat("k", 2000)
		for partOf(long) != part {
			long += "k"
		}
		for _, c := range []struct {
			name string
			verb peer.Verb
			body []byte
			code peer.Code
		}{
			{"no apply", peer.VerbApply, []byte{9}, peer.CodeInvalid},
			{"apply of no record", peer.VerbApply, apply(wire.Entry{Key: []byte(key), Record: []byte("junk")}), peer.CodeInvalid},
			{"apply elsewhere", peer.VerbApply, apply(foreign(other, stranger, 1, nil, "v")), peer.CodeNotOwner},
			{"apply of a key too long", peer.VerbApply, apply(foreign(long, stranger, 1, nil, "v")), peer.CodeInvalid},
			{"read elsewhere", peer.VerbRead, reading(other), peer.CodeNotOwner},
			{"no read", peer.VerbRead, nil, peer.CodeInvalid},
			{"no compare", peer.VerbCompare, []byte{9}, peer.CodeInvalid},
			{"no pull", peer.VerbPull, nil, peer.CodeInvalid},
			{"pull elsewhere", peer.VerbPull, wire.AppendPull(nil, wire.Pull{Partition: 99, Clock: &crdt.Clock{}}), peer.CodeNotOwner},
			{"no buckets", peer.VerbBuckets, []byte{99}, peer.CodeInvalid},
			{"no scan", peer.VerbScan, []byte{1}, peer.CodeInvalid},
			{"scan elsewhere", peer.VerbScan, wire.AppendScan(nil, wire.Scan{Partition: 99}), peer.CodeNotOwner},
		} {
			_, err := ask(p, c.verb, c.body)
			var no *peer.Refusal
			if !errors.As(err, &no) || no.Code != c.code {
				t.Errorf("%s: %v", c.name, err)
			}
		}
		p.put(key, "v")
		p.disk.CorruptValue(recordKey(key))
		_, err := ask(p, peer.VerbRead, reading(key))
		var no *peer.Refusal
		if !errors.As(err, &no) || no.Code != peer.CodeCorrupt {
			t.Errorf("unreadable: %v", err)
		}
		r := p.Replica
		p.stop()
		no = nil
		r.Handle(peer.Request{Verb: peer.VerbApply, Body: apply(foreign(key, stranger, 1, nil, "v"))}, func(_ []byte, err error) { errors.As(err, &no) })
		if no == nil || no.Code != peer.CodeStopping {
			t.Errorf("stopped: %v", no)
		}
	})
}

func reading(key string) []byte { return wire.AppendRead(nil, wire.Read{Key: []byte(key)}) }
