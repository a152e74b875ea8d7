package geo

import (
	"time"

	"github.com/atolldb/atoll/crdt"
	"github.com/atolldb/atoll/hashring"
)

// What is written now crosses at once, as fast as it is written: to hold it up would
// only make it late. What is late already, after a cut or when nobody pulled for a
// while, may be far more than both regions can move without their clients feeling
// it. So pump and drain ask before they go on with what is late, and only then.
//
// How old something is, is told by the stamps of its records, not by the log: what
// the pump held back is young there.

const (
	// LateAfter is how old a record is, by its newest version, that counts as late.
	// It is far above what clocks of regions may differ by, and above the time in
	// which a link is taken for dead.
	LateAfter = 3 * time.Second
	// lateSample is how many records of a batch are looked at.
	lateSample = 4
)

// late reports whether one of a sample of entries is. Entries without a record, or
// with one that does not decode, tell nothing.
func late(now time.Time, entries []Entry) bool {
	step := max(1, (len(entries)+lateSample-1)/lateSample)
	for i := 0; i < len(entries); i += step {
		e := &entries[i]
		if len(e.Record) == 0 {
			continue
		}
		r, err := crdt.DecodeRecord(hashring.KeyHash(e.Key), e.Record)
		if err != nil || len(r.Versions) == 0 {
			continue
		}
		if now.Sub(r.MaxStamp().Time()) > LateAfter {
			return true
		}
	}
	return false
}
