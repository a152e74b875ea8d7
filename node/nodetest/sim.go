package nodetest

import (
	"context"
	"fmt"
	"math/rand/v2"
	"sync"
	"testing"
	"time"

	"github.com/hashicorp/go-hclog"

	"github.com/atolldb/atoll/crdt/hlc"
	"github.com/atolldb/atoll/geo/memlog"
	"github.com/atolldb/atoll/node/peer/memnet"
)

// Report of one simulated history.
type Report struct {
	Seed          uint64
	Simulated     time.Duration
	Writes, Acked int
	Unknown, Gets int
	SiblingReads  int
	// Replays are answers to writes that had been carried out by an attempt
	// before, Doubtful those that could not exclude it.
	Replays, Doubtful int
	Faults            string
	// Conceded losses; see World.lost.
	Conceded int
	// SessionOps that clients with tokens of sessions made at LOCAL_ONE, and those
	// of them that had to be refused; LooseOps of clients without tokens, and how
	// often what sessions are promised did not hold for them.
	SessionOps, SessionBehind, LooseOps, LooseBroken int
	// RivalWrites are those of clients who write one key in turn and never read it,
	// MostRanges how many an answer had at most, and RangesSettled how often a client was
	// told of fewer than before.
	RivalWrites, MostRanges, RangesSettled int
	// Rounds of collection that were completed, and that were not, by nodes that
	// are up at the end; dead records that they Dropped, and late versions that
	// they put Aside.
	Rounds, RoundsOff, Dropped, Aside uint64
	// Spent acceptor states that ended with rounds.
	Spent uint64
	// Serial operations at LOCAL_SERIAL and SERIAL, those at SERIAL among them, and
	// those of unknown outcome.
	Serial, Homed, SerialUnknown, SerialReplays int
	// Judged are those on which porcupine gave its verdict: not reads that failed, what was
	// not applied, and keys of which a disk took something back. Illegal keys are
	// not linearizable, and Undecided ones were given up.
	Judged, Illegal, Undecided int
	Problems                   []string
	// Counts of what befell regions, by kind, and the Story of it.
	Counts    map[string]int
	Story     []string
	Converged time.Duration // after the last fault
}

func (r Report) String() string {
	collected := ""
	if r.Rounds+r.RoundsOff > 0 {
		collected = fmt.Sprintf(", %d rounds (%d off) dropped %d records and %d acceptor states, %d late versions aside", r.Rounds, r.RoundsOff, r.Dropped, r.Spent, r.Aside)
	}
	if r.SessionOps > 0 {
		collected += fmt.Sprintf(", %d operations in sessions (%d behind), without tokens %d of %d broke a promise", r.SessionOps, r.SessionBehind, r.LooseBroken, r.LooseOps)
	}
	if r.RivalWrites > 0 {
		collected += fmt.Sprintf(", %d writes of rivals (%d ranges at most, fewer than before %d times)", r.RivalWrites, r.MostRanges, r.RangesSettled)
	}
	return fmt.Sprintf("seed %d: %v simulated, %d writes (%d acknowledged, %d unknown; %d replayed, %d doubtful), %d reads (%d with siblings), %d by consensus (%d for all regions, %d unknown, %d replayed, %d judged), converged in %v%s; faults: %s",
		r.Seed, r.Simulated.Round(time.Second), r.Writes, r.Acked, r.Unknown, r.Replays, r.Doubtful, r.Gets, r.SiblingReads, r.Serial, r.Homed, r.SerialUnknown, r.SerialReplays, r.Judged, r.Converged.Round(time.Millisecond), collected, r.Faults)
}

// Simulate runs one history of the given length. It must be called inside a
// testing/synctest bubble.
func Simulate(t testing.TB, seed uint64, shape Shape, length time.Duration, log hclog.Logger) Report {
	w := New(t, seed, shape, log)
	defer w.Close()
	keys := make([]string, 3+w.rng.IntN(8))
	if shape.Focus != nil {
		keys = keys[:min(len(keys), shape.Focus.keys)]
	}
	for i := range keys {
		keys[i] = fmt.Sprint("k", i)
	}
	ctx, stop := context.WithTimeout(context.Background(), length)
	defer stop()
	clients, deciders := 3, serialClients // of each region
	if f := shape.Focus; f != nil {
		clients, deciders = f.clients, f.deciders
	}
	var work sync.WaitGroup
	for i := range clients * shape.Regions {
		c := w.client(i, i%shape.Regions, keys)
		work.Go(func() { c.run(ctx) })
	}
	for r := range shape.Regions {
		s := w.solo(clients*shape.Regions+r, r)
		work.Go(func() { s.run(ctx) })
		for i := range deciders {
			d := w.decider((clients+1)*shape.Regions+deciders*r+i, r)
			work.Go(func() { d.run(ctx) })
		}
	}
	var with, without sessionBook
	if shape.Sessions {
		for i := range 2 * shape.Regions {
			a, b := w.roamer(2*i, true, &with), w.roamer(2*i+1, false, &without)
			work.Go(func() { a.run(ctx) })
			work.Go(func() { b.run(ctx) })
		}
	}
	rivals := &rivalry{}
	if shape.Rivals > 0 {
		for _, r := range w.rivals(rivals) {
			work.Go(func() { r.run(ctx) })
		}
		work.Go(func() { w.judgeRivals(ctx, rivals.keys) })
	}
	book := &tenants{acked: map[string]string{}}
	if shape.Parted {
		for i := range 2 * shape.Regions {
			run := w.tenant(1000+i, i%shape.Regions, book)
			work.Go(func() { run(ctx) })
		}
	}
	work.Go(func() { w.chaos(ctx) })
	if shape.Watch > 0 {
		work.Go(func() { w.watch(ctx, keys) })
	}
	if shape.Collect {
		rng := rand.New(rand.NewPCG(seed, 5))
		work.Go(func() { w.sleepers(ctx, keys, rng) })
	}
	work.Wait()
	keys = append(append(keys, w.hist.soloKeys()...), rivals.keys...)
	if shape.Sessions {
		keys = append(append(keys, sessionKeys(true)...), sessionKeys(false)...)
	}

	w.heal()
	calm := time.Now()
	time.Sleep(15 * time.Second) // a pass of the scrub: silent losses show
	for time.Since(calm) < 10*time.Minute && w.converged() != "" {
		time.Sleep(time.Second)
	}
	converged := time.Since(calm)
	r := Report{Seed: seed, Converged: converged, RivalWrites: rivals.writes, MostRanges: rivals.most, RangesSettled: rivals.settled}
	if shape.Collect {
		left := w.collectAll()
		r.Rounds, r.Dropped, r.Aside, r.RoundsOff = w.collected()
		for _, m := range w.all() {
			if up := m.running.Load(); up != nil {
				r.Spent += up.node.Replica().Stats().SerialSpent.Load()
			}
		}
		if left != "" {
			r.Problems = append(r.Problems, "I2: not collected: "+left+"; "+w.leftovers())
		}
	}
	for time.Since(calm) < 15*time.Minute && w.leftovers() != "" {
		time.Sleep(time.Second)
	}
	r.Faults = w.faults.String()
	var promised []string
	promised, r.LooseBroken = w.judgeSessions(&with, &without)
	r.Problems = append(r.Problems, promised...)
	r.SessionOps, r.SessionBehind, r.LooseOps = len(with.ops)+with.behind, with.behind, len(without.ops)
	if w.converged() == "" {
		if left := w.reconciled(); left != "" {
			r.Problems = append(r.Problems, "A1: said to be missing, and is not: "+left)
		}
	}
	r.Problems = append(r.Problems, w.verify(keys)...)
	if len(r.Problems) == 0 {
		r.Problems = append(r.Problems, w.apart(book)...)
	}
	r.Problems = append(r.Problems, w.linearizable()...)
	if left := w.leftovers(); left != "" {
		r.Problems = append(r.Problems, "I9: "+left)
	}
	r.Simulated = time.Since(w.start)
	r.Writes, r.Acked, r.Unknown = w.hist.counts()
	r.Gets, r.SiblingReads = w.hist.gets, w.hist.siblings
	r.Conceded, r.Replays, r.Doubtful = w.hist.conceded, w.hist.replays, w.hist.doubtful
	r.Serial, r.Homed, r.SerialUnknown = w.serial.counts()
	r.SerialReplays = w.serial.replays
	r.Judged, r.Illegal, r.Undecided = w.serial.judged, w.serial.illegal, w.serial.undecided
	return r
}

// collectAll lets rounds go on until everything is collected that was dead when
// the faults ended, and then until the World is at rest without them. It returns
// what is left.
func (w *World) collectAll() (left string) {
	now := hlc.FromMillis(time.Now().UnixMilli())
	for end := time.Now().Add(5 * time.Minute); time.Now().Before(end); time.Sleep(time.Second) {
		if left = w.uncollected(now); left == "" {
			break
		}
	}
	w.calm.Store(true)
	w.setRounds(false)
	time.Sleep(10 * time.Second)
	for end := time.Now().Add(5 * time.Minute); time.Now().Before(end) && w.converged() != ""; {
		time.Sleep(time.Second)
	}
	return left
}

// calmLinks are slower than none, and lose nothing.
var calmLinks = memnet.Faults{MaxDelay: 2 * time.Millisecond}

// heal ends all faults and starts whoever is down.
func (w *World) heal() {
	w.fabric.HealAll()
	w.fabric.SetAll(calmLinks)
	w.cloud.SetFaults(memlog.Faults{DelayMin: time.Millisecond, DelayMax: 5 * time.Millisecond})
	for a := range w.tops {
		for b := range w.tops {
			if a != b {
				w.cloud.Cut(w.name(a), w.name(b), false)
			}
		}
	}
	for r, s := range w.stores {
		s.SetDown(false)
		w.cloud.Outage(w.name(r), false)
	}
	for _, m := range w.all() {
		m.disk.Drain()
		w.Start(m)
	}
}
