package cas

import (
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"

	"github.com/atolldb/atoll/crdt"
	"github.com/atolldb/atoll/crdt/hlc"
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

func (m *model) start(o *owner) {
	m.actors++
	o.actor, o.disk = crdt.MakeActor(m.actors, ballotRegion), o.durable
	o.prop = NewProposer(crdt.BallotActor(ballotRegion, 0), uint16(o.id+1))
	o.prop.Break(m.opt.bugs.proposer)
	o.turn, o.waiting, o.asked, o.ride = o.turn+1000, false, nil, 0
	if o.op != nil {
		o.op.dead = true
		m.mayRetry(o.op)
		m.say("n%d forgets op %d", o.id, o.op.id)
	}
	o.op = nil
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

// saw notes what the writer of d, on top of cur with that past, has truly seen.
func (m *model) saw(d crdt.Dot, cur crdt.Record, past crdt.VV) {
	seen := map[crdt.Dot]bool{}
	for i := range cur.Versions {
		u := cur.Versions[i].Dot
		if past.Covers(u) {
			seen[u] = true
			for x := range m.truth[u] {
				seen[x] = true
			}
		}
	}
	for u := range m.collected {
		seen[u] = true
	}
	m.truth[d] = seen
}

func exactly(d crdt.Dot) func(crdt.Record) bool {
	return func(cur crdt.Record) bool {
		v := crdt.Read(cur, crdt.MV, 0)
		return len(v.Live) == 1 && v.Live[0].Dot == d
	}
}

func absent(cur crdt.Record) bool { return len(crdt.Read(cur, crdt.MV, 0).Live) == 0 }

// op draws an operation for a node.
func (m *model) newOp(o *owner) (*modelOp, *Op) {
	if len(m.begun) > 0 && m.chance(500) {
		return m.again()
	}
	op := &modelOp{id: m.tick(), call: m.tick(), open: true, made: m.now}
	m.ops = append(m.ops, op)
	// One register, whether a region decides for itself or as somebody's home.
	do := &Op{Actor: crdt.BallotActor(ballotRegion, uint32(m.rng.IntN(3)))}
	live := crdt.Read(m.pick().disk.rec, crdt.MV, 0).Live
	switch k := m.rng.IntN(10); {
	case k < 2:
		op.kind = "read"
		return op, do
	case k < 4:
		op.kind, do.Holds = "if-absent", absent
	case k < 8 && len(live) > 0:
		op.expect = live[m.rng.IntN(len(live))].Dot
		op.kind, do.Holds = "if-version", exactly(op.expect)
	case k == 8:
		op.kind = "delete"
	default:
		op.kind = "put"
	}
	if !m.chance(200) {
		op.request = crdt.MakeRequestID(m.now, [10]byte{byte(op.id), byte(op.id >> 8)})
		do.ID = op.request
	}
	op.retry = do
	do.Write = func(cur crdt.Record, dot crdt.Dot) (crdt.Version, crdt.VV) {
		past := cur.Context().Seen
		if !slices.Contains(op.dots, dot) {
			op.dots = append(op.dots, dot)
			m.saw(dot, cur, past)
		}
		return crdt.Version{Dead: op.kind == "delete", Stamp: cur.MaxStamp() + 1, Value: fmt.Appendf(nil, "%d", op.id)}, past
	}
	return op, do
}

// again is a retry of an operation of unknown outcome.
func (m *model) again() (*modelOp, *Op) {
	i := m.rng.IntN(len(m.begun))
	was := m.begun[i]
	op := &modelOp{id: m.tick(), kind: was.kind, call: was.call, open: true, expect: was.expect, request: was.request, made: was.made, first: was}
	m.ops = append(m.ops, op)
	m.stats.retries++
	do := *was.retry
	do.Retry = true
	do.Write = func(cur crdt.Record, dot crdt.Dot) (crdt.Version, crdt.VV) {
		if !slices.Contains(op.dots, dot) {
			op.dots = append(op.dots, dot)
		}
		return was.retry.Write(cur, dot)
	}
	return op, &do
}

// joins notes which versions of requests are anywhere.
func (m *model) joins(p *Proposal) {
	if p.ID.IsZero() || p.NoOp() {
		return
	}
	if m.shown[p.ID] == nil {
		m.shown[p.ID] = map[crdt.Dot]bool{}
	}
	if m.shown[p.ID][p.Dot] = true; len(m.shown[p.ID]) > 1 {
		m.twice = fmt.Errorf("twice: request %v was carried out by %v", p.ID, slices.Collect(maps.Keys(m.shown[p.ID])))
	}
}

func (m *model) begin(o *owner) {
	op, do := m.newOp(o)
	o.op = op
	m.say("%d: n%d begins op %d %s %v", op.call, o.id, op.id, op.kind, op.expect)
	if m.opt.bugs.readThenWrite {
		m.beginRTW(o, do)
		return
	}
	m.step(o, o.prop.Begin(do, m.row(), m.ms(o)))
}

// step does what a proposer says.
func (m *model) step(o *owner, s Step) {
	if s.Chosen != nil {
		st, p, _ := o.disk.state.Commit(s.Chosen.Ballot)
		o.disk.state = st
		if p != nil {
			o.disk.rec = crdt.Join(o.disk.rec, m.timely(p.Record))
		}
		m.joins(s.Chosen)
		if id := s.Chosen.ID; !id.IsZero() && !s.Chosen.NoOp() {
			o.disk.note(id, Carried{Version: s.Chosen.Dot})
		}
		o.ride, o.ridden = s.Chosen.Ballot, s.Chosen.Record
		m.say("n%d: %v of %x is decided", o.id, s.Chosen.Dot, s.Chosen.Ballot)
	}
	if s.Outcome != nil {
		op := o.op
		o.op, o.asked = nil, nil
		op.direct = s.Chosen != nil && uint64(s.Chosen.Ballot) == s.Outcome.Version.N
		m.end(op, *s.Outcome)
	}
	o.waiting = s.Again
	if s.Send == nil {
		return
	}
	msg := *s.Send
	if msg.Unprepared {
		m.stats.unprepared++
	}
	if d := msg.Proposal.Dot; m.opt.bugs.nodeDots && !d.IsZero() && d.Actor.IsBallot() {
		m.rename(o, &msg)
	}
	o.turn = s.Turn
	o.asked = map[int]bool{}
	a := m.receive(o, &msg)
	if msg.Verb == Accept && a.Verdict != OK {
		m.step(o, o.prop.Unsent(s.Turn, &a, m.ms(o)))
		return
	}
	o.sync()
	msg.Exactly = nil
	for _, x := range m.nodes {
		if x == o {
			continue
		}
		o.asked[x.id] = true
		c := msg
		if o.ride != 0 && msg.Verb == Accept {
			c.Decided = o.ride
		}
		m.send(packet{from: o.id, to: x.id, prop: o.prop, turn: s.Turn, msg: &c})
	}
	m.step(o, o.prop.Answer(s.Turn, o.id, false, a, m.ms(o)))
}

// rename is a bug: the proposal gets the next dot of the node's own actor.
func (m *model) rename(o *owner, msg *Message) {
	d := msg.Proposal.Dot
	if d.N == uint64(msg.Proposal.Ballot) && o.op != nil && o.prop.intent == toWrite {
		o.disk.count++
		n := crdt.Dot{Actor: o.actor, N: o.disk.count}
		v := *msg.Proposal.Record.Find(d)
		rest := crdt.Without(msg.Proposal.Record, []crdt.Dot{d})
		v.Dot = n
		m.truth[n] = m.truth[d]
		o.op.dots = append(o.op.dots, n)
		msg.Proposal.Dot, msg.Proposal.Record = n, crdt.Join(rest, crdt.Record{Versions: []crdt.Version{v}})
		o.prop.proposal, o.prop.mine[len(o.prop.mine)-1] = msg.Proposal, n
	}
}

// receive is an acceptor.
func (m *model) receive(o *owner, msg *Message) Answer {
	d := &o.disk
	was := d.state
	if msg.Decided != 0 {
		st, p, _ := d.state.Commit(msg.Decided)
		d.state = st
		if p != nil {
			d.rec = crdt.Join(d.rec, m.timely(p.Record))
			if !p.ID.IsZero() && !p.NoOp() {
				d.note(p.ID, Carried{Version: p.Dot})
			}
		}
	}
	var carried Carried
	unsure := false
	if id := msg.Proposal.ID; !id.IsZero() {
		carried = d.notes[id]
		made, _ := id.MadeAt()
		unsure = made <= d.memory
	}
	var v Verdict
	switch msg.Verb {
	case Prepare:
		d.state, v = d.state.Prepare(msg.Ballot, d.min)
	case Accept:
		c := *msg
		c.Unprepared = c.Unprepared && !m.opt.bugs.assume
		if c.Noted = carried; m.opt.bugs.noKnown {
			c.Noted, c.Proposal.ID = Carried{}, crdt.RequestID{}
		}
		d.state, v = d.state.Accept(&c, d.rec, d.min)
		if v == Changed {
			m.stats.changed++
		}
		if v == OK && m.opt.bugs.joinAccepted {
			d.rec = crdt.Join(d.rec, msg.Proposal.Record)
		}
	case Commit:
		v = OK
		if d.state.Committed < msg.Decided {
			v = Missed
		}
	}
	if msg.Verb == Accept && v == OK && msg.Proposal.NoOp() && !msg.Proposal.ID.IsZero() && d.notes[msg.Proposal.ID].IsZero() {
		d.note(msg.Proposal.ID, Carried{Ended: true})
	}
	m.keep(d, was)
	a := d.state.Show(v, d.min, d.rec)
	if msg.Verb == Prepare {
		a.Carried, a.Unsure = carried, unsure
	}
	return a
}

func (m *model) end(op *modelOp, out Outcome) {
	op.outcome, op.ret, op.open = out, m.tick(), false
	m.say("%d: op %d %s: %d %v %v", op.ret, op.id, op.kind, out.Result, out.Version, dots(out.Record))
	switch {
	case out.Result == Unknown:
		op.ret, op.dead = 0, true
		m.stats.unknown++
		m.mayRetry(op)
	case op.first != nil && out.Result == Refused: // of the attempt, not of the request
		op.ret, op.dead = 0, true
	case out.Carried != nil:
		m.stats.replays++
		m.forget(op)
	case out.Result == Done && op.kind == "read":
		m.stats.reads++
	case out.Result == Done:
		m.stats.done++
		m.forget(op)
	case out.Result == Failed:
		m.stats.failed++
		m.forget(op)
	default:
		m.stats.refused++
	}
}

func dots(r crdt.Record) (out []crdt.Dot) {
	for i := range r.Versions {
		out = append(out, r.Versions[i].Dot)
	}
	return out
}

// plain mints a write that knows of no proposal.
func (m *model) plain(o *owner) {
	op := &modelOp{id: m.tick(), kind: "plain", call: m.tick(), open: true}
	m.ops = append(m.ops, op)
	var past crdt.VV
	from := m.pick().disk.rec
	if m.chance(600) {
		past = from.Context().Seen
	}
	o.disk.count++
	d := crdt.Dot{Actor: o.actor, N: o.disk.count}
	m.saw(d, crdt.Join(from, o.disk.rec), past)
	rec := crdt.Write(o.disk.rec, past, crdt.Version{Dot: d, Stamp: hlc.Stamp(op.id), Dead: m.chance(150)})
	if m.opt.bugs.nodeDots {
		// A minter's own event is dense: it has seen all before of its own.
		for i := range rec.Versions {
			if v := &rec.Versions[i]; v.Dot == d && len(past) > 0 {
				v.Past = past
			}
		}
	}
	m.joined(o, rec)
	o.sync()
	op.version, op.at = d, map[int]bool{o.id: true}
	m.say("%d: n%d plain op %d: %v past %v", op.call, o.id, op.id, d, past)
	for _, x := range m.nodes {
		if x != o {
			r := o.disk.rec
			m.send(packet{from: o.id, to: x.id, apply: &r, plain: op})
		}
	}
}

func (m *model) joined(o *owner, r crdt.Record) {
	was := o.disk.state
	o.disk.rec = crdt.Join(o.disk.rec, m.timely(r))
	o.disk.state = was.Learned(o.disk.rec)
	m.keep(&o.disk, was)
}

// keep notes what is not held any more.
func (m *model) keep(d *disk, was State) {
	p, fate := was.Carried(d.state, d.rec)
	if fate != Open && !m.opt.bugs.noNotes {
		d.note(p.ID, Carried{Version: p.Dot, Doubt: fate == Doubtful && !m.opt.bugs.noDoubts})
	}
}

// mayRetry has an operation with an id be tried again.
func (m *model) mayRetry(op *modelOp) {
	if op.first == nil && !op.request.IsZero() {
		m.begun = append(m.begun, op)
	}
}

// forget ends the retries of a request of which the outcome is known.
func (m *model) forget(op *modelOp) {
	m.begun = slices.DeleteFunc(m.begun, func(x *modelOp) bool { return x == op.first })
}

// deliver one packet.
func (m *model) deliver(p packet) {
	o := m.nodes[p.to]
	switch {
	case p.apply != nil:
		m.joined(o, *p.apply)
		o.sync()
		if p.plain != nil {
			if p.plain.at[o.id] = true; len(p.plain.at) >= m.need() && p.plain.open {
				p.plain.open, p.plain.ret = false, m.tick()
				m.stats.plainAck++
				m.say("%d: plain op %d is acknowledged", p.plain.ret, p.plain.id)
			}
		}
	case p.msg != nil:
		a := m.receive(o, p.msg)
		o.sync()
		if p.msg.Verb == Commit && a.Verdict == Missed {
			r := m.nodes[p.from].durable.rec
			m.send(packet{from: p.from, to: p.to, apply: &r})
			return
		}
		m.send(packet{from: p.to, to: p.from, prop: p.prop, turn: p.turn, answer: &a})
	case p.answer != nil:
		if o.op != nil && o.prop == p.prop && o.turn == p.turn && o.asked[p.from] {
			m.step(o, o.prop.Answer(p.turn, p.from, false, *p.answer, m.ms(o)))
		}
	default:
		m.deliverRTW(o, p)
	}
}

// fault and time.
func (m *model) timeouts(o *owner) {
	if o.op == nil || m.opt.bugs.readThenWrite {
		return
	}
	if o.waiting {
		o.waiting = false
		m.step(o, o.prop.Retry(m.row(), m.ms(o)))
		return
	}
	if m.chance(100) {
		m.step(o, o.prop.Expire())
		return
	}
	turn := o.turn
	for _, x := range m.nodes {
		if o.op != nil && o.turn == turn && o.asked[x.id] && m.chance(500) {
			m.step(o, o.prop.Fail(turn, x.id, false, false, m.ms(o)))
		}
	}
}

func (m *model) wipe(o *owner) {
	m.wiped, m.round = true, nil
	m.stats.wipes++
	m.say("n%d loses everything", o.id)
	o.durable = disk{}
	m.start(o)
	for _, op := range m.ops {
		if op.kind == "plain" && op.open {
			delete(op.at, o.id)
		}
	}
	others := m.rng.Perm(len(m.nodes))
	others = slices.DeleteFunc(others, func(i int) bool { return i == o.id })
	for n, i := range others {
		x := m.nodes[i]
		o.disk.rec = crdt.Join(o.disk.rec, x.durable.rec)
		if n < len(others)/2+1 && !m.opt.bugs.forgetful {
			o.disk.state = o.disk.state.Merge(x.durable.state)
		}
	}
	if !m.opt.bugs.forgetful {
		o.disk.min = At(m.now + 500)
	}
	o.disk.state = o.disk.state.Learned(o.disk.rec)
	o.disk.memory = m.now + 1
	o.sync()
}

func (m *model) run(steps int) error {
	loss := m.rng.IntN(150)
	chaos := m.rng.IntN(20)
	for range steps {
		if m.dice.IntN(1000) < m.opt.rounds {
			m.rounds()
		}
		m.now += int64(m.rng.IntN(3))
		switch k := m.rng.IntN(1000); {
		case k < 700:
			if len(m.net) == 0 {
				if o := m.pick(); o.op == nil {
					m.begin(o)
				}
				continue
			}
			i := m.rng.IntN(len(m.net))
			p := m.net[i]
			if !m.chance(60) { // else it comes twice
				m.net = slices.Delete(m.net, i, i+1)
			}
			if !m.chance(loss) {
				m.deliver(p)
			}
		case k < 800:
			if o := m.pick(); o.op == nil {
				m.begin(o)
			}
		case k < 880:
			m.timeouts(m.pick())
		case k < 900:
			if o := m.pick(); o.ride != 0 && o.op == nil {
				o.sync()
				for _, x := range m.nodes {
					if x != o {
						m.send(packet{from: o.id, to: x.id, msg: &Message{Verb: Commit, Decided: o.ride}})
					}
				}
				o.ride = 0
			}
		case k < 920:
			from, to := m.pick(), m.pick()
			r := from.durable.rec
			m.send(packet{from: from.id, to: to.id, apply: &r})
		case k < 960:
			if m.opt.plain {
				m.plain(m.pick())
			}
		case k < 960+chaos:
			m.stats.crashes++
			o := m.pick()
			m.say("n%d crashes", o.id)
			m.start(o)
		case k > 995 && !m.wiped:
			m.wipe(m.pick())
		}
		if err := m.phantoms(); err != nil {
			return err
		}
	}
	return m.finish()
}

// finish ends the faults, and reads once more.
func (m *model) finish() error {
	m.net = nil
	for _, o := range m.nodes {
		o.sync()
		m.start(o)
	}
	m.now += 2000
	o := m.nodes[0]
	if m.opt.bugs.readThenWrite {
		return m.check()
	}
	op := &modelOp{id: m.tick(), kind: "read", call: m.tick(), open: true}
	m.ops = append(m.ops, op)
	o.op = op
	m.step(o, o.prop.Begin(&Op{}, m.row(), m.ms(o)))
	for range 1000 {
		if !op.open {
			break
		}
		if o.waiting {
			o.waiting = false
			m.step(o, o.prop.Retry(m.row(), m.ms(o)))
		}
		for len(m.net) > 0 {
			p := m.net[0]
			m.net = m.net[1:]
			m.deliver(p)
		}
	}
	if op.open || op.outcome.Result != Done {
		return fmt.Errorf("the last read does not end: %+v", op.outcome)
	}
	for range 2 {
		for _, a := range m.nodes {
			for _, b := range m.nodes {
				m.joined(a, b.disk.rec)
			}
		}
	}
	if err := m.phantoms(); err != nil {
		return err
	}
	return m.check()
}
