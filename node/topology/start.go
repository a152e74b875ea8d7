package topology

import "github.com/atolldb/atoll/hashring"

// Defaults of a Pace.
const (
	DefaultBytesPerSecond = 64 << 20
	DefaultConcurrent     = 16
)

// MaxPerNode bounds the copies that one node receives, and those that it gives,
// at a time: more of them take no less time in all.
const MaxPerNode = 8

// Filled returns the pace with its defaults in place of zeros.
func (p Pace) Filled() Pace {
	if p.BytesPerSecond == 0 {
		p.BytesPerSecond = DefaultBytesPerSecond
	}
	if p.Concurrent <= 0 {
		p.Concurrent = DefaultConcurrent
	}
	return p
}

// start begins planned moves in the order of their ids, as the pace allows.
func (d *draft) start(f Facts) []Step {
	room := d.Pace.Filled().Concurrent
	moving := map[hashring.Partition]bool{}
	in, out := map[NodeID]int{}, map[NodeID]int{}
	for _, m := range d.Moves {
		if m.Stage == Planned {
			continue
		}
		moving[m.Partition] = true
		if m.Stage == Copying {
			in[m.To]++
			out[m.From]++
		}
	}
	room -= len(moving)
	var steps []Step
	for i := range d.Moves {
		m := d.Moves[i]
		if room <= 0 {
			break
		}
		if m.Stage != Planned || moving[m.Partition] || !d.startable(m, f) ||
			m.To != "" && in[m.To] >= MaxPerNode || m.From != "" && out[m.From] >= MaxPerNode {
			continue
		}
		d.stage(m, Copying)
		moving[m.Partition] = true
		in[m.To]++
		out[m.From]++
		room--
		steps = append(steps, Step{m, Started})
	}
	return steps
}

// startable reports whether m has a chance to be copied now: its receiver
// answers, and so do sources.
func (d *draft) startable(m Move, f Facts) bool {
	task := d.Task(m.Task)
	if task != nil && task.Paused {
		return false
	}
	answers := func(id NodeID) bool {
		_, ok := f.Durable[id]
		return ok && !f.Dead[id]
	}
	if m.To != "" && !answers(m.To) {
		return false
	}
	if m.From != "" && answers(m.From) || task != nil && task.AcceptLoss {
		return true
	}
	others, n := 0, 0
	for _, o := range d.Owners(m.Partition) {
		n++
		if NodeID(o) != m.From && answers(NodeID(o)) {
			others++
		}
	}
	if m.To == "" {
		return others > (n-1)/2
	}
	return others >= meeting(n)
}
