// Package model searches for counter-examples to the rules of causality,
// delivery and collection: random histories of six owners in two regions that
// share one partition of a few keys, with every fault that the system
// declares, against a twin that knows for each write what its writer had truly
// seen.
//
// What the rules are made of is the real code of package crdt: records, joins,
// clocks, stamps, digests, the floor's predicates. What drives them (disks,
// messages, owners, rounds) is modelled as plainly as it can be; the real
// drivers have a simulation of their own.
//
// One history is a pure function of its seed and Options: no goroutines, no
// wall clock, no I/O.
//
// What is checked, once all faults are healed and anti-entropy has come to
// rest:
//
//	I1   No acknowledged write is lost: it is live, or a write that had truly
//	     seen it is, or one such was collected as a tombstone.
//	I2   Owners converge: equal floors, clocks, digests and records, and one
//	     more pass of anti-entropy repairs nothing.
//	I3   What an acknowledged or collected write had truly superseded is not
//	     live anywhere.
//	I10  A dot names one payload and a payload one dot. Checked at each mint
//	     and each apply.
//	I11  A write's stamp is above the stamps of all that its writer had seen.
//	I12  An owner gives up a version only for what had truly seen it: its new record
//	     has a write that did, or one that had seen such a write. Checked at each
//	     mint and each apply, unless disks lose records silently.
//
// Two limits are set on the faults, because nothing could survive beyond them:
//
//   - A fault that would destroy the last copy of an acknowledged write (the
//     write itself, or one that truly saw it) is not injected.
//   - At most one owner in a history has a disk that silently loses or rolls
//     back single records; it is drawn from the seed.
//
// Where disks lose or roll back single records silently (and only there), three
// outcomes are accounted for rather than forbidden, each counted in Stats:
//
//   - ExcusedLost. A disk loses a record, and its owner mints on that key again
//     before anybody notices. The owner cannot leave out of an answer, nor a
//     reader of what he reads only there, an event that its record has forgotten.
//   - Revived. A disk brings back what a collected tombstone had deleted, and
//     two owners that lost their own account of it (wiped, or rolled back)
//     take it over before the others deny it.
//   - OnlyInSideLogs. All owners but one lost an old live version, one of them
//     silently: to the last one it looks deleted, and goes to its side log.
//
// Without silent faults nothing is excused.
package model

import (
	"fmt"
	"math/rand/v2"

	"github.com/atolldb/atoll/crdt/hlc"
)

const (
	// Owners is how many owners the partition has, in two regions of half as
	// many.
	Owners = 6
	// Keys is how many keys the partition has.
	Keys = 3
	// Clients is how many clients write, with contexts that get stale.
	Clients = 3
	// MaxEvents is how many writes a history has at most.
	MaxEvents = 64
)

// Bugs are rules left out or broken, one at a time: the model is worth
// something only if it catches each.
type Bugs struct {
	ReuseActor          bool // an unclean stop does not change the actor
	DenseDeltas         bool // ship only the new version, with the record's context
	NoLateRule          bool // apply whatever comes, however old
	NoRejoinRule        bool // adopt the others' floor, but keep one's store as it is
	AgeTombstones       bool // drop what is dead and older than the grace
	StripByClock        bool // what your clock has and your record has not, was deleted
	DropBeforeAllRaised bool // drop as soon as one's own floor is raised
	StandInMints        bool // somebody who is no owner mints, hands off, forgets
	NoStampInContext    bool // the client's context carries no stamp
	MergeMints          bool // a join that changes a record gets a dot of its own
	RoundSkipsRestarts  bool // a collection round goes on when an owner restarted
	HalfRecords         bool // apply the rest of a record whose old part nobody can tell about
	BlindRaise          bool // raise the floor without a second look at what was listed
	FoldedAnswers       bool // a write's answer covers its minter's unseen siblings
	PresumedAnswers     bool // it covers what its minter knew to be replaced, as if all did
	EarlySettled        bool // what one owner has is taken for settled
}

// Options of a history. The zero Options are those of the design.
type Options struct {
	Bugs Bugs
	// Steps of a history before it is healed; 60 when 0.
	Steps int
	// Collecting makes histories mostly about collection: one key, rounds whose
	// steps have silent faults and very late messages between them.
	Collecting bool
	// NoSilent leaves out silent losses of single records.
	NoSilent bool
	// BelieveOwners exempts from the late-message rule all that a current
	// owner at an equal floor sends, even dots that the receiver's clock has
	// and its record has not. It brings deleted values back when that owner's
	// disk silently rolled a record back.
	BelieveOwners bool
	// SilentVotes lets voters say no more than "durable". Otherwise a voter
	// that holds an earlier dot of the minter's actor which the minter's record
	// does not cover sends its record back: the minter's disk has lost it.
	SilentVotes bool
	// Roaming lets clients write in both regions, with the contexts of answers that
	// not even a quorum of one region has, and owners close what is settled in the
	// contexts they get.
	Roaming bool
	// Trace keeps a readable account of the history in Result.
	Trace bool
}

// Violation is a broken invariant.
type Violation struct {
	Invariant string
	Detail    string
}

func (v *Violation) String() string { return v.Invariant + ": " + v.Detail }

// Stats count what happened, so that a test can tell that a model which finds
// nothing has looked.
type Stats struct {
	Events, Acked, Deletes    int
	Crashes, TakenBack, Wipes int
	Copies, CleanStops        int
	SilentFaults              int
	Refused                   int // faults not injected: they would take a last copy
	FullSyncs, ClockSyncs     int
	DigestRepairs             int
	Rounds, RoundsOff         int
	Collected, Voided         int
	LateKept, LateConfirmed   int
	LateWaits                 int // messages refused because nobody could tell
	Sifted                    int // versions put into a side log by their own owner
	Amnesia                   int
	// Writes that are excused, see the package's doc.
	Excused, ExcusedLost, Revived, OnlyInSideLogs int
	Slept                                         int // very late messages that arrived
	ExcusedGivenUp                                int // by checkGivesUp
}

func (s *Stats) add(o *Stats) {
	mine, theirs := s.fields(), o.fields()
	for i := range mine {
		*mine[i].n += *theirs[i].n
	}
}

// Result of one history.
type Result struct {
	Seed      uint64
	Violation *Violation // nil when every invariant held
	Stats     Stats
	Trace     []string
}

// Model runs histories one after another, re-using its memory. It is not safe
// for concurrent use; use one for each goroutine.
type Model struct {
	opt Options
	pcg *rand.PCG
	w   world
}

// New returns a model that runs histories of opt.
func New(opt Options) *Model {
	if opt.Steps == 0 {
		opt.Steps = 60
	}
	m := &Model{opt: opt, pcg: rand.NewPCG(0, 0)}
	m.w.rng = rand.New(m.pcg)
	return m
}

// Run plays the history of seed.
func (m *Model) Run(seed uint64) Result {
	m.pcg.Seed(seed, 0x9e3779b97f4a7c15)
	w := &m.w
	w.reset(&m.opt)
	w.profile = drawProfile(w.rng, &m.opt)
	for i := 0; i < m.opt.Steps && w.violation == nil; i++ {
		w.step()
		w.readAll()
	}
	if w.violation == nil {
		w.end()
	}
	w.stats.Events = len(w.events)
	w.stats.Acked = w.acked.len()
	return Result{Seed: seed, Violation: w.violation, Stats: w.stats, Trace: w.trace}
}

// world is one history.
type world struct {
	opt     *Options
	rng     *rand.Rand
	profile profile

	now     int64 // milliseconds since 1970
	cut     bool  // the regions do not reach each other
	owners  [Owners]owner
	bad     int8 // the owner whose disk has silent faults
	clients [Clients]client
	mail    []message
	slept   []message // very late; no round can see them
	streams []stream
	round   round
	standIn standIn
	actors  uint32 // allocated so far
	nonces  [Owners]uint32

	oracle
	commits   int // batches written anywhere, to see whether a pass changed anything
	stats     Stats
	violation *Violation
	trace     []string
}

const dawn = 1_700_000_000_000

func (w *world) reset(opt *Options) {
	w.opt = opt
	w.now, w.cut = dawn, false
	w.mail, w.slept, w.streams = w.mail[:0], w.slept[:0], w.streams[:0]
	w.round, w.standIn = round{}, standIn{}
	w.clients = [Clients]client{}
	w.actors = 0
	w.oracle = oracle{events: w.events[:0]}
	w.commits, w.stats, w.violation, w.trace = 0, Stats{}, nil, nil
	w.bad = int8(w.rng.IntN(Owners))
	for i := range w.owners {
		w.owners[i].init(w, int8(i))
	}
}

func (w *world) violate(invariant, format string, args ...any) {
	if w.violation == nil {
		w.violation = &Violation{invariant, fmt.Sprintf(format, args...)}
		w.logf("VIOLATION of %v", w.violation)
	}
}

// logf notes a line of the trace. Callers on hot paths ask w.opt.Trace first.
func (w *world) logf(format string, args ...any) {
	if w.opt.Trace {
		w.trace = append(w.trace, fmt.Sprintf("%6dms ", w.now-dawn)+fmt.Sprintf(format, args...))
	}
}

// chance is true in p of 100 cases.
func (w *world) chance(p int) bool { return w.rng.IntN(100) < p }

func (w *world) grace() hlc.Stamp { return hlc.FromMillis(w.now - w.profile.grace) }
