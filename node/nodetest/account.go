package nodetest

import (
	"fmt"
	"time"

	"github.com/atolldb/atoll/crdt"
	"github.com/atolldb/atoll/geo"
	"github.com/atolldb/atoll/hashring"
)

// missing counts, by brute force, the dots that owners in region a have of its own
// actors and no owner in region b has.
func (w *World) missing(a, b int) (n uint64) {
	for p := range hashring.Partition(w.shape.Partitions) {
		there := map[crdt.Dot]bool{}
		w.eachDot(b, p, func(d crdt.Dot) { there[d] = true })
		counted := map[crdt.Dot]bool{}
		w.eachDot(a, p, func(d crdt.Dot) {
			if d.Actor.Region() == uint8(a+1) && !there[d] && !counted[d] {
				counted[d] = true
				n++
			}
		})
	}
	return n
}

func (w *World) eachDot(region int, p hashring.Partition, yield func(crdt.Dot)) {
	for _, m := range w.all() {
		up := m.running.Load()
		if m.region != region || up == nil || !up.node.Replica().Owns(p) {
			continue
		}
		for _, run := range up.node.Replica().Clock(p).All() {
			for n := run.Lo; n <= run.Hi; n++ {
				yield(crdt.Dot{Actor: run.Actor, N: n})
			}
		}
	}
}

// told sums what the nodes of a region tell of one direction of a link.
func (w *World) told(by, origin, destination int) (sum geo.LagReport) {
	for _, m := range w.all() {
		up := m.running.Load()
		if m.region != by || up == nil {
			continue
		}
		in, out := up.node.Lag()
		for _, r := range append(in, out...) {
			if r.Origin == w.name(origin) && r.Destination == w.name(destination) {
				sum.Pending += r.Pending
				sum.Unheld += r.Unheld
				sum.Unknown += r.Unknown
				sum.Unsure += r.Unsure
				sum.Alive = sum.Alive || r.Alive
				sum.PendingAge = max(sum.PendingAge, r.PendingAge)
			}
		}
	}
	return sum
}

// linkState is what is cut of the ways from one region to another: the log and the
// heartbeats one way, everything else both ways.
type linkState struct{ log, nodes bool }

// Who has missed a heartbeat asks for all that its node has, over the link between
// nodes: where that is cut, it is not sure for up to a minute.

// accounts checks what regions tell of each other against the true sets of dots, at
// a moment when nothing changes. cut is by [origin][destination].
func (w *World) accounts(cut [][]linkState) (problems []string) {
	problem := func(a, b int, by string, r geo.LagReport, truth uint64) {
		problems = append(problems, fmt.Sprintf("of %s, %d are missing in %s; %s tells %+v", w.name(a), truth, w.name(b), by, r))
	}
	for a := range w.tops {
		for b := range w.tops {
			if a == b {
				continue
			}
			truth := w.missing(a, b)
			// The origin goes by b's heartbeats, which may tell less than b has by now.
			switch r := w.told(a, a, b); {
			case r.Unsure > 0 && !cut[b][a].log && !cut[min(a, b)][max(a, b)].nodes:
				problem(a, b, "the origin (unsure)", r, truth)
			case r.Alive == cut[b][a].log:
				problem(a, b, "the origin (alive)", r, truth)
			case r.Unknown > 0 && !cut[b][a].log && !cut[min(a, b)][max(a, b)].nodes:
				problem(a, b, "the origin (unknown)", r, truth)
			case r.Unknown == 0 && (r.Pending < truth || !cut[b][a].log && r.Unsure+r.Unknown == 0 && r.Pending != truth):
				problem(a, b, "the origin", r, truth)
			case r.Pending > 0 && r.PendingAge == 0 || r.Unheld < r.Pending:
				problem(a, b, "the origin (age)", r, truth)
			}
			// The destination goes by a's heartbeats, which may tell less than there is.
			switch r := w.told(b, a, b); {
			case r.Alive == cut[a][b].log:
				problem(a, b, "the destination (alive)", r, truth)
			case r.Unknown > 0 && !cut[a][b].log && !cut[min(a, b)][max(a, b)].nodes:
				problem(a, b, "the destination (unknown)", r, truth)
			case r.Pending > truth || !cut[a][b].log && r.Unsure+r.Unknown == 0 && r.Pending != truth:
				problem(a, b, "the destination", r, truth)
			}
		}
	}
	return problems
}

// unsettled returns "" when no region tells of anything that is missing anywhere, else
// the first that does.
func (w *World) unsettled() string {
	for a := range w.tops {
		for b := range w.tops {
			for _, by := range []int{a, b} {
				if a == b {
					continue
				}
				if r := w.told(by, a, b); !r.Alive || r.Pending+r.Unheld > 0 || r.Unknown+r.Unsure > 0 {
					return fmt.Sprintf("of %s in %s, %s tells %+v", w.name(a), w.name(b), w.name(by), r)
				}
			}
		}
	}
	return ""
}

// reconciled waits until nothing is told to be missing in a World at rest. Whoever has
// missed a heartbeat has asked by then, or has got a full round.
func (w *World) reconciled() string {
	left := w.unsettled()
	for end := time.Now().Add(2 * time.Minute); left != "" && time.Now().Before(end); left = w.unsettled() {
		time.Sleep(time.Second)
	}
	return left
}
