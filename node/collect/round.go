package collect

import (
	"fmt"
	"slices"

	"github.com/atolldb/atoll/crdt"
	"github.com/atolldb/atoll/crdt/hlc"
	"github.com/atolldb/atoll/crdt/session"
	"github.com/atolldb/atoll/hashring"
	"github.com/atolldb/atoll/node/topology"
)

// Pass of a round.
type Pass uint8

// The passes. The numbers are wire format.
const (
	Promise  Pass = 1
	Settle   Pass = 2
	List     Pass = 3
	Raise    Pass = 4
	Confirm  Pass = 5
	Complete Pass = 6
)

func (p Pass) String() string {
	if p < Promise || p > Complete {
		return fmt.Sprintf("pass %d", uint8(p))
	}
	return [...]string{"promise", "settle", "list", "raise", "confirm", "complete"}[p-Promise]
}

// ID of a round. No two rounds have the same.
type ID uint64

// Ask is what an owner is asked in one pass.
type Ask struct {
	Round     ID
	Partition hashring.Partition
	Pass      Pass
	// Floor that is proposed, and From, the highest that any owner knows to be
	// completed: what is dead at or below it was listed before.
	Floor, From hlc.Stamp
	// Had is what any owner had when it promised, and Void that with the gaps of
	// incarnations filled that are no more: nobody had these dots, so nobody ever
	// acknowledged them. Only in Settle.
	Had, Void *crdt.Clock
	// Closed are the actors of Had that no owner mints with any more, and former
	// ones of owners of which Had knows nothing: what they made above what is in Had
	// is lost, too. Ascending; only in Settle.
	Closed []crdt.Actor
}

// losses that the pass brings: what is void, and where closed actors end.
func (q *Ask) losses() *session.Losses {
	l := &session.Losses{}
	for _, d := range q.Had.Missing(q.Void) {
		l.Void.AddSpan(d)
	}
	for _, a := range q.Closed {
		l.Ends = append(l.Ends, crdt.Dot{Actor: a, N: q.Had.Max(a)})
	}
	return l
}

// Incarnation tells an owner from the one that it was before it lost its memory.
type Incarnation struct {
	// Actor that it mints with, 0 while it has none.
	Actor crdt.Actor
	// Boot is drawn at each start.
	Boot uint64
}

// Answer of an owner to one pass. An owner that does not agree refuses instead.
type Answer struct {
	Round ID
	Pass  Pass
	As    Incarnation
	// Completed is the floor that the owner knows all to have raised, and Clock
	// what it has received; only of Promise.
	Completed hlc.Stamp
	Clock     *crdt.Clock
	// Former are actors that the owner's node had before, and nobody has any more;
	// only of Promise.
	Former []crdt.Actor
	// Settled says whether the pass is over for this owner; only of Settle. If
	// not, it is asked again.
	Settled bool
	// Count and Digest of what the owner lists of buckets that every region has,
	// and Apart that of each other bucket of which it lists anything; only of List.
	Count, Digest uint64
	Apart         map[string]Listed
}

// Listed is how much is listed, and its digest.
type Listed struct{ Count, Digest uint64 }

// Round is the one who asks. It is pure, and used by one goroutine.
type Round struct {
	id        ID
	partition hashring.Partition
	floor     hlc.Stamp
	owners    []topology.NodeID

	pass    Pass
	through map[topology.NodeID]bool
	as      map[topology.NodeID]Incarnation
	from    hlc.Stamp
	had     *crdt.Clock
	void    *crdt.Clock
	former  []crdt.Actor
	closed  []crdt.Actor
	// count and digest of the first list.
	listed        bool
	count, digest uint64
	// apart is what each owner lists of buckets that not every region has, and has
	// tells whose region has one.
	apart map[topology.NodeID]map[string]Listed
	has   func(owner topology.NodeID, bucket string) bool

	done bool
	off  Cause
}

// NewRound begins a round over all owners of a partition in all regions: all
// that take writes of it, whether they serve or not.
func NewRound(id ID, p hashring.Partition, floor hlc.Stamp, owners []topology.NodeID) *Round {
	return &Round{
		id: id, partition: p, floor: floor, owners: owners,
		pass: Promise, through: map[topology.NodeID]bool{}, as: map[topology.NodeID]Incarnation{}, had: &crdt.Clock{},
		apart: map[topology.NodeID]map[string]Listed{}, has: func(topology.NodeID, string) bool { return true },
	}
}

// Placed says which owners have which bucket, where not all have all. Those that
// have one must list the same of it, and no other anything.
func (r *Round) Placed(has func(owner topology.NodeID, bucket string) bool) { r.has = has }

// Pass that is under way.
func (r *Round) Pass() Pass { return r.pass }

// Floor that is proposed.
func (r *Round) Floor() hlc.Stamp { return r.floor }

// Done reports whether the floor is completed everywhere.
func (r *Round) Done() bool { return r.done }

// Off is why the round has ended before that, None if it has not.
func (r *Round) Off() Cause { return r.off }

// Ended reports whether there is nothing more to ask.
func (r *Round) Ended() bool { return r.done || !r.off.None() }

// Collected is the number of records that all owners listed.
func (r *Round) Collected() uint64 { return r.count }

// Asks returns who is to be asked, in order, and what: those of whom this pass
// has no answer yet. It may be called again and again.
func (r *Round) Asks() (to []topology.NodeID, ask Ask) {
	if r.Ended() {
		return nil, Ask{}
	}
	for _, id := range r.owners {
		if !r.through[id] {
			to = append(to, id)
		}
	}
	ask = Ask{Round: r.id, Partition: r.partition, Pass: r.pass, Floor: r.floor, From: r.from}
	if r.pass == Settle {
		ask.Had, ask.Void, ask.Closed = r.had, r.void, r.closed
	}
	return to, ask
}

// Stop ends the round: an owner has refused, the topology has changed, or it
// has taken too long. A round whose floor is being completed goes on: all have
// raised it.
func (r *Round) Stop(why Cause) {
	if !r.Ended() && r.pass != Complete {
		r.off = why
	}
}

// Answered takes an owner's answer.
func (r *Round) Answered(from topology.NodeID, a Answer) {
	if r.Ended() || a.Round != r.id || a.Pass != r.pass || r.through[from] || !r.asked(from) {
		return
	}
	if r.pass == Promise {
		r.as[from] = a.As
	} else if r.pass != Complete && r.as[from] != a.As {
		r.off = Cause{Restarted, from, "it is another incarnation"}
		return
	}
	switch r.pass {
	case Promise:
		if a.Completed >= r.floor {
			r.off = Cause{Refused, from, "the floor is completed there"}
			return
		}
		r.from = max(r.from, a.Completed)
		if a.Clock != nil {
			r.had.Join(a.Clock)
		}
		r.former = append(r.former, a.Former...)
	case Settle:
		if !a.Settled {
			return
		}
	case List:
		if r.listed && (a.Count != r.count || a.Digest != r.digest) {
			r.off = Cause{Differing, from, "it lists something else than others"}
			return
		}
		r.listed, r.count, r.digest = true, a.Count, a.Digest
		r.apart[from] = a.Apart
	}
	r.through[from] = true
	if len(r.through) == len(r.owners) {
		if r.pass == List {
			r.compareApart()
		}
		r.next()
	}
}

// compareApart ends the round unless the lists of each bucket are equal among
// those that have it.
func (r *Round) compareApart() {
	all := map[string]Listed{}
	for _, lists := range r.apart {
		for name, l := range lists {
			all[name] = l
		}
	}
	for name, l := range all {
		for _, id := range r.owners {
			want := l
			if !r.has(id, name) {
				want = Listed{}
			}
			if r.apart[id][name] != want {
				r.off = Cause{Differing, id, "it lists something else than others of a bucket that not every region has"}
				return
			}
		}
	}
	for _, l := range all {
		r.count += l.Count
	}
}

func (r *Round) asked(id topology.NodeID) bool {
	for _, o := range r.owners {
		if o == id {
			return true
		}
	}
	return false
}

func (r *Round) next() {
	if !r.off.None() {
		return
	}
	if r.pass == Complete {
		r.done = true
		return
	}
	if r.pass == Promise {
		r.void, r.closed = r.close()
	}
	r.pass++
	clear(r.through)
}

// close is what all owners had, without the gaps of incarnations that none of
// them is: each has said what it has, and those who minted the rest are no more.
// Who they are is the second result. One of them may be that of a node which owned
// the partition before, and lives: if it gets it back, it is told before it mints,
// and takes another actor.
func (r *Round) close() (void *crdt.Clock, closed []crdt.Actor) {
	alive := map[crdt.Actor]bool{}
	for _, as := range r.as {
		alive[as.Actor] = true
	}
	c := r.had.Clone()
	for _, a := range r.had.Actors() {
		if alive[a] {
			continue
		}
		closed = append(closed, a)
		if r.had.Base(a) < r.had.Max(a) {
			c.AddSpan(crdt.Dots{Actor: a, Span: crdt.Span{Lo: 1, Hi: r.had.Max(a)}})
		}
	}
	// Of these nobody has anything.
	for _, a := range r.former {
		if !alive[a] && r.had.Max(a) == 0 {
			closed = append(closed, a)
		}
	}
	slices.Sort(closed)
	return c, slices.Compact(closed)
}
