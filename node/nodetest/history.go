package nodetest

import (
	"fmt"
	"maps"
	"strings"
	"sync"

	"github.com/atolldb/atoll/crdt"
	"github.com/atolldb/atoll/hashring"
	"github.com/atolldb/atoll/node/coord"
)

// write is one client's write and what is known of it.
type write struct {
	id      int
	key     string
	value   string // "" for a delete
	deletes bool
	// seen are the writes whose dots the client's context covered, because it
	// read or wrote them; transitively closed.
	seen map[crdt.Dot]bool
	// dot is known when it was acknowledged.
	dot    crdt.Dot
	status status
	// single: acknowledged when one disk had it, and lost with that disk.
	single bool
	// wide: acknowledged by several regions.
	wide bool
	// shown are the dots under which it was seen; maybe: an answer said that
	// there may be another.
	shown []crdt.Dot
	named bool // it has a request id
	tries []string
	maybe bool
	// gaveUp: an owner gave it up for what had not seen it, and that was told.
	gaveUp bool
	at     string
}

type status int

const (
	pending status = iota
	acked
	unknown
	refused
)

// history is everything that clients did and saw. It is safe for concurrent
// use.
type history struct {
	collects   bool
	partitions int

	mu     sync.Mutex
	writes []*write
	// erased are the keys of which a delete by consensus has begun.
	erased   map[string]bool
	byValue  map[string]*write
	payloads map[partitionDot]string // key and value
	problems []string
	gets     int
	siblings int
	conceded int
	replays  int
	doubtful int
	// acknowledged writes at a quorum, by region and key, in that order.
	quorum map[regionKey][]crdt.Dot
	// gone are dots of acknowledged writes that were lost with all disks of a region.
	gone map[partitionDot]bool
	// solos are the keys with a single writer; see solo.go.
	solos []string
}

type regionKey struct {
	region int
	key    string
}

// partitionDot is a dot with the partition that its counter belongs to.
type partitionDot struct {
	p hashring.Partition
	crdt.Dot
}

func newHistory(partitions int) *history {
	return &history{partitions: partitions, byValue: map[string]*write{}, payloads: map[partitionDot]string{},
		quorum: map[regionKey][]crdt.Dot{}}
}

func (h *history) begin(key string, deletes bool, seen map[crdt.Dot]bool, at string) *write {
	h.mu.Lock()
	defer h.mu.Unlock()
	w := &write{id: len(h.writes), key: key, deletes: deletes, seen: seen, at: at}
	if !deletes {
		w.value = fmt.Sprintf("w%d of %s", w.id, key)
		h.byValue[w.value] = w
	}
	h.writes = append(h.writes, w)
	return w
}

func (h *history) end(w *write, s status, dot crdt.Dot) {
	h.mu.Lock()
	defer h.mu.Unlock()
	w.status, w.dot = s, dot
	if s == acked {
		h.payload(w.key, dot, w.value)
	}
}

// atQuorum remembers an acknowledged quorum write of a region.
func (h *history) atQuorum(region int, key string, d crdt.Dot) {
	h.mu.Lock()
	defer h.mu.Unlock()
	k := regionKey{region, key}
	h.quorum[k] = append(h.quorum[k], d)
}

// owed are the writes that a quorum read which begins now must show or cover.
func (h *history) owed(region int, key string) []crdt.Dot {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.quorum[regionKey{region, key}]
}

// meets checks Q2: a quorum read meets every quorum write of its region that
// was acknowledged before it began.
func (h *history) meets(key string, owed []crdt.Dot, seen crdt.VV, who string) {
	h.mu.Lock()
	defer h.mu.Unlock()
	for _, d := range owed {
		if !seen.Covers(d) && !h.isGone(key, d) && !h.mayBeForgotten(key, d) {
			h.problem("Q2: a quorum read of %s by %s missed %v, which was acknowledged before", key, who, d)
		}
	}
}

// payload checks I10. Called with the lock held.
func (h *history) payload(key string, d crdt.Dot, value string) {
	id := partitionDot{hashring.PartitionOf(hashring.KeyHash(fullKey(key)), h.partitions), d}
	is := key + "=" + value
	if was, ok := h.payloads[id]; ok && was != is {
		h.problem("I10: dot %v of partition %d names %q and %q", d, id.p, was, is)
	}
	h.payloads[id] = is
}

func fullKey(key string) []byte { return coord.FullKey(bucketOf(key), []byte(key)) }

func (h *history) problem(format string, args ...any) {
	if len(h.problems) < 20 {
		h.problems = append(h.problems, fmt.Sprintf(format, args...))
	}
}

// saw checks what a read showed and returns what its reader has seen: the
// values and, by what their writers had seen, everything before them. It does
// not ask the context, which is what is being checked. (Deletes do not show,
// so what only they had seen is left out.)
func (h *history) saw(key string, live []crdt.Version) map[crdt.Dot]bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.gets++
	if len(live) > 1 {
		h.siblings++
	}
	seen := map[crdt.Dot]bool{}
	for i := range live {
		h.version(key, &live[i])
		seen[live[i].Dot] = true
		if w := h.byValue[string(live[i].Value)]; w != nil {
			maps.Copy(seen, w.seen)
		}
	}
	return seen
}

func (h *history) version(key string, v *crdt.Version) {
	if v.Dead {
		h.payload(key, v.Dot, "")
		return
	}
	value := string(v.Value)
	w := h.byValue[value]
	switch {
	case w == nil || w.key != key:
		h.problem("I7: key %s shows %q, which nobody wrote there", key, value)
		return
	case w.status == refused:
		h.problem("I6: key %s shows %q (%v), which was reported as not applied (%s; %s)", key, value, v.Dot, w.at, strings.Join(w.tries, "; "))
	case w.status == acked && w.dot != v.Dot && !w.maybe:
		h.problem("I10: write %q was acknowledged as %v and shows as %v", value, w.dot, v.Dot)
	}
	w.shows(v.Dot)
	h.payload(key, v.Dot, value)
}

// final checks I1 and I3 of one key against the record that all owners hold.
// lied says that a disk silently lost the record once (see World.lost), wiped
// that some disk was wiped or rolled back.
func (h *history) final(key string, rec crdt.Record, lied, wiped bool) {
	h.mu.Lock()
	defer h.mu.Unlock()
	for i := range rec.Versions {
		h.version(key, &rec.Versions[i])
	}
	replaced := map[crdt.Dot]*write{} // by acknowledged writes
	maybe := map[crdt.Dot]bool{}      // by writes that may have been applied
	for _, w := range h.writes {
		if w.key != key || w.status == refused {
			continue
		}
		for d := range w.seen {
			maybe[d] = true
			if w.status == acked && !h.isGone(key, w.dot) && (!wiped || !w.single || rec.Covers(w.dot)) {
				replaced[d] = w
			}
		}
	}
	for _, w := range h.writes {
		if w.key != key || w.status != acked {
			continue
		}
		live := rec.Find(w.dot) != nil
		if !live && (wiped && w.single || h.isGone(key, w.dot)) {
			continue // LOCAL_ONE promises no more than one disk, and no local level more than one region
		}
		switch {
		case !live && lied:
			if !rec.Covers(w.dot) || !maybe[w.dot] && !w.deletes {
				h.conceded++
			}
		case !live && !rec.Covers(w.dot) && h.mayBeCollected(w):
		case !live && !rec.Covers(w.dot):
			h.problem("I1: acknowledged write %d (%v of %s, %s) is gone", w.id, w.dot, key, w.at)
		case !live && !maybe[w.dot] && !w.deletes: // reads do not show deletes
			h.problem("I1: acknowledged write %d (%v of %s, %s) was replaced though no client had seen it", w.id, w.dot, key, w.at)
		case live && replaced[w.dot] != nil:
			h.problem("I3: write %d (%v of %s) is live, but write %d had replaced it", w.id, w.dot, key, replaced[w.dot].id)
		}
	}
}

func (h *history) counts() (writes, acks, unknowns int) {
	h.mu.Lock()
	defer h.mu.Unlock()
	for _, w := range h.writes {
		switch w.status {
		case acked:
			acks++
		case unknown, pending:
			unknowns++
		case refused:
		}
	}
	return len(h.writes), acks, unknowns
}
