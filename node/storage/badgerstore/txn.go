package badgerstore

import (
	"errors"
	"fmt"
	"time"

	"github.com/dgraph-io/badger/v4"

	"github.com/atolldb/atoll/node/storage"
)

// txn is the open transaction.
type txn struct {
	store  *Store
	tx     *badger.Txn
	pieces directory // changed by this transaction
	room   int64     // bytes left of what Badger takes in one transaction
	places int64     // entries left
	ended  bool
}

// entrySize is what Badger counts for an entry, or a little more.
func entrySize(key, sealed []byte) int64 { return int64(len(key) + len(sealed) + 16) }

// Begin implements storage.Engine.
func (s *Store) Begin() (storage.Txn, error) {
	if err := s.enter(); err != nil {
		return nil, err
	}
	defer s.gate.leave()
	if s.writing.Swap(true) {
		return nil, storage.ErrBusy
	}
	return &txn{
		store: s,
		// Everything written so far is durable, else the store had failed.
		tx:     s.db.NewTransactionAt(s.durable.Load(), true),
		pieces: make(directory),
		room:   s.MaxTxn(),
		places: s.db.MaxBatchCount() - 8,
	}, nil
}

// MaxTxn is the size of the largest transaction, in bytes of keys, values and
// about 21 bytes for each entry (a large value is several).
func (s *Store) MaxTxn() int64 { return s.db.MaxBatchSize() - 1024 }

func (t *txn) enter() error {
	if t.ended {
		return storage.ErrClosed
	}
	return t.store.enter()
}

func (t *txn) Get(key []byte) ([]byte, error) {
	if err := storage.CheckKey(key); err != nil {
		return nil, err
	}
	if err := t.enter(); err != nil {
		return nil, err
	}
	defer t.store.gate.leave()
	return get(t.tx, key)
}

// Put implements storage.Txn. It returns ErrTooLarge, and has written nothing,
// when the transaction would become larger than MaxTxn.
func (t *txn) Put(key, value []byte) error {
	if err := storage.CheckValue(value); err != nil {
		return err
	}
	return t.change(key, func(ik []byte) []*badger.Entry {
		if len(value) <= pieceSize {
			return []*badger.Entry{badger.NewEntry(ik, seal(kindPlain, ik, value))}
		}
		n := pieceCount(len(value))
		entries := make([]*badger.Entry, 0, n+2)
		for i := range n {
			pk := pieceKey(key, i)
			piece := value[i*pieceSize : min((i+1)*pieceSize, len(value))]
			entries = append(entries, badger.NewEntry(pk, seal(kindPiece, pk, piece)))
		}
		dk := inSpace(spaceDir, key)
		return append(entries,
			badger.NewEntry(ik, seal(kindPieces, ik, describe(value).encode())),
			badger.NewEntry(dk, seal(kindCount, dk, []byte{byte(n)})))
	}, pieceCountOf(value))
}

// PutFor implements storage.Txn. Badger counts whole seconds, so an entry may
// stay for up to two more.
func (t *txn) PutFor(key, value []byte, ttl time.Duration) error {
	if err := storage.CheckBrief(value, ttl); err != nil {
		return err
	}
	end := time.Now().Add(ttl + time.Second).Unix()
	return t.change(key, func(ik []byte) []*badger.Entry {
		e := badger.NewEntry(ik, seal(kindPlain, ik, value))
		e.ExpiresAt = uint64(end)
		return []*badger.Entry{e}
	}, 0)
}

func pieceCountOf(value []byte) int {
	if len(value) <= pieceSize {
		return 0
	}
	return pieceCount(len(value))
}

func (t *txn) Delete(key []byte) error {
	return t.change(key, nil, 0)
}

// change writes the entries that write makes of the caller's key, or deletes
// it if write is nil, and deletes the pieces of the old value from the n-th
// on.
func (t *txn) change(key []byte, write func(ik []byte) []*badger.Entry, n int) error {
	if err := storage.CheckKey(key); err != nil {
		return err
	}
	if err := t.enter(); err != nil {
		return err
	}
	defer t.store.gate.leave()

	ik := inSpace(spaceKey, key)
	var set []*badger.Entry
	var gone [][]byte
	if write != nil {
		set = write(ik)
	} else {
		gone = append(gone, ik)
	}
	old := t.piecesOf(key)
	for i := n; i < old; i++ {
		gone = append(gone, pieceKey(key, i))
	}
	if old > 0 && n == 0 {
		gone = append(gone, inSpace(spaceDir, key))
	}

	var need int64
	for _, e := range set {
		need += entrySize(e.Key, e.Value)
	}
	for _, k := range gone {
		need += entrySize(k, nil)
	}
	places := int64(len(set) + len(gone))
	if need > t.room || places > t.places {
		return fmt.Errorf("transaction of more than %d bytes or %d entries: %w",
			t.store.MaxTxn(), t.store.db.MaxBatchCount(), storage.ErrTooLarge)
	}
	t.room -= need
	t.places -= places

	for _, e := range set {
		if err := t.tx.SetEntry(e); err != nil {
			return t.broken(err)
		}
	}
	for _, k := range gone {
		if err := t.tx.Delete(k); err != nil {
			return t.broken(err)
		}
	}
	if old > 0 || n > 0 {
		t.pieces[string(key)] = n
	}
	return nil
}

func (t *txn) piecesOf(key []byte) int {
	if n, ok := t.pieces[string(key)]; ok {
		return n
	}
	return t.store.pieces[string(key)]
}

// broken fails the store: all that Badger refuses has been ruled out, and half
// a change must not be committed.
func (t *txn) broken(err error) error {
	t.store.fail(fmt.Errorf("write to transaction: %w", err))
	return t.store.Err()
}

func (t *txn) Commit() error {
	if err := t.enter(); err != nil {
		t.Discard()
		return err
	}
	defer t.store.gate.leave()
	defer t.end()
	s := t.store
	ts := s.durable.Load() + 1
	if err := t.tx.CommitAt(ts, nil); err != nil {
		if errors.Is(err, badger.ErrBlockedWrites) {
			err = errors.Join(err, storage.ErrClosed)
		}
		s.fail(fmt.Errorf("commit: %w", err))
		return s.Err()
	}
	// The failed sync of a value log is logged before CommitAt returns nil.
	if err := s.Err(); err != nil {
		return err
	}
	s.pieces.apply(t.pieces)
	s.durable.Store(ts)
	s.pins.advance(ts, time.Now())
	s.slow(s.logs.committed(s.MaxTxn() - t.room))
	return nil
}

func (t *txn) Discard() {
	if !t.ended {
		t.end()
	}
}

func (t *txn) end() {
	t.ended = true
	t.tx.Discard()
	t.store.writing.Store(false)
}
