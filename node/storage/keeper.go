package storage

import (
	"context"
	"fmt"
	"sync/atomic"
	"time"

	"github.com/hashicorp/go-hclog"
)

// keeper does what the committer needs about once a second and must not wait
// for: it looks at the disk, and writes the highest synced group number into
// the side file. It sleeps while nothing is committed, except on a full disk,
// where nothing can be committed until it has looked again.
type keeper struct {
	engine   Engine
	mark     Watermark
	interval time.Duration
	logger   hclog.Logger

	state  atomic.Int32  // DiskState
	needs  atomic.Int64  // CommitterStats.DiskNeeds
	synced atomic.Uint64 // the last group
	kick   chan struct{} // holds one token after a commit
	ended  chan struct{} // closed when run has returned
	side   uint64        // what the side file holds; run's own
}

func (k *keeper) init(engine Engine, cfg CommitterConfig) {
	k.engine, k.mark, k.interval, k.logger = engine, cfg.Watermark, cfg.Interval, cfg.Logger
	k.kick = make(chan struct{}, 1)
	k.ended = make(chan struct{})
}

// disk is the state at the last look.
func (k *keeper) disk() DiskState { return DiskState(k.state.Load()) }

// committed tells that group n is durable.
func (k *keeper) committed(n uint64) {
	k.synced.Store(n)
	select {
	case k.kick <- struct{}{}:
	default:
	}
}

// start is the first look and the first side file, before any group.
func (k *keeper) start(n uint64) error {
	k.synced.Store(n)
	if err := k.look(); err != nil {
		return err
	}
	return k.writeSide(n)
}

// run returns when ctx ended and the side file is up to date, or with the
// error of the disk.
func (k *keeper) run(ctx context.Context) (err error) {
	defer close(k.ended)
	pause := time.NewTimer(k.interval)
	defer pause.Stop()
	for {
		// At most one round an interval.
		select {
		case <-pause.C:
		case <-ctx.Done():
			return k.saveSide()
		}
		if k.disk() != DiskFull {
			select {
			case <-k.kick:
			case <-ctx.Done():
				return k.saveSide()
			}
		}
		if err := k.look(); err != nil {
			return err
		}
		if err := k.saveSide(); err != nil {
			return err
		}
		pause.Reset(k.interval)
	}
}

func (k *keeper) look() error {
	u, err := k.engine.Usage()
	if err != nil {
		return fmt.Errorf("look at disk usage: %w", err)
	}
	needs := k.mark.Needs(u)
	k.needs.Store(needs)
	was, is := k.disk(), k.mark.Judge(u)
	if was == is {
		return nil
	}
	k.state.Store(int32(is))
	log, text := k.logger.Warn, "the disk fills: make room before writes are refused"
	switch is {
	case DiskFull:
		log, text = k.logger.Error, "the disk is full: writes are refused until there is room; make some"
	case DiskOK:
		log, text = k.logger.Info, "the disk has room"
	}
	log(text, "was", was.String(), "free-bytes", u.Free, "total-bytes", u.Total, "needs-bytes", needs)
	return nil
}

func (k *keeper) saveSide() error {
	n := k.synced.Load()
	if n == k.side {
		return nil
	}
	return k.writeSide(n)
}

func (k *keeper) writeSide(n uint64) error {
	if err := k.engine.WriteBeside(sideName, encodeSide(n)); err != nil {
		return fmt.Errorf("write side file of group markers: %w", err)
	}
	k.side = n
	return nil
}
