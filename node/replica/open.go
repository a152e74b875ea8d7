package replica

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/hashicorp/go-hclog"

	"github.com/atolldb/atoll/crdt"
	"github.com/atolldb/atoll/crdt/hlc"
	"github.com/atolldb/atoll/hashring"
	"github.com/atolldb/atoll/node/storage"
	"github.com/atolldb/atoll/node/topology"
)

// Open reads the state of a data directory and checks that it belongs to this
// node. The topology in force is the stored one, or cfg.Topology if that is not
// older; it is durable then. Nothing is minted before Run has obtained an actor.
func Open(cfg Config, engine storage.Engine, registry topology.Registry, clock *hlc.Clock, log hclog.Logger) (*Replica, error) {
	if cfg.Topology == nil || cfg.Topology.Table.Partitions() == 0 {
		return nil, errors.New("open replica: no topology")
	}
	r := &Replica{
		cfg: cfg, engine: engine, registry: registry, hlc: clock, log: log,
		partitions: cfg.Topology.Table.Partitions(),
		held:       make([]*partition, cfg.Topology.Table.Partitions()),
		dropping:   map[hashring.Partition]bool{},
		floors:     map[hashring.Partition]crdt.Dot{},
		wantActor:  make(chan struct{}, 1),
	}
	r.chores.wake = make(chan struct{}, 1)
	r.damage.init()
	r.waits.init()
	r.doubts.queue = make(chan *applyOp, maxDoubts)
	if err := r.aside.load(engine); err != nil {
		return nil, err
	}
	if err := r.checkOwner(); err != nil {
		return nil, err
	}
	if err := r.suits(cfg.Topology); err != nil {
		return nil, fmt.Errorf("open replica: %w", err)
	}
	stored, err := Stored(engine)
	if err != nil {
		return nil, err
	}
	if stored != nil {
		if err := r.suits(stored); err != nil {
			return nil, fmt.Errorf("open replica: stored %w", err)
		}
	}
	if err := r.recover(stored); err != nil {
		return nil, err
	}
	if err := r.loadDamage(); err != nil {
		return nil, err
	}
	if err := r.serial.load(engine, r.partitions); err != nil {
		return nil, err
	}
	if err := r.window.load(engine, time.Now()); err != nil {
		return nil, err
	}
	report, err := storage.CheckMarkers(engine)
	if err != nil {
		return nil, fmt.Errorf("check group markers: %w", err)
	}
	if r.resume, r.unclean, err = r.readCleanMarker(report); err != nil {
		return nil, err
	}
	if err := r.settleTopology(stored, report); err != nil {
		return nil, err
	}
	r.unprove(time.Now())
	r.publish()
	cfg.Committer.Markers, cfg.Committer.Gathered = &report, &r.window
	r.commit = storage.NewCommitter(engine, cfg.Committer)
	if r.outbox, err = openOutbox(r); err != nil {
		return nil, err
	}
	for _, part := range r.held {
		if part != nil && part.decided.floors.Swept < part.decided.floors.Completed {
			r.sweepSoon(part.id)
		}
	}
	for p := range r.dropping {
		r.later(func(ctx context.Context) error { return r.dropData(ctx, p) }, func(err error) {
			if err != nil && !errors.Is(err, ErrStopping) {
				r.log.Error("a partition that moved away was not deleted as a whole: the next start goes on", "partition", int(p), "error", err)
			}
		})
	}
	return r, nil
}

// recover reads what is held: what has a snapshot, and what has a role by the
// topology that was in force here last.
func (r *Replica) recover(stored *topology.Topology) error {
	r.current = stored
	if stored == nil {
		r.current = r.cfg.Topology
	}
	stands := standings(r.current, r.cfg.Node)
	if err := r.loadDropped(); err != nil {
		return err
	}
	held := make([]bool, r.partitions)
	err := r.eachPartition(spaceSnapshot, func(p hashring.Partition, _ []byte) { held[p] = true })
	if err != nil {
		return fmt.Errorf("find the partitions that are held: %w", err)
	}
	for id := range held {
		p := hashring.Partition(id)
		if r.dropping[p] || !held[id] && stands[id].role == topology.None {
			continue
		}
		part, damaged, err := recoverPartition(r.engine, p)
		if err != nil {
			return err
		}
		if damaged {
			if err := r.rebuild(part); err != nil {
				return err
			}
		}
		stands[id].asked = part.stand.asked
		part.stand, part.own = stands[id], r.floors[p]
		part.saved = part.saved && held[id]
		r.held[id] = part
	}
	err = r.eachPartition(spaceBehind, func(p hashring.Partition, _ []byte) {
		if part := r.held[p]; part != nil {
			part.stand.mark = r.newMark()
		}
	})
	if err != nil {
		return fmt.Errorf("read which partitions are behind: %w", err)
	}
	return nil
}

// rebuild makes the digest of a partition whose snapshot or index was damaged
// that of its records. What the clock lacks is to be had from others.
func (r *Replica) rebuild(part *partition) error {
	r.log.Error("clock or dot index of a partition are unreadable: this node catches up with others before it answers; check the disk", "partition", int(part.id))
	digest, err := r.digestOf(r.engine, part.id, nil)
	if err != nil {
		return fmt.Errorf("rebuild the digest of partition %d: %w", part.id, err)
	}
	part.decided.digests, part.durable.digests = digest, slices.Clone(digest)
	part.saved = false
	r.damagedState = true
	return nil
}

// loadDropped reads what is being dropped, and what dropping left.
func (r *Replica) loadDropped() error {
	err := r.eachPartition(spaceDropping, func(p hashring.Partition, _ []byte) { r.dropping[p] = true })
	if err != nil {
		return fmt.Errorf("read which partitions are being dropped: %w", err)
	}
	err = r.eachPartition(spaceOwn, func(p hashring.Partition, value []byte) {
		if d, ok := decodeOwn(value); ok {
			r.floors[p] = d
		} else {
			r.damagedState = true // the last actor must not mint there again
		}
	})
	if err != nil {
		return fmt.Errorf("read the counters of dropped partitions: %w", err)
	}
	switch b, err := r.engine.Get(keySeenActor); {
	case isNotFound(err):
	case err != nil:
		return fmt.Errorf("read the highest actor: %w", err)
	case len(b) == 4:
		r.seenActor.Store(binary.BigEndian.Uint32(b))
	}
	return nil
}

// eachPartition visits the entries of a space with one key a partition: with an
// empty value those that are unreadable.
func (r *Replica) eachPartition(space byte, visit func(p hashring.Partition, value []byte)) error {
	return scanAll(r.engine, []byte{space}, []byte{space + 1}, func(kv storage.KV, _ bool) bool {
		if len(kv.Key) == 3 {
			if p := binary.BigEndian.Uint16(kv.Key[1:]); int(p) < r.partitions {
				visit(hashring.Partition(p), kv.Value)
			}
		}
		return true
	})
}

// settleTopology puts the newer of the stored and the configured topology in
// force, and marks what this node has to catch up with.
func (r *Replica) settleTopology(stored *topology.Topology, report storage.MarkerReport) error {
	_, err := r.engine.Get(keyAllBehind)
	if err != nil && !isNotFound(err) {
		return fmt.Errorf("read whether the node is behind: %w", err)
	}
	s := settling{
		stored: stored, allBehind: err == nil, fresh: report.Fresh(),
		lost:    report.Fresh() || report.Lost() || r.damagedState || r.unclean == differs,
		forgets: r.resume == nil || r.window.unreadable, unfenced: r.window.unreadable,
	}
	s.encoded, s.adopt = r.newer(stored)
	if !s.needed(r) {
		return nil
	}
	tx, err := r.engine.Begin()
	if err != nil {
		return fmt.Errorf("settle topology: %w", err)
	}
	defer tx.Discard()
	if err := s.write(r, tx); err != nil {
		return fmt.Errorf("settle topology: %w", err)
	}
	if err := tx.Commit(); err != nil {
		return fmt.Errorf("settle topology: %w", err)
	}
	return nil
}

// newer returns the configured topology's encoding and whether it replaces the
// stored one.
func (r *Replica) newer(stored *topology.Topology) (encoded []byte, adopt bool) {
	next := r.cfg.Topology
	if stored != nil && next.Epoch < stored.Epoch {
		return nil, false
	}
	encoded = topology.Encode(next)
	return encoded, stored == nil || next.Epoch > stored.Epoch || !bytes.Equal(topology.Encode(stored), encoded)
}

// settling is what a start has to write before anything else.
type settling struct {
	stored  *topology.Topology
	encoded []byte
	adopt   bool
	// allBehind: a former version left its mark. lost: the directory is new,
	// or has lost something.
	allBehind, lost bool
	// forgets: the last stop was not a clean one, or what is known of requests is
	// not to be read, fences included: unfenced; see requests.go. fresh: there was
	// nothing yet.
	forgets, unfenced, fresh bool
}

func (s *settling) needed(r *Replica) bool {
	if s.adopt || s.allBehind || s.lost || s.forgets {
		return true
	}
	for _, part := range r.held {
		if part != nil && !part.saved {
			return true
		}
	}
	return false
}

func (s *settling) write(r *Replica, tx storage.Txn) error {
	if s.adopt {
		if err := r.adoptTopology(tx, r.cfg.Topology, s.encoded, standings(r.cfg.Topology, r.cfg.Node)); err != nil {
			return err
		}
	}
	if s.allBehind {
		if err := tx.Delete(keyAllBehind); err != nil {
			return err
		}
	}
	for _, part := range r.held {
		if part == nil {
			continue
		}
		if s.forgets || !part.saved {
			forget := part.forgetRequests
			switch {
			case s.fresh && !r.others(part.id):
				part.stand.asked = 0
			case s.unfenced:
				forget = part.forgetAttempts
			}
			if err := forget(tx); err != nil {
				return err
			}
		}
		// Whoever has data must have a snapshot: by that it is found when the
		// role is gone.
		if !part.saved {
			if err := part.putSnapshot(tx); err != nil {
				return err
			}
		}
		role := part.stand.role
		fell := s.allBehind || s.lost || s.stored == nil && role == topology.Pending
		if fell && role != topology.None && r.others(part.id) {
			if err := r.markBehind(tx, part); err != nil {
				return err
			}
		}
	}
	return nil
}
