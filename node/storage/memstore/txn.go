package memstore

import (
	"bytes"
	"time"

	"github.com/atolldb/atoll/node/storage"
)

// write is one change of a transaction.
type write struct {
	key, value []byte
	deleted    bool
	end        int64 // as in tree
}

// txn collects its writes and reads through them.
type txn struct {
	engine *Engine
	writes []write
	index  map[string]int // key -> its place in writes
	ended  bool
}

func (t *txn) Get(key []byte) ([]byte, error) {
	if t.ended {
		return nil, storage.ErrClosed
	}
	if i, ok := t.index[string(key)]; ok {
		if w := &t.writes[i]; w.deleted || w.end != 0 && w.end <= time.Now().UnixNano() {
			return nil, storage.ErrNotFound
		}
		return clone(t.writes[i].value), nil
	}
	return t.engine.Get(key)
}

func (t *txn) Put(key, value []byte) error {
	if err := storage.CheckValue(value); err != nil {
		return err
	}
	return t.add(write{key: bytes.Clone(key), value: clone(value)})
}

func (t *txn) PutFor(key, value []byte, ttl time.Duration) error {
	if err := storage.CheckBrief(value, ttl); err != nil {
		return err
	}
	return t.add(write{key: bytes.Clone(key), value: clone(value), end: time.Now().Add(ttl).UnixNano()})
}

func (t *txn) Delete(key []byte) error {
	return t.add(write{key: bytes.Clone(key), deleted: true})
}

func (t *txn) add(w write) error {
	if t.ended {
		return storage.ErrClosed
	}
	if err := storage.CheckKey(w.key); err != nil {
		return err
	}
	if i, ok := t.index[string(w.key)]; ok {
		t.writes[i] = w
		return nil
	}
	t.index[string(w.key)] = len(t.writes)
	t.writes = append(t.writes, w)
	return nil
}

func (t *txn) Commit() error {
	if t.ended {
		return storage.ErrClosed
	}
	t.ended = true
	defer t.engine.end(t)
	if len(t.writes) == 0 {
		_, err := t.engine.view()
		return err
	}
	return t.engine.commit(t.writes)
}

func (t *txn) Discard() {
	if !t.ended {
		t.ended = true
		t.engine.end(t)
	}
}
