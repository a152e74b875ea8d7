package memstore

import (
	"bytes"
	"fmt"
	"time"

	"github.com/atolldb/atoll/node/storage"
)

// Engine is one opening of a Disk.
type Engine struct {
	disk *Disk
	// Guarded by disk.mu.
	txn  *txn
	dead error // wraps ErrClosed or ErrFailed
}

var _ storage.Engine = (*Engine)(nil)

// view returns the durable state, or why there is none.
func (e *Engine) view() (*tree, error) {
	e.disk.mu.Lock()
	defer e.disk.mu.Unlock()
	return e.disk.root, e.dead
}

// Get implements storage.Reader.
func (e *Engine) Get(key []byte) ([]byte, error) {
	root, err := e.view()
	if err != nil {
		return nil, err
	}
	return read(root, key)
}

// Scan implements storage.Reader: over the state at its beginning.
func (e *Engine) Scan(lo, hi []byte, yield func(storage.KV) bool) error {
	root, err := e.view()
	if err != nil {
		return err
	}
	return scan(root, lo, hi, yield)
}

// Snapshot implements storage.Engine. Damage done to the disk later does not
// show in it.
func (e *Engine) Snapshot() storage.Snapshot {
	root, err := e.view()
	return &snapshot{engine: e, root: root, err: err}
}

// Begin implements storage.Engine.
func (e *Engine) Begin() (storage.Txn, error) {
	e.disk.mu.Lock()
	defer e.disk.mu.Unlock()
	switch {
	case e.dead != nil:
		return nil, e.dead
	case e.txn != nil:
		return nil, storage.ErrBusy
	}
	e.txn = &txn{engine: e, index: make(map[string]int)}
	return e.txn, nil
}

// Usage implements storage.Engine: Total is the disk's capacity.
func (e *Engine) Usage() (storage.Usage, error) {
	e.disk.mu.Lock()
	defer e.disk.mu.Unlock()
	if e.dead != nil {
		return storage.Usage{}, e.dead
	}
	used := e.disk.root.size()
	return storage.Usage{Store: used, Free: e.disk.free(), Total: e.disk.capacity}, nil
}

// WriteBeside implements storage.Engine. It is durable at once.
func (e *Engine) WriteBeside(name string, data []byte) error {
	if err := storage.CheckBeside(name, data); err != nil {
		return err
	}
	e.disk.mu.Lock()
	defer e.disk.mu.Unlock()
	if e.dead != nil {
		return e.dead
	}
	e.disk.beside[name] = bytes.Clone(data)
	return nil
}

// ReadBeside implements storage.Engine.
func (e *Engine) ReadBeside(name string) ([]byte, error) {
	if err := storage.CheckBeside(name, nil); err != nil {
		return nil, err
	}
	e.disk.mu.Lock()
	defer e.disk.mu.Unlock()
	if e.dead != nil {
		return nil, e.dead
	}
	data, ok := e.disk.beside[name]
	if !ok {
		return nil, storage.ErrNotFound
	}
	return bytes.Clone(data), nil
}

// Close implements storage.Engine. A commit under way fails.
func (e *Engine) Close() error {
	e.disk.mu.Lock()
	defer e.disk.mu.Unlock()
	if e.dead == nil {
		e.dead = storage.ErrClosed
		e.disk.pending = nil
	}
	return nil
}

// commit makes writes durable after the time of a sync.
func (e *Engine) commit(writes []write) error {
	d := e.disk
	d.mu.Lock()
	if e.dead != nil {
		d.mu.Unlock()
		return e.dead
	}
	grown := int64(0)
	for _, w := range writes {
		grown += int64(len(w.key) + len(w.value))
	}
	if grown > d.free() {
		e.dead = fmt.Errorf("no space left on disk: %w", storage.ErrFailed)
		d.mu.Unlock()
		return e.dead
	}
	d.pending = writes
	wait := d.syncTime()
	d.mu.Unlock()

	// The window in which a crash loses the transaction.
	if wait > 0 {
		time.Sleep(wait)
	}

	d.mu.Lock()
	defer d.mu.Unlock()
	if e.dead != nil {
		return fmt.Errorf("sync was cut short: %w: %w", storage.ErrFailed, e.dead)
	}
	d.pending = nil
	if d.failSync {
		d.failSync = false
		if d.rng.IntN(2) == 0 {
			d.settle(writes)
		}
		e.dead = fmt.Errorf("sync failed: %w", storage.ErrFailed)
		return e.dead
	}
	d.settle(writes)
	return nil
}

// end forgets the open transaction t.
func (e *Engine) end(t *txn) {
	e.disk.mu.Lock()
	defer e.disk.mu.Unlock()
	if e.txn == t {
		e.txn = nil
	}
}

func read(root *tree, key []byte) ([]byte, error) {
	if err := storage.CheckKey(key); err != nil {
		return nil, err
	}
	n := root.get(key)
	switch {
	case n == nil || n.over():
		return nil, storage.ErrNotFound
	case n.corrupt:
		return nil, corrupt(key)
	}
	return clone(n.value), nil
}

// scan hands out buffers that it uses again for the next entry, as a real
// engine does, so that a caller who keeps one is found out here.
func scan(root *tree, lo, hi []byte, yield func(storage.KV) bool) (err error) {
	var kv storage.KV
	root.walk(lo, hi, func(n *tree) bool {
		if n.over() {
			return true
		}
		if n.corrupt {
			err = corrupt(n.key)
			return false
		}
		kv.Key = append(kv.Key[:0], n.key...)
		kv.Value = append(kv.Value[:0], n.value...)
		return yield(kv)
	})
	return err
}

func corrupt(key []byte) error {
	return &storage.CorruptError{Key: bytes.Clone(key), Reason: "checksum differs"}
}

// clone is bytes.Clone that returns an empty slice for nil.
func clone(b []byte) []byte { return append([]byte{}, b...) }

type snapshot struct {
	engine *Engine
	root   *tree
	err    error
}

// state fails once the engine is gone, as a real snapshot would.
func (s *snapshot) state() (*tree, error) {
	if s.err != nil {
		return nil, s.err
	}
	_, err := s.engine.view()
	return s.root, err
}

func (s *snapshot) Get(key []byte) ([]byte, error) {
	root, err := s.state()
	if err != nil {
		return nil, err
	}
	return read(root, key)
}

func (s *snapshot) Scan(lo, hi []byte, yield func(storage.KV) bool) error {
	root, err := s.state()
	if err != nil {
		return err
	}
	return scan(root, lo, hi, yield)
}

func (s *snapshot) Close() { s.err, s.root = storage.ErrClosed, nil }
