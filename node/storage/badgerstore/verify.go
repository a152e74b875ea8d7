package badgerstore

import (
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"os"
	"path/filepath"
	"sync"

	"github.com/dgraph-io/badger/v4"
	"github.com/dgraph-io/badger/v4/fb"
	"github.com/dgraph-io/badger/v4/table"
	"github.com/klauspost/compress/snappy"

	"github.com/atolldb/atoll/node/storage"
)

// Badger's tables are checked here and not by Badger, since it checks them on
// goroutines of its own, where damage at the end of a file is a panic, which
// nobody can recover from, or a length that no memory is large enough for.
//
// A table is blocks, one behind the other, and
//
//	index     a flatbuffer: where the blocks are
//	4 bytes   its length
//	checksum  a protobuf: algorithm and sum over the index
//	4 bytes   its length
//
// A block, once decompressed, ends with its checksum and that one's length, in
// the same way. Numbers are big-endian.

const (
	manifestName = "MANIFEST"
	// verifiers read tables at once.
	verifiers = 3
	// maxIndex and maxBlock bound what damaged lengths can make us allocate.
	maxIndex = 1 << 30
	maxBlock = 64 << 20
)

// verifyFiles returns an error that wraps storage.ErrCorrupt if the tables that
// the manifest names are not all there and whole; blocks says whether to read
// them, too. It takes about as long as reading them.
func verifyFiles(dir string, o badger.Options, blocks bool) error {
	f, err := os.Open(filepath.Join(dir, manifestName))
	if errors.Is(err, os.ErrNotExist) {
		tables, err := filepath.Glob(filepath.Join(dir, "*.sst"))
		if err == nil && len(tables) > 0 {
			// Badger would begin a new one, and delete the tables.
			err = fmt.Errorf("%w: there are tables but no manifest", storage.ErrCorrupt)
		}
		return err
	}
	if err != nil {
		return err
	}
	defer f.Close()
	m, _, err := badger.ReplayManifestFile(f, formatVersion, o)
	if err != nil {
		if manifestIsDamaged(err) {
			err = fmt.Errorf("%w: %w", storage.ErrCorrupt, err)
		}
		return fmt.Errorf("read manifest: %w", err)
	}
	ids := make(chan uint64)
	errs := make([]error, verifiers)
	var workers sync.WaitGroup
	for i := range verifiers {
		workers.Go(func() {
			for id := range ids {
				if errs[i] == nil {
					errs[i] = verifyTable(table.NewFilename(id, dir), blocks)
				}
			}
		})
	}
	for id := range m.Tables {
		ids <- id
	}
	close(ids)
	workers.Wait()
	return errors.Join(errs...)
}

// verifyTable checks one table.
func verifyTable(name string, blocks bool) (err error) {
	f, err := os.Open(name)
	if errors.Is(err, os.ErrNotExist) {
		return fmt.Errorf("%w: table %s is missing", storage.ErrCorrupt, filepath.Base(name))
	}
	if err != nil {
		return err
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return err
	}
	bad := badTable("")
	switch err := checkTable(f, info.Size(), blocks); {
	case errors.As(err, &bad):
		return fmt.Errorf("%w: table %s: %s", storage.ErrCorrupt, filepath.Base(name), string(bad))
	case err != nil:
		return fmt.Errorf("read table %s: %w", filepath.Base(name), err)
	}
	return nil
}

// badTable says what is wrong with a table. Other errors are those of reading.
type badTable string

func (b badTable) Error() string { return string(b) }

func checkTable(f io.ReaderAt, size int64, blocks bool) error {
	index, end, err := tail(f, size)
	if err != nil {
		return err
	}
	if !blocks {
		return nil
	}
	t := fb.GetRootAsTableIndex(index, 0)
	var raw, plain []byte
	var at fb.BlockOffset
	for i := range t.OffsetsLength() {
		if !t.Offsets(&at, i) {
			return badTable("index has no such block")
		}
		from, n := int64(at.Offset()), int64(at.Len())
		if n > maxBlock || from+n > end {
			return badTable("a block lies outside of the table")
		}
		if int64(cap(raw)) < n {
			raw = make([]byte, n)
		}
		raw = raw[:n]
		if _, err := f.ReadAt(raw, from); err != nil {
			return err
		}
		if plain, err = checkBlock(raw, plain); err != nil {
			return err
		}
	}
	return nil
}

// tail returns the index of a table of that size, whose checksum is right, and
// where it begins.
func tail(f io.ReaderAt, size int64) (index []byte, begin int64, err error) {
	at := size
	take := func(n, limit int64) []byte {
		if err != nil {
			return nil
		}
		if at -= n; n > limit || at < 0 {
			err = badTable("its end is damaged")
			return nil
		}
		b := make([]byte, n)
		_, err = f.ReadAt(b, at)
		return b
	}
	number := func() int64 {
		b := take(4, 4)
		if err != nil {
			return 0
		}
		return int64(binary.BigEndian.Uint32(b))
	}
	sum := take(number(), 64)
	index = take(number(), maxIndex)
	if err != nil {
		return nil, 0, err
	}
	if !sumIs(index, sum) || len(index) < 8 {
		return nil, 0, badTable("checksum of the index differs")
	}
	return index, at, nil
}

// checkBlock decompresses a block into plain, which it returns, and checks it.
func checkBlock(raw, plain []byte) ([]byte, error) {
	const damaged = badTable("checksum of a block differs")
	n, err := snappy.DecodedLen(raw)
	if err != nil || n > maxBlock {
		return plain, damaged
	}
	if cap(plain) < n {
		plain = make([]byte, n)
	}
	plain, err = snappy.Decode(plain[:cap(plain)], raw)
	if err != nil || len(plain) < 4 {
		return plain, damaged
	}
	end := len(plain) - 4
	length := int64(binary.BigEndian.Uint32(plain[end:]))
	if length > int64(end) || !sumIs(plain[:end-int(length)], plain[end-int(length):end]) {
		return plain, damaged
	}
	return plain, nil
}

// sumIs reports whether data has the encoded checksum: a protobuf with the
// algorithm in field 1, which is left out for CRC-32C, and the sum in field 2,
// left out if it is 0. Both are uvarints.
func sumIs(data, encoded []byte) bool {
	const sumField = 2 << 3
	want := uint64(0)
	if len(encoded) > 0 {
		n := 0
		want, n = binary.Uvarint(encoded[1:])
		if encoded[0] != sumField || n != len(encoded)-1 {
			return false
		}
	}
	return want == uint64(crc32.Checksum(data, castagnoli))
}
