package geo

import (
	"context"
	"sync/atomic"
	"time"

	"github.com/hashicorp/go-hclog"

	"github.com/atolldb/atoll/crdt"
)

const (
	// flushBytes is how much one Peek asks for, and capBytes the most that
	// shares a message.
	flushBytes = 64 << 10
	capBytes   = 256 << 10
	// maxUnacked bounds the batches, and maxUnackedBytes their bytes (less the
	// last one), that the log has not confirmed.
	maxUnacked      = 64
	maxUnackedBytes = 32 << 20
	// maxTries is how often one batch is offered before the pump starts again
	// from the confirmed marks; by then hot keys have moved on.
	maxTries = 4

	backoffMin = 100 * time.Millisecond
	backoffMax = 5 * time.Second
	// silentBytes is how much of a backlog is shipped at a time while the log is
	// silent for longer than doubt.
	silentBytes = 1 << 20
	doubt       = 40 * time.Millisecond
	// maxLinger bounds the pause that grows while the log is silent.
	maxLinger = 500 * time.Millisecond
	// unwantedBeat is how often a pump that waits looks whether it is to go on.
	unwantedBeat = 250 * time.Millisecond
	// stopGrace is how long a stopping pump tries to ship what is left.
	stopGrace = 3 * time.Second
)

// PumpConfig says who ships.
type PumpConfig struct {
	// Region and Node name the publisher; Incarnation is its actor.
	Region, Node string
	Incarnation  crdt.Actor
	// Claims ships records above ClaimBytes as claims.
	Claims bool
	// Nodes tells how many nodes of the region publish now. A lone synced
	// message costs the log near a millisecond of processor, so the pause in
	// which updates gather grows with it: 1 ms a node, within 10..50 ms.
	Nodes func() int
	// Delay tells for how long nothing more is to be shipped after so many bytes of a
	// backlog, by what clients feel, and at the rate of least, in bytes a second, at the
	// longest. Nil never waits.
	Delay func(bytes int, least float64) time.Duration
}

func (c PumpConfig) linger() time.Duration {
	return min(max(time.Duration(c.Nodes())*time.Millisecond, 10*time.Millisecond), 50*time.Millisecond)
}

// Pump ships what a Source has to the region's own Log. Updates gather for a
// short pause, so that many share a message and a key written often travels
// once; a backlog is shipped without pauses.
//
// While no region takes anything from the log, nothing new is put there: the
// source keeps it, and gives each key once when somebody takes again. Until that is
// known the pause grows with the time for which nobody has taken anything: so what
// is in the log already when a cut is noticed has a key some times, and not once for
// each pause. Where batches are taken all the time that adds nothing. Nor is anything
// put there while all that take have enough before them: a long backlog is longer than
// the log, and shipping all of it at once would only keep the origin's processors busy.
//
// A batch the log did not confirm is offered again under its number and id, at
// most maxTries times; then the pump rewinds to the confirmed marks and ships
// what is current by then under new numbers. An entry that no message can
// carry is counted, logged and passed over: clocks show it missing, and repair
// fetches it.
type Pump struct {
	cfg    PumpConfig
	source Source
	log    Log
	logger hclog.Logger
	stats  pumpCounters
}

// PumpStats are counters since the pump was made.
type PumpStats struct {
	// Batches and Entries the log has confirmed, bytes of their keys and
	// records, and bytes as sent.
	Batches, Entries, BytesRaw, BytesWire uint64
	// Claims are entries shipped as such.
	Claims uint64
	// Failures are offers that the log did not confirm; Rewinds the times the
	// pump started again; Unshippable the entries no message can carry.
	Failures, Rewinds, Unshippable uint64
	// Waiting says that it ships nothing, since no region takes anything, or those
	// that do have enough to take for now.
	Waiting bool
}

type pumpCounters struct {
	batches, entries, bytesRaw, bytesWire, failures, rewinds, unshippable, claims atomic.Uint64

	waiting atomic.Bool
}

// NewPump returns a pump; Run makes it work.
func NewPump(cfg PumpConfig, source Source, log Log, logger hclog.Logger) *Pump {
	return &Pump{cfg: cfg, source: source, log: log, logger: logger}
}

// Stats may be called at any time.
func (p *Pump) Stats() PumpStats {
	return PumpStats{
		Batches: p.stats.batches.Load(), Entries: p.stats.entries.Load(),
		BytesRaw: p.stats.bytesRaw.Load(), BytesWire: p.stats.bytesWire.Load(),
		Failures: p.stats.failures.Load(), Rewinds: p.stats.rewinds.Load(),
		Unshippable: p.stats.unshippable.Load(), Claims: p.stats.claims.Load(), Waiting: p.stats.waiting.Load(),
	}
}

// Pending tells how many minted dots the log has not confirmed.
func (p *Pump) Pending() uint64 { return p.source.Pending() }

// Run ships until ctx ends and then, for at most stopGrace, what is left. It
// returns nil: whatever goes wrong with the log passes or is repaired by
// clocks. Call it once.
func (p *Pump) Run(ctx context.Context) error {
	r := pumpRun{
		Pump:    p,
		session: uint64(time.Now().UnixNano()),
		acks:    make(chan ack, maxUnacked),
		hurry:   true,
		pause:   stoppedTimer(),
		retryAt: stoppedTimer(),
		backoff: backoffMin,
	}
	defer r.pause.Stop()
	defer r.retryAt.Stop()
	r.loop(ctx)
	return nil
}
