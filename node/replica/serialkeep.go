package replica

import (
	"encoding/binary"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"

	"github.com/atolldb/atoll/crdt"
	"github.com/atolldb/atoll/hashring"
	"github.com/atolldb/atoll/node/cas"
	"github.com/atolldb/atoll/node/storage"
)

// serial is what an owner knows of its part in the consensus on keys, beside
// the stored states.
type serial struct {
	// pending are the keys with something accepted and not known to be decided,
	// with the ballot of it; count is how many.
	mu      sync.Mutex
	pending map[string]cas.Ballot
	count   atomic.Int64
	// mins are the ballots below which nothing is accepted, by partition. Only
	// the committer's goroutine touches them.
	mins []cas.Ballot
	// tops are the highest promises that were merged since the start.
	tops []cas.Ballot
}

func serialKey(dst []byte, keyHash uint64, fullKey []byte) []byte {
	at := len(dst)
	dst = recordKey(dst, keyHash, fullKey)
	dst[at] = spaceSerial
	return dst
}

func pendingKey(keyHash uint64, fullKey []byte) []byte {
	k := recordKey(nil, keyHash, fullKey)
	k[0] = spacePending
	return k
}

func ballotsKey(p hashring.Partition) []byte { return partitionKey(spaceBallots, p) }

// inSpace moves a recordRange to another space whose keys are like those of
// records.
func inSpace(space byte, lo, hi []byte) ([]byte, []byte) {
	move := func(k []byte) []byte {
		k = append([]byte(nil), k...)
		k[0] += space - spaceRecord
		return k
	}
	return move(lo), move(hi)
}

// load reads what is pending, and the minimums.
func (s *serial) load(from storage.Reader, partitions int) error {
	s.pending = map[string]cas.Ballot{}
	s.mins, s.tops = make([]cas.Ballot, partitions), make([]cas.Ballot, partitions)
	err := scanAll(from, []byte{spacePending}, []byte{spacePending + 1}, func(kv storage.KV, _ bool) bool {
		if len(kv.Key) > 9 {
			b := cas.MaxBallot // unreadable: until the next decision
			if len(kv.Value) == 8 {
				b = cas.Ballot(binary.BigEndian.Uint64(kv.Value))
			}
			s.pending[string(kv.Key[9:])] = b
		}
		return true
	})
	if err != nil {
		return fmt.Errorf("read which keys have undecided proposals: %w", err)
	}
	s.count.Store(int64(len(s.pending)))
	var bad error
	err = scanAll(from, []byte{spaceBallots}, []byte{spaceBallots + 1}, func(kv storage.KV, unreadable bool) bool {
		if len(kv.Key) != 3 {
			return true
		}
		p := int(binary.BigEndian.Uint16(kv.Key[1:]))
		if p >= partitions {
			return true
		}
		if unreadable || len(kv.Value) != 8 {
			bad = fmt.Errorf("lowest ballot of partition %d: %w", p, storage.ErrCorrupt)
			return false
		}
		s.mins[p] = cas.Ballot(binary.BigEndian.Uint64(kv.Value))
		return true
	})
	if err == nil {
		err = bad
	}
	if err != nil {
		return fmt.Errorf("read the lowest ballots: %w", err)
	}
	return nil
}

// note keeps that a ballot is pending.
func (s *serial) note(fullKey []byte, b cas.Ballot) {
	s.mu.Lock()
	s.pending[string(fullKey)] = b
	s.count.Store(int64(len(s.pending)))
	s.mu.Unlock()
}

// noted is the ballot that is pending, 0 for none.
func (s *serial) noted(fullKey []byte) cas.Ballot {
	if s.count.Load() == 0 {
		return 0
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.pending[string(fullKey)]
}

// ended forgets a ballot that was noted when it was decided that nothing is
// pending any more; one that was noted since, perhaps in the same group, stays.
func (s *serial) ended(fullKey []byte, b cas.Ballot) {
	s.mu.Lock()
	if now, ok := s.pending[string(fullKey)]; ok && now == b {
		delete(s.pending, string(fullKey))
		s.count.Store(int64(len(s.pending)))
	}
	s.mu.Unlock()
}

func (s *serial) isPending(fullKey []byte) bool {
	if s.count.Load() == 0 {
		return false
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	_, ok := s.pending[string(fullKey)]
	return ok
}

// dropped forgets the keys of a partition.
func (r *Replica) dropSerial(p hashring.Partition) {
	s := &r.serial
	s.mu.Lock()
	defer s.mu.Unlock()
	for k := range s.pending {
		if r.Partition(hashring.KeyHash([]byte(k))) == p {
			delete(s.pending, k)
		}
	}
	s.count.Store(int64(len(s.pending)))
}

// SerialPending reports whether this node has accepted a proposal for the key of
// which it does not know that it was decided. A read that is to show all that
// was decided must not answer before that is known.
func (r *Replica) SerialPending(fullKey []byte) bool { return r.serial.isPending(fullKey) }

// SerialPendingCount is how many such keys there are.
func (r *Replica) SerialPendingCount() int { return int(r.serial.count.Load()) }

// Undecided is a key with a proposal that was accepted here and is not known to be
// decided. Old: it was made before the earlier of two times.
type Undecided struct {
	Key []byte
	Old bool
}

// SerialStalled are up to limit such keys whose proposals were made before that
// millisecond, and which of them before old, by the clocks of who made them. One whose
// note is unreadable may be of any age.
func (r *Replica) SerialStalled(before, old int64, limit int) []Undecided {
	if r.serial.count.Load() == 0 {
		return nil
	}
	r.serial.mu.Lock()
	defer r.serial.mu.Unlock()
	var out []Undecided
	for k, b := range r.serial.pending {
		if len(out) == limit {
			break
		}
		if unknown := b == cas.MaxBallot; unknown || b < cas.At(before) {
			out = append(out, Undecided{[]byte(k), unknown || b < cas.At(old)})
		}
	}
	return out
}

// SerialUndecided are up to limit such keys, after all steps have been taken that were
// queued before: with what this node knows now of the homes of buckets, nothing joins
// them for a home that it takes no part in any more.
func (r *Replica) SerialUndecided(limit int) ([][]byte, error) {
	queued := make(chan error, 1)
	r.submit(&barrierOp{queued})
	if err := <-queued; err != nil {
		return nil, fmt.Errorf("wait for the steps that were queued: %w", err)
	}
	r.serial.mu.Lock()
	defer r.serial.mu.Unlock()
	var out [][]byte
	for k := range r.serial.pending {
		if len(out) == limit {
			break
		}
		out = append(out, []byte(k))
	}
	return out, nil
}

// barrierOp changes nothing; it is done when all before it is.
type barrierOp struct{ done chan error }

func (o *barrierOp) Size() int                { return 0 }
func (o *barrierOp) Decided()                 {}
func (o *barrierOp) Decide(storage.Txn) error { return nil }
func (o *barrierOp) Done(err error)           { o.done <- err }

func (r *Replica) loadState(g getter, keyHash uint64, fullKey []byte) (cas.State, error) {
	var buf [128]byte
	b, err := g.Get(serialKey(buf[:0], keyHash, fullKey))
	if isNotFound(err) {
		return cas.State{}, nil
	}
	var s cas.State
	if err == nil {
		if s, err = cas.DecodeState(keyHash, b); err != nil {
			err = fmt.Errorf("%w: %w", storage.ErrCorrupt, err)
		}
	}
	if err != nil {
		return s, fmt.Errorf("read acceptor state: %w", err)
	}
	return s, nil
}

// putState writes a state that was another one. What is no longer pending is
// forgotten only once that is durable; see serial.ended.
func (r *Replica) putState(tx storage.Txn, keyHash uint64, fullKey []byte, was, is cas.State) error {
	var buf [128]byte
	if err := tx.Put(serialKey(buf[:0], keyHash, fullKey), cas.AppendState(nil, keyHash, is)); err != nil {
		return fmt.Errorf("write acceptor state: %w", err)
	}
	var err error
	switch {
	case is.Pending() && is.Accepted.Ballot != was.Accepted.Ballot:
		b := is.Accepted.Ballot
		r.serial.note(fullKey, b)
		err = tx.Put(pendingKey(keyHash, fullKey), binary.BigEndian.AppendUint64(nil, uint64(b)))
	case was.Pending() && !is.Pending():
		err = tx.Delete(pendingKey(keyHash, fullKey))
	}
	if err != nil {
		return fmt.Errorf("note an undecided proposal: %w", err)
	}
	return nil
}

// undecided reports whether the key has an undecided proposal of that request here.
func (r *Replica) undecided(tx storage.Txn, keyHash uint64, fullKey []byte, id crdt.RequestID) (bool, error) {
	if !r.serial.isPending(fullKey) {
		return false, nil
	}
	s, err := r.loadState(tx, keyHash, fullKey)
	return s.Accepted.ID == id, err
}

// keepRequest notes what became of the request whose proposal an acceptor does not
// hold any more; rec is the record now. by, if it is not nil, says more: the
// proposal was committed just now.
func (r *Replica) keepRequest(tx storage.Txn, keyHash uint64, was, is cas.State, rec crdt.Record, id crdt.RequestID, by *trace) error {
	if by == nil {
		p, fate := was.Carried(is, rec)
		if fate == cas.Open {
			return nil
		}
		known, err := r.window.find(tx, keyHash, p.ID)
		if err != nil && !errors.Is(err, storage.ErrCorrupt) || known.happened() {
			return err
		}
		id, by = p.ID, &trace{version: p.Dot, doubt: fate == cas.Doubtful}
		if v := p.Record.Find(p.Dot); v != nil && !by.doubt {
			by.stamp = v.Stamp
		}
	}
	r.window.note(keyHash, id, *by)
	return nil
}

// learn takes in that the record of a key has become another, otherwise than by
// its consensus: what was accepted may have been decided elsewhere, or passed
// over. Keys without anything undecided cost nothing.
func (r *Replica) learn(tx storage.Txn, keyHash uint64, fullKey []byte, rec crdt.Record) error {
	if !r.serial.isPending(fullKey) {
		return nil
	}
	was, err := r.loadState(tx, keyHash, fullKey)
	if err != nil {
		if errors.Is(err, storage.ErrCorrupt) {
			return nil // it is healed on its own
		}
		return err
	}
	is := was.Learned(rec)
	if is.Same(was) {
		return nil
	}
	if err := r.keepRequest(tx, keyHash, was, is, rec, crdt.RequestID{}, nil); err != nil {
		return err
	}
	return r.putState(tx, keyHash, fullKey, was, is)
}
