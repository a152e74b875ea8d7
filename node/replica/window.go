package replica

import (
	"encoding/binary"
	"fmt"
	"hash/maphash"
	"math"
	"slices"
	"time"

	"github.com/atolldb/atoll/crdt"
	"github.com/atolldb/atoll/internal/planted"
	"github.com/atolldb/atoll/node/storage"
)

// window keeps the traces of requests. Those that the ops of one group leave are
// one entry of the store, a block, which ends by itself: an entry for each would
// cost more than half as much as the write that it is about.
//
//	'q' number(8) -> for each trace id(16) key-hash(8) and what requests.go tells
//
// Numbers ascend, and begin with the time, ms since 1970, times 256, or, if that was
// set back, with the latest. Of several traces of one request the last one of the
// last block holds.
//
// In memory is, for each trace, a fingerprint of id and key, and in which block
// it is: 10 to 21 bytes, so that a request which never came before is known to be
// new without a look into the store. They are forgotten by spans of some minutes,
// a while after the blocks have ended. The window belongs to the committer's
// goroutine; what it lacks it reads when the node starts.
type window struct {
	print func(name) uint32 // fingerprint, nobody outside can aim at one
	spans []span            // the oldest first
	open  []block           // of the group that is being decided, the newest last
	kept  []byte            // of a block that is written; for the next one
	notes int               // traces in open
	next  uint64            // number, at least
	// former: until then there may be traces in the form of a former version.
	former time.Time
	// unreadable: some of what was known at the start is not any more.
	unreadable bool
}

// span is where the traces of some minutes are.
type span struct {
	base        uint64 // number
	from, until int64  // when they were noted, ms since 1970
	// at is how far above base the last block with a fingerprint is, more where
	// the others are.
	at   map[uint32]uint32
	more map[uint32][]uint32
}

type block struct {
	number uint64
	ms     int64 // when it was begun
	data   []byte
}

const (
	blockTick = 256 // numbers in a millisecond
	spanTime  = 4 * time.Minute
	// spanLife leaves room for engines that count in seconds.
	spanLife = traceLife + 5*time.Second
	// blockRoom is for one more trace.
	blockRoom = 24 + 33
)

func blockKey(number uint64) []byte {
	return binary.BigEndian.AppendUint64([]byte{spaceRequest}, number)
}

// name is what tells traces apart.
type name [24]byte

func nameOf(keyHash uint64, id crdt.RequestID) (n name) {
	binary.BigEndian.PutUint64(n[copy(n[:], id[:]):], keyHash)
	return n
}

// load reads what is known, at the start.
func (w *window) load(from storage.Reader, now time.Time) error {
	if w.print == nil {
		seed := maphash.MakeSeed()
		w.print = func(n name) uint32 { return uint32(maphash.Bytes(seed, n[:])) }
	}
	err := scanAll(from, []byte{spaceRequest}, []byte{spaceRequest + 1}, func(kv storage.KV, unreadable bool) bool {
		switch {
		case len(kv.Key) == 25: // 'q' id(16) key-hash(8) -> trace
			w.former = now.Add(traceLife)
		case unreadable || len(kv.Key) != 9:
			w.unreadable = true
		default:
			number := binary.BigEndian.Uint64(kv.Key[1:])
			for b := kv.Value; len(b) > 0; {
				n, _, rest, err := cutTrace(b)
				if err != nil {
					w.unreadable = true
					break
				}
				w.add(n, number, int64(number/blockTick))
				b = rest
			}
			w.next = max(w.next, number+1)
		}
		return true
	})
	if err != nil {
		return fmt.Errorf("read what is known of requests: %w", err)
	}
	return nil
}

// cutTrace takes the first trace of a block.
func cutTrace(b []byte) (n name, t trace, rest []byte, err error) {
	if len(b) <= len(n) {
		return n, t, nil, fmt.Errorf("traces of requests: %w", storage.ErrCorrupt)
	}
	b = b[copy(n[:], b):]
	size := traceSize(b[0])
	if size == 0 || len(b) < size {
		return n, t, nil, fmt.Errorf("traces of requests: %w", storage.ErrCorrupt)
	}
	t, err = decodeTrace(b[:size])
	return n, t, b[size:], err
}

// note decides a trace. It is written at the end of the group.
func (w *window) note(keyHash uint64, id crdt.RequestID, t trace) {
	n := nameOf(keyHash, id)
	last := len(w.open) - 1
	if last < 0 || len(w.open[last].data) > storage.MaxBrief-blockRoom {
		w.open = append(w.open, w.begin(time.Now()))
		last++
	}
	b := &w.open[last]
	b.data = t.encode(append(b.data, n[:]...))
	w.add(n, b.number, b.ms)
	w.notes++
}

// begin begins a block, and forgets what has ended.
func (w *window) begin(now time.Time) block {
	ms := now.UnixMilli()
	b := block{number: max(w.next, uint64(ms)*blockTick), ms: ms, data: w.kept[:0]}
	w.next, w.kept = b.number+1, nil
	// What was noted while the clock was ahead lasts until then, and that alone.
	w.spans = slices.DeleteFunc(w.spans, func(s span) bool { return ms-s.until > spanLife.Milliseconds() })
	return b
}

// add takes in that a trace is in a block that is not older than any before.
func (w *window) add(n name, number uint64, ms int64) {
	last := len(w.spans) - 1
	if last < 0 || ms < w.spans[last].from || ms-w.spans[last].from >= spanTime.Milliseconds() || number-w.spans[last].base > math.MaxUint32 {
		w.spans = append(w.spans, span{base: number, from: ms, until: ms, at: map[uint32]uint32{}})
		last++
	}
	s := &w.spans[last]
	s.until = max(s.until, ms)
	f, at := w.print(n), uint32(number-s.base)
	if was, ok := s.at[f]; ok && was != at {
		if s.more == nil {
			s.more = map[uint32][]uint32{}
		}
		s.more[f] = append(s.more[f], was)
	}
	s.at[f] = at
}

// mayKnow reports false for a request that nothing is known of, without a look into the
// store.
func (w *window) mayKnow(keyHash uint64, id crdt.RequestID) bool {
	f := w.print(nameOf(keyHash, id))
	return !w.former.IsZero() || slices.ContainsFunc(w.spans, func(s span) bool {
		_, ok := s.at[f]
		return ok
	})
}

// find returns the zero trace for a request that nothing is known of.
func (w *window) find(g getter, keyHash uint64, id crdt.RequestID) (trace, error) {
	n := nameOf(keyHash, id)
	f := w.print(n)
	for i := len(w.spans) - 1; i >= 0; i-- {
		s := &w.spans[i]
		at, ok := s.at[f]
		if !ok {
			continue
		}
		more := s.more[f]
		for {
			if t, ok, err := w.look(g, s.base+uint64(at), n); ok || err != nil {
				return t, err
			}
			if len(more) == 0 {
				break
			}
			at, more = more[len(more)-1], more[:len(more)-1]
		}
	}
	if !w.former.IsZero() && time.Now().Before(w.former) {
		return findFormer(g, n)
	}
	return trace{}, nil
}

// look looks into a block. One that has ended has nothing.
func (w *window) look(g getter, number uint64, of name) (found trace, ok bool, err error) {
	var data []byte
	for i := range w.open {
		if w.open[i].number == number {
			data = w.open[i].data
		}
	}
	if data == nil {
		if data, err = g.Get(blockKey(number)); isNotFound(err) {
			return trace{}, false, nil
		}
		if err != nil {
			return trace{}, false, fmt.Errorf("read what is known of a request: %w", err)
		}
	}
	for len(data) > 0 {
		n, t, rest, err := cutTrace(data)
		if err != nil {
			return trace{}, false, err
		}
		if n == of {
			found, ok = t, true
		}
		data = rest
	}
	if planted.Bug(planted.ForgetRequest) {
		found.dot = crdt.Dot{}
	}
	return found, ok, nil
}

// findFormer is find in the form of a former version, an entry for each trace:
// 'q' id(16) key-hash(8).
func findFormer(g getter, n name) (trace, error) {
	b, err := g.Get(append([]byte{spaceRequest}, n[:]...))
	switch {
	case isNotFound(err):
		return trace{}, nil
	case err != nil:
		return trace{}, fmt.Errorf("read what is known of a request: %w", err)
	}
	return decodeTrace(b)
}

// Len implements storage.Gathered.
func (w *window) Len() int { return w.notes }

// Size implements storage.Gathered.
func (w *window) Size() int {
	n := 0
	for i := range w.open {
		n += len(w.open[i].data) + 9 + 64
	}
	return n
}

// Put implements storage.Gathered.
func (w *window) Put(tx storage.Txn) error {
	for i := range w.open {
		b := &w.open[i]
		if err := tx.PutFor(blockKey(b.number), b.data, traceLife); err != nil {
			return fmt.Errorf("remember requests: %w", err)
		}
		w.kept = b.data
	}
	clear(w.open)
	w.open, w.notes = w.open[:0], 0
	return nil
}
