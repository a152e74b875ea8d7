// Package repair keeps owners equal: it compares this node with the other
// owners of its partitions, in this region and in others, and fetches what it
// lacks. First by clocks, which say what was delivered: O(1) when equal,
// O(difference) otherwise. Then, where clocks are equal, by digests, which say
// what is held: a difference there means that somebody lost or rolled back a
// record.
//
// It only pulls, with one exception: a range of a partition whose digests
// differ is joined both ways. What it fetches ends in Apply.
//
// Invariants:
//
//	A1  Nothing is inferred from absence: both sides keep what only they have.
//	A2  A clock is joined only after every record that it speaks for.
//	A3  Equal partitions cost 17 bytes a round and no read of the store.
//
// Run owns all goroutines.
package repair

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"sync/atomic"
	"time"

	"github.com/hashicorp/go-hclog"

	"github.com/atolldb/atoll/crdt"
	"github.com/atolldb/atoll/hashring"
	"github.com/atolldb/atoll/internal/planted"
	"github.com/atolldb/atoll/node/peer"
	"github.com/atolldb/atoll/node/replica"
	"github.com/atolldb/atoll/node/topology"
	"github.com/atolldb/atoll/node/wire"
)

// Config of a repairer.
type Config struct {
	Self topology.NodeID
	// Beat is the time between rounds with the peers of the region, 1 s by
	// default; RegionBeat that with other regions, 3 s. What is missing for
	// less than one beat is taken to be on its way.
	Beat, RegionBeat time.Duration
	// ScrubPass is how long a recount of all partitions from the store takes,
	// paced evenly: 7 days by default.
	ScrubPass time.Duration
	// PageBytes bounds one reply; 1 MiB by default.
	PageBytes int
}

// Region is another region, as far as repair needs to know it.
type Region struct {
	Name topology.Region
	// Owners of a partition there.
	Owners func(hashring.Partition) []string
}

// Deps are what a repairer works with.
type Deps struct {
	Replica   *replica.Replica
	Transport peer.Transport
	// Topology that holds now.
	Topology func() *topology.Topology
	Alive    func(topology.NodeID) bool
	// Up tells of peers that have come back.
	Up <-chan topology.NodeID
	// Gap is poked when another region's log has lost something.
	Gap <-chan struct{}
	// Regions are the others. ApplyRemote spreads what was pulled from one of
	// them over this region's owners.
	Regions     []Region
	ApplyRemote func(ctx context.Context, origin string, entries []wire.Entry) error
	Rand        *rand.Rand
	Log         hclog.Logger
}

// Stats count since start.
type Stats struct {
	// Rounds of comparison, and those that failed.
	Rounds, Failed atomic.Uint64
	// PulledKeys are records received by clocks, RepairedKeys those of them
	// that changed something here.
	PulledKeys, RepairedKeys atomic.Uint64
	// FullSyncs of a partition, because the peer's index was too short.
	FullSyncs atomic.Uint64
	// Mismatches are partitions with equal clocks and other digests, and
	// MismatchedKeys the records that differed in them.
	Mismatches, MismatchedKeys atomic.Uint64
	// Recounts of a partition from the store, and those that found that the
	// kept digest was wrong, or a record unreadable.
	Recounts, RecountsWrong, RecountsFailed atomic.Uint64
}

// Repairer compares and fetches.
type Repairer struct {
	cfg Config
	Deps
	stats Stats
	peers []*other
	far   []*far
	// scrubbed counts the partitions that were recounted in this pass.
	scrubbed int
}

// New returns a repairer.
func New(cfg Config, deps Deps) *Repairer {
	def := func(d *time.Duration, v time.Duration) {
		if *d == 0 {
			*d = v
		}
	}
	def(&cfg.Beat, time.Second)
	def(&cfg.RegionBeat, 3*time.Second)
	def(&cfg.ScrubPass, 7*24*time.Hour)
	if cfg.PageBytes == 0 {
		cfg.PageBytes = 1 << 20
	}
	r := &Repairer{cfg: cfg, Deps: deps}
	for _, m := range deps.Topology().Members {
		if m.ID == cfg.Self {
			continue
		}
		if shared := r.shared(string(m.ID), deps.Topology().Owners); len(shared) > 0 {
			r.peers = append(r.peers, r.other(m.ID, shared, r.applyHere))
		}
	}
	for _, g := range deps.Regions {
		r.far = append(r.far, r.farRegion(g))
	}
	return r
}

// Stats of this repairer.
func (r *Repairer) Stats() *Stats { return &r.stats }

// shared returns the owned partitions that id owns too.
func (r *Repairer) shared(id string, owners func(hashring.Partition) []string) []hashring.Partition {
	var out []hashring.Partition
	for _, p := range r.Replica.Owned() {
		for _, o := range owners(p) {
			if o == id {
				out = append(out, p)
			}
		}
	}
	return out
}

// Run compares until ctx ends.
func (r *Repairer) Run(ctx context.Context) error {
	near := time.NewTimer(r.jitter(r.cfg.Beat / 4))
	remote := time.NewTimer(r.jitter(r.cfg.RegionBeat))
	scrub := time.NewTicker(max(r.cfg.ScrubPass/time.Duration(max(len(r.Replica.Owned()), 1)), time.Millisecond))
	defer near.Stop()
	defer remote.Stop()
	defer scrub.Stop()
	for _, o := range r.peers {
		o.urgent = true // whatever was missed while this node was away
	}
	for {
		select {
		case <-ctx.Done():
			return nil
		case id := <-r.Up:
			for _, o := range r.peers {
				if o.id == id {
					o.urgent = true
					r.round(ctx, o)
				}
			}
		case <-r.Gap:
			for _, f := range r.far {
				f.urgent = true
				r.farRound(ctx, f)
			}
		case <-near.C:
			for _, o := range r.peers {
				if r.Alive(o.id) {
					r.round(ctx, o)
				}
			}
			near.Reset(r.jitter(r.beat()))
		case <-remote.C:
			for _, f := range r.far {
				r.farRound(ctx, f)
			}
			remote.Reset(r.jitter(r.cfg.RegionBeat))
		case <-scrub.C:
			if owned := r.Replica.Owned(); len(owned) > 0 {
				r.recount(owned[r.scrubbed%len(owned)])
				r.scrubbed++
			}
		}
	}
}

// recount checks a partition's kept digest against its records.
func (r *Repairer) recount(p hashring.Partition) (differed bool) {
	r.stats.Recounts.Add(1)
	differed, err := r.Replica.Recount(p)
	switch {
	case err != nil:
		r.stats.RecountsFailed.Add(1)
		r.Log.Error("recount of a partition failed: see the error; an unreadable record must be repaired from peers", "partition", int(p), "error", err)
	case differed:
		r.stats.RecountsWrong.Add(1)
		r.Log.Warn("records of a partition were not what was written: peers will show what is missing", "partition", int(p))
	}
	return differed
}

// beat is shorter while this node does not answer for all of its partitions.
func (r *Repairer) beat() time.Duration {
	if r.Replica.BehindCount() > 0 {
		return r.cfg.Beat / 5
	}
	return r.cfg.Beat
}

// jitter returns d, more or less a fifth.
func (r *Repairer) jitter(d time.Duration) time.Duration {
	return d*4/5 + time.Duration(r.Rand.Int64N(int64(d*2/5)+1))
}

// other is a node to compare with.
type other struct {
	id    topology.NodeID
	parts []hashring.Partition
	apply func(ctx context.Context, entries []wire.Entry) (changed int, err error)
	// joinClock ends a full sync.
	joinClock func(ctx context.Context, p hashring.Partition, c *crdt.Clock) error
	past      past
	// urgent: do not wait for a second round before pulling.
	urgent bool
	// met: this node has had all that the other had of a partition, some time
	// after it started.
	met map[hashring.Partition]bool
}

// past is what a round leaves to the next one.
type past struct {
	// seen is the other's clock, for partitions of which it had more.
	seen map[hashring.Partition]*crdt.Clock
	// suspect are the partitions whose digests differed at equal clocks. (With
	// writes going on, the state is another one each time.)
	suspect map[hashring.Partition]bool
}

func (r *Repairer) other(id topology.NodeID, parts []hashring.Partition, apply func(context.Context, []wire.Entry) (int, error)) *other {
	return &other{
		id: id, parts: parts, apply: apply, joinClock: r.joinClockHere,
		past: past{seen: map[hashring.Partition]*crdt.Clock{}},
		met:  map[hashring.Partition]bool{},
	}
}

func (r *Repairer) round(ctx context.Context, o *other) {
	r.stats.Rounds.Add(1)
	if err := r.compare(ctx, o); err != nil && ctx.Err() == nil {
		r.stats.Failed.Add(1)
		r.Log.Debug("anti-entropy round broken off", "peer", string(o.id), "error", err)
	}
}

// compare asks for the differences and settles them. A partition that cannot
// be settled, at the other or here, does not keep the next ones from it; an
// other that no longer answers does.
func (r *Repairer) compare(ctx context.Context, o *other) error {
	ask := wire.Compare{Sums: make([]wire.Sum, len(o.parts))}
	for i, p := range o.parts {
		ask.Sums[i] = r.Replica.Sum(p)
	}
	b, err := r.call(ctx, o.id, peer.VerbCompare, wire.AppendCompare(nil, ask))
	if err != nil {
		return fmt.Errorf("compare: %w", err)
	}
	differences, err := wire.DecodeDifferences(b)
	if err != nil {
		return fmt.Errorf("compare: %w", err)
	}
	last := o.past
	o.past = past{seen: map[hashring.Partition]*crdt.Clock{}, suspect: map[hashring.Partition]bool{}}
	var failed error
	for _, d := range differences {
		if o.urgent {
			last.seen[d.Partition] = d.Clock
		}
		if err := r.settle(ctx, o, d, last); err != nil {
			if unanswered(err) {
				return err
			}
			failed = err
		}
	}
	if failed != nil {
		return failed
	}
	o.urgent = false
	if r.Replica.BehindCount() > 0 {
		r.meet(o)
	}
	return nil
}

// unanswered reports whether err is that of a peer that did not answer.
func unanswered(err error) bool {
	return errors.Is(err, peer.ErrNotSent) || errors.Is(err, peer.ErrTimeout) || errors.Is(err, peer.ErrLinkLost) ||
		errors.Is(err, context.Canceled) || errors.Is(err, context.DeadlineExceeded)
}

// settle mends a difference that is no accident of timing: dots that the other
// had a round ago and that are still missing here, and digests that differ at
// equal clocks twice.
func (r *Repairer) settle(ctx context.Context, o *other, d wire.Difference, last past) error {
	p := d.Partition
	mine := r.Replica.Clock(p)
	if mine == nil {
		return nil
	}
	if planted.Bug(planted.ClockFirst) && !mine.Covers(d.Clock) {
		if err := r.joinClockHere(ctx, p, d.Clock); err != nil {
			return err
		}
	}
	if !mine.Covers(d.Clock) {
		o.past.seen[p] = d.Clock
	}
	if overdue := last.seen[p]; overdue != nil && !mine.Covers(overdue) {
		if err := r.pull(ctx, o, p); err != nil {
			return err
		}
		if r.Replica.Clock(p).Covers(d.Clock) {
			delete(o.past.seen, p)
		}
	}
	if sum := r.Replica.Sum(p); sum.Clock != d.Sum.Clock || sum.Digest == d.Digest {
		return nil
	}
	o.past.suspect[p] = true
	if last.suspect[p] && !planted.Bug(planted.TrustClocks) {
		return r.mend(ctx, o, p)
	}
	return nil
}

// meet notes the partitions that do not lack anything of o's any more. When a
// partition lacks nothing of any other owner's, the node answers for it.
func (r *Repairer) meet(o *other) {
	for _, p := range o.parts {
		if o.past.seen[p] == nil {
			o.met[p] = true
		}
		if o.met[p] && r.Replica.Behind(p) && r.metAll(p) {
			r.Replica.CaughtUp(p)
		}
	}
}

func (r *Repairer) metAll(p hashring.Partition) bool {
	for _, id := range r.Topology().Owners(p) {
		if id == string(r.cfg.Self) {
			continue
		}
		for _, o := range r.peers {
			if string(o.id) == id && !o.met[p] {
				return false
			}
		}
	}
	return true
}

func (r *Repairer) call(ctx context.Context, to topology.NodeID, verb peer.Verb, body []byte) ([]byte, error) {
	return peer.Call(ctx, r.Transport, to, peer.Request{Verb: verb, Epoch: r.Topology().Epoch, Timeout: 5 * time.Second, Body: body})
}

func (r *Repairer) applyHere(ctx context.Context, entries []wire.Entry) (int, error) {
	type outcome struct {
		changed int
		err     error
	}
	done := make(chan outcome, 1)
	r.Replica.Apply(entries, func(changed int, err error) { done <- outcome{changed, err} })
	o := <-done
	return o.changed, o.err
}

func (r *Repairer) joinClockHere(ctx context.Context, p hashring.Partition, c *crdt.Clock) error {
	done := make(chan error, 1)
	r.Replica.JoinClock(p, c, func(err error) { done <- err })
	return <-done
}
