// Package storage is the seam between Atoll and the engine that keeps its
// bytes: a small ordered key-value interface, the one group committer that
// writes through it, and the bookkeeping that notices when an engine has
// silently lost something.
//
// It knows nothing of records, clocks or partitions: keys and values are
// opaque. The engines live in badgerstore (real, on disk) and memstore (a
// memory twin that can lose what was not synced); both pass storagetest.
//
// Invariants:
//
//	S1  One writer: at most one Txn is open at a time, the committer's.
//	S2  Commit returns nil only after everything in the transaction, and in
//	    every transaction before it, is durable (one sync per transaction).
//	S3  A crash takes a suffix of the committed transactions, never a middle,
//	    and never a part of one.
//	S4  Reads outside a Txn see durable data only: never a write whose sync
//	    has not finished.
//	S5  A read of bytes that cannot be trusted is an error that wraps
//	    ErrCorrupt, never ErrNotFound and never other bytes.
//	S6  After a failed sync the engine refuses everything (ErrFailed): the
//	    process is expected to end. What the failed transaction wrote may or
//	    may not be there after restart.
package storage

import (
	"errors"
	"fmt"
	"time"
)

var (
	// ErrNotFound says that a key is not in the store.
	ErrNotFound = errors.New("not found")
	// ErrCorrupt says that stored bytes failed their check.
	ErrCorrupt = errors.New("stored bytes are corrupt")
	// ErrFailed says that a sync failed earlier and the engine has stopped.
	ErrFailed = errors.New("storage engine failed")
	// ErrFull says that the disk watermark refuses writes; reads go on.
	ErrFull = errors.New("disk is full")
	// ErrClosed says that the engine was closed.
	ErrClosed = errors.New("storage engine is closed")
	// ErrTooLarge says that a key, a value or a whole transaction exceeds what
	// the engine can hold.
	ErrTooLarge = errors.New("too large to store")
	// ErrBusy says that a second write transaction was asked for; see S1.
	ErrBusy = errors.New("a write transaction is open")
)

const (
	// MaxKey is the length of the longest key, in bytes.
	MaxKey = 1200
	// MaxValue is the length of the longest value, in bytes.
	MaxValue = 16 << 20
	// MaxBrief is the length of the longest value of a PutFor, in bytes.
	MaxBrief = 64 << 10
)

// CheckKey returns an error that wraps ErrTooLarge unless key has 1..MaxKey
// bytes.
func CheckKey(key []byte) error {
	if len(key) == 0 || len(key) > MaxKey {
		return fmt.Errorf("key of %d bytes, not 1..%d: %w", len(key), MaxKey, ErrTooLarge)
	}
	return nil
}

// CheckValue returns an error that wraps ErrTooLarge if value has more than
// MaxValue bytes.
func CheckValue(value []byte) error {
	if len(value) > MaxValue {
		return fmt.Errorf("value of %d bytes, more than %d: %w", len(value), MaxValue, ErrTooLarge)
	}
	return nil
}

// CheckBrief returns an error unless PutFor takes a value of that size for so
// long.
func CheckBrief(value []byte, ttl time.Duration) error {
	switch {
	case len(value) > MaxBrief:
		return fmt.Errorf("value of %d bytes with an end, more than %d: %w", len(value), MaxBrief, ErrTooLarge)
	case ttl <= 0:
		return fmt.Errorf("entry that ends in %v: it has to be later", ttl)
	}
	return nil
}

// CorruptError is the error of a read that met bytes which failed their check.
// It wraps ErrCorrupt. It carries the key so that a scan can be resumed just
// behind it, and the key be repaired.
type CorruptError struct {
	Key    []byte
	Reason string
}

func (e *CorruptError) Error() string { return ErrCorrupt.Error() + ": " + e.Reason }

// Unwrap makes errors.Is(err, ErrCorrupt) true.
func (e *CorruptError) Unwrap() error { return ErrCorrupt }

// KV is one entry of a scan. Its slices are valid until the next step of the
// scan and must be copied to be kept.
type KV struct {
	Key, Value []byte
}

// Reader reads at one moment of the store.
type Reader interface {
	// Get returns the value of key, owned by the caller. It returns
	// ErrNotFound, or an error that wraps ErrCorrupt.
	Get(key []byte) ([]byte, error)
	// Scan calls yield for the entries with lo <= key < hi in ascending key
	// order until yield returns false. A nil hi means "to the end". It stops
	// at the first entry that fails its check with a *CorruptError.
	Scan(lo, hi []byte, yield func(KV) bool) error
}

// Snapshot is a Reader that stays at the moment it was taken. Close it soon:
// it pins old versions.
type Snapshot interface {
	Reader
	Close()
}

// Txn is the one open write transaction. It reads its own writes. It is used
// by one goroutine.
type Txn interface {
	Get(key []byte) ([]byte, error)
	// Put, PutFor and Delete do not keep their arguments.
	Put(key, value []byte) error
	// PutFor is Put of an entry that is gone by itself after ttl, which must be
	// positive: not before, at most two seconds later, and by the clock of the
	// process that reads. Its value has at most MaxBrief bytes. Whatever writes
	// the key again decides anew how long that stays.
	PutFor(key, value []byte, ttl time.Duration) error
	Delete(key []byte) error
	// Commit makes the transaction durable; see S2. It ends the Txn whatever
	// it returns.
	Commit() error
	// Discard ends the Txn without effect. It does nothing after Commit.
	Discard()
}

// Engine is an ordered key-value store with one writer. Keys are 1..1200
// bytes; values up to 16 MiB (an engine that cannot hold that in one piece
// splits it out of sight).
type Engine interface {
	Reader
	Snapshot() Snapshot
	// Begin opens the write transaction; see S1. While one is open it returns
	// ErrBusy.
	Begin() (Txn, error)
	// Usage tells how full the engine's disk is.
	Usage() (Usage, error)
	// WriteBeside atomically and durably replaces a small file (<= 64 KiB)
	// that lives beside the store and does not share its fate: it is what
	// notices that the store lost its tail. Name is a plain file name.
	WriteBeside(name string, data []byte) error
	// ReadBeside returns ErrNotFound when there is no such file.
	ReadBeside(name string) ([]byte, error)
	Close() error
}

// MaxOp returns how many bytes of keys and values one op may write to e, with
// 64 bytes for each entry: MaxValue, or 85 % of what a transaction holds. That
// is what e says, if it has MaxTxn() int64, else 20 MiB.
//
// Who writes more finds out when a part is written already, and the committer
// stops for good.
func MaxOp(e Engine) int { return min(maxTxn(e)/100*85, MaxValue) }

func maxTxn(e Engine) int {
	if e, ok := e.(interface{ MaxTxn() int64 }); ok {
		return int(min(e.MaxTxn(), 1<<30))
	}
	return 20 << 20
}

// Usage of the disk below an engine, in bytes.
type Usage struct {
	// Store is what the engine itself occupies.
	Store int64
	// Free and Total are those of the file system.
	Free, Total int64
}
