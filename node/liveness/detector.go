package liveness

import (
	"context"
	"errors"
	"maps"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"time"

	"github.com/hashicorp/go-hclog"

	"github.com/atolldb/atoll/node/peer"
	"github.com/atolldb/atoll/node/topology"
)

// Config of a Detector. Transport and Nodes are needed.
type Config struct {
	Self topology.NodeID
	// Transport carries the pings, which peers answer with an empty reply.
	Transport peer.Transport
	// Nodes lists who is to be watched. It is asked about every second and
	// must not block; Self is left out.
	Nodes func() []topology.NodeID
	// PingTimeout bounds the wait for a ping; 0 is 500 ms. Below the round trip
	// time of the slowest link, its peer is never up.
	PingTimeout time.Duration
	// Rand gives 0 <= x < 1, to spread pings; nil is math/rand.
	Rand func() float64
	// Logger is told when peers go down and come up; nil is silent.
	Logger hclog.Logger
}

// Detector watches the peers of one node. Its methods may be called from any
// goroutine.
type Detector struct {
	cfg   Config
	start time.Time
	onUp  []func(topology.NodeID)

	// late is until when this node is taken to be late, on its clock.
	late atomic.Int64
	beat time.Duration // Run's: when the last beat was

	// self is how long this node's own work takes.
	self meters

	// watched is replaced as a whole, under mu; readers only load it.
	watched atomic.Pointer[map[topology.NodeID]*watched]
	mu      sync.Mutex
	changes []change
	// kick (1) wakes Run: there are changes, or a ping is due sooner.
	kick chan struct{}
}

type change struct {
	node topology.NodeID
	now  State
}

// watched is one peer.
type watched struct {
	id     topology.NodeID
	meters meters
	falls  atomic.Uint64
	pings  atomic.Uint64
	// Read without the lock: state, whether an answer changes anything, and
	// when one last came (ns on the detector's clock).
	state atomic.Uint32
	clean atomic.Bool
	heard atomic.Int64

	mu      sync.Mutex
	machine Machine
	pinging bool
	due     time.Time // of the next ping
}

// New returns a detector that thinks all peers up.
func New(cfg Config) *Detector {
	if cfg.PingTimeout == 0 {
		cfg.PingTimeout = 500 * time.Millisecond
	}
	if cfg.Rand == nil {
		cfg.Rand = rand.Float64
	}
	if cfg.Logger == nil {
		cfg.Logger = hclog.NewNullLogger()
	}
	d := &Detector{cfg: cfg, start: time.Now(), kick: make(chan struct{}, 1)}
	d.watched.Store(&map[topology.NodeID]*watched{})
	return d
}

// OnUp has f called, on Run's goroutine, each time a peer that was down is up
// again. f must not block. Call it before Run.
func (d *Detector) OnUp(f func(topology.NodeID)) { d.onUp = append(d.onUp, f) }

// State returns what is thought of a node. One that is not watched, this node
// among them, is up.
func (d *Detector) State(node topology.NodeID) State {
	if w := (*d.watched.Load())[node]; w != nil {
		return State(w.state.Load())
	}
	return Up
}

// Alive says whether a node is worth sending to: it is not Down.
func (d *Detector) Alive(node topology.NodeID) bool { return d.State(node) != Down }

// Observe learns from how a request to a node ended. err is what peer.Done was
// given. It does not block, and is cheap while all is well.
//
// A timeout is not held against the peer while this node itself is late with
// its own timers: what came in time may not have been looked at (Dadgar,
// Phillips, Currey, "Lifeguard: local health awareness for more accurate
// failure detection", 2018).
func (d *Detector) Observe(node topology.NodeID, err error) {
	w := (*d.watched.Load())[node]
	if w == nil {
		return
	}
	var no *peer.Refusal
	switch {
	case err == nil || errors.As(err, &no):
		d.answer(w)
	case errors.Is(err, peer.ErrNotTried):
	case errors.Is(err, peer.ErrTimeout):
		if d.clock() >= time.Duration(d.late.Load()) {
			d.fail(w, Timeout)
		}
	case errors.Is(err, peer.ErrNotSent), errors.Is(err, peer.ErrLinkLost):
		d.fail(w, Lost)
	}
}

// Took learns how long a request to a node took that was answered, or was not in
// time; the node may be this one. It does not block, and is cheap.
func (d *Detector) Took(node topology.NodeID, k Kind, took time.Duration) {
	if m := d.meters(node); m != nil {
		m.took(k, d.clock(), took)
	}
}

// Slow says that a node takes several times as long as others for some while:
// where there is a choice, others should be asked first. It changes seldom, and
// never for less than ten seconds; but one call a second says no of a slow node
// that was not asked lately, so that it is tried.
func (d *Detector) Slow(node topology.NodeID, k Kind) bool {
	m := d.meters(node)
	return m != nil && m.avoid(k, d.clock)
}

func (d *Detector) meters(node topology.NodeID) *meters {
	if node == d.cfg.Self {
		return &d.self
	}
	if w := (*d.watched.Load())[node]; w != nil {
		return &w.meters
	}
	return nil
}

// judge looks at the latencies since the last beat, and at how late this beat
// is.
func (d *Detector) judge() {
	now := d.clock()
	if last := d.beat; last > 0 && now-last > paceBeat+lateBy {
		d.late.Store(int64(now + lateFor))
	}
	d.beat = now
	type one struct {
		id topology.NodeID
		m  *meters
	}
	all := []one{{d.cfg.Self, &d.self}}
	for id, w := range *d.watched.Load() {
		all = append(all, one{id, &w.meters})
	}
	means := make([]time.Duration, len(all))
	for k := range Kinds {
		for i, o := range all {
			means[i] = o.m[k].pace.Mean()
		}
		typical := Typical(means)
		for _, o := range all {
			m := &o.m[k]
			changed := m.pace.Beat(m.beat(), typical)
			m.mean.Store(int64(m.pace.Mean()))
			m.slow.Store(m.pace.Slow())
			if changed {
				m.turns.Add(1)
				d.cfg.Logger.Info("peer's pace changed", "peer", o.id, "kind", k.String(), "slow", m.pace.Slow(),
					"takes", m.pace.Mean().String(), "typical", typical.String())
			}
		}
	}
}

// PeerStats are what a detector knows of one peer, or of this node, which is
// always up.
type PeerStats struct {
	State State
	// Falls count how often it went down, Pings those sent to it.
	Falls, Pings uint64
	// Latency is a moving average, 0 if it is not known. Slow as Slow says;
	// Turns count its changes.
	Latency [Kinds]time.Duration
	Slow    [Kinds]bool
	Turns   [Kinds]uint64
}

// Stats of all nodes that are watched, and of this one.
func (d *Detector) Stats() map[topology.NodeID]PeerStats {
	out := map[topology.NodeID]PeerStats{}
	add := func(id topology.NodeID, p PeerStats, m *meters) {
		for k := range Kinds {
			p.Latency[k] = time.Duration(m[k].mean.Load())
			p.Slow[k], p.Turns[k] = m[k].slow.Load(), m[k].turns.Load()
		}
		out[id] = p
	}
	add(d.cfg.Self, PeerStats{}, &d.self)
	for id, w := range *d.watched.Load() {
		add(id, PeerStats{State: State(w.state.Load()), Falls: w.falls.Load(), Pings: w.pings.Load()}, &w.meters)
	}
	return out
}

func (d *Detector) answer(w *watched) {
	w.heard.Store(int64(d.clock()))
	if !w.clean.Load() {
		now := time.Now()
		d.step(w, now, func(m *Machine) { m.Answer(now) })
	}
}

// clock is the time since start; unlike the wall clock, it does not jump.
func (d *Detector) clock() time.Duration { return time.Since(d.start) }

func (d *Detector) fail(w *watched, f Failure) {
	now := time.Now()
	d.step(w, now, func(m *Machine) { m.Fail(now, f) })
}

// step changes a machine and publishes what came of it.
func (d *Detector) step(w *watched, now time.Time, do func(*Machine)) {
	w.mu.Lock()
	before, recovering := w.machine.State(), w.machine.Recovering()
	do(&w.machine)
	after := w.machine.State()
	w.state.Store(uint32(after))
	w.clean.Store(w.machine.Clean())
	changed := before != after
	if changed || recovering != w.machine.Recovering() {
		w.due = now.Add(w.machine.Wait(d.cfg.Rand()))
	}
	if changed {
		if after == Down {
			w.falls.Add(1)
		}
		// Under w's lock, so that changes of one peer are told in order.
		d.mu.Lock()
		d.changes = append(d.changes, change{w.id, after})
		d.mu.Unlock()
	}
	w.mu.Unlock()
	if changed {
		d.wake()
	}
}

func (d *Detector) wake() {
	select {
	case d.kick <- struct{}{}:
	default:
	}
}

// Run pings until ctx ends, and returns nil.
func (d *Detector) Run(ctx context.Context) error {
	timer := time.NewTimer(pingUp)
	defer timer.Stop()
	d.wake()
	down := map[topology.NodeID]bool{}
	var looked time.Time
	beat := time.NewTicker(paceBeat)
	defer beat.Stop()
	d.beat = 0
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-timer.C:
		case <-d.kick:
		case <-beat.C:
			d.judge()
			continue
		}
		now := time.Now()
		if now.Sub(looked) >= pingUp {
			d.look(now, down)
			looked = now
		}
		d.tell(down)
		next := looked.Add(pingUp)
		all := *d.watched.Load()
		stretch := stretch(len(all))
		for _, w := range all {
			if at := d.ping(w, now, stretch); at.Before(next) {
				next = at
			}
		}
		timer.Reset(max(time.Until(next), time.Millisecond))
	}
}

// look watches the nodes that there are, and no others.
func (d *Detector) look(now time.Time, down map[topology.NodeID]bool) {
	old := *d.watched.Load()
	all := map[topology.NodeID]*watched{}
	for _, id := range d.cfg.Nodes() {
		if id == d.cfg.Self {
			continue
		}
		w := old[id]
		if w == nil {
			w = &watched{id: id, due: now} // at once: it may never have been there
			w.clean.Store(true)
			w.heard.Store(int64(-pingUp)) // never
		}
		all[id] = w
	}
	maps.DeleteFunc(down, func(id topology.NodeID, _ bool) bool { return all[id] == nil })
	d.watched.Store(&all)
}

// tell logs and announces what changed. down is who was down before.
func (d *Detector) tell(down map[topology.NodeID]bool) {
	d.mu.Lock()
	changes := d.changes
	d.changes = nil
	d.mu.Unlock()
	for _, c := range changes {
		switch {
		case c.now == Down:
			down[c.node] = true
			d.cfg.Logger.Info("peer down", "peer", c.node)
		case c.now == Up && down[c.node]:
			delete(down, c.node)
			d.cfg.Logger.Info("peer up", "peer", c.node)
			for _, f := range d.onUp {
				f(c.node)
			}
		}
	}
}

// stretch makes the pauses between pings longer where there are many peers, so
// that a node sends some pingBudget a second at most: all nodes of a large
// region would otherwise send a number that grows with its square.
func stretch(peers int) time.Duration { return time.Duration(max(1, (peers+pingBudget-1)/pingBudget)) }

// wait is how long to wait until a peer's next ping. One in doubt is pinged at
// the full pace.
func (d *Detector) wait(m *Machine, stretch time.Duration) time.Duration {
	wait := m.Wait(d.cfg.Rand())
	if m.State() == Suspect || m.Recovering() {
		return wait
	}
	return wait * stretch
}

// ping asks a peer that is due, and returns when it is next to be looked at.
func (d *Detector) ping(w *watched, now time.Time, stretch time.Duration) time.Time {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.pinging {
		return now.Add(pingUp) // its end wakes Run
	}
	if !w.due.After(now) && w.machine.State() == Up {
		// Traffic is as good as a ping.
		idle := d.clock() - time.Duration(w.heard.Load())
		if wait := d.wait(&w.machine, stretch) - idle; wait > 0 {
			w.due = now.Add(wait)
		}
	}
	if w.due.After(now) {
		return w.due
	}
	w.pinging = true
	w.pings.Add(1)
	req := peer.Request{Verb: peer.VerbPing, Timeout: d.cfg.PingTimeout}
	d.cfg.Transport.Send(w.id, req, func(_ []byte, err error) {
		d.Observe(w.id, err)
		w.mu.Lock()
		w.pinging = false
		w.due = time.Now().Add(d.wait(&w.machine, stretch))
		w.mu.Unlock()
		d.wake()
	})
	return now.Add(pingUp)
}
