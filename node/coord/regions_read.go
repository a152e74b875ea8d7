package coord

import (
	"bytes"
	"time"

	"github.com/atolldb/atoll/crdt"
	"github.com/atolldb/atoll/node/peer"
	"github.com/atolldb/atoll/node/quorum"
	"github.com/atolldb/atoll/node/wire"
)

// gather is read, in as many regions as w wants. All of them are asked; as many
// as needed are waited for. What others say later is only repaired.
func (c *Coordinator) gather(k key, w want, deadline time.Time, done readDone) {
	if !w.far() {
		c.read(k, w, deadline, done)
		return
	}
	r, err := c.reach(&k, w)
	if err == nil {
		err = r.refuse(c, w)
	}
	if err != nil {
		done(crdt.Record{}, Achieved{}, err)
		return
	}
	f := &farRead{done: done}
	f.open(c, &k, w, r)
	f.begin(deadline)
}

// farRead is a read in several regions.
type farRead struct {
	span
	done readDone
	here Achieved
	// records are what the regions hold, nil for those that have not answered.
	records []*crdt.Record
	// joined, once answered, is what all are to hold; nil for nothing.
	joined []byte
}

func (f *farRead) begin(deadline time.Time) {
	f.records = make([]*crdt.Record, len(f.states))
	body := wire.AppendRegionRead(nil, &wire.RegionRead{Key: f.k.full, Level: uint8(f.want.level), Owners: uint32(f.want.count)})
	f.mu.Lock()
	f.timer = time.AfterFunc(max(time.Until(early(deadline)), 1), f.expire)
	for i, t := range f.reach.others {
		f.errands = append(f.errands, &errand{
			c: f.c, region: t.Region, part: f.k.part, verb: peer.VerbRegionRead, body: body, deadline: deadline,
			done: func(r wire.RegionReply, err error) { f.region(1+i, r, err) },
		})
	}
	all := f.errands
	f.mu.Unlock()
	for _, e := range all {
		e.begin()
	}
	f.c.read(f.k, f.want, deadline, f.home)
}

// home takes what the own region holds.
func (f *farRead) home(rec crdt.Record, a Achieved, err *Error) {
	if err != nil {
		f.mu.Lock()
		answered := f.answered
		f.stop()
		f.mu.Unlock()
		if !answered {
			f.done(crdt.Record{}, Achieved{}, err)
		}
		return
	}
	f.mu.Lock()
	f.here = a
	f.take(0, rec, wire.Share{Yes: uint32(len(a.Replicas)), Needed: uint32(a.Needed), Owners: uint32(len(f.k.row.Slots))}, nil)
}

// region takes what another region said.
func (f *farRead) region(i int, r wire.RegionReply, err error) {
	var rec crdt.Record
	if err == nil {
		rec, err = decode(&f.k, r.Record)
	}
	f.mu.Lock()
	f.take(i, rec, r.Share, err)
}

// take counts a region and answers if that is enough. It is called with the lock
// held, and gives it back.
func (f *farRead) take(i int, rec crdt.Record, share wire.Share, err error) {
	if f.answered {
		joined := f.joined
		f.mu.Unlock()
		if err == nil {
			f.mend(i, rec, joined)
		}
		return
	}
	v := f.said(i, share, err)
	if err == nil {
		f.records[i] = &rec
	}
	f.settle(v)
}

// expire ends the wait.
func (f *farRead) expire() {
	f.mu.Lock()
	f.late = true
	f.settle(f.tally.Verdict())
}

// settle answers if there is an answer. It is called with the lock held, and
// gives it back.
func (f *farRead) settle(v quorum.Verdict) {
	if f.answered || v == quorum.Pending && !f.late {
		f.mu.Unlock()
		return
	}
	if v != quorum.Met {
		f.stop()
		code := CodeUnavailable
		if v == quorum.Pending {
			code = CodeDeadline
		}
		e := f.short(code, NotApplied)
		f.mu.Unlock()
		f.done(crdt.Record{}, Achieved{}, e)
		return
	}
	// What has been asked may still answer: what it brings is repaired.
	f.answered = true
	f.timer.Stop()
	var all crdt.Record
	for _, rec := range f.records {
		if rec != nil {
			all = crdt.Join(all, *rec)
		}
	}
	if len(all.Versions) > 0 {
		f.joined = crdt.AppendRecord(nil, f.k.hash, all)
	}
	a := f.here
	f.tell(&a)
	have, records := f.joined, f.records
	f.mu.Unlock()
	for _, e := range f.errands {
		e.wane()
	}
	f.done(all, a, nil)
	for i, rec := range records {
		if rec != nil {
			f.mend(i, *rec, have)
		}
	}
}

// mend gives the join to a region whose owners held something else.
func (f *farRead) mend(i int, rec crdt.Record, joined []byte) {
	if len(joined) == 0 || bytes.Equal(crdt.AppendRecord(nil, f.k.hash, rec), joined) {
		return
	}
	f.c.stats.RegionRepairs.Add(1)
	entry := wire.Entry{Key: f.k.full, Record: joined}
	deadline := time.Now().Add(DefaultTimeout)
	if i == 0 {
		f.c.joinHere(entry, want{}, deadline, func(share wire.Share) {
			if share.Yes < share.Needed {
				f.c.stats.Missed.Add(1)
			}
		})
		return
	}
	e := &errand{
		c: f.c, region: f.states[i].Region, part: f.k.part, verb: peer.VerbRegionApply, deadline: deadline,
		body: wire.AppendRegionApply(nil, &wire.RegionApply{Entry: entry}),
		done: func(_ wire.RegionReply, err error) {
			if err != nil {
				f.c.stats.Missed.Add(1)
			}
		},
	}
	e.begin()
}
