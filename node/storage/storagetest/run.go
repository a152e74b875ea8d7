package storagetest

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/atolldb/atoll/node/storage"
)

// Run checks an engine. Every subtest has a Store of its own.
func Run(t *testing.T, fresh Fresh) {
	for _, c := range []struct {
		name string
		test func(*testing.T, Store)
	}{
		{"get put delete", basics},
		{"scan bounds and order", scans},
		{"keys of every shape", keys},
		{"transaction reads its own writes", ownWrites},
		{"one transaction at a time", oneTxn},
		{"discard leaves nothing", discards},
		{"snapshots stay", snapshots},
		{"arguments are not kept", arguments},
		{"values of every size", sizes},
		{"limits", limits},
		{"entries with an end", ends},
		{"readers see whole transactions in order", atomicity},
		{"close", closes},
		{"reopen", reopens},
		{"crash takes a suffix", crashes},
		{"files beside", beside},
		{"usage", usage},
		{"full by the watermark", full},
	} {
		t.Run(c.name, func(t *testing.T) { c.test(t, fresh(t)) })
	}
}

func basics(t *testing.T, s Store) {
	e := open(t, s)
	defer e.Close()
	want(t, e, b("a"), nil)
	put(t, e, b("a"), b("1"), b("b"), b("2"))
	want(t, e, b("a"), b("1"))
	want(t, e, b("b"), b("2"))
	put(t, e, b("a"), b("3"))
	want(t, e, b("a"), b("3"))
	remove(t, e, b("a"), b("never"))
	want(t, e, b("a"), nil)
	want(t, e, b("b"), b("2"))
	put(t, e, b("a"), []byte{})
	want(t, e, b("a"), []byte{})
	put(t, e, b("a"), nil)
	want(t, e, b("a"), []byte{})
}

func scans(t *testing.T, s Store) {
	e := open(t, s)
	defer e.Close()
	if got := all(t, e, nil, nil); len(got) != 0 {
		t.Fatalf("empty store has %v", got)
	}
	put(t, e, b("b"), b("2"), b("a"), b("1"), b("c"), b("3"), b("b\x00"), b("2.1"), b("\xff\xff"), b("9"))
	for _, c := range []struct {
		lo, hi []byte
		want   string
	}{
		{nil, nil, "a b b\x00 c \xff\xff"},
		{b("b"), nil, "b b\x00 c \xff\xff"},
		{b("b"), b("c"), "b b\x00"},
		{nil, b("b"), "a"},
		{b("b\x00"), b("b\x00\x00"), "b\x00"},
		{b("aa"), b("b"), ""},
		{b("c"), b("b"), ""},
		{b("c"), b("c"), ""},
		{b("\xff"), nil, "\xff\xff"},
		{b("\xff\xff\xff"), nil, ""},
	} {
		var got [][]byte
		for _, p := range all(t, e, c.lo, c.hi) {
			got = append(got, b(p.key))
		}
		if g := string(bytes.Join(got, b(" "))); g != c.want {
			t.Errorf("scan %q..%q: %q, want %q", c.lo, c.hi, g, c.want)
		}
	}
	n := 0
	if err := e.Scan(nil, nil, func(storage.KV) bool { n++; return n < 2 }); err != nil || n != 2 {
		t.Errorf("scan stopped early: %d steps, %v", n, err)
	}
	remove(t, e, b("b"))
	if got := all(t, e, b("a"), b("c")); len(got) != 2 || got[1] != (pair{"b\x00", "2.1"}) {
		t.Errorf("after delete: %q", got)
	}
}

// keys are compared as bytes, whatever they look like to the engine.
func keys(t *testing.T, s Store) {
	e := open(t, s)
	defer e.Close()
	list := []string{"\x00", "\x00\x00", "!badger!x", "!", "c", "d", "k", "kk", "\xff", "k\x00\x00\x00\x00\x00\x00\x00\x01"}
	for n := 1; n <= storage.MaxKey; n += 109 {
		list = append(list, string(bytes.Repeat(b("z"), n)))
	}
	list = append(list, string(bytes.Repeat([]byte{0xff}, storage.MaxKey)))
	for i, k := range list {
		put(t, e, b(k), b(fmt.Sprint(i)))
	}
	for i, k := range list {
		want(t, e, b(k), b(fmt.Sprint(i)))
	}
	slices.Sort(list)
	got := all(t, e, nil, nil)
	if len(got) != len(list) {
		t.Fatalf("%d keys, want %d", len(got), len(list))
	}
	for i := range list {
		if got[i].key != list[i] {
			t.Fatalf("key %d is %.40q, want %.40q", i, got[i].key, list[i])
		}
	}
}

func ownWrites(t *testing.T, s Store) {
	e := open(t, s)
	defer e.Close()
	put(t, e, b("a"), b("old"), b("b"), b("old"))
	tx := begin(t, e)
	must(t, tx.Put(b("a"), b("new")))
	must(t, tx.Delete(b("b")))
	must(t, tx.Put(b("c"), b("x")))
	must(t, tx.Put(b("c"), b("y")))
	must(t, tx.Put(b("d"), b("z")))
	must(t, tx.Delete(b("d")))
	must(t, tx.Delete(b("e")))
	must(t, tx.Put(b("e"), []byte{}))
	check := func(r getter) {
		t.Helper()
		want(t, r, b("a"), b("new"))
		want(t, r, b("b"), nil)
		want(t, r, b("c"), b("y"))
		want(t, r, b("d"), nil)
		want(t, r, b("e"), []byte{})
	}
	check(tx)
	want(t, e, b("a"), b("old"))
	want(t, e, b("b"), b("old"))
	want(t, e, b("c"), nil)
	must(t, tx.Commit())
	check(e)
}

func oneTxn(t *testing.T, s Store) {
	e := open(t, s)
	defer e.Close()
	tx := begin(t, e)
	if _, err := e.Begin(); !errors.Is(err, storage.ErrBusy) {
		t.Fatalf("second transaction: %v", err)
	}
	must(t, tx.Put(b("a"), b("1")))
	must(t, tx.Commit())
	if err := tx.Put(b("a"), b("2")); err == nil {
		t.Error("put after commit")
	}
	if err := tx.Commit(); err == nil {
		t.Error("commit after commit")
	}
	tx.Discard()
	empty := begin(t, e)
	must(t, empty.Commit())
	next := begin(t, e)
	tx.Discard() // of the old one: must not end the new one
	if _, err := e.Begin(); !errors.Is(err, storage.ErrBusy) {
		t.Fatalf("transaction ended by another's discard: %v", err)
	}
	next.Discard()
	want(t, e, b("a"), b("1"))
}

func discards(t *testing.T, s Store) {
	e := open(t, s)
	tx := begin(t, e)
	must(t, tx.Put(b("a"), b("1")))
	tx.Discard()
	tx.Discard()
	if err := tx.Commit(); err == nil {
		t.Error("commit after discard")
	}
	want(t, e, b("a"), nil)
	put(t, e, b("b"), b("1"))
	must(t, e.Close())
	e = open(t, s)
	defer e.Close()
	want(t, e, b("a"), nil)
	want(t, e, b("b"), b("1"))
}

func snapshots(t *testing.T, s Store) {
	e := open(t, s)
	defer e.Close()
	put(t, e, b("a"), b("1"), b("b"), b("1"))
	snap := e.Snapshot()
	defer snap.Close()
	for i := range 200 { // enough for an engine to think of cleaning up
		put(t, e, b("a"), fmt.Append(nil, "later", i), b("c"), b("3"))
	}
	remove(t, e, b("b"))
	want(t, snap, b("a"), b("1"))
	want(t, snap, b("b"), b("1"))
	want(t, snap, b("c"), nil)
	if got := all(t, snap, nil, nil); !slices.Equal(got, []pair{{"a", "1"}, {"b", "1"}}) {
		t.Errorf("snapshot has %q", got)
	}
	late := e.Snapshot()
	want(t, late, b("a"), b("later199"))
	want(t, late, b("b"), nil)
	late.Close()
	late.Close()
	want(t, e, b("c"), b("3"))
}

func arguments(t *testing.T, s Store) {
	e := open(t, s)
	defer e.Close()
	key, value := b("key"), b("value")
	tx := begin(t, e)
	must(t, tx.Put(key, value))
	copy(key, "KEY")
	copy(value, "VALUE")
	must(t, tx.Delete(key))
	copy(key, "NEW")
	want(t, tx, b("key"), b("value"))
	must(t, tx.Commit())
	got, err := e.Get(b("key"))
	must(t, err)
	copy(got, "OTHER") // owned by the caller
	want(t, e, b("key"), b("value"))
}

// sizes also overwrites large by small and back, in the same and in later
// transactions, since an engine may keep them in different ways.
func sizes(t *testing.T, s Store) {
	e := open(t, s)
	rng := rand.New(rand.NewPCG(1, 2))
	model := map[string][]byte{}
	check := func() {
		t.Helper()
		for k, v := range model {
			want(t, e, b(k), v)
		}
		n := 0
		err := e.Scan(nil, nil, func(kv storage.KV) bool {
			if !bytes.Equal(model[string(kv.Key)], kv.Value) {
				t.Fatalf("scan: key %q has %d other bytes", kv.Key, len(kv.Value))
			}
			n++
			return true
		})
		if err != nil || n != len(model) {
			t.Fatalf("scan: %d keys of %d, %v", n, len(model), err)
		}
	}
	all := []int{0, 10, 511 << 10, 512 << 10, 513 << 10, 8 << 20, 16 << 20}
	for _, n := range all {
		k := fmt.Sprint("size", n)
		model[k] = random(rng, n)
		put(t, e, b(k), model[k])
	}
	check()
	snap := e.Snapshot()
	old := map[string][]byte{}
	for k, v := range model {
		old[k] = v
	}
	for i, n := range all { // each by one of another size
		k := fmt.Sprint("size", n)
		model[k] = random(rng, all[(i+3)%len(all)])
		put(t, e, b(k), model[k])
	}
	check()
	for k, v := range old {
		want(t, snap, b(k), v)
	}
	snap.Close()
	tx := begin(t, e)
	must(t, tx.Put(b("twice"), random(rng, 2<<20)))
	must(t, tx.Put(b("twice"), b("small")))
	must(t, tx.Put(b("thrice"), b("small")))
	must(t, tx.Put(b("thrice"), random(rng, 3<<20)))
	must(t, tx.Delete(b("thrice")))
	model["back"] = random(rng, 600<<10)
	must(t, tx.Put(b("back"), random(rng, 1<<20)))
	must(t, tx.Delete(b("back")))
	must(t, tx.Put(b("back"), model["back"]))
	model["twice"] = b("small")
	want(t, tx, b("thrice"), nil)
	want(t, tx, b("back"), model["back"])
	must(t, tx.Commit())
	check()
	must(t, e.Close())
	e = open(t, s)
	defer e.Close()
	check()
	for k := range model {
		remove(t, e, b(k))
		delete(model, k)
	}
	check()
}

func limits(t *testing.T, s Store) {
	e := open(t, s)
	defer e.Close()
	tx := begin(t, e)
	long := make([]byte, storage.MaxKey+1)
	for _, err := range []error{
		tx.Put(nil, b("x")), tx.Put(long, b("x")), tx.Delete(nil), tx.Delete(long),
		tx.Put(b("a"), make([]byte, storage.MaxValue+1)),
	} {
		if !errors.Is(err, storage.ErrTooLarge) {
			t.Errorf("beyond the limits: %v", err)
		}
	}
	tx.Discard()
	if _, err := e.Get(nil); !errors.Is(err, storage.ErrTooLarge) {
		t.Errorf("get of no key: %v", err)
	}
	put(t, e, long[1:], b("x"))
	want(t, e, long[1:], b("x"))
}

// ends: what has an end is there until then, and gone after it for reads of every
// kind; a later write of the key decides anew.
func ends(t *testing.T, s Store) {
	e := open(t, s)
	tx := begin(t, e)
	must(t, tx.Put(b("plain"), b("1")))
	for _, k := range []string{"long", "short", "kept", "deleted"} {
		must(t, tx.Put(b(k), make([]byte, 600<<10))) // what an engine keeps in pieces
	}
	must(t, tx.Commit())
	tx = begin(t, e)
	must(t, tx.PutFor(b("long"), b("2"), time.Hour))
	must(t, tx.PutFor(b("short"), b("3"), time.Millisecond))
	must(t, tx.PutFor(b("kept"), b("4"), time.Millisecond))
	must(t, tx.Put(b("kept"), b("5")))
	must(t, tx.PutFor(b("deleted"), b("6"), time.Hour))
	must(t, tx.Delete(b("deleted")))
	want(t, tx, b("long"), b("2"))
	want(t, tx, b("kept"), b("5"))
	want(t, tx, b("deleted"), nil)
	if err := tx.PutFor(b("a"), make([]byte, storage.MaxBrief+1), time.Hour); !errors.Is(err, storage.ErrTooLarge) {
		t.Errorf("a value too long: %v", err)
	}
	for _, ttl := range []time.Duration{0, -time.Second} {
		if tx.PutFor(b("a"), nil, ttl) == nil {
			t.Errorf("an entry that ends in %v", ttl)
		}
	}
	must(t, tx.Commit())
	snap := e.Snapshot()
	defer snap.Close()
	tick, began := time.NewTicker(10*time.Millisecond), time.Now()
	defer tick.Stop()
	for range tick.C {
		if _, err := e.Get(b("short")); errors.Is(err, storage.ErrNotFound) {
			break
		} else if err != nil || time.Since(began) > 10*time.Second {
			t.Fatalf("an entry that has ended: %v", err)
		}
	}
	left := []pair{{"kept", "5"}, {"long", "2"}, {"plain", "1"}}
	want(t, snap, b("short"), nil)
	if got := all(t, e, nil, nil); !slices.Equal(got, left) {
		t.Errorf("left %q", got)
	}
	tx = begin(t, e)
	want(t, tx, b("short"), nil)
	must(t, tx.PutFor(b("short"), b("7"), time.Hour))
	want(t, tx, b("short"), b("7"))
	must(t, tx.Commit())
	snap.Close()
	must(t, e.Close())
	e = open(t, s)
	defer e.Close()
	left = append(left, pair{"short", "7"})
	if got := all(t, e, nil, nil); !slices.Equal(got, left) {
		t.Errorf("left after a restart %q", got)
	}
}

// atomicity has readers beside a writer: every transaction sets four keys to
// its number, so a reader that sees two numbers has seen half a transaction,
// and a number that falls is a transaction undone.
func atomicity(t *testing.T, s Store) {
	e := open(t, s)
	defer e.Close()
	names := [][]byte{b("w"), b("x"), b("y"), b("z")}
	var acked, stop atomic.Uint64
	put(t, e, names[0], num(0), names[1], num(0), names[2], num(0), names[3], num(0))
	var wg sync.WaitGroup
	for range 2 {
		wg.Go(func() {
			last := uint64(0)
			for stop.Load() == 0 {
				floor := acked.Load()
				seen := map[string]bool{}
				if err := e.Scan(nil, nil, func(kv storage.KV) bool { seen[string(kv.Value)] = true; return true }); err != nil || len(seen) != 1 {
					t.Errorf("scan sees %d transactions, %v", len(seen), err)
					return
				}
				snap := e.Snapshot()
				first, err := snap.Get(names[0])
				second, err2 := snap.Get(names[3])
				snap.Close()
				if err != nil || err2 != nil || !bytes.Equal(first, second) {
					t.Errorf("snapshot sees %x and %x, %v, %v", first, second, err, err2)
					return
				}
				v, err := e.Get(names[1])
				if err != nil {
					t.Errorf("get: %v", err)
					return
				}
				if n := binary.BigEndian.Uint64(v); n < last || n < floor {
					t.Errorf("get sees %d after %d, acknowledged %d", n, last, floor)
					return
				} else {
					last = n
				}
			}
		})
	}
	for i := uint64(1); i <= 300 && !t.Failed(); i++ {
		put(t, e, names[0], num(i), names[1], num(i), names[2], num(i), names[3], num(i))
		acked.Store(i)
	}
	stop.Store(1)
	wg.Wait()
}

func closes(t *testing.T, s Store) {
	e := open(t, s)
	put(t, e, b("a"), b("1"))
	snap := e.Snapshot()
	snap.Close()
	must(t, e.Close())
	if _, err := e.Get(b("a")); !errors.Is(err, storage.ErrClosed) {
		t.Errorf("get: %v", err)
	}
	if err := e.Scan(nil, nil, func(storage.KV) bool { return true }); !errors.Is(err, storage.ErrClosed) {
		t.Errorf("scan: %v", err)
	}
	if _, err := e.Begin(); !errors.Is(err, storage.ErrClosed) {
		t.Errorf("begin: %v", err)
	}
	late := e.Snapshot()
	if _, err := late.Get(b("a")); !errors.Is(err, storage.ErrClosed) {
		t.Errorf("get from a snapshot: %v", err)
	}
	late.Close()
	if err := e.Close(); err != nil {
		t.Errorf("close again: %v", err)
	}
}

func reopens(t *testing.T, s Store) {
	for i := range 5 {
		e := open(t, s)
		for j := range i {
			want(t, e, fmt.Append(nil, "k", j), fmt.Append(nil, "v", j))
		}
		want(t, e, b("over"), map[bool][]byte{true: num(uint64(i - 1))}[i > 0])
		put(t, e, fmt.Append(nil, "k", i), fmt.Append(nil, "v", i), b("over"), num(uint64(i)))
		must(t, e.Close())
	}
}

// crashes ends the engine under a writer, again and again. Transaction i
// writes its number under a key of its own and under one common key: what
// survives must be all up to some number not below the last acknowledged one.
func crashes(t *testing.T, s Store) {
	acked := uint64(0)
	for round := range 4 {
		e := open(t, s)
		got := all(t, e, b("n"), b("o"))
		for i, p := range got {
			if p.value != string(num(uint64(i+1))) {
				t.Fatalf("round %d: a middle is missing before entry %d", round, i)
			}
		}
		if uint64(len(got)) < acked {
			t.Fatalf("round %d: %d transactions survived, %d were acknowledged", round, len(got), acked)
		}
		if len(got) > 0 {
			want(t, e, b("last"), num(uint64(len(got))))
		}
		next := uint64(len(got)) + 1
		var done atomic.Uint64
		running, ended := make(chan struct{}), make(chan struct{})
		go func() {
			defer close(ended)
			for i := next; ; i++ {
				tx, err := e.Begin()
				if err != nil {
					return
				}
				if tx.Put(append(b("n"), num(i)...), num(i)) != nil || tx.Put(b("last"), num(i)) != nil || tx.Commit() != nil {
					tx.Discard()
					return
				}
				done.Store(i)
				if i == next+50 {
					close(running)
				}
			}
		}()
		<-running
		acked = done.Load()
		s.Crash(e)
		<-ended
	}
}

func beside(t *testing.T, s Store) {
	e := open(t, s)
	if _, err := e.ReadBeside("f"); !errors.Is(err, storage.ErrNotFound) {
		t.Fatalf("read of nothing: %v", err)
	}
	must(t, e.WriteBeside("f", b("one")))
	must(t, e.WriteBeside("empty", nil))
	must(t, e.WriteBeside("f", b("two")))
	for _, name := range []string{"", ".", "..", "a/b", "/a", "../a"} {
		if e.WriteBeside(name, nil) == nil {
			t.Errorf("wrote beside as %q", name)
		}
		if _, err := e.ReadBeside(name); err == nil || errors.Is(err, storage.ErrNotFound) {
			t.Errorf("read beside as %q: %v", name, err)
		}
	}
	if err := e.WriteBeside("f", make([]byte, storage.MaxBeside+1)); !errors.Is(err, storage.ErrTooLarge) {
		t.Errorf("too large: %v", err)
	}
	s.Crash(e)
	e = open(t, s)
	defer e.Close()
	for name, content := range map[string]string{"f": "two", "empty": ""} {
		if got, err := e.ReadBeside(name); err != nil || string(got) != content {
			t.Errorf("%s after a crash: %q, %v", name, got, err)
		}
	}
	if got := all(t, e, nil, nil); len(got) != 0 {
		t.Errorf("files beside show in the store: %q", got)
	}
}

func usage(t *testing.T, s Store) {
	e := open(t, s)
	defer e.Close()
	put(t, e, b("a"), random(rand.New(rand.NewPCG(3, 4)), 1<<20))
	u, err := e.Usage()
	if err != nil || u.Store < 1<<20 || u.Free <= 0 || u.Total < u.Free {
		t.Errorf("usage %+v, %v", u, err)
	}
}

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func num(n uint64) []byte { return binary.BigEndian.AppendUint64(nil, n) }

// random bytes do not compress, so that sizes are what they say.
func random(rng *rand.Rand, n int) []byte {
	v := make([]byte, n+8)
	for i := 0; i < n; i += 8 {
		binary.LittleEndian.PutUint64(v[i:], rng.Uint64())
	}
	return v[:n:n]
}
