package replica

import (
	"maps"
	"math/rand/v2"
	"slices"
	"sync"

	"github.com/atolldb/atoll/crdt"
	"github.com/atolldb/atoll/hashring"
	"github.com/atolldb/atoll/internal/planted"
	"github.com/atolldb/atoll/node/storage"
)

// Who goes on from his own answers, beside others, on one key, and never reads,
// writes pasts with a range for each time that somebody came between. What was
// replaced by something that all owners in all regions have needs not be named; see
// crdt.Context.Settled. So a mint that makes many ranges marks what the key had then,
// and asks to be told what all owners hold (Crowded, HeldByAll). When they hold what
// was marked, its pasts are settled for good, and the next mark is taken. All of this
// is memory: without it, pasts are longer.

const (
	// manyRanges is from how many ranges on the past of a new version is settled.
	// Few cost less than the vector that closes them.
	manyRanges = 8
	// maxMarks bounds the keys that are marked at a time. The next one takes the
	// place of some other.
	maxMarks = 256
)

// held is what is known to be at all owners. Only the committer's goroutine touches
// it, all but crowded.
type held struct {
	// everywhere is what all owners had, as they last said; of partitions that were
	// asked for.
	everywhere map[hashring.Partition]*crdt.Clock
	marks      map[string]*mark
	// marked are the keys of marks, and chance says which of them makes room: not the
	// order of a map, so that the same writes leave the same marks.
	marked []string
	chance rand.PCG

	mu      sync.Mutex
	crowded map[hashring.Partition]bool
}

// mark is of one key.
type mark struct {
	// versions that it had, without values.
	versions crdt.Record
	// settled are the pasts of those that were marked before.
	settled crdt.VV
}

// Crowded are the partitions that took writes with many ranges since it was asked
// last, in order.
func (r *Replica) Crowded() []hashring.Partition {
	r.settles.mu.Lock()
	defer r.settles.mu.Unlock()
	out := slices.Sorted(maps.Keys(r.settles.crowded))
	clear(r.settles.crowded)
	return out
}

// HeldByAll tells r what all who take writes of p, in all regions, are known to hold
// durably, none excepted that nobody waits for. It takes the place of what was told
// before, also when it is less.
func (r *Replica) HeldByAll(p hashring.Partition, held *crdt.Clock) {
	r.submit(&heldOp{r: r, p: p, held: held.Clone()})
}

type heldOp struct {
	r    *Replica
	p    hashring.Partition
	held *crdt.Clock
}

func (o *heldOp) Size() int  { return 0 }
func (o *heldOp) Decided()   {}
func (o *heldOp) Done(error) {} // who has stopped has no use for it

func (o *heldOp) Decide(storage.Txn) error {
	h := &o.r.settles
	if h.everywhere == nil {
		h.everywhere = map[hashring.Partition]*crdt.Clock{}
	}
	h.everywhere[o.p] = o.held
	return nil
}

// settle returns seen, the past of a new version of key, without most of its ranges
// if it has many. The key has local.
func (h *held) settle(p hashring.Partition, key []byte, seen crdt.VV, local crdt.Record) crdt.VV {
	if seen.Ranges() < manyRanges {
		return seen
	}
	everywhere := func(d crdt.Dot) bool {
		c := h.everywhere[p]
		return c != nil && c.Contains(d) || planted.Bug(planted.EarlySettled)
	}
	c := crdt.Context{Seen: seen}.Settled(local, everywhere)
	m := h.marks[string(key)]
	if m == nil {
		m = h.mark(string(key), local)
	}
	if !slices.ContainsFunc(m.versions.Versions, func(v crdt.Version) bool { return !everywhere(v.Dot) }) {
		m.settled = crdt.Context{Seen: m.settled}.Settled(m.versions, everywhere).Seen
		m.versions = bare(local)
	}
	if c.Seen = c.Seen.Join(m.settled); c.Seen.Ranges() >= manyRanges {
		h.mu.Lock()
		if h.crowded == nil {
			h.crowded = map[hashring.Partition]bool{}
		}
		h.crowded[p] = true
		h.mu.Unlock()
	}
	return c.Seen
}

func (h *held) mark(key string, local crdt.Record) *mark {
	if h.marks == nil {
		h.marks = map[string]*mark{}
	}
	if len(h.marked) < maxMarks {
		h.marked = append(h.marked, key)
	} else {
		i := h.chance.Uint64() % maxMarks
		delete(h.marks, h.marked[i])
		h.marked[i] = key
	}
	m := &mark{versions: bare(local)}
	h.marks[key] = m
	return m
}

// bare is r without what takes memory.
func bare(r crdt.Record) crdt.Record {
	out := crdt.Record{Versions: make([]crdt.Version, len(r.Versions))}
	for i := range r.Versions {
		out.Versions[i] = crdt.Version{Dot: r.Versions[i].Dot, Past: r.Versions[i].Past}
	}
	return out
}
