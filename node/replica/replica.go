package replica

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"github.com/hashicorp/go-hclog"

	"github.com/atolldb/atoll/crdt"
	"github.com/atolldb/atoll/crdt/hlc"
	"github.com/atolldb/atoll/hashring"
	"github.com/atolldb/atoll/internal/planted"
	"github.com/atolldb/atoll/node/home"
	"github.com/atolldb/atoll/node/storage"
	"github.com/atolldb/atoll/node/topology"
	"github.com/atolldb/atoll/node/wire"
)

// Config of a replica.
type Config struct {
	Node topology.NodeID
	// Topology to start with; see Open. Region and number of partitions are
	// those of the data directory for ever.
	Topology *topology.Topology
	// DigestSeed keys the digests; the same in all regions.
	DigestSeed uint64
	// Ship keeps what was minted for the outbox: true when there are other
	// regions.
	Ship bool
	// Home of buckets, by which this node takes part in what home regions decide.
	// Nil where no bucket has one.
	Home home.Of
	// Committer bounds the group committer; see there.
	Committer storage.CommitterConfig
}

// Replica is the state of the partitions that this node holds.
type Replica struct {
	cfg        Config
	partitions int
	engine     storage.Engine
	commit     *storage.Committer
	registry   topology.Registry
	hlc        *hlc.Clock
	log        hclog.Logger

	// What is held and by which topology, as decided. Only the committer's
	// goroutine touches it; view is what others see.
	held     []*partition // by partition; nil: not held
	current  *topology.Topology
	dropping map[hashring.Partition]bool
	// floors are the highest dots of this node in what it has dropped.
	floors   map[hashring.Partition]crdt.Dot
	lastMark uint64
	view     atomic.Pointer[view]

	outbox *Outbox
	chores chores
	stats  Stats
	damage damage
	doubts doubts
	waits  waits
	fresh  func(hashring.Partition) []wire.Fresh
	aside  sideLog
	serial serial
	window window
	// settles is what need not be named as not seen; see held.go.
	settles held
	placed  Placement
	shipTo  func() []topology.Region

	// minter is the actor that mints now, 0 for none. Only the committer's
	// goroutine touches it; actor is what others see.
	minter crdt.Actor
	actor  atomic.Uint32
	// former actors of this node; see former.go.
	former atomic.Pointer[[]crdt.Actor]
	// resume is what the last clean stop left; nil after any other stop.
	resume *topology.Identity
	nonce  string
	// Of a start with a clean-stop marker that the registry has not judged yet: its
	// actor, 0 for none, when that was, and whether somebody has shown that the
	// directory is an old one; see unproven.go.
	claimed    atomic.Uint32
	unprovenAt time.Time
	disproved  atomic.Bool
	// wantActor wakes Run when an actor is needed.
	wantActor chan struct{}
	// seenActor is the highest of the region in partitions that were dropped.
	seenActor atomic.Uint32
	stopping  atomic.Bool
	abandoned atomic.Bool
	skewed    atomic.Bool
	behind    atomic.Int32 // partitions; see catchup.go
	scans     atomic.Int32 // running; see maxScans

	// damagedState: a start met unreadable clocks, indexes or counters.
	damagedState bool
	unclean      string // why the last stop was not a clean one, "" if it was
}

// Run owns the committer, obtains actors and does the chores until ctx
// ends; then it refuses
// new work, writes what a clean stop leaves and returns. It returns early with
// an error that wraps storage.ErrFailed when the engine has failed.
func (r *Replica) Run(ctx context.Context) error {
	committing, stop := context.WithCancel(context.WithoutCancel(ctx))
	defer stop()
	failed := make(chan error, 1)
	go func() { failed <- r.commit.Run(committing) }()
	beside, stopBeside := context.WithCancel(ctx)
	var running sync.WaitGroup
	running.Go(func() { r.acquireActors(beside) })
	running.Go(func() { r.runChores(beside) })
	running.Go(func() { r.runDoubts(beside) })
	running.Go(func() { r.runWaits(beside) })
	defer func() {
		stopBeside()
		running.Wait()
	}()

	select {
	case err := <-failed:
		return fmt.Errorf("commit: %w", err)
	case <-ctx.Done():
	}
	r.stopping.Store(true)
	stopBeside()
	running.Wait()
	var leaveErr error
	if !r.abandoned.Load() {
		leaveErr = r.leaveClean()
	}
	stop()
	if err := <-failed; err != nil && !errors.Is(err, context.Canceled) {
		return fmt.Errorf("commit: %w", err)
	}
	return leaveErr
}

// Abandon makes the stop that follows an unclean one, as a crash is: no marker
// is left, and the next start takes a new actor. For tests and demonstrations.
func (r *Replica) Abandon() { r.abandoned.Store(true) }

// SetSkewed forbids (or allows again) minting because this node's clock is too
// far from its peers', and returns what held before.
func (r *Replica) SetSkewed(skewed bool) (was bool) { return r.skewed.Swap(skewed) }

// Skewed reports whether minting is forbidden for that.
func (r *Replica) Skewed() bool { return r.skewed.Load() }

func (r *Replica) submit(op storage.Op) {
	if r.stopping.Load() {
		op.Done(ErrStopping)
		return
	}
	r.enqueue(op)
}

func (r *Replica) enqueue(op storage.Op) {
	if err := r.commit.Submit(op); err != nil {
		op.Done(err)
	}
}

// Read returns the encoding of a key's record, nil for an absent key. It is
// refused with ErrStale when epoch, that of the topology by which this node was
// asked, is too old for the partition (0 is not fenced), with ErrNotOwner or
// ErrBehind when this node does not serve it, and with storage.ErrCorrupt when
// the record cannot be read, or might be older than what could not be.
func (r *Replica) Read(epoch topology.Epoch, keyHash uint64, fullKey []byte) ([]byte, error) {
	st := r.view.Load().standing(r.Partition(keyHash))
	if err := r.note(st.serves(epoch)); err != nil && !(planted.Bug(planted.ServeBehind) && errors.Is(err, ErrBehind)) {
		return nil, err
	}
	if r.damage.isReplaced(fullKey) {
		return nil, errReplaced
	}
	return r.loadShown(keyHash, fullKey)
}

// loadShown is load without what is dead and collected.
func (r *Replica) loadShown(keyHash uint64, fullKey []byte) ([]byte, error) {
	b, err := r.load(keyHash, fullKey)
	if err != nil || r.absent(keyHash, b) {
		return nil, err
	}
	return b, nil
}

// load is Read for the node's own purposes.
func (r *Replica) load(keyHash uint64, fullKey []byte) ([]byte, error) {
	var buf [128]byte
	b, err := r.engine.Get(recordKey(buf[:0], keyHash, fullKey))
	switch {
	case isNotFound(err):
		return nil, nil
	case errors.Is(err, storage.ErrCorrupt):
		r.unreadable(keyHash, fullKey)
	}
	return b, err
}

// give is load for what is sent to others together with its dots: that must be
// all that this node ever acknowledged of the key.
func (r *Replica) give(keyHash uint64, fullKey []byte) ([]byte, error) {
	if r.damage.isReplaced(fullKey) {
		return nil, errReplaced
	}
	return r.loadShown(keyHash, fullKey)
}

// Actor that this node mints with, 0 while it has none.
func (r *Replica) Actor() crdt.Actor { return crdt.Actor(r.actor.Load()) }

// Clock returns a copy of the delivery clock of a held partition, nil for
// another.
func (r *Replica) Clock(p hashring.Partition) *crdt.Clock {
	part := r.part(p)
	if part == nil {
		return nil
	}
	return part.Clock()
}

// Sum returns the state of a held partition in short.
func (r *Replica) Sum(p hashring.Partition) wire.Sum {
	if part := r.part(p); part != nil {
		return part.Sum()
	}
	return wire.Sum{Partition: p}
}

// Gaps counts the dots that a held partition's clock lacks below its highest.
func (r *Replica) Gaps(p hashring.Partition) uint64 {
	part := r.part(p)
	if part == nil {
		return 0
	}
	part.mu.Lock()
	defer part.mu.Unlock()
	return part.durable.clock.Gaps()
}

// Outbox is what this node has minted for other regions.
func (r *Replica) Outbox() *Outbox { return r.outbox }

// Usage of the disk below the store.
func (r *Replica) Usage() (storage.Usage, error) { return r.engine.Usage() }

// Commits returns what the committer has counted.
func (r *Replica) Commits() storage.CommitterStats { return r.commit.Stats() }

// Unclean says why this start did not resume the last one's actor, "" if it
// did (or may).
func (r *Replica) Unclean() string { return r.unclean }
