package replica

import (
	"encoding/binary"
	"errors"
	"fmt"
	"sync/atomic"

	"github.com/atolldb/atoll/crdt"
	"github.com/atolldb/atoll/hashring"
	"github.com/atolldb/atoll/node/storage"
)

// The side log keeps versions that the late-message rule, or a look at this
// node's own store, took for deleted ones: nothing that was ever written is
// destroyed by a judgement. Key space 'l': partition (2), key hash (8), actor
// and n of the first version (4, 8), full key; the value is the record of these
// versions alone. The same versions have the same key, so that a message that
// comes again and again takes no more room.
//
// It is bounded: when it is full, what would go there is refused, not lost.
type sideLog struct {
	count atomic.Int64
}

// maxAside bounds the entries of the side log.
const maxAside = 1 << 16

// ErrAsideFull says that the side log is full; see ForgetAside.
var ErrAsideFull = errors.New("the side log of late writes is full")

// ErrNoAside says that something is not the id of an entry of the side log.
var ErrNoAside = errors.New("not the id of an entry of the side log")

// Aside is an entry of the side log.
type Aside struct {
	Partition hashring.Partition
	KeyHash   uint64
	Key       []byte // full key
	// Record has the versions that were kept back.
	Record crdt.Record
}

const asideHead = 1 + 2 + 8 + 4 + 8

func asideKey(p hashring.Partition, keyHash uint64, d crdt.Dot, fullKey []byte) []byte {
	k := binary.BigEndian.AppendUint16([]byte{spaceAside}, uint16(p))
	k = binary.BigEndian.AppendUint64(k, keyHash)
	k = binary.BigEndian.AppendUint32(k, uint32(d.Actor))
	k = binary.BigEndian.AppendUint64(k, d.N)
	return append(k, fullKey...)
}

func (s *sideLog) full() bool { return s.count.Load() >= maxAside }

// put is called on the committer's goroutine. The count is a bound, not a
// balance: it also counts what was there, until the next start.
func (s *sideLog) put(tx storage.Txn, p hashring.Partition, keyHash uint64, fullKey []byte, rec crdt.Record) error {
	if len(rec.Versions) == 0 {
		return nil
	}
	key := asideKey(p, keyHash, rec.Versions[0].Dot, fullKey)
	if err := tx.Put(key, crdt.AppendRecord(nil, keyHash, rec)); err != nil {
		return fmt.Errorf("write side log: %w", err)
	}
	s.count.Add(1)
	return nil
}

func (s *sideLog) load(from storage.Reader) error {
	n := int64(0)
	err := scanAll(from, []byte{spaceAside}, []byte{spaceAside + 1}, func(storage.KV, bool) bool { n++; return true })
	if err != nil {
		return fmt.Errorf("count the side log: %w", err)
	}
	s.count.Store(n)
	return nil
}

// AsideCount is about how many entries the side log has.
func (r *Replica) AsideCount() int { return int(r.aside.count.Load()) }

// ID names an entry on its node.
func (a Aside) ID() []byte {
	if len(a.Record.Versions) == 0 {
		return nil
	}
	return asideKey(a.Partition, a.KeyHash, a.Record.Versions[0].Dot, a.Key)
}

// EachAside visits the side log behind the entry of an id, from the first one for
// nil, until visit returns false. Entries that cannot be read are left out.
func (r *Replica) EachAside(after []byte, visit func(Aside) bool) error {
	from := []byte{spaceAside}
	if len(after) > 0 {
		if after[0] != spaceAside {
			return ErrNoAside
		}
		from = append(append([]byte(nil), after...), 0)
	}
	err := scanAll(r.engine, from, []byte{spaceAside + 1}, func(kv storage.KV, unreadable bool) bool {
		if unreadable || len(kv.Key) < asideHead {
			return true
		}
		a := Aside{
			Partition: hashring.Partition(binary.BigEndian.Uint16(kv.Key[1:])),
			KeyHash:   binary.BigEndian.Uint64(kv.Key[3:]),
			Key:       append([]byte(nil), kv.Key[asideHead:]...),
		}
		rec, err := crdt.DecodeRecord(a.KeyHash, append([]byte(nil), kv.Value...))
		if err != nil {
			return true
		}
		a.Record = rec
		return visit(a)
	})
	if err != nil {
		return fmt.Errorf("read side log: %w", err)
	}
	return nil
}

// ForgetAside deletes entries of the side log that somebody has looked at, and
// returns how many of the ids were there.
func (r *Replica) ForgetAside(ids [][]byte) (forgotten int, err error) {
	var keys [][]byte
	for _, id := range ids {
		if len(id) < asideHead || id[0] != spaceAside {
			return 0, ErrNoAside
		}
		_, err := r.engine.Get(id)
		if isNotFound(err) {
			continue
		}
		if err != nil && !errors.Is(err, storage.ErrCorrupt) {
			return 0, fmt.Errorf("look at the side log: %w", err)
		}
		keys = append(keys, id)
	}
	if err := r.do(func(done chan error) storage.Op { return &deleteOp{keys: keys, done: done} }); err != nil {
		return 0, fmt.Errorf("forget entries of the side log: %w", err)
	}
	return len(keys), r.aside.load(r.engine)
}
