package replica

import (
	"bytes"
	"context"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"github.com/cespare/xxhash/v2"

	"github.com/atolldb/atoll/crdt"
	"github.com/atolldb/atoll/internal/planted"
	"github.com/atolldb/atoll/node/storage"
	"github.com/atolldb/atoll/node/topology"
)

// ErrForeignDirectory says that a data directory is not this node's.
var ErrForeignDirectory = errors.New("data directory belongs to another node")

// owner is what a data directory says of whose it is.
type owner struct {
	Format     int             `json:"format"`
	Node       topology.NodeID `json:"node"`
	Region     topology.Region `json:"region"`
	RegionID   uint8           `json:"region_id"`
	Partitions int             `json:"partitions"`
}

const directoryFormat = 1

func (r *Replica) checkOwner() error {
	top := r.cfg.Topology
	want := owner{directoryFormat, r.cfg.Node, top.Region, uint8(top.RegionID), r.partitions}
	b, err := r.engine.Get(keyIdentity)
	if isNotFound(err) {
		return r.writeOwner(want)
	}
	if err != nil {
		return fmt.Errorf("read identity of the data directory: %w", err)
	}
	var have owner
	if err := json.Unmarshal(b, &have); err != nil {
		return fmt.Errorf("read identity of the data directory: %w", err)
	}
	if have != want {
		return fmt.Errorf("%w: it is of node %s in region %s (id %d) with %d partitions, format %d; configured is node %s in region %s (id %d) with %d partitions, format %d",
			ErrForeignDirectory, have.Node, have.Region, have.RegionID, have.Partitions, have.Format,
			want.Node, want.Region, want.RegionID, want.Partitions, want.Format)
	}
	return nil
}

func (r *Replica) writeOwner(o owner) error {
	b, err := json.Marshal(o)
	if err != nil {
		return fmt.Errorf("encode identity: %w", err)
	}
	tx, err := r.engine.Begin()
	if err != nil {
		return fmt.Errorf("write identity of the data directory: %w", err)
	}
	defer tx.Discard()
	if err := tx.Put(keyIdentity, b); err != nil {
		return fmt.Errorf("write identity of the data directory: %w", err)
	}
	if err := tx.Commit(); err != nil {
		return fmt.Errorf("write identity of the data directory: %w", err)
	}
	return nil
}

// cleanMarker is what a clean stop leaves as its last write. State is a hash
// over all clocks and digests: what was recovered must be just that, or the
// store has lost something and the actor with it.
type cleanMarker struct {
	Actor crdt.Actor `json:"actor"`
	Nonce string     `json:"nonce"`
	State uint64     `json:"state"`
}

const differs = "recovered clocks differ from the clean-stop marker"

// readCleanMarker returns the identity to resume, or why there is none.
func (r *Replica) readCleanMarker(report storage.MarkerReport) (*topology.Identity, string, error) {
	b, err := r.engine.Get(keyClean)
	switch {
	case isNotFound(err) && report.Fresh():
		return nil, "empty data directory", nil
	case isNotFound(err):
		return nil, "no clean-stop marker", nil
	case errors.Is(err, storage.ErrCorrupt):
		return nil, "unreadable clean-stop marker", nil
	case err != nil:
		return nil, "", fmt.Errorf("read clean-stop marker: %w", err)
	}
	if r.damagedState {
		return nil, "clocks, indexes or counters are unreadable", nil
	}
	if report.Lost() {
		return nil, "the store lost something: " + report.String(), nil
	}
	var m cleanMarker
	if err := json.Unmarshal(b, &m); err != nil {
		return nil, "unreadable clean-stop marker", nil
	}
	if m.State != r.fingerprint() {
		return nil, differs, nil
	}
	return &topology.Identity{Actor: m.Actor, Nonce: m.Nonce}, "", nil
}

// fingerprint hashes all decided clocks and digests, and what keeps the dots
// of dropped partitions from being minted again.
func (r *Replica) fingerprint() uint64 {
	h := xxhash.New()
	var buf []byte
	for _, p := range r.held {
		if p == nil {
			continue
		}
		buf = binary.BigEndian.AppendUint16(buf[:0], uint16(p.id))
		buf = binary.BigEndian.AppendUint64(buf, p.decided.digests.total())
		buf = crdt.AppendClock(buf, p.decided.clock)
		h.Write(buf)
	}
	sum := h.Sum64()
	for p, d := range r.floors {
		sum ^= xxhash.Sum64(encodeOwn(partitionKey(spaceOwn, p), d))
	}
	return sum
}

// forget ends the actor: called on the committer's goroutine.
func (r *Replica) forget() {
	r.minter = 0
	r.actor.Store(0)
	select {
	case r.wantActor <- struct{}{}:
	default:
	}
}

// acquireActors gets an actor at the start and whenever the last one ended.
func (r *Replica) acquireActors(ctx context.Context) {
	why := r.unclean
	for {
		r.acquire(ctx, why)
		select {
		case <-ctx.Done():
			return
		case <-r.wantActor:
			why = "proof of amnesia"
			r.log.Error("this node has lost writes of its own: it takes a new actor and is caught up by its peers; check its disk")
		}
	}
}

// acquire asks the registry until it answers. Until then nothing is minted
// here and everything else works.
func (r *Replica) acquire(ctx context.Context, why string) {
	for wait := 100 * time.Millisecond; ; wait = min(2*wait, 2*time.Second) {
		id, resumed, err := r.ask(ctx)
		if err == nil {
			err = r.adopt(id)
		}
		if err == nil {
			r.log.Info("actor taken", "actor", id.Actor.String(), "resumed", resumed, "because", why)
			return
		}
		if ctx.Err() != nil {
			return
		}
		r.log.Warn("no actor from the registry yet", "error", err)
		select {
		case <-ctx.Done():
			return
		case <-time.After(wait):
		}
	}
}

func (r *Replica) ask(ctx context.Context) (id topology.Identity, resumed bool, err error) {
	if planted.Bug(planted.ReuseActor) {
		if actors, err := loadActors(r.engine); err == nil && len(actors) > 0 {
			return topology.Identity{Actor: actors[len(actors)-1]}, true, nil
		}
	}
	ctx, cancel := context.WithTimeout(ctx, 10*time.Second)
	defer cancel()
	if r.disproved.Load() {
		r.log.Error("others have writes of this node that it does not know: its directory was rolled back, or has lost something")
		if err := r.fallBehind(); err != nil {
			return id, false, err
		}
		r.resume = nil
		r.disproved.Store(false)
	}
	if last := r.resume; last != nil {
		id, err = r.registry.Resume(ctx, r.cfg.Node, *last)
		if err == nil {
			r.resume = nil
			return id, true, nil
		}
		if !errors.Is(err, topology.ErrNonceSpent) {
			return id, false, fmt.Errorf("resume actor: %w", err)
		}
		r.log.Warn("the clean-stop marker is not the newest: this directory is a copy or was rolled back")
		if err := r.fallBehind(); err != nil {
			return id, false, err
		}
		r.resume = nil
	}
	id, err = r.registry.Allocate(ctx, r.cfg.Node, r.highestActor())
	if err != nil {
		return id, false, fmt.Errorf("allocate actor: %w", err)
	}
	return id, false, nil
}

// highestActor of this region in any clock.
func (r *Replica) highestActor() crdt.Actor {
	v := r.view.Load()
	top := crdt.Actor(r.seenActor.Load())
	for _, p := range v.held {
		for _, a := range v.parts[p].Clock().Actors() {
			if a.Region() == uint8(v.top.RegionID) {
				top = max(top, a)
			}
		}
	}
	return top
}

// adopt makes id's actor the minter. The clean-stop marker goes in the same
// transaction: it must not be there when the first dot is minted.
func (r *Replica) adopt(id topology.Identity) error {
	done := make(chan error, 1)
	r.enqueue(&adoptOp{r: r, id: id, done: done})
	return <-done
}

type adoptOp struct {
	r    *Replica
	id   topology.Identity
	done chan error
	// former actors of this node
	former []crdt.Actor
	// proved: partitions that waited for this are answered for.
	proved bool
}

func (o *adoptOp) Size() int { return 0 }
func (o *adoptOp) Decided()  {}

func (o *adoptOp) Decide(tx storage.Txn) error {
	if o.r.disproved.Load() {
		return errDisproved
	}
	actors, err := loadActors(tx)
	if err != nil {
		return err
	}
	known := false
	for _, a := range actors {
		known = known || a == o.id.Actor
	}
	if !known {
		actors = append(actors, o.id.Actor)
	}
	var b bytes.Buffer
	if err := json.NewEncoder(&b).Encode(actors); err != nil {
		return fmt.Errorf("encode actors: %w", err)
	}
	if err := tx.Put(keyActors, b.Bytes()); err != nil {
		return fmt.Errorf("write actors: %w", err)
	}
	if o.former, err = noteFormer(tx, actors, o.id); err != nil {
		return err
	}
	if err := tx.Delete(keyClean); err != nil {
		return fmt.Errorf("remove clean-stop marker: %w", err)
	}
	o.r.minter = o.id.Actor
	o.proved = o.r.prove()
	return nil
}

func (o *adoptOp) Done(err error) {
	if err == nil {
		if o.proved {
			o.r.publish()
		}
		o.r.nonce = o.id.Nonce
		o.r.former.Store(&o.former)
		o.r.actor.Store(uint32(o.id.Actor))
		o.r.outbox.addActor(o.id.Actor)
	}
	o.done <- err
}

// loadActors returns all actors that this data directory ever minted with, the
// last one last. Where that is unreadable the list begins anew: other regions
// get what was not shipped by comparing clocks.
func loadActors(g getter) ([]crdt.Actor, error) {
	b, err := g.Get(keyActors)
	if isNotFound(err) || errors.Is(err, storage.ErrCorrupt) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("read actors: %w", err)
	}
	var actors []crdt.Actor
	if json.Unmarshal(b, &actors) != nil {
		return nil, nil
	}
	return actors, nil
}

// leaveClean writes snapshots, cursors and, as the last write, the marker.
func (r *Replica) leaveClean() error {
	done := make(chan error, 1)
	r.enqueue(&leaveOp{r: r, done: done})
	if err := <-done; err != nil {
		return fmt.Errorf("write clean-stop marker: %w", err)
	}
	return nil
}

type leaveOp struct {
	r    *Replica
	done chan error
}

func (o *leaveOp) Size() int      { return 0 }
func (o *leaveOp) Decided()       {}
func (o *leaveOp) Done(err error) { o.done <- err }

func (o *leaveOp) Decide(tx storage.Txn) error {
	for _, p := range o.r.held {
		if p == nil || p.unsaved == 0 {
			continue
		}
		if err := p.putSnapshot(tx); err != nil {
			return err
		}
	}
	if err := o.r.outbox.putCursors(tx); err != nil {
		return err
	}
	if o.r.minter == 0 {
		return nil
	}
	b, err := json.Marshal(cleanMarker{o.r.minter, o.r.nonce, o.r.fingerprint()})
	if err != nil {
		return fmt.Errorf("encode clean-stop marker: %w", err)
	}
	o.r.minter = 0
	return tx.Put(keyClean, b)
}
