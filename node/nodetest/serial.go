package nodetest

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/atolldb/atoll/crdt"
	"github.com/atolldb/atoll/internal/pause"
	"github.com/atolldb/atoll/node/coord"
	"github.com/atolldb/atoll/node/quorum"
	"github.com/atolldb/atoll/node/topology"
)

// Deciders are clients that read and write at LOCAL_SERIAL, some of them at a
// time the same keys of their region, through any of its nodes; and at SERIAL the
// same keys in all regions, which the first region decides. What they did is
// judged by porcupine, key by key (L1).

const (
	// serialKeys are used at a time by the deciders of a region, of which there are
	// serialClients. A key is used for so many operations and so many unknown
	// outcomes, which the checker has to place anywhere.
	serialKeys    = 2
	serialClients = 3
	serialOps     = 200
	serialUnknown = 8
)

const (
	// homedBucket has the first region as its home, homedKey is how its keys begin.
	homedBucket = "homed"
	homedKey    = "home "
	homeRegion  = 0
)

// bucketOf is the bucket of a key: its name tells.
func bucketOf(key string) string {
	if strings.HasPrefix(key, homedKey) {
		return homedBucket
	}
	return coord.DefaultBucket
}

type serialBook struct {
	mu      sync.Mutex
	keys    map[string]*serialKey
	current map[[2]int]*serialKey // by region and place
	n       int
	replays int
	// What porcupine said, by operations and by keys.
	judged, illegal, undecided int
	// byEpoch are operations that were judged for each home alone.
	byEpoch int
}

// serialKey is a key and what was done to it.
type serialKey struct {
	name    string
	unknown int
	ops     []*serialOp
}

// serialOp is one operation. Values are unique, so that they name versions; "" is
// that of a key without one.
type serialOp struct {
	who       int
	call, ret time.Duration
	read      bool
	value     string // that is written; "" deletes
	absent    bool   // only if there is none
	expect    string // only if this one is there
	outcome   serialOutcome
	dot       crdt.Dot // of a write that is acknowledged
	saw       string   // by a read, or a condition that did not hold
	// tries tells of the attempts of a write, one each.
	tries []string
}

type serialOutcome uint8

const (
	serialOpen serialOutcome = iota // or unknown
	serialDone
	serialFailed
	serialNothing // not applied
)

// pick returns a key to work on: one of a region, or with region -1 one of all.
func (b *serialBook) pick(region, place int) *serialKey {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.current == nil {
		b.current = map[[2]int]*serialKey{}
	}
	at := [2]int{region, place}
	k := b.current[at]
	if k == nil || len(k.ops) >= serialOps || k.unknown >= serialUnknown {
		b.n++
		k = &serialKey{name: fmt.Sprintf("serial %d of %d", b.n, region)}
		if region < 0 {
			k.name = fmt.Sprintf("%sserial %d", homedKey, b.n)
		}
		b.keys[k.name], b.current[at] = k, k
	}
	return k
}

func (b *serialBook) begin(k *serialKey, op *serialOp) {
	b.mu.Lock()
	defer b.mu.Unlock()
	k.ops = append(k.ops, op)
}

func (b *serialBook) end(k *serialKey, op *serialOp, at time.Duration, out serialOutcome, saw string) {
	b.mu.Lock()
	defer b.mu.Unlock()
	op.ret, op.outcome, op.saw = at, out, saw
	if out == serialOpen {
		k.unknown++
	}
}

// counts says how many operations there were, how many of those at SERIAL, and how
// many in all are of unknown outcome.
func (b *serialBook) counts() (ops, homed, unknown int) {
	b.mu.Lock()
	defer b.mu.Unlock()
	for _, k := range b.keys {
		ops += len(k.ops)
		if bucketOf(k.name) == homedBucket {
			homed += len(k.ops)
		}
		for _, op := range k.ops {
			if op.outcome == serialOpen {
				unknown++
			}
		}
	}
	return ops, homed, unknown
}

// decider is one client.
type decider struct {
	*client
	id   int
	n    int
	last map[string]crdt.Version // that it saw, by key
	// keys that are used at a time, and how long it waits at most.
	keys  int
	think time.Duration
	// homely: it works at SERIAL alone, wherever the home is by now.
	homely bool
}

func (w *World) decider(i, region int) *decider {
	d := &decider{client: w.client(i, region, nil), id: i, last: map[string]crdt.Version{}, keys: serialKeys, think: 150 * time.Millisecond}
	if f := w.shape.Focus; f != nil {
		d.keys, d.think = f.contested, f.think
	}
	return d
}

func (d *decider) run(ctx context.Context) {
	for pause.For(ctx, time.Millisecond+time.Duration(d.rng.Int64N(int64(d.think)))) {
		if node := d.coordinator(); node != nil && d.w.resting.Load() == 0 {
			d.step(node)
		}
	}
}

func (d *decider) step(node *coord.Coordinator) {
	region := d.region
	if d.homely || d.rng.IntN(5) < 2 {
		region = -1
	}
	k := d.w.serial.pick(region, d.rng.IntN(d.keys))
	op := &serialOp{who: d.id, call: time.Since(d.w.start)}
	draw := d.rng.IntN(10)
	if draw < 3 {
		op.read = true
		d.w.serial.begin(k, op)
		d.read(node, k, op)
		return
	}
	d.n++
	op.value = fmt.Sprintf("%s:%d", d.name, d.n)
	p := coord.Put{Bucket: bucketOf(k.name), Key: []byte(k.name), Level: d.level(k), Deadline: time.Now().Add(2 * time.Second)}
	switch last, ok := d.last[k.name]; {
	case draw < 5:
		op.absent, p.Condition.Kind = true, crdt.IfAbsent
	case draw < 8 && ok:
		op.expect = string(last.Value)
		p.Condition = crdt.Condition{Kind: crdt.IfVersion, Version: last.Dot}
	case draw == 8:
		op.value, p.Delete = "", true
		d.w.hist.erase(k.name)
	}
	p.Value = []byte(op.value)
	d.w.serial.begin(k, op)
	if d.rng.IntN(4) > 0 {
		var chance [10]byte
		binary.BigEndian.PutUint64(chance[:], d.rng.Uint64())
		p.RequestID = crdt.MakeRequestID(time.Now().UnixMilli(), chance)
	}
	var o decided
	for try := 0; ; try++ {
		if !d.put(node, k, p, &o) {
			return
		}
		op.tries = append(op.tries, d.story(&p, answer{res: o.res, err: o.err}))
		var e *coord.Error
		if p.RequestID.IsZero() || try == serialTries || !errors.As(o.err, &e) || e.Outcome != coord.Unknown {
			break
		}
		// The same write, through any node; it happens once.
		time.Sleep(time.Duration(d.rng.IntN(500)) * time.Millisecond)
		if next := d.coordinator(); next != nil {
			node = next
		}
		p.TriedIn = []topology.Region{d.w.tops[d.region].Region}
		p.Retry, p.Deadline = true, time.Now().Add(2*time.Second)
	}
	if o.res.Replayed {
		d.w.serial.replayed()
	}
	now := time.Since(d.w.start)
	var e *coord.Error
	switch {
	case o.err == nil:
		op.dot = o.res.Version
		d.w.serial.end(k, op, now, serialDone, "")
		if o.res.Version.IsZero() && !o.res.Replayed {
			d.w.t.Errorf("write of %s has no version: %+v", k.name, o.res)
		}
		if delete(d.last, k.name); !p.Delete && !o.res.Version.IsZero() {
			d.last[k.name] = crdt.Version{Dot: o.res.Version, Value: []byte(op.value)}
		}
		if o.res.Event.IsZero() && !o.res.Replayed || o.res.Event.Actor.IsBallot() {
			d.w.t.Errorf("write of %s has the event %v", k.name, o.res.Event)
		}
		d.w.events.told(k.name, o.res.Version, o.res.Event, o.res.Replayed, d.name)
		if !o.res.Version.IsZero() && !d.roams(k) {
			d.w.hist.atQuorum(d.decides(k), k.name, o.res.Version)
		}
	case errors.As(o.err, &e) && e.Code == coord.CodeConditionFailed:
		d.w.serial.end(k, op, now, serialFailed, d.shown(k, e.Current))
	case errors.As(o.err, &e) && e.Outcome == coord.NotApplied:
		d.w.serial.end(k, op, now, serialNothing, "")
	default:
		d.w.serial.end(k, op, now, serialOpen, "")
	}
}

// serialTries is how often a decider repeats a write whose outcome is unknown.
const serialTries = 3

// decided is what came of a put.
type decided struct {
	res coord.PutResult
	err error
}

// put reports false if there was no answer.
func (d *decider) put(node *coord.Coordinator, k *serialKey, p coord.Put, o *decided) bool {
	done := make(chan decided, 1)
	node.Put(p, func(r coord.PutResult, err error) { done <- decided{r, err} })
	select {
	case *o = <-done:
		return true
	case <-time.After(30 * time.Second):
		d.w.t.Errorf("put of %s by %s never answered", k.name, d.name)
		return false
	}
}

// replayed counts an answer that an earlier attempt had earned.
func (b *serialBook) replayed() {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.replays++
}

// decides is the region that decides for a key when d asks.
func (d *decider) decides(k *serialKey) int {
	if bucketOf(k.name) == homedBucket {
		return homeRegion
	}
	return d.region
}

// roams reports whether the home of a key may move.
func (d *decider) roams(k *serialKey) bool {
	return d.homely || d.w.shape.Disasters && bucketOf(k.name) == homedBucket
}

// level at which d works on a key: in the home region one is as good as the other.
func (d *decider) level(k *serialKey) quorum.Level {
	if bucketOf(k.name) == homedBucket && (d.roams(k) || d.region != homeRegion || d.rng.IntN(2) == 0) {
		return quorum.Serial
	}
	return quorum.LocalSerial
}

// read reads at a serial level, or at LOCAL_QUORUM where the key is decided, which
// must show at least what was acknowledged before (Q2).
func (d *decider) read(node *coord.Coordinator, k *serialKey, op *serialOp) {
	g := coord.Get{Bucket: bucketOf(k.name), Key: []byte(k.name), Level: d.level(k), Deadline: time.Now().Add(2 * time.Second)}
	if d.rng.IntN(4) == 0 && d.decides(k) == d.region && !d.roams(k) {
		g.Level = quorum.LocalQuorum
	}
	owed := slices.Clone(d.w.hist.owed(d.region, k.name))
	type outcome struct {
		res coord.GetResult
		err error
	}
	done := make(chan outcome, 1)
	node.Get(g, func(r coord.GetResult, err error) { done <- outcome{r, err} })
	select {
	case o := <-done:
		if o.err != nil {
			d.w.serial.end(k, op, time.Since(d.w.start), serialNothing, "")
			return
		}
		saw := d.shown(k, &o.res)
		if g.Level == quorum.LocalQuorum {
			d.w.serial.end(k, op, time.Since(d.w.start), serialNothing, "")
			if ctx, err := crdt.DecodeContext(crdt.Keys{secret}, fullKey(k.name), o.res.Context); err == nil && !d.w.lied(k.name) {
				d.w.hist.meets(k.name, owed, ctx.Seen, d.name)
			}
			return
		}
		d.w.serial.end(k, op, time.Since(d.w.start), serialDone, saw)
	case <-time.After(30 * time.Second):
		d.w.t.Errorf("get of %s by %s never answered", k.name, d.name)
	}
}

// shown is the one value of an answer.
func (d *decider) shown(k *serialKey, r *coord.GetResult) string {
	for i := range r.View.Live {
		d.w.events.saw(k.name, r.View.Live[i].Dot, d.name)
	}
	switch live := r.View.Live; len(live) {
	case 0:
		return ""
	case 1:
		d.last[k.name] = live[0]
		return string(live[0].Value)
	default:
		d.w.mu.Lock()
		lied := d.w.faults.rollbacks > 0 || d.w.lost[string(fullKey(k.name))]
		d.w.mu.Unlock()
		if !lied && d.w.doubted(k.name) == "" {
			d.w.hist.fork(k.name, live)
		}
		return string(live[0].Value)
	}
}

func (h *history) fork(key string, live []crdt.Version) {
	h.mu.Lock()
	defer h.mu.Unlock()
	var dots []crdt.Dot
	for i := range live {
		dots = append(dots, live[i].Dot)
	}
	h.problem("L1: %s, which only consensus writes, has siblings: %v", key, dots)
}
