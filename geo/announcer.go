package geo

import (
	"context"
	"slices"
	"time"

	"github.com/hashicorp/go-hclog"

	"github.com/atolldb/atoll/crdt"
	"github.com/atolldb/atoll/hashring"
)

const (
	announceBeat = 300 * time.Millisecond
	// fullEvery is how often all partitions are announced, changed or not: it
	// makes up for announcements that got lost, and serves newcomers.
	fullEvery = 10 * time.Second
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
}

// Announcer tells the other regions which dots of its own region's actors this
// node has: every 300 ms what changed, every 10 s everything, and in any case
// that it lives.
type Announcer struct {
	cfg    AnnouncerConfig
	clocks Clocks
	log    Log
	logger hclog.Logger
	told   map[hashring.Partition]*crdt.Clock
	seq    uint64
	base   uint64 // of the last full round
}

// NewAnnouncer returns an announcer; Run makes it work.
func NewAnnouncer(cfg AnnouncerConfig, clocks Clocks, log Log, logger hclog.Logger) *Announcer {
	return &Announcer{cfg: cfg, clocks: clocks, log: log, logger: logger, told: make(map[hashring.Partition]*crdt.Clock)}
}

// Run announces until ctx ends and returns nil. Call it once.
func (a *Announcer) Run(ctx context.Context) error {
	session := uint64(time.Now().UnixNano())
	beat := time.NewTicker(announceBeat)
	defer beat.Stop()
	var full time.Time
	for {
		now := time.Now()
		all := now.Sub(full) >= fullEvery
		if all {
			full = now
		}
		a.announce(now, session, all)
		select {
		case <-ctx.Done():
			return nil
		case <-beat.C:
		}
	}
}

// announce sends one heartbeat or, when there is much to tell, several.
func (a *Announcer) announce(now time.Time, session uint64, all bool) {
	h := heartbeat{region: a.cfg.Region, node: a.cfg.Node, session: session, millis: uint64(now.UnixMilli())}
	if a.cfg.EntryBytes != nil {
		h.entryBytes = a.cfg.EntryBytes()
	}
	if all {
		a.base = a.seq + 1
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
	owned := slices.Sorted(slices.Values(a.clocks.Owned()))
	for _, p := range owned {
		clock := a.minted(p)
		if clock == nil || !all && a.told[p] != nil && a.told[p].Equal(clock) {
			continue
		}
		a.told[p] = clock
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

// minted returns the part of p's clock that names actors of the own region.
func (a *Announcer) minted(p hashring.Partition) *crdt.Clock {
	clock := a.clocks.Clock(p)
	if clock == nil {
		return nil
	}
	own := new(crdt.Clock)
	for _, d := range clock.All() {
		if d.Actor.Region() == a.cfg.RegionID {
			own.AddSpan(d)
		}
	}
	return own
}
