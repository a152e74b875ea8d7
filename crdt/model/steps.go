package model

import "math/rand/v2"

type op uint8

const (
	opRead op = iota
	opPut
	opPutBlind
	opOverwrite
	opDelete
	opReadDelete
	opStandIn
	opDeliver
	opLose
	opDuplicate
	opSleep
	opWake
	opPull
	opStream
	opStreamStep
	opCrash
	opStop
	opStart
	opWipe
	opCopy
	opRotLose
	opRotBack
	opPrune
	opRound
	opVoid
	opSkew
	opCut
	opJump
	opSettle
	ops
)

var weights = [ops]int{
	opRead: 8, opPut: 8, opPutBlind: 4, opOverwrite: 2, opDelete: 4, opReadDelete: 4,
	opDeliver: 16, opLose: 2, opDuplicate: 3, opSleep: 2, opWake: 3,
	opPull: 6, opStream: 1, opStreamStep: 3,
	opCrash: 3, opStop: 1, opStart: 8, opWipe: 1, opCopy: 1,
	opRotLose: 1, opRotBack: 1, opPrune: 2,
	opRound: 8, opVoid: 1, opSkew: 1, opCut: 1, opJump: 2, opSettle: 4,
}

// collecting are the weights of Options.Collecting.
var collecting = [ops]int{
	opPut: 6, opReadDelete: 6, opDeliver: 10, opWake: 10, opPull: 6, opSettle: 3,
	opRotLose: 6, opRotBack: 2, opRound: 30, opWipe: 1, opCrash: 1, opStart: 4,
}

// profile is drawn once a history, so that each history has its own mixture of
// operations and faults: some meet only where others are absent (swarm
// testing, Groce et al. 2012).
type profile struct {
	upTo  [ops]int // cumulative weights
	total int

	atOnce, lost, hint, sleep int // percent of messages
	readRepair, unsticky      int // percent
	grace                     int64
	takeBack                  int // batches that a crash takes back at most
	tick                      int64
	keys                      int
	roundSteps                int // of a collection round, in one step

	roam, alone, settled int // percent, of Options.Roaming
}

func drawProfile(rng *rand.Rand, opt *Options) profile {
	p := profile{
		atOnce: 20 + rng.IntN(70), lost: rng.IntN(20), hint: rng.IntN(100), sleep: rng.IntN(12),
		readRepair: rng.IntN(100), unsticky: rng.IntN(60),
		roundSteps: 1,
		takeBack:   1 + rng.IntN(20), tick: 1 + rng.Int64N(40), keys: 1 + rng.IntN(Keys),
	}
	if p.takeBack > 10 {
		p.takeBack = 0 // disks that keep what they said is kept
	}
	p.grace = []int64{0, 10, 100, 1000}[rng.IntN(4)]
	for o := range ops {
		n := weights[o]
		switch rng.IntN(8) {
		case 0, 1:
			if o != opPut && o != opStart && o != opDeliver {
				n = 0
			}
		case 2:
			n *= 4
		}
		switch o {
		case opRotLose, opRotBack:
			if opt.NoSilent {
				n = 0
			}
		case opStandIn:
			if opt.Bugs.StandInMints {
				n = 8
			}
		}
		if opt.Collecting {
			n = collecting[o]
		}
		p.total += n
		p.upTo[o] = p.total
	}
	if opt.Roaming {
		p.roam, p.alone, p.settled = rng.IntN(100), rng.IntN(100), rng.IntN(100)
	}
	if opt.Collecting {
		p.keys, p.sleep, p.grace, p.roundSteps = 1, 40, 0, 1+rng.IntN(6)
	}
	return p
}

func (p *profile) draw(rng *rand.Rand) op {
	n := rng.IntN(p.total)
	o := op(0)
	for n >= p.upTo[o] {
		o++
	}
	return o
}

// step does one random thing.
func (w *world) step() {
	w.now += w.rng.Int64N(w.profile.tick)
	c, key := w.rng.IntN(Clients), w.rng.IntN(w.profile.keys)
	o := &w.owners[w.rng.IntN(Owners)]
	switch op := w.profile.draw(w.rng); op {
	case opRead:
		w.read(c, key, 1+w.rng.IntN(2))
	case opPut, opPutBlind, opOverwrite, opDelete, opReadDelete, opStandIn:
		w.stepWrite(op, c, key)
	case opDeliver, opLose, opDuplicate, opSleep:
		w.stepMail(op)
	case opWake:
		if n := len(w.slept); n > 0 {
			w.wake(w.rng.IntN(n))
		}
	case opPull:
		if p := &w.owners[w.rng.IntN(Owners)]; p != o {
			w.pull(o, p, false)
		}
	case opStream, opStreamStep:
		w.stepStream(op, o)
	case opCrash, opStop, opStart, opWipe, opCopy, opRotLose, opRotBack:
		w.stepFault(op, o, key)
	case opPrune:
		if o.state != down && o.disk.index != 0 {
			o.disk.commit(w, batch{key: -1, pruned: o.disk.index & eventSet(w.rng.Uint64())})
		}
	case opRound:
		if !w.opt.Bugs.AgeTombstones {
			for range w.profile.roundSteps {
				w.stepRound()
			}
		}
	case opVoid:
		w.voidRound()
	case opSkew:
		o.skew = w.rng.Int64N(500) - 250
	case opCut:
		w.cut = !w.cut
	case opJump:
		w.now += w.rng.Int64N(2000)
	case opSettle:
		w.settle()
	}
}

func (w *world) stepWrite(op op, c, key int) {
	o := w.minter(c)
	if o == nil {
		return
	}
	q := write{key: key, base: w.clients[c].known[key]}
	if op != opDelete && w.chance(10) {
		q.expiry = w.now + w.rng.Int64N(500)
	}
	switch op {
	case opPutBlind:
		q.base = knowledge{}
	case opOverwrite:
		q.base = w.know(o.disk.records[key])
	case opDelete:
		q.dead = true
	case opReadDelete:
		base, ok := w.read(c, key, 2)
		if !ok {
			return
		}
		q.base, q.dead = base, true
	case opStandIn:
		if w.chance(60) {
			q.base = knowledge{}
		}
		w.mintByStandIn(c, q)
		return
	}
	w.mint(c, o, q)
}

func (w *world) stepMail(op op) {
	n := len(w.mail)
	if n == 0 {
		return
	}
	i := w.rng.IntN(n)
	m := w.mail[i]
	if op == opDuplicate {
		w.deliver(m)
		return
	}
	w.mail[i] = w.mail[n-1]
	w.mail = w.mail[:n-1]
	switch op {
	case opDeliver:
		w.deliver(m)
	case opSleep:
		w.slept = append(w.slept, m)
	}
}

// wake delivers a message that slept. Nobody waits for its vote any more.
func (w *world) wake(i int) {
	m := w.slept[i]
	w.slept[i] = w.slept[len(w.slept)-1]
	w.slept = w.slept[:len(w.slept)-1]
	m.vote = false
	if o := &w.owners[m.to]; o.state == serving {
		w.stats.Slept++
		if w.opt.Trace {
			w.logf("a message to %v wakes: k%d %v", o, m.key, show(m.rec))
		}
		w.apply(o, &m)
	}
}

func (w *world) stepStream(op op, o *owner) {
	if op == opStream {
		if p := &w.owners[w.rng.IntN(Owners)]; o.reaches(p) && o.state == serving && p.state == serving {
			w.streams = append(w.streams, w.openStream(o, p))
		}
		return
	}
	if n := len(w.streams); n > 0 {
		i := w.rng.IntN(n)
		if w.advance(&w.streams[i]) {
			w.streams[i] = w.streams[n-1]
			w.streams = w.streams[:n-1]
		}
	}
}

func (w *world) stepFault(op op, o *owner, key int) {
	if op == opStart {
		if o.state == down {
			o.start()
		} else if o.state == rejoining {
			w.rejoin(o)
		}
		return
	}
	if o.state == down {
		return
	}
	switch op {
	case opCrash:
		w.crash(o, w.rng.IntN(w.profile.takeBack+1))
	case opStop:
		o.stopCleanly()
	case opWipe:
		w.wipe(o)
	case opCopy:
		w.copyDisk(o, w.rng.IntN(20))
	case opRotLose, opRotBack:
		w.rot(&w.owners[w.bad], key, op == opRotLose)
	}
}

// settle is a quiet hour: everything is up and reachable, mail arrives,
// anti-entropy comes to rest; and perhaps a collection round.
func (w *world) settle() {
	w.heal()
	for len(w.mail) > 0 {
		m := w.mail[len(w.mail)-1]
		w.mail = w.mail[:len(w.mail)-1]
		w.deliver(m)
	}
	if !w.syncAll() {
		w.violate("I2", "anti-entropy does not end")
	}
	if w.chance(70) {
		w.now += w.profile.grace + w.rng.Int64N(400)
		w.voidRound()
		w.runRound()
	}
}

func (w *world) heal() {
	w.logf("heal")
	w.cut = false
	for i := range w.owners {
		if w.owners[i].state == down {
			w.owners[i].start()
		}
	}
	// Those who know the floor first, then those who ask them.
	for range w.owners {
		for i := range w.owners {
			if w.owners[i].state == rejoining {
				w.rejoin(&w.owners[i])
			}
		}
	}
}

// end heals everything, lets every late message arrive, and checks.
func (w *world) end() {
	w.settle()
	w.streams = w.streams[:0]
	if !w.opt.Bugs.AgeTombstones {
		w.equalFloors()
	}
	for len(w.slept) > 0 {
		w.wake(0)
	}
	if !w.syncAll() {
		w.violate("I2", "anti-entropy does not end")
		return
	}
	w.checkEnd()
}

// equalFloors completes a round if floors differ: a round that was broken off
// leaves them so, and digests are compared at equal floors only.
func (w *world) equalFloors() {
	differ := w.chance(20)
	for i := range w.owners {
		differ = differ || w.owners[i].disk.floor != w.owners[0].disk.floor
	}
	if !differ {
		return
	}
	for range 4 {
		w.now += w.profile.grace + 1
		w.voidRound()
		if w.runRound() {
			return
		}
		w.syncAll()
	}
	w.violate("I2", "no collection round comes to its end")
}
