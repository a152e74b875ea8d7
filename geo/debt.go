package geo

import (
	"math"
	"time"

	"github.com/atolldb/atoll/crdt"
	"github.com/atolldb/atoll/hashring"
)

const (
	// lateAfter is how old a write is that is caught up with, when it comes: a younger one
	// is on its way as always, and nobody holds it up.
	lateAfter = 2 * time.Second
	// debtLeast is how old it has to be for a debt to be spread over time: a shorter one is
	// over in some seconds, and paid off as fast as can be.
	debtLeast = 30 * time.Second
	// debtEnds is how long nothing late has come when a debt is over.
	debtEnds = 5 * time.Second
	// blindFor is how long a debt may be unknown: the heartbeats that tell of it come a
	// little later than the first batches.
	blindFor = 3 * time.Second
	// debtShare is in which part of the time in which a debt was run up it is to be paid
	// off. The goal is a third; some of it goes by before the first batches come, and while
	// work is held to learn what clients feel without it.
	debtShare = .25
	// debtHaste bounds by how much faster it is paid off when that is behind its time: a
	// burst at the end would be felt most. What is not paid off in twice its time is not
	// held up any longer.
	debtHaste = 1.5
	// debtFloor is the least rate, in bytes a second. What waits in a feed's buffer has to
	// be taken up before its log delivers it anew: 8 MiB in 15 s, see geo/jetstream.
	debtFloor = 1 << 20
	// debtBeat is how often it is looked how much it is.
	debtBeat = 500 * time.Millisecond
)

// debt is what a region has not got yet of another one's writes after they were cut
// off from each other, or after it was too slow. It decides how fast the region has to
// catch up, whatever its clients feel: all of it is to be there after a quarter of the
// time in which the debt was run up. It reads no clock. The zero value has none.
type debt struct {
	late   time.Time // when something late came last
	begun  time.Time
	short  bool
	looked time.Time
	due    time.Time // zero: nobody knows how much it is
	term   time.Duration
	// written is how many bytes a second came in while it was run up: more comes meanwhile.
	// pace is how many of it have to be paid off. It does not become less: what is left may
	// be another one's by what is known of it, and wait here all the same.
	written, pace float64
}

// isLate reports, at now, whether what was written then is caught up with, and waits for
// its turn.
func (d *debt) isLate(now, written time.Time) bool {
	if now.Sub(written) < lateAfter {
		return false
	}
	if now.Sub(d.late) > debtEnds {
		*d = debt{begun: now, short: now.Sub(written) < debtLeast}
	}
	d.late = now
	return !d.short
}

// look takes how many bytes are known to be missing, and in what time they came to be.
func (d *debt) look(now time.Time, pending uint64, span time.Duration) {
	d.looked = now
	if pending == 0 || span <= 0 {
		return
	}
	if d.due.IsZero() {
		d.term = time.Duration(debtShare * float64(span))
		d.due = now.Add(d.term)
	}
	left := max(d.due.Sub(now), debtBeat)
	d.pace = max(d.pace, float64(pending)/left.Seconds())
	d.written = max(d.written, float64(pending)/span.Seconds())
}

// least is the rate at which what is late has to be taken in, in bytes a second;
// infinite when its time is over.
func (d *debt) least(now time.Time) float64 {
	switch {
	case d.due.IsZero() && now.Before(d.begun.Add(blindFor)):
		return debtFloor
	case !now.Before(d.due.Add(d.term)):
		return math.Inf(1)
	}
	return max(min(d.written+d.pace, d.written*(1+1/debtShare)*debtHaste), debtFloor)
}

// inPieces divides what is late into what is applied in one go: what a client writes
// meanwhile waits for the end of it. Smaller pieces cost owners more commits than they
// are worth.
func inPieces(entries []Entry) (pieces [][]Entry) {
	const piece = 64 << 10
	begin, bytes := 0, 0
	for i := range entries {
		n := entrySize(entries[i])
		if i > begin && bytes+n > piece {
			pieces = append(pieces, entries[begin:i])
			begin, bytes = i, 0
		}
		bytes += n
	}
	return append(pieces, entries[begin:])
}

// charged is what so many bytes count: a message costs something in itself.
func charged(bytes int) int { return max(bytes, 4<<10) }

// written is when the last of some entries was written, by the stamps of its region;
// zero where none has a record.
func written(entries []Entry) time.Time {
	for i := len(entries) - 1; i >= 0; i-- {
		e := &entries[i]
		if len(e.Record) == 0 {
			continue
		}
		if r, err := crdt.DecodeRecord(hashring.KeyHash(e.Key), e.Record); err == nil {
			return r.MaxStamp().Time()
		}
	}
	return time.Time{}
}
