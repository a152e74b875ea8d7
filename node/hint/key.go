package hint

import (
	"encoding/binary"
	"fmt"
	"slices"

	"github.com/atolldb/atoll/crdt"
	"github.com/atolldb/atoll/node/topology"
	"github.com/atolldb/atoll/node/wire"
)

// The hints of a node are in its store under
//
//	'h' length of owner(1) owner key-hash(8) full-key
//
// so those for one owner are a range, in the order of the owner's own store,
// and a key has at most one hint for each owner: the join of all. The value is
//
//	1(1) when the oldest came, in ms since 1970(8) the entry as an Apply
//
// with numbers big-endian. The leading 1 is the version of the format.
const (
	space   = 'h'
	version = 1
	head    = 1 + 8 // bytes of a value before the entry
)

func ownerPrefix(owner topology.NodeID) []byte {
	b := make([]byte, 0, 2+len(owner)+8+128)
	b = append(b, space, byte(len(owner)))
	return append(b, owner...)
}

// ownerEnd is behind all hints of an owner, and before those of any other that
// comes after it: an id never ends in 0xff.
func ownerEnd(owner topology.NodeID) []byte {
	end := ownerPrefix(owner)
	end[len(end)-1]++
	return end
}

func hintKey(owner topology.NodeID, keyHash uint64, full []byte) []byte {
	return append(binary.BigEndian.AppendUint64(ownerPrefix(owner), keyHash), full...)
}

// splitKey undoes hintKey.
func splitKey(k []byte) (owner topology.NodeID, full []byte, err error) {
	if len(k) < 2 || k[0] != space || len(k) < 2+int(k[1])+8 {
		return "", nil, fmt.Errorf("key of a hint: %w", wire.ErrMalformed)
	}
	n := 2 + int(k[1])
	return topology.NodeID(k[2:n]), k[n+8:], nil
}

// kept is one hint in the store.
type kept struct {
	since int64 // ms since 1970
	entry wire.Entry
}

func appendKept(dst []byte, k *kept) []byte {
	dst = append(dst, version)
	dst = binary.BigEndian.AppendUint64(dst, uint64(k.since))
	return wire.AppendApply(dst, wire.Apply{Entries: []wire.Entry{k.entry}})
}

// decodeKept aliases b.
func decodeKept(b []byte) (kept, error) {
	if len(b) < head || b[0] != version {
		return kept{}, fmt.Errorf("hint: %w", wire.ErrMalformed)
	}
	m, err := wire.DecodeApply(b[head:])
	if err != nil || len(m.Entries) != 1 {
		return kept{}, fmt.Errorf("hint: %w", wire.ErrMalformed)
	}
	return kept{since: int64(binary.BigEndian.Uint64(b[1:])), entry: m.Entries[0]}, nil
}

// maxDots bounds the dots that a hint remembers beyond those of its versions.
// The owner finds those left out when it compares clocks.
const maxDots = 256

// join adds in to what is kept of the same key.
func join(old kept, keyHash uint64, in wire.Entry) (kept, error) {
	a, err := crdt.DecodeRecord(keyHash, old.entry.Record)
	if err != nil {
		return kept{}, fmt.Errorf("hint: %w", err)
	}
	b, err := crdt.DecodeRecord(keyHash, in.Record)
	if err != nil {
		return kept{}, fmt.Errorf("%w: %w", wire.ErrMalformed, err)
	}
	both := crdt.Join(a, b)
	seen := map[crdt.Dot]bool{}
	for i := range both.Versions {
		seen[both.Versions[i].Dot] = true
	}
	var dots []crdt.Dot
	add := func(d crdt.Dot) {
		if !seen[d] && len(dots) < maxDots {
			seen[d] = true
			dots = append(dots, d)
		}
	}
	for _, d := range in.Dots {
		add(d)
	}
	for _, rec := range []crdt.Record{a, b} {
		for i := range rec.Versions {
			add(rec.Versions[i].Dot)
		}
	}
	for _, d := range old.entry.Dots {
		add(d)
	}
	entry := wire.Entry{Key: in.Key, Record: crdt.AppendRecord(nil, keyHash, both), Dots: dots}
	for _, id := range slices.Concat(in.IDs, old.entry.IDs) {
		delivered := both.Covers(id.Dot) || slices.Contains(dots, id.Dot)
		if delivered && !slices.Contains(entry.IDs, id) && len(entry.IDs) < maxDots {
			entry.IDs = append(entry.IDs, id)
		}
	}
	return kept{since: old.since, entry: entry}, nil
}
