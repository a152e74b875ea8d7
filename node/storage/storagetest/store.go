// Package storagetest is the one conformance suite for engines: what passes
// Run and Machine may stand behind storage.Engine. Both the disk engine and
// its memory twin do.
//
// It tests S1..S6 of package storage as far as they can be seen from outside.
// That a write is invisible before its sync (S4), and what a failed sync does
// (S6), each engine shows in tests of its own.
package storagetest

import (
	"bytes"
	"errors"
	"testing"

	"github.com/atolldb/atoll/node/storage"
)

// Store is a place that outlives the engines opened on it.
type Store struct {
	// Open returns an engine on what is there. The suite closes or crashes
	// one before it opens the next.
	Open func() (storage.Engine, error)
	// Crash ends an engine without warning, maybe in the middle of a Commit
	// of another goroutine. The next Open finds what survived.
	Crash func(storage.Engine)
}

// Fresh makes an empty Store that goes with the test.
type Fresh func(t testing.TB) Store

func open(t testing.TB, s Store) storage.Engine {
	t.Helper()
	e, err := s.Open()
	if err != nil {
		t.Fatalf("open: %v", err)
	}
	return e
}

// tester is what the helpers need of testing.TB and of rapid.T.
type tester interface {
	Helper()
	Fatalf(format string, args ...any)
}

func begin(t tester, e storage.Engine) storage.Txn {
	t.Helper()
	tx, err := e.Begin()
	if err != nil {
		t.Fatalf("begin: %v", err)
	}
	return tx
}

// put commits pairs of key and value in one transaction.
func put(t tester, e storage.Engine, pairs ...[]byte) {
	t.Helper()
	tx := begin(t, e)
	for i := 0; i < len(pairs); i += 2 {
		if err := tx.Put(pairs[i], pairs[i+1]); err != nil {
			t.Fatalf("put: %v", err)
		}
	}
	if err := tx.Commit(); err != nil {
		t.Fatalf("commit: %v", err)
	}
}

func remove(t tester, e storage.Engine, keys ...[]byte) {
	t.Helper()
	tx := begin(t, e)
	for _, k := range keys {
		if err := tx.Delete(k); err != nil {
			t.Fatalf("delete: %v", err)
		}
	}
	if err := tx.Commit(); err != nil {
		t.Fatalf("commit: %v", err)
	}
}

type getter interface {
	Get(key []byte) ([]byte, error)
}

// want checks one key; a nil value means that it must not be there.
func want(t tester, r getter, key, value []byte) {
	t.Helper()
	got, err := r.Get(key)
	switch {
	case value == nil && !errors.Is(err, storage.ErrNotFound):
		t.Fatalf("get %.40q: %d bytes, %v; want ErrNotFound", key, len(got), err)
	case value != nil && err != nil:
		t.Fatalf("get %.40q: %v; want %d bytes", key, err, len(value))
	case value != nil && !bytes.Equal(got, value):
		t.Fatalf("get %.40q: %d other bytes; want %d", key, len(got), len(value))
	case value != nil && got == nil:
		t.Fatalf("get %.40q: nil; want an empty slice", key)
	}
}

type pair struct{ key, value string }

// all scans and copies.
func all(t tester, r storage.Reader, lo, hi []byte) []pair {
	t.Helper()
	var got []pair
	err := r.Scan(lo, hi, func(kv storage.KV) bool {
		got = append(got, pair{string(kv.Key), string(kv.Value)})
		return true
	})
	if err != nil {
		t.Fatalf("scan: %v", err)
	}
	return got
}

func b(s string) []byte { return []byte(s) }
