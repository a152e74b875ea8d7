package nodetest

import (
	"context"
	"fmt"
	"time"

	"github.com/atolldb/atoll/crdt"
	"github.com/atolldb/atoll/crdt/hlc"
	"github.com/atolldb/atoll/hashring"
	"github.com/atolldb/atoll/internal/pause"
	"github.com/atolldb/atoll/node/collect"
	"github.com/atolldb/atoll/node/replica"
	"github.com/atolldb/atoll/node/wire"
)

// collecting is how a World collects tombstones: seconds for what is a day.
func collecting(on bool) collect.Config {
	return collect.Config{
		Rounds: on, Grace: 2 * time.Second, Every: 2 * time.Second,
		Beat: 500 * time.Millisecond, Spread: time.Millisecond, Pause: 5 * time.Millisecond,
		Step: 100 * time.Millisecond, Patience: 4 * time.Second,
	}
}

// collects sums up the rounds of all nodes that are up.
func (w *World) collected() (rounds, dropped, aside, off uint64) {
	for _, m := range w.all() {
		if up := m.running.Load(); up != nil && !m.gone.Load() {
			s, r := up.node.Collector().Stats(), up.node.Replica()
			rounds, off = rounds+s.Done.Load(), off+s.OffAll()
			dropped += r.Stats().Collected.Load()
			aside += uint64(r.AsideCount())
		}
	}
	return rounds, dropped, aside, off
}

// setRounds lets the nodes begin rounds, or not any more.
func (w *World) setRounds(on bool) {
	for _, m := range w.all() {
		if up := m.running.Load(); up != nil {
			up.node.Collector().SetRounds(on)
		}
	}
}

// sleepers keeps copies of records, as messages that sleep somewhere on their way,
// and lets them arrive at other owners much later.
func (w *World) sleepers(ctx context.Context, keys []string, rng interface{ IntN(int) int }) {
	type message struct {
		entry wire.Entry
		at    time.Time
	}
	var asleep []message
	for pause.For(ctx, time.Duration(100+rng.IntN(400))*time.Millisecond) {
		members := w.all()
		m := members[rng.IntN(len(members))]
		up := m.running.Load()
		if up == nil || m.gone.Load() {
			continue
		}
		r := up.node.Replica()
		full := fullKey(keys[rng.IntN(len(keys))])
		if rng.IntN(2) == 0 && len(asleep) < 100 {
			if b, err := r.Read(0, hashring.KeyHash(full), full); err == nil && len(b) > 0 {
				asleep = append(asleep, message{wire.Entry{Key: full, Record: b}, time.Now()})
			}
			continue
		}
		if len(asleep) == 0 {
			continue
		}
		i := rng.IntN(len(asleep))
		if time.Since(asleep[i].at) < time.Duration(rng.IntN(20))*time.Second {
			continue
		}
		r.ApplyFrom(replica.Source{}, 0, []wire.Entry{asleep[i].entry}, func(int, error) {})
		asleep = append(asleep[:i], asleep[i+1:]...)
	}
}

// mayBeCollected reports whether a write may be absent without a version that
// covers it: it is a delete, or a delete that may have been applied followed it.
// Called with the lock held.
func (h *history) mayBeCollected(w *write) bool {
	if !h.collects {
		return false
	}
	if w.deletes {
		return true
	}
	for _, d := range h.writes {
		if d.deletes && d.key == w.key && d.status != refused && d.seen[w.dot] {
			return true
		}
	}
	return false
}

// mayBeForgotten is mayBeCollected for a dot.
func (h *history) mayBeForgotten(key string, dot crdt.Dot) bool {
	for _, w := range h.writes {
		if w.key == key && w.status == acked && w.dot == dot {
			return h.mayBeCollected(w)
		}
	}
	return h.collects && h.erased[key]
}

// erase notes that a delete by consensus of that key has begun: such deletes are
// not among the writes, and follow all that is there.
func (h *history) erase(key string) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.erased == nil {
		h.erased = map[string]bool{}
	}
	h.erased[key] = true
}

// uncollected returns a partition in which something is left that should have
// been collected long ago, "" if there is none.
func (w *World) uncollected(floor hlc.Stamp) string {
	for _, m := range w.all() {
		up := m.running.Load()
		if up == nil || m.gone.Load() {
			continue
		}
		r := up.node.Replica()
		for _, p := range r.Owned() {
			n := 0
			if err := r.Dead(p, floor, func([]byte, uint64, crdt.Record) bool { n++; return true }); err != nil || n > 0 {
				why := ""
				for _, o := range w.all() {
					if up := o.running.Load(); up != nil {
						for _, s := range up.node.Collector().Stalls() {
							if s.Partition == p {
								why = s.Why.String()
							}
						}
					}
				}
				return fmt.Sprintf("%d dead records of partition %d at %s, %v; last round: %s", n, p, m.id, err, why)
			}
		}
	}
	return ""
}
