package hint

import (
	"fmt"

	"github.com/atolldb/atoll/crdt"
	"github.com/atolldb/atoll/crdt/hlc"
	"github.com/atolldb/atoll/hashring"
)

// Waiting reports whether a hint for a key that in selects has a version stamped
// at or below floor. It reads the hints, of which there are mostly none; one that
// is unreadable counts as such a one.
func (h *Hints) Waiting(in func(keyHash uint64) bool, floor hlc.Stamp) (bool, error) {
	if len(h.Owed()) == 0 {
		return false, nil
	}
	waiting := false
	unreadable, err := scan(h.deps.Engine, []byte{space}, []byte{space + 1}, func(key, value []byte) (bool, error) {
		_, full, err := splitKey(key)
		if err != nil {
			return true, err
		}
		keyHash := hashring.KeyHash(full)
		if !in(keyHash) {
			return true, nil
		}
		k, err := decodeKept(value)
		if err != nil {
			return true, err
		}
		rec, err := crdt.DecodeRecord(keyHash, k.entry.Record)
		if err != nil {
			return true, err
		}
		for i := range rec.Versions {
			waiting = waiting || rec.Versions[i].Stamp <= floor
		}
		return !waiting, nil
	})
	if err != nil {
		return false, fmt.Errorf("look for old hints: %w", err)
	}
	return waiting || unreadable > 0, nil
}
