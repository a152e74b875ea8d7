package geo

import (
	"cmp"
	"context"
	"errors"
	"slices"
	"time"
)

// ack is the log's word on a parcel.
type ack struct {
	parcel *parcel
	err    error
}

// pumpRun is the state of one Run; its goroutine alone touches it.
type pumpRun struct {
	*Pump
	session uint64
	lanes   map[string]*lane // by region, "" for all

	rewinds uint64 // so far; tells apart parcels from before
	flights flights
	queue   []*parcel // cut, not yet offered
	failed  []*parcel // to be offered again when retryAt fires
	// acks receives once for each parcel under way, of which there are at
	// most maxUnacked, so the log's goroutine never waits.
	acks         chan ack
	unacked      int
	unackedBytes int

	stopping bool
	hurry    bool        // Peek now
	lulled   bool        // pause is running
	held     bool        // retryAt is running: offer nothing new
	pause    *time.Timer // in which updates gather
	debt     debt
	retryAt  *time.Timer
	backoff  time.Duration
}

func (r *pumpRun) loop(ctx context.Context) {
	stop := ctx.Done()
	var grace <-chan time.Time
	for {
		r.fill()
		if stop == nil && (r.held || r.unacked == 0 && !r.hurry && !r.lulled) {
			return
		}
		select {
		case <-stop:
			stop, r.stopping, r.hurry = nil, true, true
			t := time.NewTimer(stopGrace)
			defer t.Stop()
			grace = t.C
		case <-grace:
			return
		case <-r.source.Wake():
			r.gather()
		case <-r.pause.C:
			r.lulled, r.hurry = false, true
		case <-r.retryAt.C:
			r.held = false
			again := r.failed
			slices.SortFunc(again, func(a, b *parcel) int {
				return cmp.Compare(a.batch.Header.Number, b.batch.Header.Number)
			})
			r.failed = nil
			for _, x := range again {
				r.offer(x)
			}
		case a := <-r.acks:
			r.settle(a)
		}
	}
}

// gather starts the pause, unless something is to be looked at already.
func (r *pumpRun) gather() {
	if !r.lulled && !r.hurry {
		r.lulled = true
		r.pause.Reset(r.linger())
	}
}

// linger is the pause in which updates gather: twice as long as the log has been
// silent, so that the number of batches grows with the logarithm of that.
func (r *pumpRun) linger() time.Duration {
	return max(r.cfg.linger(), min(r.log.Silent()*2, maxLinger))
}

// fill offers batches while there is room for them.
func (r *pumpRun) fill() {
	for !r.held && r.unacked < maxUnacked && r.unackedBytes < maxUnackedBytes {
		if len(r.queue) == 0 && (!r.hurry || !r.wanted() || !r.peek()) {
			return
		}
		if len(r.queue) > 0 {
			next := r.queue[0]
			r.queue = r.queue[1:]
			r.number(&next.batch)
			r.offer(next)
		}
	}
}

// wanted looks whether anybody takes what is shipped; if not, it is looked again
// after a while. A pump that stops leaves the rest to its next run.
func (r *pumpRun) wanted() bool {
	wanted := r.log.Wanted()
	r.stats.waiting.Store(!wanted)
	if wanted {
		return true
	}
	r.hurry = false
	if !r.stopping {
		r.lulled = true
		r.pause.Reset(unwantedBeat)
	}
	return false
}

// peek takes the next entries from the source and queues them as parcels. It
// returns false when there is nothing to do for now.
func (r *pumpRun) peek() bool {
	most := flushBytes
	silent := r.log.Silent() > doubt
	if silent {
		most = silentBytes
	}
	entries, marks, err := r.source.Peek(most)
	if err != nil {
		r.logger.Warn("cannot read what is to be shipped", "error", err)
		r.stats.failures.Add(1)
		r.rewind()
		return false
	}
	if len(entries) == 0 && len(marks) == 0 {
		r.hurry = false
		return false
	}
	x := &flight{marks: marks}
	size := 0
	for i, e := range entries {
		if r.cfg.Claims && len(e.Record) > ClaimBytes {
			size += len(e.Record)
			entries[i] = claimed(e)
			r.stats.claims.Add(1)
		}
	}
	for _, group := range cut(entries) {
		raw := 0
		for _, e := range group {
			raw += len(e.Key) + len(e.Record)
		}
		size += raw
		data, codec, err := EncodeBatch(group)
		if err != nil {
			r.unshippable(len(group), err)
			continue
		}
		x.left++
		r.queue = append(r.queue, &parcel{flight: x, rewinds: r.rewinds, raw: raw, batch: Batch{
			Header: Header{
				Origin: r.cfg.Region, Node: r.cfg.Node, Incarnation: r.cfg.Incarnation,
				Count: len(group), Codec: codec,
			},
			To: group[0].To, Data: data,
		}})
	}
	r.flights.add(x)
	if x.left == 0 {
		r.confirm(r.flights.reached())
	}
	// Where the source is nearly empty, let updates gather; and where it is not
	// known that anybody takes them.
	if size < flushBytes/2 || silent {
		r.hurry = false
		r.gather()
	}
	if wait := r.turn(entries, size); wait > 0 {
		r.hurry, r.lulled = false, true
		r.pause.Reset(wait)
	}
	return true
}

// turn is how long the clients of this node need to be let alone after it has read and
// shipped so much of a backlog.
func (r *pumpRun) turn(entries []Entry, bytes int) time.Duration {
	now, at := time.Now(), written(entries)
	if r.cfg.Delay == nil || r.stopping || at.IsZero() || !r.debt.isLate(now, at) {
		return 0
	}
	if now.Sub(r.debt.looked) >= debtBeat {
		r.debt.look(now, r.source.Pending()*uint64(bytes/len(entries)), now.Sub(at))
	}
	return r.cfg.Delay(charged(bytes), r.debt.least(now))
}

// lane numbers the batches of those who get them: each region sees numbers
// without holes.
type lane struct{ session, number uint64 }

func (r *pumpRun) number(b *Batch) {
	l := r.lanes[b.To]
	if l == nil {
		l = &lane{session: r.session + uint64(len(r.lanes))}
		if r.lanes == nil {
			r.lanes = map[string]*lane{}
		}
		r.lanes[b.To] = l
	}
	l.number++
	b.Header.Session, b.Header.Number = l.session, l.number
}

func (r *pumpRun) offer(x *parcel) {
	x.tries++
	r.unacked++
	r.unackedBytes += len(x.batch.Data)
	r.log.Append(x.batch, func(err error) { r.acks <- ack{x, err} })
}

func (r *pumpRun) settle(a ack) {
	x := a.parcel
	r.unacked--
	r.unackedBytes -= len(x.batch.Data)
	if a.err == nil {
		r.stats.batches.Add(1)
		r.stats.entries.Add(uint64(x.batch.Header.Count))
		r.stats.bytesRaw.Add(uint64(x.raw))
		r.stats.bytesWire.Add(uint64(len(x.batch.Data)))
		r.backoff = backoffMin
	} else {
		r.stats.failures.Add(1)
	}
	if x.rewinds != r.rewinds { // from before: it ships again anyway
		return
	}
	switch {
	case a.err == nil:
		r.confirm(r.flights.settle(x.flight))
	case errors.Is(a.err, ErrTooLarge):
		r.unshippable(x.batch.Header.Count, a.err)
		r.confirm(r.flights.settle(x.flight))
	case x.tries < maxTries:
		r.failed = append(r.failed, x)
		r.hold(a.err)
	default:
		r.logger.Warn("log does not confirm, start again", "tries", x.tries, "error", a.err)
		r.rewind()
	}
}

// hold stops offering for a while.
func (r *pumpRun) hold(err error) {
	if r.held {
		return
	}
	r.logger.Debug("hold appends", "error", err, "backoff", r.backoff)
	r.held = true
	r.retryAt.Reset(r.backoff)
	r.backoff = min(2*r.backoff, backoffMax)
}

// rewind forgets everything under way and starts again, after a while, at the
// confirmed marks.
func (r *pumpRun) rewind() {
	r.stats.rewinds.Add(1)
	r.rewinds++
	r.flights, r.queue, r.failed = flights{}, nil, nil
	r.source.Rewind()
	r.hurry = true
	r.hold(nil)
}

func (r *pumpRun) confirm(reached [][]Mark) {
	for _, marks := range reached {
		if err := r.source.Confirm(marks); err != nil {
			// It ships once more after a restart, which is harmless.
			r.logger.Warn("cannot remember what was shipped", "error", err)
		}
	}
}

func (r *pumpRun) unshippable(entries int, err error) {
	r.stats.unshippable.Add(uint64(entries))
	r.logger.Error("entries cannot travel by the log, left to repair", "entries", entries, "error", err)
}

func stoppedTimer() *time.Timer {
	t := time.NewTimer(time.Hour)
	t.Stop()
	return t
}
