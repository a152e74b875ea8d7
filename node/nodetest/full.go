package nodetest

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/atolldb/atoll/crdt"
	"github.com/atolldb/atoll/hashring"
	"github.com/atolldb/atoll/internal/pause"
	"github.com/atolldb/atoll/node/coord"
	"github.com/atolldb/atoll/node/quorum"
)

const (
	// roomLeft is what others leave on a disk that they fill: less than the
	// watermark asks for, and enough for what comes before anybody looks.
	roomLeft = 256 << 20
	// noticed is when a node that writes has surely looked at its disk.
	noticed = 3 * time.Second
	// caughtUpIn bounds how long an owner takes, from the moment when it has
	// room, to have all that others had then; takenIn how long until writes are
	// taken.
	caughtUpIn = 20 * time.Second
	takenIn    = 10 * time.Second
)

// fullOne fills one node's disk, has something else happen to the region
// meanwhile, and gives the room back. What must hold is what always must.
func (w *World) fullOne(ctx context.Context) {
	m := w.someNode()
	w.faults.fullDisks++
	m.disk.Fill(roomLeft)
	defer m.disk.Drain()
	pause.For(ctx, time.Duration(w.rng.IntN(5000))*time.Millisecond)
	switch w.rng.IntN(4) {
	case 0:
		w.crashOne(ctx)
	case 1:
		w.cutNodes(ctx)
	case 2: // to the last byte: that ends the process, until there is room
		w.faults.crashes++
		m.disk.Fill(0)
		pause.For(ctx, time.Duration(w.rng.IntN(3000))*time.Millisecond)
		w.Crash(m)
		m.disk.Drain()
		w.Start(m)
	default: // a start with a full disk: no loop of crashes
		w.faults.crashes++
		w.Crash(m)
		w.Start(m)
		pause.For(ctx, time.Duration(w.rng.IntN(3000))*time.Millisecond)
	}
}

// fullOwner fills one disk of a region that is whole, and nothing else goes
// wrong: writes at a quorum go on without that node, and when it has room again
// it catches up.
func (w *World) fullOwner(ctx context.Context) {
	if !w.settle(ctx) {
		return
	}
	defer w.quiet()()
	region := w.rng.IntN(len(w.tops))
	ids := w.ids(region)
	m := w.member(ids[w.rng.IntN(len(ids))])
	w.faults.fullDisks++
	m.disk.Fill(roomLeft)
	defer m.disk.Drain()
	if !pause.For(ctx, noticed) {
		return
	}
	p := w.prober(region)
	for range 20 {
		if err := p.write(false); err != nil {
			w.hist.found("I8: with the disk of %s full a write of %s at a quorum failed: %v", m.id, p.key, err)
			break
		}
		if !pause.For(ctx, 50*time.Millisecond) {
			return
		}
	}
	m.disk.Drain()
	missed := w.clocks(m)
	drained := time.Now()
	for left := ""; ; {
		if left = missed(); left == "" {
			break
		}
		if time.Since(drained) > caughtUpIn {
			w.hist.found("I8: %v after its disk has room %s has not caught up: %s", caughtUpIn, m.id, left)
			return
		}
		if !pause.For(ctx, 100*time.Millisecond) {
			return
		}
	}
	w.faults.caughtUp++
}

// fullRegion fills all disks of a region: every write is refused, and said to
// be not applied; reads go on; writes are taken soon after there is room.
func (w *World) fullRegion(ctx context.Context) {
	if !w.settle(ctx) {
		return
	}
	defer w.quiet()()
	region := w.rng.IntN(len(w.tops))
	drain := func() {
		for _, m := range w.all() {
			m.disk.Drain()
		}
	}
	defer drain()
	for _, id := range w.ids(region) {
		w.faults.fullDisks++
		w.member(id).disk.Fill(roomLeft)
	}
	p := w.prober(region)
	if p.write(false); !pause.For(ctx, noticed) {
		return
	}
	for range 10 {
		err := p.write(p.rng.IntN(3) == 0 && len(p.last.bytes) > 0)
		var e *coord.Error
		if !errors.As(err, &e) || e.Code != coord.CodeDiskFull || e.Outcome != coord.NotApplied {
			w.hist.found("I6: with all disks of a region full a write of %s ended with %v, not with a full disk and not applied", p.key, err)
			break
		}
		if err := p.read(); err != nil {
			w.hist.found("I8: with all disks of a region full a read of %s at a quorum failed: %v", p.key, err)
			break
		}
		if !pause.For(ctx, 50*time.Millisecond) {
			return
		}
	}
	drain()
	drained := time.Now()
	for p.write(false) != nil {
		if time.Since(drained) > takenIn {
			w.hist.found("I8: %v after the disks have room writes of %s are refused", takenIn, p.key)
			return
		}
		if !pause.For(ctx, 100*time.Millisecond) {
			return
		}
	}
	w.faults.refilled++
}

// quiet stops the noise on the links and puts the clocks right, which nodes know
// when they have noticed; again undoes both. Of three nodes two may be off from
// both others at once, and then a region cannot do without the third.
func (w *World) quiet() (again func()) {
	w.fabric.SetAll(calmLinks)
	skews := map[*member]int64{}
	for _, m := range w.all() {
		skews[m] = m.skew.Swap(0)
	}
	return func() {
		w.fabric.SetAll(w.noise)
		for m, skew := range skews {
			m.skew.Store(skew)
		}
	}
}

// prober is a single writer of a key of its own, by which an injected fault is
// looked at.
func (w *World) prober(region int) *solo {
	w.probers++
	return w.solo(1000+w.probers, region)
}

// read reads the key at a quorum.
func (s *solo) read() error {
	node := s.coordinator()
	if node == nil {
		return errNobody
	}
	done := make(chan error, 1)
	g := coord.Get{Key: []byte(s.key), Level: quorum.LocalQuorum, Deadline: time.Now().Add(2 * time.Second)}
	node.Get(g, func(_ coord.GetResult, err error) { done <- err })
	return <-done
}

// found is problem for those who do not have the lock.
func (h *history) found(format string, args ...any) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.problem(format, args...)
}

// clocks returns what tells which partition of m lacks anything that other
// owners of its region have delivered by now, "" for none.
func (w *World) clocks(m *member) (missing func() string) {
	up := m.running.Load().node.Replica()
	due := map[hashring.Partition]*crdt.Clock{}
	for _, o := range w.all() {
		other := o.running.Load()
		if o == m || o.region != m.region || o.gone.Load() || other == nil {
			continue
		}
		for _, p := range other.node.Replica().Owned() {
			if !up.Owns(p) {
				continue
			}
			if due[p] == nil {
				due[p] = &crdt.Clock{}
			}
			due[p].Join(other.node.Replica().Clock(p))
		}
	}
	return func() string {
		for p, c := range due {
			// A partition that moves away meanwhile owes nothing.
			if own := up.Clock(p); up.Owns(p) && own != nil && !own.Covers(c) {
				return fmt.Sprintf("partition %d", p)
			}
		}
		return ""
	}
}
