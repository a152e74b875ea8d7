package jskv

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/atolldb/atoll/node/topology"
)

// lookBeat is how often a watch looks for itself: a watcher's consumer can
// stall, or belong to a bucket that was made anew.
const lookBeat = 10 * time.Second

// watch is one call of Watch.
type watch struct {
	store *Store
	each  func(*topology.Topology, topology.Revision)
	told  topology.Revision // the last one, 0 for none
}

// Watch implements topology.Store. It returns an error before ctx ends only
// when what is stored cannot be read by this version.
func (s *Store) Watch(ctx context.Context, each func(*topology.Topology, topology.Revision)) error {
	w := watch{store: s, each: each}
	pause := pauseMin
	for {
		began := time.Now()
		err := w.follow(ctx)
		if ctx.Err() != nil {
			return ctx.Err()
		}
		if f := (final{}); errors.As(err, &f) {
			return fmt.Errorf("watch topology of %s: %w", s.cfg.Region, f.error)
		}
		if time.Since(began) > lookBeat {
			pause = pauseMin
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(pause):
		}
		pause = min(2*pause, pauseMax)
	}
}

var errMissed = errors.New("the watcher missed a change")

// follow tells what a watcher says until it breaks, misses something, or ctx
// ends.
func (w *watch) follow(ctx context.Context) error {
	ctx, cancel := context.WithCancel(ctx) // the watcher lives no longer
	defer cancel()
	watcher, err := w.open(ctx, cancel)
	if err != nil {
		return err
	}
	defer func() { _ = watcher.Stop() }() // its consumer goes away by itself, too
	look := time.NewTicker(lookBeat)
	defer look.Stop()
	back := w.store.b.nc.StatusChanged(nats.CONNECTED)
	defer w.store.b.nc.RemoveStatusListener(back)
	for {
		select {
		case <-ctx.Done():
			return ctx.Err()
		case entry, open := <-watcher.Updates():
			switch {
			case !open:
				return errMissed
			case entry == nil: // that was all there is so far
			case topology.Revision(entry.Revision()) > w.told:
				t, err := w.store.parse(entry)
				if err != nil {
					return err
				}
				w.tell(t, topology.Revision(entry.Revision()))
			}
		case <-back: // the servers may have been away, and the consumer with them
			return errMissed
		case <-look.C:
			if err := w.look(ctx); err != nil {
				return err
			}
		}
	}
}

func (w *watch) tell(t *topology.Topology, at topology.Revision) {
	w.told = at
	w.each(t, at)
}

// open makes a watcher. Its context must not end with the making, so that is
// bounded by ending everything.
func (w *watch) open(ctx context.Context, giveUp func()) (jetstream.KeyWatcher, error) {
	late := time.AfterFunc(2*tryTimeout, giveUp)
	defer late.Stop()
	kv, err := w.store.b.open(ctx)
	if err != nil {
		return nil, err
	}
	return kv.Watch(ctx, topologyKey)
}

// look compares with what is stored. A lower revision is that of a bucket made
// anew.
func (w *watch) look(ctx context.Context) error {
	var t *topology.Topology
	var at topology.Revision
	err := w.store.b.once(ctx, func(ctx context.Context, kv jetstream.KeyValue) (err error) {
		t, at, err = w.store.get(ctx, kv)
		return err
	})
	if err != nil || at == w.told {
		return err
	}
	if at != 0 {
		w.tell(t, at)
	} else {
		w.told = 0
	}
	return errMissed
}
