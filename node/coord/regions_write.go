package coord

import (
	"time"

	"github.com/atolldb/atoll/node/peer"
	"github.com/atolldb/atoll/node/quorum"
	"github.com/atolldb/atoll/node/wire"
)

// farWrite is a minted write on its way to other regions.
type farWrite struct {
	span
	done func(PutResult, *Error)
	// here is what the own region achieved, nil while it has not.
	here *PutResult
}

// farther makes what a write of that reach waits for once it is minted.
func (w *write) farther() *farWrite {
	f := &farWrite{done: w.done}
	f.open(w.c, &w.k, w.want, w.reach)
	f.errands = make([]*errand, len(w.reach.others))
	return f
}

// begin sends the entry to all regions, the first time it is called: when the
// version is durable at its minter, or at as many others as the own region needs,
// and not before, so that no region has what none has on a disk.
func (f *farWrite) begin(entry wire.Entry, deadline time.Time) {
	f.mu.Lock()
	if f.begun || f.answered {
		f.mu.Unlock()
		return
	}
	f.begun = true
	f.timer = time.AfterFunc(max(time.Until(early(deadline)), 1), f.expire)
	body := wire.AppendRegionApply(nil, &wire.RegionApply{
		Entry: entry, Level: uint8(f.want.level), Owners: uint32(f.want.count),
	})
	for i, t := range f.reach.others {
		f.errands[i] = &errand{
			c: f.c, region: t.Region, part: f.k.part, verb: peer.VerbRegionApply, body: body, deadline: deadline,
			done: func(r wire.RegionReply, err error) { f.region(1+i, r.Share, err) },
		}
	}
	all := f.errands
	f.mu.Unlock()
	for _, e := range all {
		e.begin()
	}
}

// home takes what the own region achieved. begin was called.
func (f *farWrite) home(res PutResult, share wire.Share) {
	f.mu.Lock()
	f.here = &res
	f.settle(f.said(0, share, nil))
}

// region takes what another region said.
func (f *farWrite) region(i int, share wire.Share, err error) {
	f.mu.Lock()
	f.settle(f.said(i, share, err))
}

// expire ends the wait for other regions, not that for the own one.
func (f *farWrite) expire() {
	f.mu.Lock()
	f.late = true
	f.settle(f.tally.Verdict())
}

// cancel ends the wait: the write has failed here.
func (f *farWrite) cancel() {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.stop()
}

// settle answers if there is an answer. It is called with the lock held, and
// gives it back.
func (f *farWrite) settle(v quorum.Verdict) {
	if f.answered || f.here == nil || v == quorum.Pending && !f.late {
		f.mu.Unlock()
		return
	}
	f.stop()
	res := *f.here
	f.tell(&res.Achieved)
	var e *Error
	if v != quorum.Met {
		e = f.short(CodePartial, Applied)
		e.Detail = "the write holds in this region; " + e.Detail
		e.Applied = &res
		f.c.stats.Partial.Add(1)
	}
	f.mu.Unlock()
	if e != nil {
		f.done(PutResult{}, e)
		return
	}
	f.done(res, nil)
}
