package repair

import (
	"context"
	"slices"
	"time"

	"github.com/atolldb/atoll/hashring"
	"github.com/atolldb/atoll/internal/pause"
)

// auditChunk is how many partitions a repair looks at before it reports.
const auditChunk = 16

// audit is a repair that was asked for.
type audit struct {
	r      *Repairer
	ctx    context.Context // ends with Run, or when the repair is cancelled
	counts *Counts
	deep   bool
	parts  []hashring.Partition
	shares shares
	links  []link
	// mute counts the questions in a row that a link did not answer; after two
	// of them it is asked no more.
	mute map[link]int
}

// newAudit is admitted when there is no error; then it must run.
func (r *Repairer) newAudit(parts []hashring.Partition, deep bool) (*audit, error) {
	a := &audit{r: r, deep: deep, mute: map[link]int{}, parts: r.parts(r.Topology())}
	if parts != nil {
		a.parts = slices.DeleteFunc(a.parts, func(p hashring.Partition) bool { return !slices.Contains(parts, p) })
	}
	var err error
	a.ctx, a.counts, err = r.task.begin(len(a.parts), deep)
	return a, err
}

func (a *audit) run(ctx context.Context) error {
	a.r.Log.Info("repair begins", "partitions", len(a.parts), "deep", a.deep)
	err := a.all(ctx)
	a.r.Log.Info("repair has ended", "repaired", a.counts.RepairedKeys.Load(), "error", err)
	a.r.task.end(err)
	return err
}

func (a *audit) all(ctx context.Context) error {
	var learned []Region
	complete := true
	for _, g := range a.r.Regions() {
		if g.Topology != nil {
			learned = append(learned, g)
		} else {
			complete = false
		}
	}
	a.shares, _ = sharesOf(a.r.Topology(), learned, a.parts, a.r.cfg.Self)
	a.links = a.shares.links()
	for chunk := range slices.Chunk(a.parts, auditChunk) {
		began := time.Now()
		skipped, err := a.look(ctx, chunk)
		if err != nil {
			return err
		}
		complete = complete && skipped == 0
		a.r.heal(ctx, chunk, a.counts)
		a.r.task.through(len(chunk), skipped, len(a.r.damaged(chunk)))
		if !pause.For(ctx, rest(time.Since(began), a.r.Busy())) {
			return ctx.Err()
		}
	}
	if !complete {
		return ErrIncomplete
	}
	return nil
}

// look settles a few partitions with all their owners, and returns how many of
// them could not be settled with one.
func (a *audit) look(ctx context.Context, parts []hashring.Partition) (skipped int, err error) {
	if a.deep {
		for _, p := range parts {
			a.r.recount(ctx, p, a.counts)
		}
	}
	unsettled := map[hashring.Partition]bool{}
	for _, l := range a.links {
		var shared []hashring.Partition
		for _, p := range parts {
			if a.shares[l][p] {
				shared = append(shared, p)
			}
		}
		for _, p := range a.settle(ctx, l, shared) {
			unsettled[p] = true
		}
		if ctx.Err() != nil {
			return 0, ctx.Err()
		}
	}
	return len(unsettled), nil
}

// settle makes this node equal with l in the partitions, and returns those where
// that failed.
func (a *audit) settle(ctx context.Context, l link, parts []hashring.Partition) (failed []hashring.Partition) {
	if len(parts) == 0 {
		return nil
	}
	if a.mute[l] >= 2 {
		return parts
	}
	l, key := link{id: l.id, region: l.region, task: a.counts}, l
	differences, err := a.r.ask(ctx, l, parts)
	if err != nil {
		a.mute[key]++
		return parts
	}
	a.mute[key] = 0
	// There is no second look: what differs now is settled now.
	last := past{urgent: true, suspect: map[hashring.Partition]bool{}}
	for _, d := range differences {
		last.suspect[d.Partition] = true
	}
	for i, v := range a.r.settleAll(ctx, l, differences, last) {
		if v.err != nil {
			failed = append(failed, differences[i].Partition)
		}
	}
	if !a.deep {
		return failed
	}
	for _, p := range parts {
		if slices.Contains(failed, p) || ctx.Err() != nil {
			continue
		}
		if err := a.r.meld(ctx, l, p); err != nil {
			a.r.Log.Warn("a partition could not be compared record by record", "peer", string(l.id), "partition", int(p), "error", err)
			failed = append(failed, p)
		}
	}
	return failed
}
