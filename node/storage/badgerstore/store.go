package badgerstore

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/dgraph-io/badger/v4"

	"github.com/atolldb/atoll/internal/wholefile"
	"github.com/atolldb/atoll/node/storage"
)

// ErrInUse says that another process has the data directory open.
var ErrInUse = errors.New("in use by another process")

// Store is an open data directory.
type Store struct {
	cfg     Config
	db      *badger.DB
	gate    gate
	pins    pins
	durable atomic.Uint64 // timestamp of the last transaction that was synced

	failure  atomic.Pointer[error]
	failOnce sync.Once
	failed   chan struct{}

	writing atomic.Bool // a transaction is open
	pieces  directory   // of the open transaction; else of the next
	logs    logPages    // the same
}

var _ storage.Engine = (*Store)(nil)

// Open opens or creates the store in cfg.Dir. It returns an error that wraps
// ErrInUse when another process has it, or storage.ErrCorrupt when a table or
// the manifest is damaged or missing: such a store is set aside as a whole
// (Quarantine) and rebuilt from other owners, not repaired in place; or
// storage.ErrFull when the disk has no room for what opening writes. What is
// wrong around the store otherwise (permissions, limits, a format of another
// version) is any other error.
func Open(cfg Config) (*Store, error) {
	if err := cfg.Validate(); err != nil {
		return nil, err
	}
	cfg = cfg.withDefaults()
	for _, dir := range []string{cfg.lsmDir(), cfg.besideDir()} {
		if err := os.MkdirAll(dir, 0o750); err != nil {
			return nil, fmt.Errorf("create data directory: %w", err)
		}
	}
	if err := wholefile.SyncDir(cfg.Dir); err != nil {
		return nil, fmt.Errorf("sync data directory: %w", err)
	}
	switch err := removeLeftovers(cfg.lsmDir()); {
	case errors.Is(err, ErrInUse):
		return nil, fmt.Errorf("data directory %s is %w", cfg.Dir, ErrInUse)
	case err != nil:
		return nil, fmt.Errorf("remove leftovers: %w", err)
	}
	if err := roomToOpen(cfg.lsmDir()); err != nil {
		return nil, fmt.Errorf("open store in %s: %w", cfg.Dir, err)
	}
	s := &Store{cfg: cfg, failed: make(chan struct{})}
	options := cfg.badger(newBridge(cfg.Logger, s.fail))
	if err := checkFormat(cfg.lsmDir()); err != nil {
		return nil, fmt.Errorf("open store in %s: %w", cfg.Dir, err)
	}
	if err := verifyFiles(cfg.lsmDir(), options, !cfg.SkipVerify); err != nil {
		return nil, fmt.Errorf("open store in %s: %w", cfg.Dir, err)
	}
	db, err := badger.OpenManaged(options)
	if err != nil {
		return nil, openError(cfg.Dir, err)
	}
	if err := s.Err(); err != nil {
		// Badger left something out and went on without it.
		db.Close()
		return nil, fmt.Errorf("open store in %s: %w: %w", cfg.Dir, storage.ErrCorrupt, err)
	}
	if err := sealFormat(cfg.lsmDir()); err != nil {
		// The store is whole; the next open seals it.
		cfg.Logger.Warn("cannot write beside the manifest what its format is, damage there would look like another version's store", "error", err)
	}
	s.db = db
	s.gate.init()
	s.pins.open = make(map[uint64]int)
	s.pins.tell = db.SetDiscardTs
	s.durable.Store(db.MaxVersion())
	s.pins.advance(s.durable.Load(), time.Now())
	tx := db.NewTransactionAt(s.durable.Load(), false)
	defer tx.Discard()
	s.pieces = loadDirectory(tx)
	s.slow(s.logs.opened(cfg.lsmDir()))
	return s, nil
}

// slow tells that syncs may be slow because of err.
func (s *Store) slow(err error) {
	if err != nil {
		s.cfg.Logger.Warn("cannot tell the kernel how the log is written, syncs may write far more than they need to", "error", err)
	}
}

// openError reads Badger's error texts, which wrap nothing.
func openError(dir string, err error) error {
	switch {
	case strings.Contains(err.Error(), "Cannot acquire directory lock"):
		return fmt.Errorf("data directory %s is %w", dir, ErrInUse)
	case saysAny(err, damageTexts):
		return fmt.Errorf("open store in %s: %w: %w", dir, storage.ErrCorrupt, err)
	}
	return fmt.Errorf("open store in %s: %w", dir, err)
}

// damageTexts are what Badger says of damaged files, and of nothing else.
var damageTexts = []string{
	"checksum",
	"file does not exist for table",
	"invalid datakey id", // in the head of a log: we have no keys
}

// manifestIsDamaged reads the error texts of Badger's manifest. A version that
// is not ours is no damage, unless the seal says so (format.go): the store may
// be another program's.
func manifestIsDamaged(err error) bool {
	if read := (*fs.PathError)(nil); errors.As(err, &read) {
		return false // its text has the file's name
	}
	return saysAny(err, []string{"checksum", "bad magic", "might be corrupted", "proto", "manifest"}) &&
		!saysAny(err, []string{"unsupported version", "external magic"})
}

func saysAny(err error, texts []string) bool {
	said := strings.ToLower(err.Error())
	for _, text := range texts {
		if strings.Contains(said, text) {
			return true
		}
	}
	return false
}

// Failed is closed when the engine has failed; Err then tells why. The process
// is expected to end.
func (s *Store) Failed() <-chan struct{} { return s.failed }

// Err is nil, or wraps storage.ErrFailed.
func (s *Store) Err() error {
	if p := s.failure.Load(); p != nil {
		return *p
	}
	return nil
}

func (s *Store) fail(cause error) {
	s.failOnce.Do(func() {
		err := fmt.Errorf("%w: %w", storage.ErrFailed, cause)
		s.failure.Store(&err)
		close(s.failed)
	})
}

// enter begins a use of the database. Unless it returns an error, leave must
// follow.
func (s *Store) enter() error {
	if !s.gate.enter() {
		return storage.ErrClosed
	}
	if err := s.Err(); err != nil {
		s.gate.leave()
		return err
	}
	return nil
}

// Get implements storage.Reader.
func (s *Store) Get(key []byte) (value []byte, err error) {
	if err := storage.CheckKey(key); err != nil {
		return nil, err
	}
	if err := s.enter(); err != nil {
		return nil, err
	}
	defer s.gate.leave()
	s.steady(func(ts uint64) { value, err = s.getAt(ts, key) })
	return value, err
}

// steady calls read with the timestamp of what is durable, and again if what
// is visible there may have been dropped during the read (P2).
func (s *Store) steady(read func(ts uint64)) {
	for {
		ts := s.durable.Load()
		read(ts)
		if s.pins.discard.Load() <= ts {
			return
		}
	}
}

func (s *Store) getAt(ts uint64, key []byte) ([]byte, error) {
	tx := s.db.NewTransactionAt(ts, false)
	defer tx.Discard()
	return get(tx, key)
}

func get(tx *badger.Txn, key []byte) (value []byte, err error) {
	ik := inSpace(spaceKey, key)
	item, err := tx.Get(ik)
	switch {
	case errors.Is(err, badger.ErrKeyNotFound):
		return nil, storage.ErrNotFound
	case err != nil:
		return nil, readError(ik, err)
	}
	err = item.Value(func(sealed []byte) error {
		value, err = content(tx, key, ik, sealed)
		if err == nil && len(value) <= pieceSize {
			value = append([]byte{}, value...) // it is Badger's
		}
		return err
	})
	return value, err
}

// content returns the value of key: a part of sealed, or, if it is larger than
// a piece, a slice of its own.
func content(tx *badger.Txn, key, ik, sealed []byte) ([]byte, error) {
	k, payload, err := unseal(ik, sealed)
	if err != nil {
		return nil, err
	}
	switch k {
	case kindPlain:
		return payload, nil
	case kindPieces:
		return assemble(tx, key, payload)
	}
	return nil, corrupt(ik, "entry is of an unknown kind")
}

// readError is for errors of Badger other than "not found": bytes that could
// not be read.
func readError(ik []byte, err error) error {
	if errors.Is(err, badger.ErrDBClosed) {
		return storage.ErrClosed
	}
	// Badger's text quotes the key, which must not reach a log.
	return corrupt(ik, "entry cannot be read")
}

// Scan implements storage.Reader: over the state at its beginning.
func (s *Store) Scan(lo, hi []byte, yield func(storage.KV) bool) error {
	if err := s.enter(); err != nil {
		return err
	}
	defer s.gate.leave()
	ts := s.pins.pin(&s.durable)
	defer s.pins.unpin(ts)
	return s.scanAt(ts, lo, hi, yield)
}

func (s *Store) scanAt(ts uint64, lo, hi []byte, yield func(storage.KV) bool) error {
	if hi != nil && bytes.Compare(lo, hi) >= 0 {
		return nil
	}
	tx := s.db.NewTransactionAt(ts, false)
	defer tx.Discard()
	it := tx.NewIterator(badger.IteratorOptions{Prefix: inSpace(spaceKey, commonPrefix(lo, hi))})
	defer it.Close()
	for it.Seek(inSpace(spaceKey, lo)); it.Valid(); it.Next() {
		ik := it.Item().Key()
		key := ik[1:]
		if hi != nil && bytes.Compare(key, hi) >= 0 {
			return nil
		}
		more := true
		err := it.Item().Value(func(sealed []byte) error {
			value, err := content(tx, key, ik, sealed)
			if err == nil {
				more = yield(storage.KV{Key: key, Value: value})
			}
			return err
		})
		if err != nil || !more {
			return err
		}
	}
	return nil
}

// commonPrefix of all keys from lo to hi: it spares Badger the tables that
// cannot have any.
func commonPrefix(lo, hi []byte) []byte {
	n := 0
	for n < len(lo) && n < len(hi) && lo[n] == hi[n] {
		n++
	}
	return lo[:n]
}

// Snapshot implements storage.Engine.
func (s *Store) Snapshot() storage.Snapshot {
	return &snapshot{store: s, ts: s.pins.pin(&s.durable)}
}

type snapshot struct {
	store *Store
	ts    uint64
	ended atomic.Bool
}

func (n *snapshot) enter() error {
	if n.ended.Load() {
		return storage.ErrClosed
	}
	return n.store.enter()
}

func (n *snapshot) Get(key []byte) ([]byte, error) {
	if err := storage.CheckKey(key); err != nil {
		return nil, err
	}
	if err := n.enter(); err != nil {
		return nil, err
	}
	defer n.store.gate.leave()
	return n.store.getAt(n.ts, key)
}

func (n *snapshot) Scan(lo, hi []byte, yield func(storage.KV) bool) error {
	if err := n.enter(); err != nil {
		return err
	}
	defer n.store.gate.leave()
	return n.store.scanAt(n.ts, lo, hi, yield)
}

func (n *snapshot) Close() {
	if !n.ended.Swap(true) {
		n.store.pins.unpin(n.ts)
	}
}

// Verify reads every table and checks its block checksums: a scrub of what was
// opened with a good file that went bad since. It takes about as long as
// reading the store from the disk.
func (s *Store) Verify() error {
	if err := s.enter(); err != nil {
		return err
	}
	defer s.gate.leave()
	if err := s.db.VerifyChecksum(); err != nil {
		return fmt.Errorf("verify tables: %w: %w", storage.ErrCorrupt, err)
	}
	return nil
}

// Close implements storage.Engine. It waits for the calls under way. A failed
// store is left as it is, with its files and goroutines, for the end of the
// process: closing it would write, and wait for a disk that no longer takes
// anything. Close then returns the failure.
func (s *Store) Close() error {
	if !s.gate.close() {
		return nil
	}
	if err := s.Err(); err != nil {
		return err
	}
	if err := s.db.Close(); err != nil {
		return fmt.Errorf("close store in %s: %w", s.cfg.Dir, err)
	}
	return nil
}
