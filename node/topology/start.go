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
		if m.Stage != Planned || moving[m.Partition] || d.blocked(m, f) != "" ||
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

// blocked says why m has no chance to be copied now, "" if it has one: its
// receiver must answer, and so must sources.
func (t *Topology) blocked(m Move, f Facts) string {
	task := t.Task(m.Task)
	if task != nil && task.Paused {
		return "its task to be resumed"
	}
	answers := func(id NodeID) bool {
		_, ok := f.Durable[id]
		return ok && !f.Dead[id]
	}
	if m.To != "" && !answers(m.To) {
		return string(m.To) + " to answer"
	}
	if m.From != "" && answers(m.From) || task != nil && task.AcceptLoss {
		return ""
	}
	var others, silent []NodeID
	for _, o := range t.Owners(m.Partition) {
		switch id := NodeID(o); {
		case id == m.From:
		case answers(id):
			others = append(others, id)
		default:
			silent = append(silent, id)
		}
	}
	n := len(t.Owners(m.Partition))
	if m.To == "" && len(others) > (n-1)/2 || m.To != "" && len(others) >= meeting(n) {
		return ""
	}
	if m.From != "" {
		silent = append([]NodeID{m.From}, silent...)
	}
	return "one of " + join(silent) + " to answer"
}

// Waits says what m waits for, for people: nothing when it goes on, or is
// planned and only others are before it.
func (t *Topology) Waits(m Move, f Facts) []string {
	if m.Stage == Planned {
		if why := t.blocked(m, f); why != "" {
			return []string{why}
		}
		return nil
	}
	if task := t.Task(m.Task); task != nil && task.Paused {
		return []string{"its task to be resumed"}
	}
	return t.Guard(m).Lacks(f, f.Synced[m.ID])
}
