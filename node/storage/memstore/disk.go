// Package memstore is the memory twin of a disk engine: the same contract
// (S1..S6 of package storage), and a Disk that outlives the engines opened on
// it and can be made to misbehave.
//
// It is for simulations: many nodes in one testing/synctest bubble, one seed.
// Commit takes Config.SyncMin..SyncMax of (fake) time; a Crash inside that
// window finds the transaction not yet durable. It keeps no goroutines and
// never touches the real disk.
//
// Faults: Crash loses what was not synced; FailNextSync fails one sync and
// with it the engine; LoseRecord and CorruptValue damage single entries behind
// the engine's back; RollBack is a disk that came back stale; Wipe an empty
// one; FullAt a small one; Fill one that others fill, and Drain one that they
// leave. Everything is a function of the seed and of the
// order of calls.
package memstore

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"sync"
	"time"

	"github.com/atolldb/atoll/node/storage"
)

// Config of a Disk. The zero value syncs at once and has 1 TiB.
type Config struct {
	// Seed decides sync times and the fate of transactions whose sync failed.
	Seed uint64
	// SyncMin and SyncMax bound how long a Commit takes.
	SyncMin, SyncMax time.Duration
	// History is how many transactions RollBack can take back; 0 means 1024.
	History int
}

// Disk is what survives a crash. Its methods may be called at any time from
// any goroutine.
type Disk struct {
	cfg Config

	mu       sync.Mutex
	rng      *rand.Rand
	root     *tree // durable
	history  []*tree
	beside   map[string][]byte
	open     *Engine
	pending  []write // of the sync under way; nil when there is none
	failSync bool
	capacity int64
	others   int64 // bytes that others have on it
	syncs    uint64
}

// NewDisk returns an empty disk.
func NewDisk(cfg Config) *Disk {
	if cfg.History == 0 {
		cfg.History = 1024
	}
	return &Disk{
		cfg:      cfg,
		rng:      rand.New(rand.NewPCG(cfg.Seed, 0x6d656d73746f7265)),
		beside:   make(map[string][]byte),
		capacity: 1 << 40,
	}
}

// ErrInUse is returned for a disk that an engine is open on.
var ErrInUse = errors.New("disk is in use")

// Open returns an engine on what is durable. There can be one at a time; the
// one before must have been closed, or have crashed or failed.
func (d *Disk) Open() (*Engine, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.open != nil && d.open.dead == nil {
		return nil, ErrInUse
	}
	d.open = &Engine{disk: d}
	d.pending = nil
	return d.open, nil
}

// Crash ends the open engine: every call on it fails from now on. If a sync is
// under way, its transaction is lost unless survives says otherwise (nil says
// lost); either way its Commit returns storage.ErrFailed.
func (d *Disk) Crash(survives func() bool) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.pending != nil && survives != nil && survives() {
		d.settle(d.pending)
	}
	d.pending = nil
	d.kill(fmt.Errorf("disk crashed: %w", storage.ErrFailed))
}

// FailNextSync makes the next sync fail. Whether its transaction is there
// after the next Open is decided by the seed.
func (d *Disk) FailNextSync() {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.failSync = true
}

// LoseRecord removes a key without a trace and says whether it was there.
func (d *Disk) LoseRecord(key []byte) bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.root.get(key) == nil {
		return false
	}
	d.root = d.root.delete(key)
	return true
}

// CorruptValue makes every read of a key fail its check until the key is
// written again, and says whether the key was there.
func (d *Disk) CorruptValue(key []byte) bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	t := d.root.get(key)
	if t == nil {
		return false
	}
	n := *t
	n.corrupt = true
	d.root = d.root.put(&n)
	return true
}

// RollBack makes the disk forget its last n transactions (as many as it still
// knows) and returns how many those were. What was written beside the store
// stays. No engine may be open.
func (d *Disk) RollBack(n int) (int, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.open != nil && d.open.dead == nil {
		return 0, ErrInUse
	}
	n = min(n, len(d.history))
	if n > 0 {
		d.root = d.history[len(d.history)-n]
		d.history = d.history[:len(d.history)-n]
	}
	return n, nil
}

// Wipe empties the disk, also beside the store. No engine may be open.
func (d *Disk) Wipe() error {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.open != nil && d.open.dead == nil {
		return ErrInUse
	}
	d.root, d.history = nil, nil
	clear(d.beside)
	return nil
}

// Copy returns another disk with what is durable on this one: a backup of the
// whole directory. Later writes to either are not seen by the other.
func (d *Disk) Copy() *Disk {
	d.mu.Lock()
	defer d.mu.Unlock()
	out := NewDisk(d.cfg)
	out.root, out.history, out.capacity = d.root, slices.Clone(d.history), d.capacity
	for name, b := range d.beside {
		out.beside[name] = slices.Clone(b)
	}
	return out
}

// FullAt sets the size of the disk in bytes of keys and values. A Commit that
// would pass it fails the engine, as a full disk does to a real one.
func (d *Disk) FullAt(capacity int64) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.capacity = capacity
}

// Fill has others (logs, another program) take what is free but the given number
// of bytes. A Commit that needs more fails the engine; a watermark that is to
// refuse writes early is given some to see.
func (d *Disk) Fill(free int64) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.others = max(0, d.capacity-d.root.size()-free)
}

// Drain gives the store all the room that others took.
func (d *Disk) Drain() {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.others = 0
}

// free is the room that is left, in bytes. The caller holds mu.
func (d *Disk) free() int64 { return max(0, d.capacity-d.others-d.root.size()) }

// Syncs is how many transactions became durable.
func (d *Disk) Syncs() uint64 {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.syncs
}

// Len is how many keys are durable.
func (d *Disk) Len() int {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.root.count()
}

// settle makes writes durable. The caller holds mu.
func (d *Disk) settle(writes []write) {
	d.history = append(d.history, d.root)
	if over := len(d.history) - d.cfg.History; over >= d.cfg.History {
		d.history = append([]*tree(nil), d.history[over:]...)
	}
	for _, w := range writes {
		if w.deleted {
			d.root = d.root.delete(w.key)
		} else {
			leaf := newLeaf(w.key, w.value)
			leaf.end = w.end
			d.root = d.root.put(leaf)
		}
	}
	d.syncs++
}

// kill ends the open engine with err. The caller holds mu.
func (d *Disk) kill(err error) {
	if d.open != nil && d.open.dead == nil {
		d.open.dead = err
	}
}

// syncTime draws how long the next sync takes. The caller holds mu.
func (d *Disk) syncTime() time.Duration {
	if d.cfg.SyncMax <= d.cfg.SyncMin {
		return d.cfg.SyncMin
	}
	return d.cfg.SyncMin + time.Duration(d.rng.Int64N(int64(d.cfg.SyncMax-d.cfg.SyncMin)+1))
}
