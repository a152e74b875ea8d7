package storagetest

import (
	"bytes"
	"fmt"
	"maps"
	"slices"
	"testing"

	"pgregory.net/rapid"

	"github.com/atolldb/atoll/node/storage"
)

// Machine runs random operations against an engine and a plain map.
func Machine(t *testing.T, fresh Fresh) {
	rapid.Check(t, func(rt *rapid.T) {
		s := fresh(t)
		m := &machine{store: s, durable: map[string]string{}}
		m.engine = m.open(rt)
		defer func() { m.engine.Close() }()
		rt.Repeat(map[string]func(*rapid.T){
			"begin":    m.begin,
			"put":      m.put,
			"delete":   m.delete,
			"commit":   m.commit,
			"discard":  m.discard,
			"snapshot": m.snapshot,
			"release":  m.release,
			"scan":     m.scan,
			"reopen":   m.reopen,
			"crash":    m.crash,
			"":         m.check,
		})
	})
}

type view struct {
	storage.Snapshot
	content map[string]string
}

type machine struct {
	store   Store
	engine  storage.Engine
	durable map[string]string
	txn     storage.Txn
	written map[string]string // what the engine will be after the transaction
	views   []view
}

var (
	keyGen  = rapid.SampledFrom([]string{"a", "b", "c", "ab", "b\x00", "k", "\xff", "c\x00\x01"})
	sizeGen = rapid.SampledFrom([]int{0, 1, 2, 10, 20, 50, 100, 200, 4000, 70_000, 513 << 10, 1_100_000})
)

func (m *machine) open(t *rapid.T) storage.Engine {
	e, err := m.store.Open()
	if err != nil {
		t.Fatalf("open: %v", err)
	}
	return e
}

func (m *machine) begin(t *rapid.T) {
	if m.txn != nil {
		t.Skip()
	}
	m.txn, m.written = begin(t, m.engine), maps.Clone(m.durable)
}

func (m *machine) put(t *rapid.T) {
	if m.txn == nil {
		t.Skip()
	}
	k, n := keyGen.Draw(t, "key"), sizeGen.Draw(t, "size")
	v := bytes.Repeat([]byte{rapid.Byte().Draw(t, "fill")}, n)
	if err := m.txn.Put(b(k), v); err != nil {
		t.Fatalf("put: %v", err)
	}
	m.written[k] = string(v)
}

func (m *machine) delete(t *rapid.T) {
	if m.txn == nil {
		t.Skip()
	}
	k := keyGen.Draw(t, "key")
	if err := m.txn.Delete(b(k)); err != nil {
		t.Fatalf("delete: %v", err)
	}
	delete(m.written, k)
}

func (m *machine) commit(t *rapid.T) {
	if m.txn == nil {
		t.Skip()
	}
	if err := m.txn.Commit(); err != nil {
		t.Fatalf("commit: %v", err)
	}
	m.durable, m.txn = m.written, nil
}

func (m *machine) discard(t *rapid.T) {
	if m.txn == nil {
		t.Skip()
	}
	m.txn.Discard()
	m.txn = nil
}

func (m *machine) snapshot(t *rapid.T) {
	if len(m.views) == 3 {
		t.Skip()
	}
	m.views = append(m.views, view{m.engine.Snapshot(), m.durable})
}

func (m *machine) release(t *rapid.T) {
	if len(m.views) == 0 {
		t.Skip()
	}
	i := rapid.IntRange(0, len(m.views)-1).Draw(t, "which")
	m.views[i].Close()
	m.views = slices.Delete(m.views, i, i+1)
}

func (m *machine) scan(t *rapid.T) {
	lo, hi := keyGen.Draw(t, "lo"), keyGen.Draw(t, "hi")
	compare(t, m.engine, m.durable, b(lo), b(hi))
	for _, v := range m.views {
		compare(t, v, v.content, b(lo), b(hi))
	}
}

// seldom skips most of the draws of an action that is slow on a real disk.
func seldom(t *rapid.T) {
	if rapid.IntRange(0, 3).Draw(t, "seldom") > 0 {
		t.Skip()
	}
}

func (m *machine) reopen(t *rapid.T) {
	seldom(t)
	m.leave()
	if err := m.engine.Close(); err != nil {
		t.Fatalf("close: %v", err)
	}
	m.engine = m.open(t)
}

// crash between two commits: nothing durable may be lost, nothing else stay.
func (m *machine) crash(t *rapid.T) {
	seldom(t)
	m.store.Crash(m.engine)
	m.leave()
	m.engine = m.open(t)
}

func (m *machine) leave() {
	for _, v := range m.views {
		v.Close()
	}
	if m.txn != nil {
		m.txn.Discard()
	}
	m.views, m.txn = nil, nil
}

func (m *machine) check(t *rapid.T) {
	k := keyGen.Draw(t, "probe")
	probe(t, m.engine, m.durable, k)
	if m.txn != nil {
		probe(t, m.txn, m.written, k)
	}
	for _, v := range m.views {
		probe(t, v, v.content, k)
	}
	compare(t, m.engine, m.durable, nil, nil)
}

func probe(t *rapid.T, r getter, content map[string]string, k string) {
	t.Helper()
	if v, ok := content[k]; ok {
		want(t, r, b(k), b(v))
	} else {
		want(t, r, b(k), nil)
	}
}

func compare(t *rapid.T, r storage.Reader, content map[string]string, lo, hi []byte) {
	t.Helper()
	var expect []pair
	for _, k := range slices.Sorted(maps.Keys(content)) {
		if k >= string(lo) && (hi == nil || k < string(hi)) {
			expect = append(expect, pair{k, content[k]})
		}
	}
	if got := all(t, r, lo, hi); !slices.Equal(got, expect) {
		t.Fatalf("scan %q..%q: %s, want %s", lo, hi, brief(got), brief(expect))
	}
}

func brief(ps []pair) (s string) {
	for _, p := range ps {
		s += fmt.Sprintf("%q(%d) ", p.key, len(p.value))
	}
	return s
}
