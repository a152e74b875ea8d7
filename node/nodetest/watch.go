package nodetest

import (
	"bytes"
	"context"
	"fmt"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/atolldb/atoll/crdt"
	"github.com/atolldb/atoll/hashring"
	"github.com/atolldb/atoll/internal/pause"
	"github.com/atolldb/atoll/node/replica"
	"github.com/atolldb/atoll/node/topology"
	"github.com/atolldb/atoll/node/wire"
)

// A reader meets a breach of Q2 only when it asks the wrong nodes in the right
// millisecond. So a watcher asks all of them, all the time, in no time:
//
//	Q2   by the topology of each node that is up, a quorum read of each key would
//	     meet every write that was acknowledged at a quorum, whomever it asked
//	A2   whoever has the dot of such a write in its clock has the write, or what
//	     replaced it
//
// What it finds it tells with what every node of the region knows, and what befell
// the key's partition before.

// logged is what befalls nodes and rows, for who looks into a problem.
type logged struct {
	mu    sync.Mutex
	lines []logLine
	rows  map[regionPartition]string
	epoch map[int]topology.Epoch
	told  map[string]bool
}

type logLine struct {
	at     time.Duration
	region int
	p      hashring.Partition // -1 for all
	what   string
}

type regionPartition struct {
	region int
	p      hashring.Partition
}

// allRows stands for every partition of a region.
const allRows = hashring.Partition(1<<16 - 1)

func (w *World) note(region int, p hashring.Partition, format string, args ...any) {
	w.logged.mu.Lock()
	defer w.logged.mu.Unlock()
	w.logged.lines = append(w.logged.lines, logLine{time.Since(w.start), region, p, fmt.Sprintf(format, args...)})
}

// lately tells what befell a partition of a region, the last of it.
func (w *World) lately(region int, p hashring.Partition) string {
	w.logged.mu.Lock()
	defer w.logged.mu.Unlock()
	var out []string
	for _, l := range w.logged.lines {
		if l.region == region && (l.p == p || l.p == allRows) {
			out = append(out, fmt.Sprintf("%v %s", l.at.Round(time.Microsecond), l.what))
		}
	}
	return strings.Join(out[max(0, len(out)-60):], "\n\t")
}

// watch looks until ctx ends.
func (w *World) watch(ctx context.Context, keys []string) {
	for pause.For(ctx, w.shape.Watch) {
		for region := range w.tops {
			w.followRows(region)
			for _, key := range keys {
				w.wouldMeet(region, key)
			}
		}
	}
}

// followRows notes the rows of a region's partitions that have changed.
func (w *World) followRows(region int) {
	var newest *topology.Topology
	for _, up := range w.up(region) {
		if t := up.run.node.Topology(); newest == nil || t.Epoch > newest.Epoch {
			newest = t
		}
	}
	l := &w.logged
	if newest == nil || l.epoch[region] >= newest.Epoch {
		return
	}
	if l.epoch == nil {
		l.epoch, l.rows = map[int]topology.Epoch{}, map[regionPartition]string{}
	}
	l.epoch[region] = newest.Epoch
	for p := range hashring.Partition(newest.Table.Partitions()) {
		at, row := regionPartition{region, p}, rowOf(newest, p)
		if l.rows[at] != row {
			l.rows[at] = row
			w.note(region, p, "epoch %d, since %d: %s", newest.Epoch, newest.SinceOf(p), row)
		}
	}
}

func rowOf(t *topology.Topology, p hashring.Partition) string {
	var b strings.Builder
	row := t.Row(p)
	for _, s := range row.Slots {
		fmt.Fprintf(&b, "%s", s.Owner)
		if s.Moving() {
			fmt.Fprintf(&b, ">%s (%v)", s.Next, s.Stage)
		}
		b.WriteByte(' ')
	}
	if row.Extra != "" {
		fmt.Fprintf(&b, "+%s", row.Extra)
	}
	return strings.TrimSpace(b.String())
}

type upNode struct {
	m   *member
	run *run
}

// up are the nodes of a region that run.
func (w *World) up(region int) (out []upNode) {
	for _, m := range w.all() {
		if r := m.running.Load(); r != nil && m.region == region {
			out = append(out, upNode{m, r})
		}
	}
	return out
}

// wouldMeet checks both of one key.
func (w *World) wouldMeet(region int, key string) {
	owed := w.hist.owed(region, key)
	if len(owed) == 0 || w.lied(key) {
		return
	}
	full := fullKey(key)
	hash := hashring.KeyHash(full)
	p := hashring.PartitionOf(hash, w.shape.Partitions)
	nodes := w.up(region)
	asked := map[string]bool{} // topologies
	for _, c := range nodes {
		t := c.run.node.Topology()
		row := rowOf(t, p)
		if asked[row+fmt.Sprint(t.SinceOf(p))] {
			continue
		}
		asked[row+fmt.Sprint(t.SinceOf(p))] = true
		slots := t.Row(p).Slots
		missed := map[crdt.Dot][]topology.NodeID{}
		for _, s := range slots {
			i := slices.IndexFunc(nodes, func(n upNode) bool { return n.m.id == s.Serves() })
			if i < 0 {
				continue
			}
			b, err := nodes[i].run.node.Replica().Read(t.Epoch, hash, full)
			if err != nil {
				continue
			}
			for _, d := range lacking(hash, b, owed) {
				missed[d] = append(missed[d], s.Serves())
			}
		}
		for d, by := range missed {
			if len(by) > len(slots)-(len(slots)/2+1) && len(by) >= len(slots)/2+1 {
				w.breach(region, key, p, d, "Q2: a quorum read of %s by the topology %d of %s would miss %v: %v answer without it", key, t.Epoch, c.m.id, d, by)
			}
		}
	}
	for _, n := range nodes {
		clock, record, ok := held(n.run.node.Replica(), p, hash, full)
		if !ok {
			continue
		}
		for _, d := range lacking(hash, record, owed) {
			if clock.Contains(d) {
				w.breach(region, key, p, d, "A2: the clock of %s has %v of %s, and its record does not", n.m.id, d, key)
			}
		}
	}
}

// held is what a node has of a key, whether it serves it or not, and the clock that
// it had just before.
func held(r *replica.Replica, p hashring.Partition, hash uint64, full []byte) (clock *crdt.Clock, record []byte, ok bool) {
	page, err := r.Scan(wire.Scan{Partition: p, First: hash, Last: hash, MaxBytes: 1 << 20})
	if err != nil {
		return nil, nil, false
	}
	for _, e := range page.Entries {
		if bytes.Equal(e.Key, full) {
			record = e.Record
		}
	}
	return page.Clock, record, true
}

// lacking are those dots that a record does not cover.
func lacking(hash uint64, record []byte, owed []crdt.Dot) (out []crdt.Dot) {
	var seen crdt.VV
	if len(record) > 0 {
		rec, err := crdt.DecodeRecord(hash, record)
		if err != nil {
			return nil
		}
		seen = rec.Context().Seen
	}
	for _, d := range owed {
		if !seen.Covers(d) {
			out = append(out, d)
		}
	}
	return out
}

// breach tells of one once, with all that is known.
func (w *World) breach(region int, key string, p hashring.Partition, d crdt.Dot, format string, args ...any) {
	h := w.hist
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.isGone(key, d) || h.mayBeForgotten(key, d) {
		return
	}
	id := format[:3] + fmt.Sprint(region, p, d)
	if w.logged.told == nil {
		w.logged.told = map[string]bool{}
	}
	if w.logged.told[id] {
		return
	}
	w.logged.told[id] = true
	h.problem("%s", fmt.Sprintf("%v ", time.Since(w.start))+fmt.Sprintf(format, args...)+"\n\t"+w.evidence(region, key, p, d))
}

// evidence is what is known of a dot that is missed. Called with the history's lock
// held.
func (w *World) evidence(region int, key string, p hashring.Partition, d crdt.Dot) string {
	full := fullKey(key)
	hash := hashring.KeyHash(full)
	var out []string
	for _, n := range w.up(region) {
		r := n.run.node.Replica()
		t := n.run.node.Topology()
		says := "does not hold it"
		if clock, record, ok := held(r, p, hash, full); ok {
			says = fmt.Sprintf("clock has it %v, record has it %v (%d bytes), behind %v, clock %v", clock.Contains(d), len(lacking(hash, record, []crdt.Dot{d})) == 0, len(record), r.Behind(p), clock)
		}
		out = append(out, fmt.Sprintf("%s at epoch %d: actor %v, role %d, since %d: %s", n.m.id, t.Epoch, r.Actor(), t.Role(p, n.m.id), t.SinceOf(p), says))
	}
	for _, wr := range w.hist.writes {
		if wr.key == key && (wr.dot == d || slices.Contains(wr.shown, d)) {
			out = append(out, fmt.Sprintf("written by %s: %s", wr.at, strings.Join(wr.tries, "; ")))
		}
	}
	return strings.Join(out, "\n\t") + "\n\tpartition " + fmt.Sprint(p) + " of region " + w.name(region) + " before:\n\t" + w.lately(region, p)
}
