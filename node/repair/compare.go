package repair

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"time"

	"github.com/atolldb/atoll/crdt"
	"github.com/atolldb/atoll/hashring"
	"github.com/atolldb/atoll/internal/planted"
	"github.com/atolldb/atoll/node/peer"
	"github.com/atolldb/atoll/node/replica"
	"github.com/atolldb/atoll/node/topology"
	"github.com/atolldb/atoll/node/wire"
)

// round compares this node with o. Late says that what was missing a round ago is on its
// way all the same.
func (r *Repairer) round(ctx context.Context, o *other, late bool) {
	r.stats.Rounds.Add(1)
	urgent := o.urgent.Swap(false)
	if err := r.compare(ctx, o, urgent, late); err != nil {
		if urgent {
			o.urgent.Store(true)
		}
		if ctx.Err() == nil {
			r.stats.Failed.Add(1)
			r.Log.Debug("anti-entropy round broken off", "peer", string(o.id), "error", err)
		}
	}
}

// compare asks for the differences and settles them. A partition that cannot
// be settled, at the other or here, does not keep the next ones from it; an
// other that no longer answers does.
func (r *Repairer) compare(ctx context.Context, o *other, urgent, late bool) error {
	top, parts := o.shared()
	behind := map[hashring.Partition]uint64{} // and its mark, before asking
	for _, p := range parts {
		if mark := r.Replica.BehindMark(p); mark != 0 {
			behind[p] = mark
		}
	}
	differences, err := r.ask(ctx, o.link, parts)
	if err != nil {
		return err
	}
	last := o.past
	last.urgent, last.late = urgent, late
	o.past = past{lacked: map[hashring.Partition]*crdt.Clock{}, suspect: map[hashring.Partition]bool{}}
	verdicts := r.settleAll(ctx, o.link, differences, last)
	var failed error
	for i, v := range verdicts {
		p := differences[i].Partition
		if v.lacking != nil {
			o.past.lacked[p] = v.lacking
			delete(behind, p)
		}
		if v.suspect {
			o.past.suspect[p] = true
		}
		if v.err != nil {
			delete(behind, p)
			failed = v.err
		}
	}
	r.meet(ctx, top, o, behind)
	return failed
}

// ask returns l's state of those of the partitions that differ, and notes what
// l is known to have.
func (r *Repairer) ask(ctx context.Context, l link, parts []hashring.Partition) ([]wire.Difference, error) {
	began := time.Now()
	ask := wire.Compare{Sums: make([]wire.Sum, 0, len(parts)), Afar: r.afar(l)}
	clocks := make(map[hashring.Partition]*crdt.Clock)
	for _, p := range parts {
		if !r.Replica.Owns(p) {
			continue // the topology is ahead of the replica, or behind it
		}
		// A digest that cannot be told is a wrong one: the other may show its own,
		// and settle does not believe in a difference.
		sum, _ := r.Replica.SumFor(p, r.askedBy(l))
		if !r.known.upToDate(l.id, p, sum.Clock) {
			// The clock of exactly this sum, or none.
			clock := r.Replica.Clock(p)
			if again := r.Replica.Sum(p); again.Clock == sum.Clock {
				clocks[p] = clock
			}
		}
		ask.Sums = append(ask.Sums, sum.Under(r.Replica.Floors(p), replica.LossSum(r.Replica.Losses(p))))
	}
	b, err := r.call(ctx, l, peer.VerbCompare, wire.AppendCompare(nil, ask))
	if err != nil {
		return nil, fmt.Errorf("compare: %w", err)
	}
	differences, err := wire.DecodeDifferences(b)
	if err != nil {
		return nil, fmt.Errorf("compare: %w", err)
	}
	r.equal.note(began, l.region, ask.Sums, differences)
	for _, d := range differences {
		delete(clocks, d.Partition)
		r.known.note(l.id, d.Partition, d.Sum.Clock, d.Clock)
	}
	for _, s := range ask.Sums {
		if c := clocks[s.Partition]; c != nil {
			r.known.note(l.id, s.Partition, s.Clock, c)
		}
	}
	return differences, nil
}

// verdict on one difference.
type verdict struct {
	// lacking is what the other has and this node has not, nil for nothing.
	lacking *crdt.Clock
	// suspect: equal clocks and different digests.
	suspect bool
	err     error
}

var errBroken = errors.New("the rest of the round was broken off")

// settleAll settles a few differences at a time, until the other one does not
// answer any more.
func (r *Repairer) settleAll(ctx context.Context, l link, differences []wire.Difference, last past) []verdict {
	ctx, breakOff := context.WithCancelCause(ctx)
	defer breakOff(nil)
	out := make([]verdict, len(differences))
	each(settlers, len(differences), func(i int) {
		d := differences[i]
		if ctx.Err() != nil {
			out[i] = verdict{lacking: cmp.Or(last.lacked[d.Partition], d.Clock), err: context.Cause(ctx)}
			return
		}
		if out[i] = r.settle(ctx, l, d, last); unanswered(out[i].err) {
			breakOff(errBroken)
		}
	})
	return out
}

// settle mends a difference that is no accident of timing: dots that the other
// had a round ago and that are still missing here, unless they are on their way, and
// digests that differ at equal clocks twice.
func (r *Repairer) settle(ctx context.Context, l link, d wire.Difference, last past) (v verdict) {
	p := d.Partition
	if err := r.Replica.MeetFloors(ctx, p, d.Floors); err != nil {
		return verdict{lacking: d.Clock, err: err}
	}
	if err := r.Replica.MeetLosses(p, d.Losses); err != nil {
		return verdict{lacking: d.Clock, err: err}
	}
	mine := r.Replica.Clock(p)
	if mine == nil {
		return verdict{lacking: d.Clock}
	}
	if planted.Bug(planted.ClockFirst) && !mine.Covers(d.Clock) {
		if err := r.joinClock(p, d.Clock); err != nil {
			return verdict{err: err}
		}
	}
	v.lacking = beyond(mine, d.Clock)
	overdue := v.lacking
	if !last.urgent {
		overdue = beyond(mine, last.lacked[p])
	}
	if overdue != nil && !last.late {
		if v.err = r.pull(ctx, l, p); v.err != nil {
			return v
		}
		if now := r.Replica.Clock(p); now != nil {
			v.lacking = beyond(now, d.Clock)
		}
	}
	if sum, known := r.Replica.SumFor(p, r.askedBy(l)); !known || d.Digest == wire.Untold || sum.Clock != d.Sum.Clock || sum.Digest == d.Digest {
		return v
	}
	v.suspect = true
	if last.suspect[p] && !planted.Bug(planted.TrustClocks) {
		v.err = r.mend(ctx, l, p)
	}
	return v
}

// beyond is what other has and mine has not, nil for nothing.
func beyond(mine, other *crdt.Clock) *crdt.Clock {
	if other == nil || mine.Covers(other) {
		return nil
	}
	return mine.Beyond(other)
}

// meet notes the partitions that this node was behind in when the round began,
// and that lack nothing of o's any more. When a partition lacks nothing of any
// server's, the node answers for it.
func (r *Repairer) meet(ctx context.Context, top *topology.Topology, o *other, behind map[hashring.Partition]uint64) {
	if len(behind) == 0 || o.region != "" {
		return
	}
	now := r.Topology()
	parts := slices.Sorted(maps.Keys(behind))
	took := make([]bool, len(parts))
	each(settlers, len(parts), func(i int) {
		// Who fails to give its acceptor states is asked again in the next round.
		took[i] = r.Replica.TakeSerial(ctx, parts[i], func(ctx context.Context, body []byte) ([]byte, error) {
			return r.call(ctx, o.link, peer.VerbSerialState, body)
		}) == nil
	})
	for i, p := range parts {
		mark := behind[p]
		if !took[i] {
			continue
		}
		r.met.note(o.id, p, meeting{top.SinceOf(p), mark})
		if r.hasAll(now, p, mark) {
			r.Replica.CaughtUp(p, mark)
		}
	}
}
