package badgerstore

import (
	"bytes"
	"errors"
	"fmt"
	"math/rand/v2"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/dgraph-io/badger/v4"

	"github.com/atolldb/atoll/node/storage"
)

// raw writes or deletes (nil) Badger's own keys, past the engine.
func raw(t *testing.T, s *Store, pairs map[string][]byte) {
	t.Helper()
	tx := s.db.NewTransactionAt(s.durable.Load(), true)
	defer tx.Discard()
	for k, v := range pairs {
		var err error
		if v == nil {
			err = tx.Delete([]byte(k))
		} else {
			err = tx.Set([]byte(k), v)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	ts := s.durable.Load() + 1
	if err := tx.CommitAt(ts, nil); err != nil {
		t.Fatal(err)
	}
	s.durable.Store(ts)
}

// rawKeys counts Badger's keys by space.
func rawKeys(s *Store) map[byte]int {
	n := map[byte]int{}
	tx := s.db.NewTransactionAt(s.durable.Load(), false)
	defer tx.Discard()
	it := tx.NewIterator(badger.IteratorOptions{})
	defer it.Close()
	for it.Rewind(); it.Valid(); it.Next() {
		n[it.Item().Key()[0]]++
	}
	return n
}

func blob(seed byte, n int) []byte {
	rng := rand.NewChaCha8([32]byte{seed})
	b := make([]byte, n)
	rng.Read(b)
	return b
}

// S4: Badger already has it, but its sync has not been reported.
func TestUnsyncedIsInvisible(t *testing.T) {
	s := open(t, Config{Dir: t.TempDir(), MemTableSize: minMemTable})
	put(t, s, "a", []byte("old"))
	tx := s.db.NewTransactionAt(s.durable.Load(), true)
	for k, v := range map[string]string{"ka": "new", "kb": "new"} {
		if err := tx.Set([]byte(k), seal(kindPlain, []byte(k), []byte(v))); err != nil {
			t.Fatal(err)
		}
	}
	if err := tx.CommitAt(s.durable.Load()+1, nil); err != nil {
		t.Fatal(err)
	}
	if v, err := s.Get([]byte("a")); err != nil || string(v) != "old" {
		t.Errorf("get: %q, %v", v, err)
	}
	if _, err := s.Get([]byte("b")); !errors.Is(err, storage.ErrNotFound) {
		t.Errorf("get of what is new: %v", err)
	}
	err := s.Scan(nil, nil, func(kv storage.KV) bool {
		if string(kv.Key) != "a" || string(kv.Value) != "old" {
			t.Errorf("scan: %q %q", kv.Key, kv.Value)
		}
		return true
	})
	if err != nil {
		t.Error(err)
	}
	s.durable.Add(1)
	if v, err := s.Get([]byte("b")); err != nil || string(v) != "new" {
		t.Errorf("get of what is durable: %q, %v", v, err)
	}
}

// S5: whatever is wrong with an entry or with the pieces of a value.
func TestDamageIsCorruptNeverMissing(t *testing.T) {
	big := blob(1, 3*pieceSize+100)
	flip := func(b []byte, i int) []byte {
		b = bytes.Clone(b)
		b[i] ^= 4
		return b
	}
	key := []byte("b")
	piece := func(i int) (string, []byte) {
		pk := pieceKey(key, i)
		return string(pk), seal(kindPiece, pk, big[i*pieceSize:min((i+1)*pieceSize, len(big))])
	}
	p1, v1 := piece(1)
	p3, v3 := piece(3)
	small := seal(kindPlain, []byte("kb"), []byte("value"))
	desc := describe(big).encode()
	for name, harm := range map[string]map[string][]byte{
		"kind":                     {"kb": flip(small, 0)},
		"checksum":                 {"kb": flip(small, 2)},
		"payload":                  {"kb": flip(small, 7)},
		"cut short":                {"kb": small[:4]},
		"empty":                    {"kb": {}},
		"cut at the end":           {"kb": small[:len(small)-1]},
		"of another key":           {"kb": seal(kindPlain, []byte("kc"), []byte("value"))},
		"unknown kind":             {"kb": seal(9, []byte("kb"), []byte("value"))},
		"piece missing":            {p1: nil},
		"last piece missing":       {p3: nil},
		"piece flipped":            {p1: flip(v1, 1000)},
		"piece short":              {p3: seal(kindPiece, []byte(p3), big[3*pieceSize:len(big)-1])},
		"piece of another kind":    {p3: seal(kindPlain, []byte(p3), big[3*pieceSize:])},
		"pieces swapped":           {p1: v3},
		"piece of another version": {p3: seal(kindPiece, []byte(p3), blob(2, 100))},
		"description flipped":      {"kb": flip(seal(kindPieces, []byte("kb"), desc), 8)},
		"description too long":     {"kb": seal(kindPieces, []byte("kb"), append(desc, 0))},
		"description impossible":   {"kb": seal(kindPieces, []byte("kb"), description{1 << 31, 1}.encode())},
	} {
		t.Run(name, func(t *testing.T) {
			s := open(t, Config{Dir: t.TempDir(), MemTableSize: 64 << 20})
			put(t, s, "a", []byte("before"))
			put(t, s, "b", big)
			put(t, s, "c", []byte("after"))
			raw(t, s, harm)
			if v, err := s.Get(key); !errors.Is(err, storage.ErrCorrupt) || errors.Is(err, storage.ErrNotFound) {
				t.Fatalf("get: %d bytes, %v", len(v), err)
			}
			snap := s.Snapshot()
			if _, err := snap.Get(key); !errors.Is(err, storage.ErrCorrupt) {
				t.Errorf("get from a snapshot: %v", err)
			}
			snap.Close()
			var seen []string
			see := func(kv storage.KV) bool { seen = append(seen, string(kv.Key)); return true }
			var bad *storage.CorruptError
			if err := s.Scan(nil, nil, see); !errors.As(err, &bad) || string(bad.Key) != "b" {
				t.Fatalf("scan: %v", err)
			}
			if err := s.Scan(append(bad.Key, 0), nil, see); err != nil || strings.Join(seen, "") != "ac" {
				t.Fatalf("scan behind the damage: %v, %v", seen, err)
			}
			// What is damaged can be written over, with nothing left of it.
			put(t, s, "b", []byte("repaired"))
			if v, err := s.Get(key); err != nil || string(v) != "repaired" {
				t.Errorf("after repair: %q, %v", v, err)
			}
			if n := rawKeys(s); n[spaceKey] != 3 || n[spacePiece] != 0 || n[spaceDir] != 0 {
				t.Errorf("keys by space: %v", n)
			}
		})
	}
}

// Pieces and directory follow the value, also over a reopen and when the
// directory entry itself is damaged.
func TestNoPieceIsLeftBehind(t *testing.T) {
	cfg := Config{Dir: t.TempDir(), MemTableSize: 64 << 20}
	s := open(t, cfg)
	expect := func(keys, pieces, dir int) {
		t.Helper()
		if n := rawKeys(s); n[spaceKey] != keys || n[spacePiece] != pieces || n[spaceDir] != dir {
			t.Fatalf("keys by space: %v", n)
		}
	}
	reopen := func() {
		t.Helper()
		if err := s.Close(); err != nil {
			t.Fatal(err)
		}
		s = open(t, cfg)
	}
	put(t, s, "a", blob(1, 4*pieceSize))
	put(t, s, "b", blob(2, pieceSize+1))
	expect(2, 6, 2)
	reopen()
	put(t, s, "a", blob(3, 2*pieceSize+1))
	expect(2, 5, 2)
	put(t, s, "b", nil)
	expect(2, 3, 1)
	raw(t, s, map[string][]byte{"da": []byte("garbage")})
	reopen()
	tx, err := s.Begin()
	if err != nil {
		t.Fatal(err)
	}
	if err := tx.Delete([]byte("a")); err != nil {
		t.Fatal(err)
	}
	tx.Discard() // must not have changed what the store knows of "a"
	put(t, s, "a", []byte("small"))
	expect(2, 0, 0)
	put(t, s, "c", blob(5, 3*pieceSize)) // known without a reopen too
	expect(3, 3, 1)
	put(t, s, "c", []byte("small"))
	expect(3, 0, 0)
	// Twice in one transaction.
	tx, err = s.Begin()
	if err != nil {
		t.Fatal(err)
	}
	for _, n := range []int{3 * pieceSize, 10, 2 * pieceSize} {
		if err := tx.Put([]byte("a"), blob(4, n)); err != nil {
			t.Fatal(err)
		}
	}
	if err := tx.Commit(); err != nil {
		t.Fatal(err)
	}
	expect(3, 2, 1)
}

func TestTooLargeTransactionIsRefusedWhole(t *testing.T) {
	s := open(t, Config{Dir: t.TempDir(), MemTableSize: minMemTable})
	tx, err := s.Begin()
	if err != nil {
		t.Fatal(err)
	}
	// By bytes.
	if err := tx.Put([]byte("huge"), make([]byte, 2<<20)); !errors.Is(err, storage.ErrTooLarge) {
		t.Fatalf("put: %v", err)
	}
	n := 0
	for ; err == nil; n++ {
		err = tx.Put(fmt.Append(nil, "k", n), make([]byte, 10_000))
	}
	if !errors.Is(err, storage.ErrTooLarge) || int64(n)*10_000 < s.MaxTxn()*9/10 {
		t.Fatalf("after %d puts: %v", n, err)
	}
	if err := tx.Commit(); err != nil {
		t.Fatalf("commit of what did fit: %v", err)
	}
	if v, err := s.Get(fmt.Append(nil, "k", n-2)); err != nil || len(v) != 10_000 {
		t.Fatalf("get: %d bytes, %v", len(v), err)
	}
	// By entries: all that fit can be committed.
	if tx, err = s.Begin(); err != nil {
		t.Fatal(err)
	}
	for n = 0; err == nil; n++ {
		err = tx.Put(fmt.Appendf(nil, "%05d", n), nil)
	}
	if !errors.Is(err, storage.ErrTooLarge) {
		t.Fatalf("after %d puts: %v", n, err)
	}
	if err := tx.Commit(); err != nil {
		t.Fatalf("commit of %d entries: %v", n-1, err)
	}
	if s.Err() != nil {
		t.Fatal(s.Err())
	}
}

// The default store takes the largest op of a committer in one transaction.
func TestMaxTxnHoldsTheLargestOp(t *testing.T) {
	s := open(t, Config{Dir: t.TempDir()})
	if s.MaxTxn() < storage.MaxValue+2<<20 {
		t.Errorf("a transaction holds %d bytes", s.MaxTxn())
	}
}

// Nothing goes to the value log, so that it needs no garbage collection.
func TestValueLogStaysEmpty(t *testing.T) {
	dir := t.TempDir()
	s := open(t, Config{Dir: dir, MemTableSize: 32 << 20})
	for i := range 40 {
		put(t, s, fmt.Sprint("k", i%10), blob(byte(i), 1<<20))
		put(t, s, fmt.Sprint("piece", i%10), blob(byte(i), pieceSize))
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	logs, err := filepath.Glob(filepath.Join(dir, "lsm", "*.vlog"))
	if err != nil || len(logs) == 0 {
		t.Fatal(logs, err)
	}
	total, err := occupied(filepath.Join(dir, "lsm"), "")
	if err != nil || total < 20<<20 {
		t.Fatal(total, err)
	}
	for _, name := range logs {
		if n := fileSize(t, name); n > 1000 {
			t.Errorf("%s has %d bytes", filepath.Base(name), n)
		}
	}
}

// Snapshots keep their versions from compaction; without any, it drops what is
// hidden. Both are seen through Badger's own eyes.
func TestCompactionRespectsSnapshots(t *testing.T) {
	cfg := Config{Dir: t.TempDir(), MemTableSize: minMemTable}
	s := open(t, cfg)
	fill := func(round int) {
		t.Helper()
		for i := range 20 {
			put(t, s, fmt.Sprintf("key%02d", i), bytes.Repeat([]byte{byte(round)}, 400_000))
		}
		s.pins.moved = time.Time{} // do not wait for the interval
		put(t, s, "tick", nil)
	}
	fill(1)
	snap := s.Snapshot()
	at := s.durable.Load()
	for round := 2; round <= 6; round++ {
		fill(round)
	}
	if s.pins.discard.Load() > at {
		t.Fatalf("discard timestamp %d passed the snapshot at %d", s.pins.discard.Load(), at)
	}
	if err := s.db.Flatten(2); err != nil {
		t.Fatal(err)
	}
	for i := range 20 {
		v, err := snap.Get(fmt.Appendf(nil, "key%02d", i))
		if err != nil || len(v) != 400_000 || v[0] != 1 {
			t.Fatalf("key %d from the snapshot: %d bytes, %v", i, len(v), err)
		}
	}
	snap.Close()
	for round := 7; round <= 9; round++ {
		fill(round)
	}
	if s.pins.discard.Load() <= at {
		t.Fatal("discard timestamp stands still without a snapshot")
	}
	if err := s.db.Flatten(2); err != nil {
		t.Fatal(err)
	}
	tx := s.db.NewTransactionAt(at, false)
	defer tx.Discard()
	if _, err := tx.Get([]byte("kkey00")); !errors.Is(err, badger.ErrKeyNotFound) {
		t.Errorf("a version that nobody reads was kept: %v", err)
	}
}

// P2: a Get whose timestamp is passed while it reads must read again.
func TestGetReadsAgain(t *testing.T) {
	s := open(t, Config{Dir: t.TempDir(), MemTableSize: minMemTable})
	put(t, s, "a", []byte("old"))
	s.pins.moved = time.Time{}
	var values []string
	s.steady(func(ts uint64) {
		if len(values) == 0 {
			put(t, s, "a", []byte("new")) // moves the discard timestamp past ts
		}
		v, err := s.getAt(ts, []byte("a"))
		if err != nil {
			t.Error(err)
		}
		values = append(values, string(v))
	})
	if got := strings.Join(values, " "); got != "old new" {
		t.Errorf("read %q", got)
	}
}

func TestCloseWaitsForReads(t *testing.T) {
	s := open(t, Config{Dir: t.TempDir(), MemTableSize: minMemTable})
	put(t, s, "a", []byte("1"))
	closed := make(chan error, 1)
	err := s.Scan(nil, nil, func(storage.KV) bool {
		go func() { closed <- s.Close() }()
		for !s.gate.closed.Load() {
			runtime.Gosched()
		}
		if _, err := s.Get([]byte("a")); !errors.Is(err, storage.ErrClosed) {
			t.Errorf("a new read while closing: %v", err)
		}
		select {
		case <-closed:
			t.Error("closed under a scan")
		default:
		}
		return true
	})
	if err != nil {
		t.Error(err)
	}
	if err := <-closed; err != nil {
		t.Error(err)
	}
}

func TestGateWaits(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var g gate
		g.init()
		for range 2 {
			if !g.enter() {
				t.Fatal("an open gate is closed")
			}
		}
		closed := false
		go func() { closed = g.close() }()
		for range 2 {
			synctest.Wait()
			if closed || g.enter() {
				t.Fatal("closed over somebody inside, or open to others")
			}
			g.leave()
		}
		synctest.Wait()
		if !closed || g.close() || g.enter() {
			t.Error("not closed once and for all")
		}
	})
}

func FuzzUnseal(f *testing.F) {
	f.Add([]byte("ka"), seal(kindPlain, []byte("ka"), []byte("value")))
	f.Add([]byte("ka"), seal(kindPieces, []byte("ka"), describe(make([]byte, pieceSize+1)).encode()))
	f.Add([]byte{}, []byte{})
	f.Fuzz(func(t *testing.T, key, sealed []byte) {
		k, payload, err := unseal(key, sealed)
		if err != nil {
			if !errors.Is(err, storage.ErrCorrupt) {
				t.Fatal(err)
			}
			return
		}
		if !bytes.Equal(seal(k, key, payload), sealed) {
			t.Fatal("not canonical")
		}
		if d, ok := decodeDescription(payload); ok && !bytes.Equal(d.encode(), payload) {
			t.Fatal("description not canonical")
		}
	})
}
