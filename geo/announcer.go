package geo

import (
	"context"
	"slices"
	"sync/atomic"
	"time"

	"github.com/hashicorp/go-hclog"

	"github.com/atolldb/atoll/crdt"
	"github.com/atolldb/atoll/hashring"
)

const (
	announceBeat = 300 * time.Millisecond
	// fullEvery is how often everything is announced, changed or not. Who has missed
	// something asks for it earlier, and is served at most every askedEvery.
	fullEvery  = time.Minute
	askedEvery = 2 * time.Second
)

// Clocks are the delivery clocks of one node.
type Clocks interface {
	// Owned returns the partitions that the node stores. The slice is shared.
	Owned() []hashring.Partition
	// Clock returns a copy of the clock of an owned partition, nil for
	// another.
	Clock(hashring.Partition) *crdt.Clock
}

// AnnouncerConfig says who announces.
type AnnouncerConfig struct {
	Region, Node string
	// RegionID is in the low bits of the region's actors.
	RegionID uint8
	// EntryBytes returns the average size of what the node ships, 0 when
	// unknown; nil means never known.
	EntryBytes func() uint64
	// Changed is called at each beat with the clocks that have changed since the
	// last one, which nobody may change; nil for nobody.
	Changed func(now time.Time, p hashring.Partition, clock *crdt.Clock)
}

// Announcer tells the other regions which dots this node has, of whatever region:
// every 300 ms those that are new, every minute or when somebody asks all, and in
// any case that it lives. So each region knows what the others have to give, and
// what of its own has arrived there. While a session lasts, what was told stays
// true: when this node has lost a dot, another session begins.
type Announcer struct {
	cfg    AnnouncerConfig
	clocks Clocks
	log    Log
	logger hclog.Logger
	told   map[hashring.Partition]*crdt.Clock
	seq    uint64
	base   uint64 // of the last full round

	asked   atomic.Bool // somebody wants a full round
	session uint64
	full    time.Time // the last round
}

// NewAnnouncer returns an announcer; Run makes it work.
func NewAnnouncer(cfg AnnouncerConfig, clocks Clocks, log Log, logger hclog.Logger) *Announcer {
	return &Announcer{cfg: cfg, clocks: clocks, log: log, logger: logger, told: make(map[hashring.Partition]*crdt.Clock)}
}

// Full has everything announced soon.
func (a *Announcer) Full() { a.asked.Store(true) }

// Run announces until ctx ends and returns nil. Call it once.
func (a *Announcer) Run(ctx context.Context) error {
	beat := time.NewTicker(announceBeat)
	defer beat.Stop()
	for {
		now := time.Now()
		since := now.Sub(a.full)
		all := since >= fullEvery || since >= askedEvery && a.asked.Swap(false)
		a.announce(now, all)
		select {
		case <-ctx.Done():
			return nil
		case <-beat.C:
		}
	}
}

// announce sends one heartbeat or, when there is much to tell, several.
func (a *Announcer) announce(now time.Time, all bool) {
	owned := slices.Sorted(slices.Values(a.clocks.Owned()))
	clocks := map[hashring.Partition]*crdt.Clock{}
	lost := false
	for _, p := range owned {
		if clock := a.clocks.Clock(p); clock != nil {
			clocks[p] = clock
			lost = lost || a.told[p] != nil && !clock.Covers(a.told[p])
		}
	}
	if lost || a.session == 0 {
		// It has to be above that of the last run, and of one in the same instant.
		a.session, a.seq, all = max(a.session+1, uint64(now.UnixNano())), 0, true
	}
	h := heartbeat{region: a.cfg.Region, regionID: a.cfg.RegionID, node: a.cfg.Node, session: a.session, millis: uint64(now.UnixMilli())}
	if a.cfg.EntryBytes != nil {
		h.entryBytes = a.cfg.EntryBytes()
	}
	if all {
		a.base, a.full = a.seq+1, now
	}
	h.base = a.base
	send := func(more bool) {
		a.seq++
		h.seq, h.more = a.seq, more
		if err := a.log.Announce(encodeHeartbeat(&h)); err != nil {
			// The next full round makes up for it.
			a.logger.Debug("announce clocks", "error", err)
		}
		h.clocks = nil
	}
	size, left := 0, false
	for _, p := range owned {
		clock := clocks[p]
		if clock == nil {
			continue
		}
		fresh := clock
		if before := a.told[p]; before != nil {
			fresh = before.Beyond(clock)
		}
		changed := a.told[p] == nil || len(fresh.Actors()) > 0
		if changed && a.cfg.Changed != nil {
			a.cfg.Changed(now, p, clock)
		}
		if !all && !changed {
			continue
		}
		a.told[p] = clock
		if !all {
			clock = fresh
		}
		n := len(crdt.AppendClock(nil, clock)) + 8
		if n > maxHeartbeat-heartbeatFill-1<<10 {
			a.logger.Warn("clock is too large to announce", "partition", p, "bytes", n)
			left = true // nobody shall believe that this was all
			continue
		}
		if size += n; size > heartbeatFill && len(h.clocks) > 0 {
			send(true)
			size = n
		}
		h.clocks = append(h.clocks, partitionClock{p, clock})
	}
	send(left)
}
