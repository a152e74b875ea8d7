package badgerstore

import (
	"errors"
	"fmt"
	"path/filepath"

	"github.com/dgraph-io/badger/v4"
	"github.com/dgraph-io/badger/v4/options"
	"github.com/hashicorp/go-hclog"
)

// Config of a Store. Zero fields take the defaults named.
type Config struct {
	// Dir is the data directory; it is created. One store, one disk.
	Dir string
	// MemTableSize in bytes: 128 MiB, at least 8 MiB. It bounds a transaction:
	// 15 % of it (19.2 MiB by default, enough for one value of 16 MiB and
	// 3 MiB around it); a Put beyond that is refused with ErrTooLarge. Larger
	// memtables mean fewer, larger flushes; up to four of them are in memory
	// under load, and four of them is what the disk watermark keeps free.
	MemTableSize int64
	// BlockCache in bytes: 64 MiB. Hot blocks, uncompressed; a quarter of the
	// memory that the process may use is a good value.
	BlockCache int64
	// SkipVerify leaves out the reading of every table when it is opened. It
	// makes the start of a very large store faster, at the price that a bad
	// block can hide its keys. Values are checked on every read either way.
	SkipVerify bool
	// Logger gets Badger's log lines; nil for none.
	Logger hclog.Logger
}

const (
	defaultMemTable   = 128 << 20
	minMemTable       = 8 << 20
	defaultBlockCache = 64 << 20
	// formatVersion is stored by Badger and compared at open.
	formatVersion = 0xA701
)

func (c Config) withDefaults() Config {
	if c.MemTableSize == 0 {
		c.MemTableSize = defaultMemTable
	}
	if c.BlockCache == 0 {
		c.BlockCache = defaultBlockCache
	}
	if c.Logger == nil {
		c.Logger = hclog.NewNullLogger()
	}
	return c
}

// Validate reports all problems at once.
func (c Config) Validate() error {
	c = c.withDefaults()
	var problems []error
	if c.Dir == "" {
		problems = append(problems, errors.New("no data directory given"))
	}
	if c.MemTableSize < minMemTable || c.MemTableSize > 1<<30 {
		problems = append(problems, fmt.Errorf("memtable size of %d bytes, not %d..%d", c.MemTableSize, minMemTable, 1<<30))
	}
	if c.BlockCache < 1<<20 {
		problems = append(problems, fmt.Errorf("block cache of %d bytes, less than 1 MiB", c.BlockCache))
	}
	return errors.Join(problems...)
}

func (c Config) lsmDir() string    { return filepath.Join(c.Dir, "lsm") }
func (c Config) besideDir() string { return filepath.Join(c.Dir, "beside") }

// badger returns the options, each that differs from the default for a reason
// told in the package documentation or measured on v4.9.6.
func (c Config) badger(logger badger.Logger) badger.Options {
	o := badger.DefaultOptions(c.lsmDir())
	o.Logger = logger
	o.SyncWrites = true
	o.DetectConflicts = false // one writer
	o.NumVersionsToKeep = 1
	o.MemTableSize = c.MemTableSize
	o.NumMemtables = 3
	o.NumCompactors = 2
	o.ValueThreshold = 1 << 20 // above the largest piece: nothing goes to the value log
	o.ValueLogFileSize = 16 << 20
	o.Compression = options.Snappy
	o.BlockCacheSize = c.BlockCache
	o.MetricsEnabled = true
	o.ChecksumVerificationMode = options.NoVerification // see verify.go
	o.ExternalMagicVersion = formatVersion
	return o
}
