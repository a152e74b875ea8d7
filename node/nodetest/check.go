package nodetest

import (
	"bytes"
	"errors"
	"fmt"
	"slices"

	"github.com/atolldb/atoll/crdt"
	"github.com/atolldb/atoll/hashring"
	"github.com/atolldb/atoll/node/replica"
	"github.com/atolldb/atoll/node/wire"
)

// converged returns "" when no partition moves and all owners of all regions
// agree on clocks and digests, else the first difference.
func (w *World) converged() string {
	if why := w.moving(); why != "" {
		return why
	}
	for p := range w.shape.Partitions {
		type common struct {
			sum wire.Sum
			who string
		}
		first := map[[2]int]common{} // by two regions
		for _, m := range w.all() {
			up := m.running.Load()
			if m.gone.Load() {
				continue
			}
			if up == nil {
				return fmt.Sprintf("%s is down", m.id)
			}
			r := up.node.Replica()
			if !r.Owns(hashring.Partition(p)) {
				continue
			}
			for by := range w.tops {
				sum, known := r.SumFor(hashring.Partition(p), w.afar(m, by))
				if !known {
					return fmt.Sprintf("%s does not know which region has which bucket", m.id)
				}
				sum = sum.Under(wire.Floors{}, replica.LossSum(r.Losses(hashring.Partition(p))))
				at := [2]int{min(by, m.region), max(by, m.region)}
				if f, ok := first[at]; !ok {
					first[at] = common{sum, string(m.id)}
				} else if sum != f.sum {
					return fmt.Sprintf("partition %d: %s has %+v, %s has %+v", p, f.who, f.sum, m.id, sum)
				}
				if by == m.region {
					continue
				}
				// All clocks are equal, whatever is in common.
				at = [2]int{-1, -1}
				if f, ok := first[at]; ok && f.sum.Clock != sum.Clock {
					return fmt.Sprintf("partition %d: %s has clock %x, %s has %x", p, f.who, f.sum.Clock, m.id, sum.Clock)
				}
				first[at] = common{sum, string(m.id)}
			}
		}
	}
	return ""
}

// verify checks the World at rest: I2 and E1 over all owners, then I1, I3, I6, I7
// and I10 over the records they agree on.
func (w *World) verify(keys []string) []string {
	if diff := w.converged(); diff != "" {
		return append(w.hist.problems, "I2: not converged: "+diff)
	}
	type shared struct {
		p    hashring.Partition
		a, b int // regions
	}
	dumps := map[shared][]byte{}
	for _, m := range w.all() {
		if m.gone.Load() {
			continue
		}
		for _, p := range m.running.Load().node.Replica().Owned() {
			for by := range w.tops {
				dump, err := w.dump(m, p, by)
				if err != nil {
					return append(w.hist.problems, fmt.Sprintf("I2: %s: %v", m.id, err))
				}
				at := shared{p, min(by, m.region), max(by, m.region)}
				if was, ok := dumps[at]; ok && !bytes.Equal(was, dump) {
					return append(w.hist.problems, fmt.Sprintf("I2: partition %d of %s differs although sums are equal", p, m.id))
				}
				dumps[at] = dump
			}
		}
	}
	solos := w.hist.soloKeys()
	for _, key := range keys {
		rec, err := w.record(key)
		if err != nil {
			return append(w.hist.problems, err.Error())
		}
		if slices.Contains(solos, key) && !w.lied(key) {
			w.hist.alone(key, rec)
		}
		w.hist.final(key, rec, w.lost[string(fullKey(key))], w.faults.wipes+w.faults.rollbacks+w.faults.replaced > 0)
	}
	if w.faults.rollbacks == 0 {
		w.hist.once()
	}
	w.events.unheardOf()
	return append(w.hist.problems, w.events.take()...)
}

// dump returns a partition's records that region by has, too, after checking the
// kept digest against all of them.
func (w *World) dump(m *member, p hashring.Partition, by int) ([]byte, error) {
	r := m.running.Load().node.Replica()
	digest, err := r.DigestFromStore(p)
	if err != nil {
		return nil, err
	}
	if kept := r.Sum(p).Digest; kept != digest {
		return nil, fmt.Errorf("partition %d: kept digest %x, records give %x", p, kept, digest)
	}
	var out []byte
	var bad error
	clock := r.Clock(p)
	err = w.scan(m, p, w.afar(m, by), func(e wire.Entry) {
		if by == m.region {
			bad = errors.Join(bad, w.events.heldBy(string(m.id), clock, e.Key, e.Record))
		}
		out = append(append(out, e.Key...), e.Record...)
	})
	return out, errors.Join(err, bad)
}

// scan visits what a node shows of a partition.
func (w *World) scan(m *member, p hashring.Partition, by wire.Afar, visit func(wire.Entry)) error {
	r := m.running.Load().node.Replica()
	scan := wire.Scan{Partition: p, Last: 1<<64 - 1, MaxBytes: 1 << 20, Afar: by}
	for {
		page, err := r.Scan(scan)
		if err != nil {
			return err
		}
		for _, e := range page.Entries {
			visit(e)
			scan.After = e.Key
		}
		if !page.More {
			return nil
		}
	}
}

// record returns what any owner holds of a key.
func (w *World) record(key string) (crdt.Record, error) {
	full := fullKey(key)
	hash := hashring.KeyHash(full)
	p := hashring.PartitionOf(hash, w.shape.Partitions)
	for _, m := range w.all() {
		if m.gone.Load() {
			continue
		}
		if r := m.running.Load().node.Replica(); r.Owns(p) {
			b, err := r.Read(0, hash, full)
			if err != nil || len(b) == 0 {
				return crdt.Record{}, err
			}
			return crdt.DecodeRecord(hash, b)
		}
	}
	return crdt.Record{}, fmt.Errorf("no owner of partition %d", p)
}

// lied reports whether a disk may have taken back what it had acknowledged of a
// key without anybody being able to notice: a record that vanished, or a tail
// that was rolled back within the second in which the side file does not tell.
func (w *World) lied(key string) bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.faults.rollbacks > 0 || w.lost[string(fullKey(key))]
}

// someRecord is the full key of a record on a node's disk, nil for none.
func (w *World) someRecord(m *member) []byte {
	r := m.running.Load().node.Replica()
	owned := r.Owned()
	if len(owned) == 0 {
		return nil
	}
	page, err := r.Scan(wire.Scan{Partition: owned[w.rng.IntN(len(owned))], Last: 1<<64 - 1, MaxBytes: 1 << 20})
	if err != nil || len(page.Entries) == 0 {
		return nil
	}
	return page.Entries[w.rng.IntN(len(page.Entries))].Key
}

// loseRecord makes one record vanish from one disk, silently.
func (w *World) loseRecord(m *member) {
	key := w.someRecord(m)
	if key == nil {
		return
	}
	w.mu.Lock()
	w.lost[string(key)] = true
	w.mu.Unlock()
	m.disk.LoseRecord(recordKey(key))
}

// recordKey is where package replica keeps the record of a key.
func recordKey(full []byte) []byte {
	h := hashring.KeyHash(full)
	k := []byte{'r'}
	for shift := 56; shift >= 0; shift -= 8 {
		k = append(k, byte(h>>shift))
	}
	return append(k, full...)
}
