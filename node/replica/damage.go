package replica

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"github.com/atolldb/atoll/hashring"
	"github.com/atolldb/atoll/node/storage"
	"github.com/atolldb/atoll/node/wire"
)

// A record that cannot be read is never taken for an absent one. Reads and
// mints of its key are refused with storage.ErrCorrupt, so that another owner
// is asked; everything else goes on without it. What is known of it is kept
// here until it is healed:
//
//	unreadable  as the disk left it
//	replaced    something was applied since. It is what came, and may be older
//	            than what was there: this node acknowledged versions that it
//	            cannot show. So the key goes on being refused; that it was
//	            replaced is durable.
//
// Heal ends it, with what enough other owners have. A partition with such keys
// gives its pages out without a clock, and does not deliver the dots of these
// keys: nobody shall believe to have what this node could not send.
//
// The kept digest of the partition then speaks for records that are not there,
// or the other way round; a recount follows soon.
type damage struct {
	mu   sync.Mutex
	keys map[string]hurt
	// parts counts the keys by partition; beyond has those with more of them
	// than are kept.
	parts  map[hashring.Partition]int
	beyond map[hashring.Partition]bool
	turn   uint64 // counts what was noted

	any      atomic.Bool // there is something in parts or beyond
	replaced atomic.Int32
}

type hurt struct {
	Damage
	replaced bool
	turn     uint64 // of noting it
}

// Damage is a key whose record was unreadable.
type Damage struct {
	Partition hashring.Partition
	KeyHash   uint64
	Key       []byte // full key
}

const (
	// maxDamage bounds how many unreadable keys are kept, and maxTold how many
	// Damaged tells at once.
	maxDamage = 1 << 16
	maxTold   = 1024
	// recountPause is how long after a damage or a healing its partition is
	// recounted: others may follow.
	recountPause = time.Second
)

var errReplaced = fmt.Errorf("%w: what could not be read was replaced, and may lack versions", storage.ErrCorrupt)

// Damaged returns some of the keys that need healing.
func (r *Replica) Damaged() []Damage {
	d := &r.damage
	d.mu.Lock()
	defer d.mu.Unlock()
	out := make([]Damage, 0, min(len(d.keys), maxTold))
	for _, h := range d.keys {
		if len(out) == cap(out) {
			break
		}
		out = append(out, h.Damage)
	}
	return out
}

// DamagedCount is how many keys are known to need healing.
func (r *Replica) DamagedCount() int {
	d := &r.damage
	d.mu.Lock()
	defer d.mu.Unlock()
	return len(d.keys)
}

func (d *damage) init() {
	d.keys = map[string]hurt{}
	d.parts = map[hashring.Partition]int{}
	d.beyond = map[hashring.Partition]bool{}
}

// put reports whether h was not known as such, and whether it is the first of
// its partition.
func (d *damage) put(h hurt) (news, first bool) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.turn++
	p := h.Partition
	old, known := d.keys[string(h.Key)]
	if known && (old.replaced || !h.replaced) {
		return false, false
	}
	d.any.Store(true)
	first = d.parts[p] == 0 && !d.beyond[p]
	if !known && !h.replaced && len(d.keys) >= maxDamage {
		news = !d.beyond[p]
		d.beyond[p] = true
		return news, first
	}
	if h.replaced {
		d.replaced.Add(1)
	}
	if !known {
		d.parts[p]++
	}
	h.turn, h.Key = d.turn, append([]byte(nil), h.Key...)
	d.keys[string(h.Key)] = h
	return true, first
}

// now is the turn of what was noted last.
func (d *damage) now() uint64 {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.turn
}

// recounted takes in that of all that was noted up to a turn only seen is still
// unreadable.
func (d *damage) recounted(p hashring.Partition, turn uint64, seen map[string]bool) {
	d.mu.Lock()
	if len(seen) <= d.parts[p] {
		delete(d.beyond, p)
	}
	d.mu.Unlock()
	d.remove(p, func(h hurt) bool { return !h.replaced && h.turn <= turn && !seen[string(h.Key)] })
}

// remove forgets the keys of a partition that satisfy f.
func (d *damage) remove(p hashring.Partition, f func(hurt) bool) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.parts[p] > 0 {
		for k, h := range d.keys {
			if h.Partition != p || !f(h) {
				continue
			}
			delete(d.keys, k)
			d.parts[p]--
			if h.replaced {
				d.replaced.Add(-1)
			}
		}
	}
	if d.parts[p] == 0 {
		delete(d.parts, p)
	}
	d.any.Store(len(d.parts)+len(d.beyond) > 0)
}

// in reports whether a partition has keys that need healing.
func (d *damage) in(p hashring.Partition) bool {
	if !d.any.Load() {
		return false
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.parts[p] > 0 || d.beyond[p]
}

// isReplaced reports whether what is stored of a key may lack versions.
func (d *damage) isReplaced(fullKey []byte) bool {
	if d.replaced.Load() == 0 {
		return false
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.keys[string(fullKey)].replaced
}

// unreadable notes that a record could not be read.
func (r *Replica) unreadable(keyHash uint64, fullKey []byte) {
	p := r.Partition(keyHash)
	news, first := r.damage.put(hurt{Damage: Damage{p, keyHash, fullKey}})
	if first {
		r.log.Error("a record is unreadable: it is refused here until it has been fetched from other owners; check the disk", "partition", int(p))
	}
	if news {
		r.stats.Unreadable.Add(1)
		r.recountSoon(p)
	}
}

// recountSoon recounts a partition once its damages or healings have passed.
func (r *Replica) recountSoon(p hashring.Partition) {
	if r.view.Load() == nil {
		return // a start counts anew
	}
	part := r.part(p)
	if part == nil || part.recounting.Swap(true) {
		return
	}
	r.later(func(ctx context.Context) error {
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(recountPause):
		}
		part.recounting.Store(false)
		_, err := r.Recount(p)
		return err
	}, func(err error) {
		if err != nil && !errors.Is(err, ErrStopping) && !errors.Is(err, ErrNotOwner) {
			r.log.Warn("recount after a damage failed", "partition", int(p), "error", err)
		}
	})
}

// Heal joins what other owners have of a damaged key, and ends the damage: from
// then on the key is served again. The entries must come from as many of the
// partition's servers, beside this node, that every write which was ever
// acknowledged is at one of them: all of them, or all but as many as a write can
// do without, less this node. Who has nothing of the key counts without an
// entry; if nobody has anything, what is unreadable here is deleted, as no
// acknowledged write can have been in it alone.
//
// done is as that of Apply.
func (r *Replica) Heal(d Damage, entries []wire.Entry, done func(changed int, err error)) {
	for _, e := range entries {
		if string(e.Key) != string(d.Key) {
			done(0, fmt.Errorf("%w: heal with another key", wire.ErrMalformed))
			return
		}
	}
	r.apply(&applyOp{r: r, done: done, heal: &d}, entries)
}

// loadDamage reads what was replaced before this start.
func (r *Replica) loadDamage() error {
	err := scanAll(r.engine, []byte{spaceReplaced}, []byte{spaceReplaced + 1}, func(kv storage.KV, _ bool) bool {
		if len(kv.Key) > 9 {
			keyHash, key := splitRecordKey(kv.Key)
			if p := r.Partition(keyHash); r.held[p] != nil {
				r.damage.put(hurt{Damage: Damage{p, keyHash, key}, replaced: true})
			}
		}
		return true
	})
	if err != nil {
		return fmt.Errorf("read which records were replaced: %w", err)
	}
	return nil
}
