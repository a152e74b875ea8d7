//go:build chaos && linux

package chaos

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"sync"
	"testing"
	"time"

	"github.com/anishathalye/porcupine"

	"github.com/atolldb/atoll/client"
)

const (
	// deciders are the clients of a region that work on the same keys.
	deciders = 5
	// A key is worked on for so many operations and so many of unknown outcome,
	// which the checker has to place anywhere.
	decidedOps, decidedUnknown = 120, 6
	decidedKeys                = 2                     // at a time
	decidedEvery               = 25 * time.Millisecond // a decider does something
	homedBucket                = "homed"
)

// TestSerial: clients put, delete and read on conditions at LOCAL_SERIAL, through
// the SDK, which repeats what it heard nothing of, while nodes are killed, paused for
// longer than every timeout, cut off, and join; what they were told is
// linearizable, key by key.
func TestSerial(t *testing.T) {
	parallel(t)
	r := newRig(t, "serial", []string{"eu"}, 3)
	b := r.decide(client.LocalSerial, "")
	for range *timesFlag {
		r.killBriefly("eu")
		isolate(r)
		r.freeze("eu")
		n := r.newcomer("eu")
		r.back(n)
		r.change(nil, "join of one", "node", "join", n.ID)
		r.killBriefly("eu")
	}
	r.judgeSerial(b)
}

// TestSerialRegions is that at SERIAL, by clients of two regions, which are cut.
func TestSerialRegions(t *testing.T) {
	parallel(t)
	r := newRig(t, "serial-regions", []string{"eu", "us"}, 3)
	b := r.decide(client.Serial, homedBucket)
	for range *timesFlag {
		r.killBriefly("eu")
		r.killBriefly("us")
		r.cutRegions()
		isolate(r)
		r.freeze("eu")
	}
	r.judgeSerial(b)
}

func (r *rig) killBriefly(region string) {
	n := r.pick(region)
	r.fault("kill -9")
	r.kill(n)
	r.pause(2 * time.Second)
	r.start(n)
	r.back(n)
}

// freeze stops a process for longer than every timeout of an operation.
func (r *rig) freeze(region string) {
	n := r.pick(region)
	r.fault("SIGSTOP")
	r.must(n.Pause())
	r.pause(*pauseFlag)
	r.must(n.Resume())
	r.pause(2 * time.Second)
}

// decision is one operation of a decider; values are unique, "" is that of a key
// without one.
type decision struct {
	who        int
	call, ret  time.Duration
	read       bool
	value      string
	absent     bool
	cond       bool
	expect     string // with cond: if nothing but this one is there
	failed     bool   // the condition, which saw
	unknown    bool
	saw        string
	unanswered bool
}

type decidedKey struct {
	name    string
	ops     []*decision
	unknown int
}

// decisions is what all deciders did.
type decisions struct {
	r     *rig
	level client.Level
	mu    sync.Mutex
	keys  []*decidedKey
	now   []*decidedKey
	forks []string
	told  int // operations whose outcome is known
	stop  func()
}

// decide starts deciders in all regions.
func (r *rig) decide(level client.Level, bucket string) *decisions {
	places := make([]int, decidedKeys)
	for i := range places {
		places[i] = i
	}
	var all []*decider
	for _, region := range r.Regions() {
		for range deciders {
			all = append(all, &decider{region: region, places: places, every: decidedEvery})
		}
	}
	return r.decideBy(level, bucket, all)
}

// decideBy starts deciders, of which each knows its region and its places.
func (r *rig) decideBy(level client.Level, bucket string, all []*decider) *decisions {
	if bucket != "" {
		_, err := r.clients["eu"].Buckets().Create(r.ctx, client.BucketInfo{Name: bucket, Home: "eu"})
		r.must(err)
	}
	b := &decisions{r: r, level: level}
	ctx, cancel := context.WithCancel(r.ctx)
	var wg sync.WaitGroup
	for who, d := range all {
		c := r.clients[d.region]
		if bucket != "" {
			c = c.In(bucket)
		}
		d.b, d.who, d.c = b, who, c.Session()
		d.rng, d.last = rand.New(rand.NewPCG(*seedFlag, uint64(who))), map[string]client.Object{}
		for _, p := range d.places {
			for len(b.now) <= p {
				b.now = append(b.now, nil)
			}
		}
	}
	for _, d := range all {
		wg.Go(func() { d.run(ctx) })
	}
	b.stop = sync.OnceFunc(func() { cancel(); wg.Wait() })
	r.t.Cleanup(b.stop)
	r.pause(2 * time.Second)
	return b
}

func (b *decisions) begin(place int, op *decision) *decidedKey {
	b.mu.Lock()
	defer b.mu.Unlock()
	k := b.now[place]
	if k == nil || len(k.ops) >= decidedOps || k.unknown >= decidedUnknown {
		k = &decidedKey{name: fmt.Sprintf("serial/%d", len(b.keys))}
		b.keys, b.now[place] = append(b.keys, k), k
	}
	op.call = time.Since(b.r.began)
	k.ops = append(k.ops, op)
	return k
}

type decider struct {
	region string
	places []int         // of the keys that it works on
	every  time.Duration // between operations, at least
	b      *decisions
	who    int
	n      int
	c      *client.Client
	rng    *rand.Rand
	last   map[string]client.Object // that it saw
}

func (d *decider) run(ctx context.Context) {
	tick := time.NewTicker(d.every)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
			d.step()
		}
	}
}

func (d *decider) step() {
	draw := d.rng.IntN(10)
	op := &decision{who: d.who, read: draw < 3}
	d.n++
	if !op.read && draw < 9 {
		op.value = fmt.Sprintf("%d:%d", d.who, d.n)
	}
	place := d.places[d.rng.IntN(len(d.places))]
	if len(d.last) > 2*len(d.places) {
		clear(d.last) // of keys that are done with, most of them
	}
	var k *decidedKey
	ctx, cancel := context.WithTimeout(context.Background(), 4*time.Second)
	defer cancel()
	if op.read {
		k = d.b.begin(place, op)
		obj, err := d.c.Get(ctx, k.name, d.b.level)
		d.end(k, op, obj, err)
		return
	}
	opts := []client.WriteOption{d.b.level}
	d.b.mu.Lock()
	name := ""
	if at := d.b.now[place]; at != nil {
		name = at.name
	}
	d.b.mu.Unlock()
	switch last, ok := d.last[name]; {
	case draw < 5 || draw < 8 && !ok:
		op.absent = true
		opts = append(opts, client.IfAbsent())
	case draw < 8:
		op.cond, op.expect = true, string(last.Value())
		opts = append(opts, client.IfUnchanged(last.Version()))
	}
	k = d.b.begin(place, op)
	if op.cond && k.name != name {
		op.unanswered = true // the version is of another key
		return
	}
	var err error
	if op.value == "" {
		_, err = d.c.Delete(ctx, k.name, opts...)
	} else {
		_, err = d.c.Put(ctx, k.name, []byte(op.value), opts...)
	}
	var e *client.Error
	obj := client.Object{}
	if errors.As(err, &e) && errors.Is(err, client.ErrConditionFailed) {
		obj, _ = e.Current()
	}
	d.end(k, op, obj, err)
}

// end notes what came of an operation.
func (d *decider) end(k *decidedKey, op *decision, obj client.Object, err error) {
	b := d.b
	b.mu.Lock()
	defer b.mu.Unlock()
	op.ret = time.Since(b.r.began)
	var e *client.Error
	switch {
	case op.read && (err == nil || errors.Is(err, client.ErrNotFound)), errors.Is(err, client.ErrConditionFailed):
		op.failed = !op.read
		live := 0
		for _, s := range obj.Siblings() {
			if !s.Deleted {
				live++
				op.saw = string(s.Value)
			}
		}
		if live > 1 {
			b.forks = append(b.forks, fmt.Sprintf("%s has %d siblings", k.name, live))
		}
		d.last[k.name] = obj
	case err == nil:
	case op.read, errors.As(err, &e) && e.Outcome == client.NotApplied:
		op.unanswered = true
	default:
		op.unknown = true
		k.unknown++
	}
	if !op.unknown && !op.unanswered {
		b.told++
	}
}

// oneValue is what the operations mean one after the other.
var oneValue = porcupine.Model{
	Init: func() any { return "" },
	Step: func(state, input, _ any) (bool, any) {
		cur, op := state.(string), input.(*decision)
		// What was deleted shows nothing that a context has not seen.
		holds := !(op.absent && cur != "") && !(op.cond && cur != "" && cur != op.expect)
		switch {
		case op.read:
			return op.saw == cur, cur
		case op.failed:
			return !holds && op.saw == cur, cur
		case !op.unknown && !holds:
			return false, cur
		case !holds:
			return true, cur
		}
		return true, op.value
	},
}

// judgeSerial ends the deciders and checks what they were told.
func (r *rig) judgeSerial(all ...*decisions) {
	r.t.Helper()
	r.pause(2 * time.Second)
	for _, b := range all {
		b.stop()
	}
	healing := time.Now()
	if err := r.settle(healTime); err != nil {
		r.unmet("healing", "not whole %v after the last fault: %v", healTime, err)
	}
	r.res.HealedMS = time.Since(healing).Milliseconds()
	done, unknown, keys := 0, 0, 0
	judging := time.Now()
	for _, b := range all {
		keys += len(b.keys)
		for _, f := range b.forks {
			r.unmet("fork", "%s, which only consensus writes", f)
		}
		for _, k := range b.keys {
			ops, doubts := r.judgeable(k)
			done, unknown = done+len(ops), unknown+doubts
			switch porcupine.CheckOperationsTimeout(oneValue, ops, time.Minute) {
			case porcupine.Ok:
			case porcupine.Illegal:
				r.unmet("linearizable", "the %d operations on %s are not", len(ops), k.name)
			case porcupine.Unknown:
				r.unmet("linearizable", "the %d operations on %s were not judged in a minute", len(ops), k.name)
			}
		}
	}
	r.calm()
	r.note("%d operations on %d keys were judged in %v, %d of unknown outcome; %d were not carried out", done, keys, time.Since(judging).Round(time.Second), unknown, r.res.Failed)
	r.res.Seconds = time.Since(r.began).Seconds()
	shared.report.add(r.res)
	if done < 500 {
		r.t.Errorf("%d operations were judged: too few", done)
	}
}

// judgeable is what the checker gets of a key.
func (r *rig) judgeable(k *decidedKey) (ops []porcupine.Operation, unknown int) {
	for _, op := range k.ops {
		r.res.Operations++
		if op.unanswered {
			r.res.Failed++
			continue
		}
		ret := int64(op.ret)
		switch {
		case op.unknown:
			ret = 1 << 60
			unknown++
		case op.read:
			r.res.History.Reads++
		default:
			r.res.History.Acked++
		}
		ops = append(ops, porcupine.Operation{ClientId: op.who, Input: op, Call: int64(op.call), Return: ret})
	}
	return ops, unknown
}
