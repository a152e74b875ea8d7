package badgerstore

import (
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"os"
	"path/filepath"

	"github.com/atolldb/atoll/internal/wholefile"
	"github.com/atolldb/atoll/node/storage"
)

// Badger's manifest begins with its head:
//
//	"Bdgr"    4 bytes
//	2 bytes   formatVersion, big endian
//	2 bytes   Badger's own format, big endian
//
// No checksum covers it, so by itself a store of another version looks like one
// whose head is damaged. The first must be left alone, and the second set aside.
// Therefore there is a seal beside the manifest, which says what head its last
// writer gave it:
//
//	"AtollFmt"  8 bytes
//	head        8 bytes
//	crc         4 bytes, little endian: CRC-32C over all before it
//
// A head that is not the sealed one is damaged. For that to stay true a program
// that changes the head of a store must seal the new one, synced, before: who
// finds a store in between has a seal of another version, and leaves it alone.
// A store without a readable seal is not judged by it, and gets one when it is
// opened.
const (
	badgerFormat = 8
	sealName     = "FORMAT"
	formatMagic  = "AtollFmt"
	headSize     = 8
	formatLength = len(formatMagic) + headSize + 4
)

// head is what a manifest begins with.
type head [headSize]byte

func (h head) String() string {
	return fmt.Sprintf("%q, format %x of Badger's %d", h[:4], binary.BigEndian.Uint16(h[4:]), binary.BigEndian.Uint16(h[6:]))
}

// ours is the head that this program writes, with the Badger that it has.
var ours = head{'B', 'd', 'g', 'r', formatVersion >> 8, formatVersion & 0xff, 0, badgerFormat}

func encodeFormat(h head) []byte {
	b := append([]byte(formatMagic), h[:]...)
	return binary.LittleEndian.AppendUint32(b, crc32.Checksum(b, castagnoli))
}

func decodeFormat(b []byte) (h head, ok bool) {
	end := formatLength - 4
	if len(b) != formatLength || string(b[:len(formatMagic)]) != formatMagic ||
		binary.LittleEndian.Uint32(b[end:]) != crc32.Checksum(b[:end], castagnoli) {
		return h, false
	}
	copy(h[:], b[len(formatMagic):])
	return h, true
}

// readHead returns the head of the manifest in dir; ok is false if there is no
// manifest, or one that is too short.
func readHead(dir string) (h head, ok bool, err error) {
	f, err := os.Open(filepath.Join(dir, manifestName))
	if errors.Is(err, os.ErrNotExist) {
		return h, false, nil
	}
	if err != nil {
		return h, false, err
	}
	defer f.Close()
	switch _, err := io.ReadFull(f, h[:]); {
	case errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF):
		return h, false, nil
	case err != nil:
		return h, false, fmt.Errorf("read head of manifest: %w", err)
	}
	return h, true, nil
}

// readSeal returns the sealed head; ok is false if there is no readable seal.
func readSeal(dir string) (h head, ok bool, err error) {
	b, err := os.ReadFile(filepath.Join(dir, sealName))
	if errors.Is(err, os.ErrNotExist) {
		return h, false, nil
	}
	if err != nil {
		return h, false, err
	}
	h, ok = decodeFormat(b)
	return h, ok, nil
}

// checkFormat compares the manifest's head with the sealed one. It returns an
// error that wraps storage.ErrCorrupt if the head is damaged, and any other if
// the seal is of another version.
func checkFormat(dir string) error {
	is, there, err := readHead(dir)
	if err != nil || !there {
		return err // of what is not there verifyFiles knows what to think
	}
	was, sealed, err := readSeal(dir)
	switch {
	case err != nil:
		return fmt.Errorf("read seal of the format: %w", err)
	case !sealed || is == was:
		return nil
	case was != ours:
		return fmt.Errorf("the store is of another version: its manifest says %v, and was sealed as %v", is, was)
	}
	return fmt.Errorf("%w: the manifest's head is %v, and was sealed as %v", storage.ErrCorrupt, is, was)
}

// sealFormat seals the head of a store that was opened, unless it is sealed.
func sealFormat(dir string) error {
	is, there, err := readHead(dir)
	if err != nil || !there {
		return err
	}
	was, sealed, err := readSeal(dir)
	if err == nil && sealed && is == was {
		return nil
	}
	if err := wholefile.Replace(filepath.Join(dir, sealName), encodeFormat(is)); err != nil {
		return fmt.Errorf("seal format: %w", err)
	}
	return nil
}
