package topology

import (
	"context"
	"errors"
	"sync"
	"time"

	"github.com/hashicorp/go-hclog"
)

// The beats of a Keeper.
const (
	// keepBeat is how often a node compares what it has with what is stored.
	keepBeat = 15 * time.Second
	// seedPatience is how long a store must be behind this node before the
	// node mends it: whoever changes it may be about to.
	seedPatience = 2 * time.Second
	// watchPause follows a watch that cannot go on.
	watchPause = 30 * time.Second
)

// KeeperConfig says what a Keeper keeps together.
type KeeperConfig struct {
	Store Store
	// Current is the topology that is durable on this node and in force.
	Current func() *Topology
	// Adopt makes a newer topology durable and puts it in force, and returns
	// when that is done. What is not newer is no error.
	Adopt func(context.Context, *Topology) error
	// Survey asks all other members of the region for a newer topology, adopts
	// it, and reports how many of them have answered, and whether with this node
	// they are a majority. Nil asks nobody and is for a region that can be
	// without.
	Survey func(context.Context) (heard int, most bool)
	Logger hclog.Logger
}

// Keeper keeps a node and the store of its region at the same topology:
// whatever is newer wins. So the node follows the store; and a store that has
// lost its state, or never had any, gets back the newest topology that nodes
// hold.
//
// Invariants:
//
//	T1  The node never goes back (Adopt refuses), nor does the store (Swap
//	    refuses).
//	T2  A store is mended only by a node that has asked a majority of the
//	    members whether they have something newer.
//	T3  While the store does not answer the node goes on by what it has.
type Keeper struct {
	cfg  KeeperConfig
	kick chan struct{}

	mu    sync.Mutex
	split Epoch // told of already
}

// NewKeeper returns a keeper; Run makes it work.
func NewKeeper(cfg KeeperConfig) *Keeper { return &Keeper{cfg: cfg, kick: make(chan struct{}, 1)} }

// Run works until ctx ends.
func (k *Keeper) Run(ctx context.Context) error {
	var wg sync.WaitGroup
	wg.Go(func() { k.follow(ctx) })
	defer wg.Wait()
	beat := time.NewTicker(keepBeat)
	defer beat.Stop()
	for {
		if err := k.mend(ctx); err != nil && ctx.Err() == nil {
			k.cfg.Logger.Warn("the stored topology cannot be compared with this node's", "error", err)
		}
		select {
		case <-ctx.Done():
			return nil
		case <-beat.C:
		case <-k.kick:
		}
	}
}

// follow adopts what is stored, as it comes.
func (k *Keeper) follow(ctx context.Context) {
	for {
		err := k.cfg.Store.Watch(ctx, func(t *Topology, _ Revision) {
			if k.take(ctx, t) {
				return
			}
			select {
			case k.kick <- struct{}{}:
			default:
			}
		})
		if ctx.Err() != nil {
			return
		}
		k.cfg.Logger.Error("the region's topology cannot be followed", "error", err)
		select {
		case <-ctx.Done():
			return
		case <-time.After(watchPause):
		}
	}
}

// take adopts t if it is newer; it reports whether this node is at t now.
func (k *Keeper) take(ctx context.Context, t *Topology) bool {
	have := k.cfg.Current()
	switch {
	case t.Epoch < have.Epoch:
		return false
	case t.Epoch == have.Epoch:
		k.checkSplit(have, t)
		return true
	}
	if err := k.cfg.Adopt(ctx, t); err != nil {
		if ctx.Err() == nil {
			k.cfg.Logger.Error("a stored topology cannot be adopted", "epoch", uint64(t.Epoch), "error", err)
		}
		return true // the next beat tries again
	}
	return true
}

// checkSplit tells of two topologies with one epoch: people bypassed the store,
// or two regions think that they are the same one.
func (k *Keeper) checkSplit(a, b *Topology) {
	if a == b || string(Encode(a)) == string(Encode(b)) {
		return
	}
	k.mu.Lock()
	told := k.split == a.Epoch
	k.split = a.Epoch
	k.mu.Unlock()
	if !told {
		k.cfg.Logger.Error("this node and the store have different topologies of one epoch: they agree again with the next change", "epoch", uint64(a.Epoch))
	}
}

// mend puts this node's topology into a store that has an older one or none.
func (k *Keeper) mend(ctx context.Context) error {
	for {
		at, behind, err := k.behind(ctx)
		if err != nil || !behind {
			return err
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(seedPatience):
		}
		if !k.surveyed(ctx) {
			return nil // the next beat asks again
		}
		again, behind, err := k.behind(ctx)
		if err != nil || !behind {
			return err
		}
		if again != at {
			continue // it moves
		}
		t := k.cfg.Current()
		switch _, err := k.cfg.Store.Swap(ctx, t, at); {
		case err == nil:
			k.cfg.Logger.Info("stored this node's topology", "epoch", uint64(t.Epoch), "at-revision", uint64(at))
			return nil
		case !errors.Is(err, ErrConflict):
			return err
		}
	}
}

// behind reports whether what is stored is older than what this node has.
func (k *Keeper) behind(ctx context.Context) (Revision, bool, error) {
	t, at, err := k.cfg.Store.Load(ctx)
	if err != nil {
		return 0, false, err
	}
	return at, t == nil || !k.take(ctx, t), nil
}

// surveyed reports whether a majority of the members, this node among them, has
// nothing newer than it has now.
func (k *Keeper) surveyed(ctx context.Context) bool {
	if k.cfg.Survey == nil {
		return true
	}
	heard, most := k.cfg.Survey(ctx)
	if !most {
		k.cfg.Logger.Warn("the stored topology is older than this node's, and too few members answer to mend it",
			"heard", heard, "others", len(k.cfg.Current().Present())-1)
	}
	return most
}
