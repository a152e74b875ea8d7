package nodetest

import (
	"context"
	"fmt"
	"math/rand/v2"
	"slices"
	"sync"
	"time"

	"github.com/atolldb/atoll/crdt"
	"github.com/atolldb/atoll/hashring"
	"github.com/atolldb/atoll/internal/pause"
	"github.com/atolldb/atoll/node/quorum"
	"github.com/atolldb/atoll/node/replica"
)

// Two rivals write one key. Each goes on from his own answers, at whatever node of
// whatever region, below a quorum or at one, and never reads. So what they have to be
// told of as not seen grows by a range each time that the other one came between,
// until owners settle it by what all of them hold. While links are cut they hold
// different things for long, and a past that covers more than what was seen takes away
// at one owner what only others have the successor of. That is over when they have met,
// so it is looked for all the time:
//
//	I12  an owner gives up a version only for what had seen it: of an acknowledged
//	     write that its record covers and does not hold, something that it holds had
//	     seen it
//
// A disk that loses what it had acknowledged, and is given it again, may show less: no
// such thing may befall a World of rivals.

// rival is one of two.
type rival struct {
	*client
	key    string
	roams  bool // asks in any region each time; else he stays for some seconds
	ranges int  // in the context of his last answer
	book   *rivalry
}

// rivalry is what came of all of them.
type rivalry struct {
	mu   sync.Mutex
	keys []string
	// writes that were answered; most is how many ranges an answer had at most, and
	// settled how often one had fewer than the same client's last one.
	writes, most, settled int
}

var rivalLevels = []quorum.Level{quorum.LocalOne, quorum.LocalQuorum}

// rivals are two for each key.
func (w *World) rivals(book *rivalry) (out []*rival) {
	for i := range 2 * w.shape.Rivals {
		key := fmt.Sprint("rivals", i/2)
		if i%2 == 0 {
			book.keys = append(book.keys, key)
		}
		c := w.client(i, 0, nil)
		c.name, c.levels = fmt.Sprint("rival", i), rivalLevels
		c.rng = rand.New(rand.NewPCG(w.seed, uint64(3000+i)))
		out = append(out, &rival{client: c, key: key, roams: i%2 == 1, book: book})
	}
	return out
}

// run works until ctx ends.
func (r *rival) run(ctx context.Context) {
	for pause.For(ctx, time.Duration(1+r.rng.IntN(60))*time.Millisecond) {
		if r.roams || r.rng.IntN(100) == 0 {
			r.region = r.rng.IntN(len(r.w.tops))
		}
		if node := r.coordinator(); node != nil {
			was := r.held[r.key]
			r.put(ctx, node, r.key, was, false)
			r.note(len(was.seen))
		}
	}
}

// note takes note of the context of an answer, if one came: it has one version more
// than seen.
func (r *rival) note(seen int) {
	now := r.held[r.key]
	if len(now.seen) == seen {
		return
	}
	if len(now.bytes) == 0 {
		delete(r.held, r.key) // too many ranges: he goes on as if he had seen nothing
		r.ranges = 0
		return
	}
	ctx, err := crdt.DecodeContext(crdt.Keys{secret}, fullKey(r.key), now.bytes)
	if err != nil {
		r.w.t.Errorf("context for %s: %v", r.key, err)
	}
	n := ctx.Seen.Ranges()
	r.book.mu.Lock()
	defer r.book.mu.Unlock()
	r.book.writes++
	r.book.most = max(r.book.most, n)
	if n < r.ranges {
		r.book.settled++
	}
	r.ranges = n
}

// judgeRivals looks at what all nodes have of the keys, until ctx ends.
func (w *World) judgeRivals(ctx context.Context, keys []string) {
	for pause.For(ctx, 50*time.Millisecond) {
		for _, key := range keys {
			full := fullKey(key)
			hash := hashring.KeyHash(full)
			p := hashring.PartitionOf(hash, w.shape.Partitions)
			for _, m := range w.all() {
				up := m.running.Load()
				if up == nil {
					continue
				}
				if rec, ok := w.recordAt(up.node.Replica(), p, hash, full); ok {
					w.hist.givesUp(key, rec, fmt.Sprintf("%v: %s", time.Since(w.start), m.id))
				}
			}
		}
	}
}

// recordAt is what a node has of a key, whether it serves it or not; ok is false for
// nothing.
func (w *World) recordAt(r *replica.Replica, p hashring.Partition, hash uint64, full []byte) (rec crdt.Record, ok bool) {
	_, b, ok := held(r, p, hash, full)
	if !ok || len(b) == 0 {
		return crdt.Record{}, false
	}
	rec, err := crdt.DecodeRecord(hash, b)
	if err != nil {
		w.t.Errorf("record of %q: %v", full, err)
	}
	return rec, err == nil
}

// givesUp checks I12 of what an owner has of a key, which nobody deletes: by what its
// writers had seen, and not by their pasts, which are what is being checked.
func (h *history) givesUp(key string, rec crdt.Record, who string) {
	h.mu.Lock()
	defer h.mu.Unlock()
	var there []*write
	for i := range rec.Versions {
		w := h.byValue[string(rec.Versions[i].Value)]
		if w == nil || w.key != key {
			h.problem("I7: key %s shows %q, which nobody wrote there", key, rec.Versions[i].Value)
			return
		}
		there = append(there, w)
	}
	var covered crdt.VV
	for i := range rec.Versions {
		covered = covered.Join(rec.Versions[i].Past)
	}
	for _, w := range h.writes {
		if w.key != key || w.status != acked || w.gaveUp || !covered.Covers(w.dot) || rec.Find(w.dot) != nil ||
			slices.ContainsFunc(there, func(t *write) bool { return t.seen[w.dot] }) {
			continue
		}
		w.gaveUp = true
		var has []string
		for i, t := range there {
			v := &rec.Versions[i]
			has = append(has, fmt.Sprintf("%v (%s, by %s, covers it: %v)", v.Dot, t.value, t.at, v.Past.Covers(w.dot)))
		}
		h.problem("I12: %s has given up acknowledged write %d (%v of %s, %s), and nobody had seen it who wrote what is there: %s", who, w.id, w.dot, key, w.at, has)
	}
}
