package cas

import (
	"fmt"
	"maps"
	"math/rand/v2"

	"github.com/atolldb/atoll/crdt"
)

// bugs are rules left out of the model's own part of the protocol.
type bugs struct {
	proposer      Faults
	nodeDots      bool // proposals are named by the node's ordinary actor
	joinAccepted  bool // what is accepted is joined at once
	readThenWrite bool // read a quorum, judge, write to a quorum
	forgetful     bool // who lost everything takes part again at once
	assume        bool // acceptors do not compare records with the assumed one
	noNotes       bool // of requests whose proposal is overwritten
	noDoubts      bool // what is covered was decided
	noKnown       bool // acceptors do not refuse what was carried out
	spendPromises bool // states end though nothing takes their promises over
}

type modelOptions struct {
	nodes int
	plain bool
	bugs  bugs
	trace bool
	// rounds is how many steps of rounds of collection there are in a thousand.
	rounds int
}

// model is one key of some owners, each of which is acceptor, proposer and
// minter of plain writes. One history is a function of its seed.
type model struct {
	opt   modelOptions
	rng   *rand.Rand
	now   int64
	nodes []*owner
	net   []packet
	ops   []*modelOp
	// truth is what the writer of a version had truly seen, transitively.
	truth  map[crdt.Dot]map[crdt.Dot]bool
	actors uint32
	wiped  bool
	ids    int
	// begun are operations of unknown outcome, which may be tried again; shown are
	// the versions of a request that were joined anywhere.
	begun []*modelOp
	shown map[crdt.RequestID]map[crdt.Dot]bool
	twice error
	// round of collection, by dice of its own, and when versions were collected.
	round     *round
	dice      *rand.Rand
	collected map[crdt.Dot]int
	log       []string
	stats     modelStats
}

type modelStats struct {
	done, failed, refused, unknown, reads         int
	unprepared, changed, crashes, wipes, plainAck int
	retries, replays, spent, collected            int
}

// disk is what a crash leaves.
type disk struct {
	state State
	rec   crdt.Record
	min   Ballot
	count uint64
	// notes are of requests that were carried out, memory is when they begin.
	notes  map[crdt.RequestID]Carried
	memory int64
}

// note is copied on write: what is durable keeps the one before.
func (d *disk) note(id crdt.RequestID, c Carried) {
	if was := d.notes[id]; c.Doubt && !was.IsZero() && !was.Doubt && !was.Ended {
		return
	}
	next := maps.Clone(d.notes)
	if next == nil {
		next = map[crdt.RequestID]Carried{}
	}
	next[id] = c
	d.notes = next
}

type owner struct {
	id            int
	skew          int64
	durable, disk disk // disk is what was decided
	actor         crdt.Actor
	prop          *Proposer
	op            *modelOp
	turn          uint64
	waiting       bool
	asked         map[int]bool // of this turn, not answered
	ride          Ballot
	ridden        crdt.Record
	// Of readThenWrite.
	replies []crdt.Record
	acks    int
	phase   int
}

type packet struct {
	from, to int
	prop     *Proposer // that asked
	turn     uint64
	msg      *Message
	answer   *Answer
	apply    *crdt.Record
	plain    *modelOp
	gen      int // of a read-then-write operation
	read     bool
	write    *crdt.Record
}

type modelOp struct {
	id         int
	kind       string
	call, ret  int // times: positions in the history; ret 0 while it is open
	expect     crdt.Dot
	outcome    Outcome
	dots       []crdt.Dot   // proposed
	at         map[int]bool // who has a plain write
	version    crdt.Dot     // of a plain write
	request    crdt.RequestID
	made       int64
	first      *modelOp // of which it is a retry
	retry      *Op      // that tries it again
	open, dead bool
	// direct: decided by its own Accept, not found and finished.
	direct bool
}

const ballotRegion = 1

func newModel(opt modelOptions, seed uint64) *model {
	m := &model{opt: opt, rng: rand.New(rand.NewPCG(seed, 7)), dice: rand.New(rand.NewPCG(seed, 11)), now: 1_000_000, truth: map[crdt.Dot]map[crdt.Dot]bool{}, shown: map[crdt.RequestID]map[crdt.Dot]bool{}, collected: map[crdt.Dot]int{}}
	for i := range opt.nodes {
		o := &owner{id: i, skew: int64(m.rng.IntN(200))}
		m.nodes = append(m.nodes, o)
		m.start(o)
	}
	return m
}

func (m *model) say(format string, args ...any) {
	if m.opt.trace {
		m.log = append(m.log, fmt.Sprintf(format, args...))
	}
}

func (m *model) row() Row            { return Row{Slots: m.opt.nodes} }
func (m *model) ms(o *owner) int64   { return m.now + o.skew }
func (o *owner) sync()               { o.durable = o.disk }
func (m *model) need() int           { return m.opt.nodes/2 + 1 }
func (m *model) chance(per int) bool { return m.rng.IntN(1000) < per }
func (m *model) pick() *owner        { return m.nodes[m.rng.IntN(len(m.nodes))] }
func (m *model) send(p packet)       { m.net = append(m.net, p) }
func (m *model) tick() int           { m.ids++; return m.ids }
