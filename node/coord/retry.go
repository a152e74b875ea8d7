package coord

import (
	"math/rand/v2"
	"slices"
	"strconv"
	"time"

	"github.com/atolldb/atoll/crdt"
	"github.com/atolldb/atoll/node/replica"
	"github.com/atolldb/atoll/node/topology"
	"github.com/atolldb/atoll/node/wire"
)

// A retry says that an earlier attempt of the same request may have had an
// effect, at whatever owner. So before it mints, all owners are asked for the
// request's id: those of this region, which are fenced so that none of them mints
// meanwhile, and those of the regions where it was tried. Who says that it was tried
// here alone waits for nobody else; who does not say asks everywhere, and has to
// live with doubt while a region cannot be reached. If one has it, that is the write: it is given to those who miss
// it, and answered as replayed. If nobody has it, the fences that were left
// behind see to it that no other attempt is carried out, and the write is minted.
// If somebody who may have it cannot be asked, it is minted all the same, and the
// answer says that it may be there twice.
//
// The error of a retry speaks of the request, not of the attempt: that it was not
// applied is said only after all owners have said so. One of an unknown outcome
// says whether the attempt may have been a second event, as a success does: whoever
// tries again may be answered with either.

// askPatience is how long at most a retry waits for owners that do not answer.
const askPatience = time.Second

// maxTriedIn is how many regions a retry may name: more than there are.
const maxTriedIn = 16

// ballot of an attempt that begins now: above those that began before it, as far
// as clocks agree, and no other's.
func (c *Coordinator) ballot() uint64 {
	return uint64(c.HLC.Now())<<20 | uint64(rand.Uint32N(1<<20-1)+1) // 44 bits of time last until 2527
}

// checkRequest refuses retries that cannot be served.
func (c *Coordinator) checkRequest(p *Put) *Error {
	if len(p.TriedIn) > maxTriedIn {
		return invalid("tried_in", "0.."+strconv.Itoa(maxTriedIn), strconv.Itoa(len(p.TriedIn)), "the request was tried in too many regions")
	}
	switch {
	case !p.Retry && len(p.TriedIn) > 0:
		return invalid("tried_in", "with retry only", strconv.Itoa(len(p.TriedIn)), "a first attempt was tried nowhere")
	case !p.Retry:
		return nil
	case p.RequestID.IsZero():
		return invalid("request_id", "16 bytes", "0 bytes", "a retry without a request id")
	case p.Attempt == 0:
		p.Attempt = c.ballot()
	}
	return nil
}

// speaksOfRequest makes the errors of a retry speak of the request.
func (w *write) speaksOfRequest() {
	if !w.p.Retry {
		return
	}
	done := w.done
	w.done = func(res PutResult, e *Error) {
		if e != nil && !e.certain && !w.certain {
			if e.Outcome == NotApplied {
				e.Outcome = Unknown
			}
			e.MaybeDuplicate = e.Outcome == Unknown
		}
		done(res, e)
	}
}

// ofRequest makes an error from before any owner was asked speak of the request.
// What is no retry, for lack of an id, is only refused.
func (e *Error) ofRequest(p *Put) *Error {
	if p.Retry && !p.RequestID.IsZero() && e.Outcome == NotApplied {
		e.Outcome = Unknown
	}
	return e
}

// asRetry carries on with a first attempt that no owner may mint unasked, since all who
// could be reached are newcomers (see replica.ErrNewcomer): as a retry of its own.
func (w *write) asRetry() {
	w.p.Retry, w.p.Attempt, w.p.TriedIn = true, w.c.ballot(), []topology.Region{w.k.top.Region}
	w.refused = nil
	w.anew()
}

// inquire asks all owners before a retry is minted here, for slot i.
func (w *write) inquire(i int) {
	q := &inquiry{
		c: w.c, k: &w.k, ask: replica.Ask{ID: w.p.RequestID, Ballot: w.p.Attempt},
		enough: func(q *inquiry) bool { return q.happened() || q.higher > 0 },
		done:   func(q *inquiry) { w.inquired(i, q) },
	}
	now := time.Now()
	targets := append(w.c.owners(&w.k), w.c.tried(&w.k, w.p.TriedIn)...)
	q.begin(targets, now.Add(min(w.p.Deadline.Sub(now)/3, askPatience)))
}

// tried are the owners of a key in the other ones of these regions; none stands for
// all regions. One that is not known cannot be asked, so that doubt remains.
func (c *Coordinator) tried(k *key, in []topology.Region) (out []target) {
	var others []*topology.Topology
	if c.Regions != nil {
		others = c.Regions()
	}
	for _, t := range others {
		if len(in) == 0 || slices.Contains(in, t.Region) {
			out = append(out, afar(k, t)...)
		}
	}
	for _, name := range in {
		known := func(t *topology.Topology) bool { return t.Region == name }
		if name != k.top.Region && !slices.ContainsFunc(others, known) {
			out = append(out, target{})
		}
	}
	return out
}

// afar are the minters of a key in another region.
func afar(k *key, t *topology.Topology) (out []target) {
	if int(k.part) >= t.Table.Partitions() {
		return []target{{}} // nobody knows whom to ask there
	}
	for _, id := range minters(t, k.part) {
		out = append(out, target{id: id})
	}
	return out
}

func (w *write) inquired(i int, q *inquiry) {
	switch {
	case q.happened():
		w.replay(i, q)
	case q.higher > 0:
		w.done(PutResult{}, &Error{
			Code: CodeUnavailable, Outcome: Unknown, RetryAfterMs: 50,
			Detail: "another attempt of the request has begun since, or its outcome was asked for",
		})
	case q.stale != "" && w.turns < maxTurns:
		w.c.learn(q.stale, w.k.top.Epoch, func(newer bool) {
			if newer {
				w.turns++
				w.anew()
				return
			}
			w.mintAfter(i, q)
		})
	default:
		w.mintAfter(i, q)
	}
}

// mintAfter mints after nobody had an event.
func (w *write) mintAfter(i int, q *inquiry) {
	w.inquiredAt = w.k.top.Epoch
	w.certain = q.none()
	if w.doubtful = !w.certain; w.doubtful {
		w.c.stats.Doubtful.Add(1)
	}
	w.mint(i)
}

// replay gives the write that an owner has to those who miss it.
func (w *write) replay(i int, q *inquiry) {
	w.c.stats.Replayed.Add(1)
	rec := q.record()
	f := &fanout{write: w, slot: i, began: time.Now(), everywhere: true}
	f.first.open(f, &w.k, w.need)
	f.round = &f.first
	f.minted = &replica.Minted{
		Dot: q.event.Dot, Stamp: q.event.Stamp, Context: w.ctx.Again(rec, q.event.Dot, q.event.Stamp),
		Record: q.event.Record, Replayed: true,
	}
	f.body = wire.AppendApply(nil, wire.Apply{Entries: []wire.Entry{f.entry(f.minted.Record)}})
	if w.want.far() {
		f.far = w.farther()
	}
	f.mu.Lock()
	f.timer = time.AfterFunc(max(w.p.Deadline.Sub(f.began), 1), f.expire)
	f.mu.Unlock()
	f.first.spread()
}

// entry is what all who take the write get: the record, and word of the event.
func (f *fanout) entry(record []byte) wire.Entry {
	e, d := wire.Entry{Key: f.k.full, Record: record}, f.minted.Dot
	if !f.p.RequestID.IsZero() {
		e.IDs = []crdt.EventID{{Dot: d, ID: f.p.RequestID}}
	}
	if f.minted.Replayed { // what replaced it may be all that is left
		e.Dots = []crdt.Dot{d}
	}
	return e
}
