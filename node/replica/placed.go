package replica

import (
	"errors"
	"fmt"

	"github.com/atolldb/atoll/crdt"
	"github.com/atolldb/atoll/hashring"
	"github.com/atolldb/atoll/internal/planted"
	"github.com/atolldb/atoll/node/storage"
	"github.com/atolldb/atoll/node/topology"
	"github.com/atolldb/atoll/node/wire"
)

// A bucket may be in some of the regions only. To the others no record of it
// goes. But their clocks stay without gaps: of each write they get the dot, with
// the name of the bucket and nothing else (a *skip*), and index it so.
//
// A skip says "not for you", which one region can say of another only:
//
//	the region that minted the dot says so, or the bucket is not in the
//	    receiver's region, whoever says so: it is delivered
//	the receiver's own region minted the dot, for a bucket that it has, and a
//	    crash took it there: it is delivered when no owner of this region has it
//	    (package repair asks them), since nobody ever will
//	else: the sender cannot know what the receiver is to have; it is left out, and
//	    comes from who minted it
//
// What it shows to another region (Pull, Scan, Buckets, sums) has only what both
// regions have.

// Placement tells which regions have which bucket. Regions are only ever added to
// a bucket: so who knows less than others shows less.
type Placement interface {
	// Has reports whether a region has a bucket; known is false as long as that
	// cannot be told here.
	Has(region topology.Region, bucket []byte) (has, known bool)
	// Apart is a hash of which buckets not both regions have, 0 for none.
	Apart(a, b topology.Region) uint64
	// Hidden reports whether two regions have a bucket that a third one has not.
	Hidden(a, b, from topology.Region) bool
}

// ErrUnplaced says that it is not known here yet which regions have a bucket.
var ErrUnplaced = errors.New("it is not known yet which regions have a bucket")

// SetPlacement must be called before Run and before peers ask; without one every
// region has every bucket. others are the regions that are shipped to.
func (r *Replica) SetPlacement(p Placement, others func() []topology.Region) {
	r.placed, r.shipTo = p, others
}

// lanes are the regions that get different things of a bucket's keys, and whether
// each has the bucket; none when all have it.
func (r *Replica) lanes(bucket []byte) (to []lane, known bool) {
	if r.placed == nil {
		return nil, true
	}
	all := true
	for _, region := range r.shipTo() {
		has, known := r.placed.Has(region, bucket)
		if !known {
			return nil, false
		}
		to = append(to, lane{region, has || planted.Bug(planted.ShipToAll)})
		all = all && has
	}
	if all {
		return nil, true
	}
	return to, true
}

type lane struct {
	to  topology.Region
	has bool
}

// region of this node.
func (r *Replica) region() topology.Region { return r.cfg.Topology.Region }

// has reports whether this node's region has a bucket, as far as is known.
func (r *Replica) has(bucket []byte) (has, known bool) {
	if r.placed == nil {
		return true, true
	}
	return r.placed.Has(r.region(), bucket)
}

// both reports whether this region and that of the one who asks have a bucket.
func (r *Replica) both(by wire.Afar, bucket []byte) (both, known bool) {
	if by.Region == "" || r.placed == nil {
		return true, true
	}
	mine, known := r.placed.Has(r.region(), bucket)
	theirs, also := r.placed.Has(topology.Region(by.Region), bucket)
	return mine && theirs, known && also
}

// Afar is how this node names itself to the owners of another region.
func (r *Replica) Afar(other topology.Region) wire.Afar {
	a := wire.Afar{Region: string(r.region())}
	if r.placed != nil {
		a.Apart = r.placed.Apart(r.region(), other)
	}
	return a
}

// agrees reports whether the asker knows of the same buckets that not both
// regions have.
func (r *Replica) agrees(by wire.Afar) bool {
	return by.Region == "" || r.placed == nil && by.Apart == 0 ||
		r.placed != nil && by.Apart == r.placed.Apart(r.region(), topology.Region(by.Region))
}

// SumFor is the state of a partition with the digest of what other has, too;
// false while the digest cannot be told.
func (r *Replica) SumFor(p hashring.Partition, by wire.Afar) (wire.Sum, bool) {
	part := r.part(p)
	if part == nil {
		return wire.Sum{Partition: p}, false
	}
	sum, _, all := part.sums()
	var known bool
	sum.Digest, known = r.common(all, by)
	return sum, known
}

// common is the digest of what the asker's region has, too; false while that
// cannot be told.
func (r *Replica) common(all digests, by wire.Afar) (sum uint64, known bool) {
	if by.Region == "" || r.placed == nil {
		return all.total(), true
	}
	for i := range all {
		both, known := r.both(by, []byte(all[i].bucket))
		if !known {
			return 0, false
		}
		if both {
			sum ^= all[i].digest
		}
	}
	return sum, true
}

// skipKey is the key of a skip.
func skipKey(bucket []byte) []byte { return append(append([]byte(nil), bucket...), 0) }

// isSkip reports whether a key in the index stands for a key of a bucket that
// this region does not have.
func isSkip(fullKey []byte) bool {
	return len(fullKey) > 0 && len(bucketOf(fullKey)) == len(fullKey)-1
}

// checkSkip refuses what is no skip.
func (r *Replica) checkSkip(e *wire.Entry) error {
	if !isSkip(e.Key) || len(e.Dots) == 0 || len(e.IDs) > 0 || int(e.Skip) >= r.partitions {
		return fmt.Errorf("%w: entry without a record", wire.ErrMalformed)
	}
	return nil
}

// skip takes the dots of an item without a record.
func (r *Replica) skip(tx storage.Txn, it *applyItem) error {
	clock := it.effect.part.decided.clock
	for _, d := range it.Dots {
		if clock.Contains(d) || contains(it.effect.dots, d) {
			continue
		}
		if r.minter != 0 && d.Actor == r.minter && d.N > it.effect.part.highest(d.Actor) {
			r.forget()
		}
		it.effect.dots = append(it.effect.dots, d)
	}
	if len(it.effect.dots) == 0 {
		return nil
	}
	return r.settle(tx, &it.effect, it.Key)
}

// shows is what becomes of a dot in the index when another region asks for it.
type shows int

const (
	showRecord shows = iota
	showSkip         // it is told the dot alone
	showNothing
)

// show tells what an asker gets of a dot of whose key the index says key.
func (r *Replica) show(by wire.Afar, key []byte) (shows, error) {
	if by.Region == "" || r.placed == nil {
		if isSkip(key) {
			return showSkip, nil
		}
		return showRecord, nil
	}
	bucket := bucketOf(key)
	theirs, known := r.placed.Has(topology.Region(by.Region), bucket)
	switch {
	case !known:
		return showNothing, fmt.Errorf("%w: %q", ErrUnplaced, bucket)
	case !theirs || isSkip(key):
		// Of a bucket that they have, this node cannot say more than that: the
		// asker knows whether it is enough.
		return showSkip, nil
	}
	return showRecord, nil
}

// Takes reports which dots of a skip from another region this one may take as
// delivered, and which it may if no owner here has them; see above. regionOf
// gives the region of an actor, "" for one that is not known.
func (r *Replica) Takes(e *wire.Entry, from topology.Region, regionOf func(crdt.Actor) topology.Region) (take, ask []crdt.Dot) {
	has, known := r.has(bucketOf(e.Key))
	for _, d := range e.Dots {
		switch minter := regionOf(d.Actor); {
		case minter == from || known && !has:
			take = append(take, d)
		case minter == r.region() && minter != "":
			ask = append(ask, d)
		}
	}
	return take, ask
}

// Hidden reports whether a region has a bucket with this one that the region
// from does not have; a region that is not known ("") may have.
func (r *Replica) Hidden(minter, from topology.Region) bool {
	return r.placed != nil && r.placed.Hidden(minter, r.region(), from)
}

// Placed reports whether a region has a bucket, as far as is known.
func (r *Replica) Placed(region topology.Region, bucket string) (has, known bool) {
	if r.placed == nil {
		return true, true
	}
	return r.placed.Has(region, []byte(bucket))
}

// Apart reports whether some region does not have a bucket, or may not have it.
func (r *Replica) Apart(bucket string) bool {
	if has, known := r.has([]byte(bucket)); !has || !known {
		return true
	}
	to, known := r.lanes([]byte(bucket))
	return to != nil || !known
}
