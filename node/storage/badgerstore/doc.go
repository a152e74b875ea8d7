// Package badgerstore is the disk engine: storage.Engine on Badger v4.
//
// Badger runs in managed mode. There is one write transaction at a time, and
// its commit timestamp is one above the last one; Badger syncs once per
// transaction (SyncWrites). Reads are made at the timestamp of the last
// transaction whose Commit has returned, never at "now", because Badger shows
// a write as soon as it is in the memtable (S4). Old versions are dropped by
// compaction up to the discard timestamp, which pins.go keeps below every open
// snapshot.
//
// What Badger is not trusted with, each for a measured reason:
//
//   - Integrity. Its value-log reads return an empty value without an error
//     where they fail, and its block checksums, when checked on read, turn a
//     bad block into "not found", which the next compaction makes permanent.
//     So every entry carries a CRC-32C over its key and value (seal.go), tables
//     are verified before Badger opens them (verify.go: on some damage it ends
//     the process), and nothing goes to the value log: values over 512 KiB are
//     split into pieces (pieces.go).
//   - Its manifest's version, which no checksum covers: a seal beside it tells
//     damage from a store of another version (format.go).
//   - Errors of background work. A failed sync of the value log, a failed
//     flush or compaction are only logged; the log bridge turns those lines
//     into the failure of the engine (log.go).
//   - How its logs are mapped. On file systems with large folios each sync would
//     write up to 2 MiB; the kernel is advised of every new log (logpages.go).
//   - A lost tail of its log. Badger truncates a damaged log without a word;
//     the group markers of package storage notice.
//
// What this cannot notice: a table whose file goes bad after it was opened. A
// value is still caught by its CRC, but a block that no longer decodes hides
// its keys until the table is opened again. Digests compared with other owners
// find that.
//
// Badger ends the process by itself (log.Fatal, panic, SIGBUS) on broken
// invariants and on a full disk. That is in the spirit of S6.
//
// Directory layout: Dir/lsm is Badger's, with its LOCK; Dir/beside holds the
// files of WriteBeside; Dir/ballast is the ballast (ballast.go).
//
// Goroutines are Badger's own; Close ends them.
package badgerstore
