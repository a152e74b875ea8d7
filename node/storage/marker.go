package storage

import (
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"slices"
)

// Group markers are how a store notices that it silently lost something. An
// engine whose log was damaged may come up as if nothing had happened, short
// of thousands of synced transactions. So every group that the committer
// commits writes, in its own transaction, its number n into a ring of
// MarkerSlots slots:
//
//	key    MarkerPrefix, n mod MarkerSlots (4 bytes, big endian)
//	value  n, base (8 bytes each, big endian)
//
// base is the first number of the era: numbers start at 1, and after a loss
// that was acknowledged they start again above everything ever seen, with a
// new base. Below base nothing is expected.
//
// A side file, which does not share the store's fate, holds the highest number
// that was synced about a second ago:
//
//	"AGS1", n (8 bytes, big endian), CRC-32C of the 12 bytes before (4 bytes)
//
// At start all numbers from max(base, highest-MarkerSlots+1) to the highest
// must be there, and the highest must not be below the side file's. What this
// cannot see: a tail of the last Interval, and anything older than the last
// MarkerSlots groups.

const (
	// MarkerPrefix is the first byte of every key that belongs to the
	// committer.
	MarkerPrefix = 'g'
	// MarkerSlots is the length of the ring, in groups.
	MarkerSlots = 1 << 18

	sideName  = "groups"
	sideMagic = "AGS1"
)

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// ring is the place in the numbering: the last group committed and the first
// of its era.
type ring struct {
	last, base uint64
}

func (r ring) next() ring { return ring{r.last + 1, r.base} }

func (r ring) key() []byte {
	return binary.BigEndian.AppendUint32([]byte{MarkerPrefix}, uint32(r.last%MarkerSlots))
}

func (r ring) value() []byte {
	return binary.BigEndian.AppendUint64(binary.BigEndian.AppendUint64(nil, r.last), r.base)
}

// decodeMarker returns false for an entry that no committer can have written.
func decodeMarker(key, value []byte) (ring, bool) {
	if len(key) != 5 || key[0] != MarkerPrefix || len(value) != 16 {
		return ring{}, false
	}
	r := ring{binary.BigEndian.Uint64(value), binary.BigEndian.Uint64(value[8:])}
	ok := r.base > 0 && r.base <= r.last && r.last%MarkerSlots == uint64(binary.BigEndian.Uint32(key[1:]))
	return r, ok
}

func encodeSide(n uint64) []byte {
	b := binary.BigEndian.AppendUint64([]byte(sideMagic), n)
	return binary.BigEndian.AppendUint32(b, crc32.Checksum(b, castagnoli))
}

func decodeSide(b []byte) (n uint64, ok bool) {
	if len(b) != 16 || string(b[:4]) != sideMagic ||
		crc32.Checksum(b[:12], castagnoli) != binary.BigEndian.Uint32(b[12:]) {
		return 0, false
	}
	return binary.BigEndian.Uint64(b[4:]), true
}

// MarkerReport is what CheckMarkers found.
type MarkerReport struct {
	// Highest is the highest group number in the store, 0 for none, and Base
	// the first of its era.
	Highest, Base uint64
	// Side is the number in the side file, 0 for none.
	Side uint64
	// SideMissing says that the store has markers but no side file beside it,
	// and SideCorrupt that it is unreadable. Both mean that nothing is known
	// about the tail.
	SideMissing, SideCorrupt bool
	// Missing counts the groups that are not there though a later one is, and
	// FirstMissing is the lowest of them.
	Missing, FirstMissing uint64
	// Corrupt counts markers that failed their check.
	Corrupt uint64
}

// Fresh says that no committer has ever run here.
func (r MarkerReport) Fresh() bool { return r == MarkerReport{} }

// Tail counts the groups at the end that are known to be lost.
func (r MarkerReport) Tail() uint64 { return max(r.Side, r.Highest) - r.Highest }

// Lost says that the store has lost something, or can no longer prove that it
// has not. Its node must not mint as the same actor again.
func (r MarkerReport) Lost() bool {
	return r.Missing > 0 || r.Tail() > 0 || r.Corrupt > 0 || r.SideMissing || r.SideCorrupt
}

func (r MarkerReport) String() string {
	if !r.Lost() {
		return fmt.Sprintf("groups complete up to %d", r.Highest)
	}
	return fmt.Sprintf("groups up to %d, side file %d (missing %t, corrupt %t): %d lost from %d on, %d at the end, %d markers corrupt",
		r.Highest, r.Side, r.SideMissing, r.SideCorrupt, r.Missing, r.FirstMissing, r.Tail(), r.Corrupt)
}

// ring is where a committer goes on: in the same era if nothing was lost, else
// in a new one.
func (r MarkerReport) ring() ring {
	last := max(r.Highest, r.Side)
	if r.Lost() || r.Highest == 0 {
		return ring{last, last + 1}
	}
	return ring{last, r.Base}
}

// CheckMarkers reads the group markers and the side file of an engine that has
// no committer running. A loss is told by the report; an error means that the
// store could not be read at all. It takes one scan of at most MarkerSlots
// small entries (half a second on disk when the ring is full).
func CheckMarkers(e Engine) (MarkerReport, error) {
	var report MarkerReport
	numbers, top, corrupt, err := readMarkers(e)
	if err != nil {
		return report, fmt.Errorf("scan group markers: %w", err)
	}
	report.Highest, report.Base, report.Corrupt = top.last, top.base, corrupt

	side, err := e.ReadBeside(sideName)
	switch {
	case errors.Is(err, ErrNotFound):
		report.SideMissing = top.last > 0 || corrupt > 0
	case err != nil:
		return report, fmt.Errorf("read side file of group markers: %w", err)
	default:
		n, ok := decodeSide(side)
		report.Side, report.SideCorrupt = n, !ok
	}

	if top.last == 0 {
		return report, nil
	}
	first := top.base
	if top.last >= MarkerSlots {
		first = max(first, top.last-MarkerSlots+1)
	}
	for n := first; n <= top.last; n++ {
		if slot := n % MarkerSlots; slot >= uint64(len(numbers)) || numbers[slot] != n {
			if report.Missing == 0 {
				report.FirstMissing = n
			}
			report.Missing++
		}
	}
	return report, nil
}

// readMarkers returns the number in each slot up to the last one in use, the
// highest marker, and how many entries are no markers.
func readMarkers(e Reader) (numbers []uint64, top ring, corrupt uint64, err error) {
	err = scanMarkers(e, func(_ []byte, r ring, ok bool) {
		if !ok {
			corrupt++
			return
		}
		slot := r.last % MarkerSlots
		for uint64(len(numbers)) <= slot {
			numbers = append(numbers, 0)
		}
		numbers[slot] = r.last
		if r.last > top.last {
			top = r
		}
	})
	return numbers, top, corrupt, err
}

// scanMarkers visits every entry of the ring, also those that fail their
// check: with ok false.
func scanMarkers(e Reader, visit func(key []byte, r ring, ok bool)) error {
	lo, hi := []byte{MarkerPrefix}, []byte{MarkerPrefix + 1}
	for {
		err := e.Scan(lo, hi, func(kv KV) bool {
			r, ok := decodeMarker(kv.Key, kv.Value)
			visit(kv.Key, r, ok)
			return true
		})
		var bad *CorruptError
		if !errors.As(err, &bad) {
			return err
		}
		visit(bad.Key, ring{}, false)
		lo = append(append([]byte(nil), bad.Key...), 0)
	}
}

// dropCorruptMarkers removes what the next CheckMarkers would take for a new
// loss, some thousand a transaction.
func dropCorruptMarkers(e Engine) error {
	var keys [][]byte
	err := scanMarkers(e, func(key []byte, _ ring, ok bool) {
		if !ok {
			keys = append(keys, append([]byte(nil), key...))
		}
	})
	if err != nil {
		return err
	}
	for some := range slices.Chunk(keys, 4096) {
		tx, err := e.Begin()
		if err != nil {
			return err
		}
		for _, key := range some {
			if err := tx.Delete(key); err != nil {
				tx.Discard()
				return err
			}
		}
		if err := tx.Commit(); err != nil {
			return err
		}
	}
	return nil
}
