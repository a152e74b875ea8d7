package coord

import (
	"errors"
	"math/bits"
	"slices"
	"strconv"
	"strings"

	"github.com/atolldb/atoll/crdt"
	"github.com/atolldb/atoll/crdt/hlc"
	"github.com/atolldb/atoll/crdt/session"
	"github.com/atolldb/atoll/internal/planted"
	"github.com/atolldb/atoll/node/quorum"
	"github.com/atolldb/atoll/node/topology"
)

// A session's token says which write events of the key's partition its bearer
// knows of. An answer is given only by a state that has them, as its delivery
// clock tells, or by one joined with such a state: then it shows what the session
// saw and wrote, or what replaced it. A write is minted only where they are, with
// a stamp above theirs. Each answer brings the token along with what it shows.
//
// Whoever is asked for a read and lacks some of that says so at once, and the
// next one is asked. Only when nobody has it all do the owners that lack some
// wait for it, and fetch it; see replica.Await. A write that nobody may mint waits
// by such a read.

// knowing is what the session of an operation knows, as far as it matters.
type knowing struct {
	token *session.Token
	// part is of the key's partition; nil for nothing.
	part *session.Part
	// needs are its dots that matter for the key; nil for none. For those of soft the
	// version will do.
	needs *crdt.Clock
	soft  []session.Soft
}

// knows takes an operation's token into its key.
func (c *Coordinator) knows(k *key, token []byte) *Error {
	if len(token) == 0 {
		return nil
	}
	t, err := session.Open(*c.keys.Load(), token, placeOf(k))
	if err != nil {
		e := &Error{Code: CodeBadSession, Detail: err.Error(), Field: "session",
			Limit: "a token of this deployment", Seen: strconv.Itoa(len(token)) + " bytes"}
		if len(token) > session.MaxSent {
			e.Limit = strconv.Itoa(session.MaxSent) + " bytes"
		}
		return e
	}
	k.session = &knowing{token: t, part: t.Part()}
	if planted.Bug(planted.IgnoreSession) {
		k.session.part = nil
	}
	k.session.needs, k.session.soft = k.session.part.NeedsOf(k.hash), k.session.part.SoftOf(k.hash)
	return nil
}

func placeOf(k *key) session.Place {
	return session.PlaceOf(k.hash, uint8(bits.TrailingZeros(uint(k.top.Table.Partitions()))))
}

// asks reports whether the session knows anything that an answer must know.
func (k *key) asks() bool { return k.session != nil && k.session.part != nil }

// careful reports whether an owner has to look at more than the record.
func (k *key) careful() bool { return k.asks() || k.fresh }

// forgetful is the key without its session.
func (k key) forgetful() key {
	k.session = nil
	return k
}

// shown reports whether a record shows what the session knows of the key by
// consensus only.
func (k *key) shown(rec crdt.Record) bool {
	return !k.asks() || k.session.part.Shows(k.hash, rec)
}

// informed reads for a session that knows something. The common case is that
// this node serves the key and has it all: then it is a read like any other, and
// shares others' answers, as long as this node takes part in it.
func (c *Coordinator) informed(k key, w want, r reader) {
	alone := func() {
		c.gather(k, w, r.deadline, func(rec crdt.Record, who Achieved, err *Error) { r.done(c.result(&k, rec, who, err)) })
	}
	if k.place(c.cfg.Self) < 0 {
		alone()
		return
	}
	if missing, lost := c.Replica.Look(k.part, k.session.needs); missing != nil || lost != nil {
		alone()
		return
	}
	done := r.done
	c.plain(k.forgetful(), w, reader{r.deadline, func(res GetResult, err error) {
		if err == nil && (!slices.Contains(res.Achieved.Replicas, c.cfg.Self) || !k.shown(res.rec)) {
			alone()
			return
		}
		done(res, err)
	}})
}

// afterGet adds what a read shows to its session's token.
func (c *Coordinator) afterGet(k key, done func(GetResult, error)) func(GetResult, error) {
	return func(res GetResult, err error) {
		if err == nil {
			k.saw(&res)
		} else if e := (*Error)(nil); errors.As(err, &e) && e.Current != nil {
			k.saw(e.Current)
		} else if e != nil {
			k.accepts(e)
		}
		done(res, err)
	}
}

func (k *key) saw(res *GetResult) {
	seen := &session.Part{Place: placeOf(k)}
	for i := range res.rec.Versions {
		v := &res.rec.Versions[i]
		if v.Dot.Actor.IsBallot() {
			seen.SawBallot(k.hash, v.Dot, v.Stamp)
		} else {
			seen.Saw(v.Dot, v.Stamp)
		}
	}
	res.Session, res.SessionDropped = k.session.token.With(seen)
}

// afterPut adds a write to its session's token.
func (c *Coordinator) afterPut(k key, done func(PutResult, *Error)) func(PutResult, *Error) {
	return func(res PutResult, err *Error) {
		switch {
		case err == nil:
			k.wrote(&res)
		case err.Applied != nil:
			k.wrote(err.Applied)
		case err.Current != nil:
			k.saw(err.Current)
		default:
			k.accepts(err)
		}
		done(res, err)
	}
}

func (k *key) wrote(res *PutResult) {
	seen := &session.Part{Place: placeOf(k)}
	switch {
	case !res.Event.IsZero() && res.Version.Actor.IsBallot():
		seen.SawDecided(k.hash, res.Version, res.Event, res.Stamp)
	case !res.Event.IsZero():
		seen.Saw(res.Event, res.Stamp)
	case res.Version.Actor.IsBallot():
		seen.SawBallot(k.hash, res.Version, res.Stamp)
	default:
		seen.Saw(res.Version, res.Stamp)
	}
	res.Session, res.SessionDropped = k.session.token.With(seen)
}

// sessionBehind says what is missing of what a session knows.
func (c *Coordinator) sessionBehind(k *key, missing *crdt.Clock) *Error {
	c.stats.SessionBehind.Add(1)
	e := &Error{Code: CodeSessionBehind, RetryAfterMs: 100,
		Detail: "no owner that could be asked has everything that the session knows"}
	if missing == nil {
		return e
	}
	e.Missing, e.MissingFrom = c.count(missing)
	e.Detail += ": " + strconv.FormatUint(e.Missing, 10) + " writes are missing, of" + listed(e.MissingFrom)
	return e
}

// sessionLost says what of that which a session knows is lost for good.
func (c *Coordinator) sessionLost(lost *crdt.Clock) *Error {
	c.stats.SessionLost.Add(1)
	e := c.lostOf(lost)
	e.lost = lost
	e.sayLost()
	return e
}

func (c *Coordinator) lostOf(lost *crdt.Clock) *Error {
	e := &Error{Code: CodeSessionLost}
	e.Missing, e.MissingFrom = c.count(lost)
	return e
}

func (e *Error) sayLost() {
	e.Detail = strconv.FormatUint(e.Missing, 10) + " writes that the session knows are lost for good, of" + listed(e.MissingFrom)
}

// count is how many writes there are, and of which regions.
func (c *Coordinator) count(dots *crdt.Clock) (n uint64, of []topology.Region) {
	for _, d := range dots.All() {
		n += d.Len()
		if g := c.regionOf(d.Actor); !slices.Contains(of, g) {
			of = append(of, g)
		}
	}
	slices.Sort(of)
	return n, of
}

func listed(regions []topology.Region) string {
	var b strings.Builder
	for i, g := range regions {
		if i > 0 {
			b.WriteByte(',')
		}
		b.WriteString(" " + string(g))
	}
	return b.String()
}

// accepts gives an error by which a session is told of a loss the token with which
// it goes on without that.
func (k *key) accepts(e *Error) {
	if e.Code == CodeSessionLost && e.lost != nil && k.session != nil {
		e.Session, _ = k.session.token.Without(e.lost)
	}
}

// regionOf names the region of an actor, as well as this node can.
func (c *Coordinator) regionOf(a crdt.Actor) topology.Region {
	id := topology.RegionID(a.Region())
	if top := c.Topology(); top.RegionID == id {
		return top.Region
	}
	if c.Regions != nil {
		for _, t := range c.Regions() {
			if t.RegionID == id {
				return t.Region
			}
		}
	}
	return topology.Region("region " + strconv.Itoa(int(id)))
}

// maxInformed is how often a write looks for an owner that has what its session
// knows.
const maxInformed = 8

// uninformed waits until an owner has what the session of a write knows, when no
// owner would mint it, and has that one mint it.
func (w *write) uninformed() {
	k := w.k
	// Early: whoever is not answered in time does not know that nothing was written.
	w.c.read(k, want{level: quorum.LocalOne}, early(w.p.Deadline), func(_ crdt.Record, who Achieved, err *Error) {
		if err != nil {
			err.Outcome = NotApplied
			w.done(PutResult{}, err)
			return
		}
		w.informs++
		w.refused = nil
		w.k.resolve(w.c.Topology())
		if w.first = 0; len(who.Replicas) > 0 { // none where consensus told
			w.first = 1 << max(w.k.place(who.Replicas[0]), 0)
		}
		w.route(0)
	})
}

// knowingly waits until this node has what the session of a write knows, and then
// goes on. What was decided by consensus somebody has to show.
func (w *write) knowingly(then func()) {
	soft := &crdt.Clock{}
	for _, s := range w.k.soft() {
		soft.Add(s.Event)
	}
	if len(soft.Actors()) > 0 {
		if missing, lost := w.c.Replica.Look(w.k.part, soft); missing != nil || lost != nil {
			w.c.read(w.k, want{level: quorum.LocalOne}, early(w.p.Deadline), func(_ crdt.Record, _ Achieved, err *Error) {
				if err != nil {
					err.Outcome = NotApplied
					w.done(PutResult{}, err)
					return
				}
				w.knowingFirm(then)
			})
			return
		}
	}
	w.knowingFirm(then)
}

// knowingFirm waits for what nothing else stands for.
func (w *write) knowingFirm(then func()) {
	needs := w.k.firm()
	if needs == nil {
		then()
		return
	}
	w.c.Replica.Await(w.k.part, needs, len(w.p.Key)+len(w.p.Value), early(w.p.Deadline), func(missing *crdt.Clock, err error) {
		switch {
		case err != nil:
			e := w.c.localError(err)
			e.again = false
			w.done(PutResult{}, e)
		case missing != nil:
			w.done(PutResult{}, w.c.sessionBehind(&w.k, missing))
		default:
			if lost := w.c.Replica.Lost(w.k.part, needs); lost != nil {
				w.done(PutResult{}, w.c.sessionLost(lost))
				return
			}
			then()
		}
	})
}

// above is the stamp that a write must be above of.
func (k *key) above() hlc.Stamp {
	if !k.asks() {
		return 0
	}
	return k.session.part.Stamp
}

// needs are the dots that must have been delivered to who answers, or mints; nil
// for none.
func (k *key) needs() *crdt.Clock {
	if !k.asks() {
		return nil
	}
	return k.session.needs
}

// soft are those of them for which a version of the key will do.
func (k *key) soft() []session.Soft {
	if !k.asks() {
		return nil
	}
	return k.session.soft
}

// firm are those of the partition for which nothing else will do; nil for none.
func (k *key) firm() *crdt.Clock {
	if !k.asks() {
		return nil
	}
	return k.session.part.Firm()
}

// excuse takes from what an owner lacks, and from what is lost, the events whose
// version it shows, and has it lack those that are lost and whose version it does not
// show: somebody else does.
func (k *key) excuse(rec crdt.Record, missing, lost *crdt.Clock) (still, gone *crdt.Clock) {
	for _, s := range k.soft() {
		inMissing, inLost := missing != nil && missing.Contains(s.Event), lost != nil && lost.Contains(s.Event)
		if !inMissing && !inLost {
			continue
		}
		one := &crdt.Clock{}
		one.Add(s.Event)
		missing, lost = less(missing, one), less(lost, one)
		if !rec.Covers(s.Version) {
			if missing == nil {
				missing = &crdt.Clock{}
			}
			missing.Add(s.Event)
		}
	}
	return missing, lost
}

// less is a without b; nil for nothing.
func less(a, b *crdt.Clock) *crdt.Clock {
	if a == nil || b.Covers(a) {
		return nil
	}
	return b.Beyond(a)
}
