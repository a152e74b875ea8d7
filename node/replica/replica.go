package replica

import (
	"context"
	"errors"
	"fmt"
	"sync/atomic"

	"github.com/hashicorp/go-hclog"

	"github.com/atolldb/atoll/crdt"
	"github.com/atolldb/atoll/crdt/hlc"
	"github.com/atolldb/atoll/hashring"
	"github.com/atolldb/atoll/internal/planted"
	"github.com/atolldb/atoll/node/storage"
	"github.com/atolldb/atoll/node/topology"
	"github.com/atolldb/atoll/node/wire"
)

// Config of a replica.
type Config struct {
	Node     topology.NodeID
	Region   topology.Region
	RegionID topology.RegionID
	// Partitions in all, and those that this node owns.
	Partitions int
	Owned      []hashring.Partition
	// DigestSeed keys the digests; the same in all regions.
	DigestSeed uint64
	// Ship keeps what was minted for the outbox: true when there are other
	// regions.
	Ship bool
	// Replicated: every partition has other owners, to catch up with.
	Replicated bool
	// Committer bounds the group committer; see there.
	Committer storage.CommitterConfig
}

// Replica is the state of the partitions that this node owns.
type Replica struct {
	cfg      Config
	engine   storage.Engine
	commit   *storage.Committer
	registry topology.Registry
	hlc      *hlc.Clock
	log      hclog.Logger

	parts  []*partition // by partition; nil: not owned
	outbox *Outbox

	// minter is the actor that mints now, 0 for none. Only the committer's
	// goroutine touches it; actor is what others see.
	minter crdt.Actor
	actor  atomic.Uint32
	// resume is what the last clean stop left; nil after any other stop.
	resume *topology.Identity
	nonce  string
	// wantActor wakes Run when an actor is needed.
	wantActor chan struct{}
	stopping  atomic.Bool
	abandoned atomic.Bool
	skewed    atomic.Bool
	behind    atomic.Int32 // partitions; see catchup.go
	scans     atomic.Int32 // running; see maxScans

	unclean string // why the last stop was not a clean one, "" if it was
}

// Open reads the state of a data directory and checks that it belongs to this
// node. Nothing is minted before Run has obtained an actor.
func Open(cfg Config, engine storage.Engine, registry topology.Registry, clock *hlc.Clock, log hclog.Logger) (*Replica, error) {
	r := &Replica{
		cfg: cfg, engine: engine, registry: registry, hlc: clock, log: log,
		parts:     make([]*partition, cfg.Partitions),
		wantActor: make(chan struct{}, 1),
	}
	if err := r.checkOwner(); err != nil {
		return nil, err
	}
	for _, p := range cfg.Owned {
		part, err := recoverPartition(engine, p)
		if err != nil {
			return nil, err
		}
		r.parts[p] = part
	}
	report, err := storage.CheckMarkers(engine)
	if err != nil {
		return nil, fmt.Errorf("check group markers: %w", err)
	}
	if r.resume, r.unclean, err = r.readCleanMarker(report); err != nil {
		return nil, err
	}
	if err := r.loadBehind(report); err != nil {
		return nil, err
	}
	cfg.Committer.Markers = &report
	r.commit = storage.NewCommitter(engine, cfg.Committer)
	if r.outbox, err = openOutbox(r); err != nil {
		return nil, err
	}
	return r, nil
}

// Run owns the committer and obtains actors until ctx ends; then it refuses
// new work, writes what a clean stop leaves and returns. It returns early with
// an error that wraps storage.ErrFailed when the engine has failed.
func (r *Replica) Run(ctx context.Context) error {
	committing, stop := context.WithCancel(context.WithoutCancel(ctx))
	defer stop()
	failed := make(chan error, 1)
	go func() { failed <- r.commit.Run(committing) }()
	acquiring, stopAcquiring := context.WithCancel(ctx)
	acquired := make(chan struct{})
	go func() {
		defer close(acquired)
		r.acquireActors(acquiring)
	}()
	defer func() {
		stopAcquiring()
		<-acquired
	}()

	select {
	case err := <-failed:
		return fmt.Errorf("commit: %w", err)
	case <-ctx.Done():
	}
	r.stopping.Store(true)
	stopAcquiring()
	<-acquired
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

// Owns reports whether this node stores p.
func (r *Replica) Owns(p hashring.Partition) bool { return r.part(p) != nil }

func (r *Replica) part(p hashring.Partition) *partition {
	if int(p) >= len(r.parts) {
		return nil
	}
	return r.parts[p]
}

// Read returns the encoding of a key's record, nil for an absent key.
func (r *Replica) Read(keyHash uint64, fullKey []byte) ([]byte, error) {
	part := r.parts[r.Partition(keyHash)]
	if part == nil {
		return nil, ErrNotOwner
	}
	if part.behind.Load() && !planted.Bug(planted.ServeBehind) {
		return nil, ErrBehind
	}
	return r.load(keyHash, fullKey)
}

// load is Read for the node's own purposes.
func (r *Replica) load(keyHash uint64, fullKey []byte) ([]byte, error) {
	var buf [128]byte
	b, err := r.engine.Get(recordKey(buf[:0], keyHash, fullKey))
	if isNotFound(err) {
		return nil, nil
	}
	return b, err
}

// Actor that this node mints with, 0 while it has none.
func (r *Replica) Actor() crdt.Actor { return crdt.Actor(r.actor.Load()) }

// Owned returns the partitions that this node stores.
func (r *Replica) Owned() []hashring.Partition { return r.cfg.Owned }

// Clock returns a copy of the delivery clock of an owned partition, nil for
// another.
func (r *Replica) Clock(p hashring.Partition) *crdt.Clock {
	part := r.part(p)
	if part == nil {
		return nil
	}
	return part.Clock()
}

// Sum returns the state of an owned partition in short.
func (r *Replica) Sum(p hashring.Partition) wire.Sum {
	if part := r.part(p); part != nil {
		return part.Sum()
	}
	return wire.Sum{Partition: p}
}

// Gaps counts the dots that an owned partition's clock lacks below its highest.
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
