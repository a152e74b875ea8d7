package handoff

import (
	"cmp"
	"context"
	"slices"
	"sync"
	"sync/atomic"

	"github.com/atolldb/atoll/internal/pause"
	"github.com/atolldb/atoll/node/peer"
	"github.com/atolldb/atoll/node/topology"
	"github.com/atolldb/atoll/node/yield"
)

// Copier copies to this node what the moves of the topology ask for: as the new
// owner of a slot, or as one of those that stay when a slot goes away.
type Copier struct {
	cfg  Config
	deps Deps
	// pace is shared by all copies.
	pace yield.Pacer
	came atomic.Uint64 // bytes, of all tasks
	// absent are the sources that do not answer, for all copies.
	absent absent

	mu     sync.Mutex
	copies map[copyID]*copying
	tally  map[topology.TaskID]*tally
}

// copyID names a try of a copy.
type copyID struct {
	move  topology.MoveID
	began topology.Epoch
}

type tally struct {
	copies, bytes, size uint64
	meter               meter
}

// maxTallies bounds the tasks that are remembered.
const maxTallies = 2 * topology.MaxDone

// NewCopier returns a copier.
func NewCopier(cfg Config, deps Deps) *Copier {
	cfg = cfg.filled()
	return &Copier{cfg: cfg, deps: deps, pace: yield.Pacer{Governor: deps.Yield}, absent: absent{patience: cfg.Patience}, copies: map[copyID]*copying{}, tally: map[topology.TaskID]*tally{}}
}

// Run copies until ctx ends.
func (c *Copier) Run(ctx context.Context) error {
	running := map[copyID]context.CancelFunc{}
	var all sync.WaitGroup
	defer func() {
		for _, stop := range running {
			stop()
		}
		all.Wait()
	}()
	var seen *topology.Topology
	for {
		if now := c.deps.Replica.Topology(); now != seen {
			seen = now
			wanted := c.wanted(now)
			for id, stop := range running {
				if _, ok := wanted[id]; !ok {
					stop()
					delete(running, id)
				}
			}
			for id, k := range wanted {
				if running[id] != nil {
					continue
				}
				one, stop := context.WithCancel(ctx)
				running[id] = stop
				all.Go(func() {
					defer stop()
					k.run(one)
				})
			}
		}
		if !pause.For(ctx, c.cfg.Beat) {
			return nil
		}
	}
}

// wanted returns the copies that are to run by t, and forgets those that are
// over. A paused one keeps its state; it is over once its stage is.
func (c *Copier) wanted(t *topology.Topology) map[copyID]*copying {
	c.mu.Lock()
	defer c.mu.Unlock()
	wanted, kept := map[copyID]*copying{}, map[copyID]*copying{}
	for _, m := range t.Moves {
		if m.Stage == topology.Planned {
			continue
		}
		ask := t.Guard(m).Copies
		if ask == nil || !slices.Contains(ask.Sinks, c.cfg.Self) {
			continue
		}
		id := copyID{m.ID, m.Began}
		k := c.copies[id]
		if k == nil {
			k = &copying{c: c, move: m, ask: *ask}
		}
		kept[id] = k
		if task := t.Task(m.Task); task == nil || !task.Paused {
			wanted[id] = k
		}
	}
	c.copies = kept
	return wanted
}

func (c *Copier) task(id topology.TaskID) *tally {
	t := c.tally[id]
	if t == nil {
		t = &tally{}
		c.tally[id] = t
		for len(c.tally) > maxTallies {
			oldest := id
			for other := range c.tally {
				oldest = min(oldest, other)
			}
			delete(c.tally, oldest)
		}
	}
	return t
}

func (c *Copier) received(id topology.TaskID, n int) {
	c.came.Add(uint64(n))
	c.mu.Lock()
	t := c.task(id)
	t.bytes += uint64(n)
	c.mu.Unlock()
	t.meter.add(n)
}

func (c *Copier) completed(m topology.Move, size uint64) {
	c.mu.Lock()
	t := c.task(m.Task)
	t.copies++
	t.size += size
	c.mu.Unlock()
	c.deps.Log.Debug("copy of a partition is complete", "partition", int(m.Partition), "bytes", size)
}

// ReceivedBytes since this node started, by all tasks.
func (c *Copier) ReceivedBytes() uint64 { return c.came.Load() }

// Report says how far this node is.
func (c *Copier) Report() Report {
	c.mu.Lock()
	defer c.mu.Unlock()
	var out Report
	for _, k := range c.copies {
		out.Copies = append(out.Copies, k.progress())
	}
	for id, t := range c.tally {
		out.Received = append(out.Received, Received{Task: id, Copies: t.copies, Bytes: t.bytes, Size: t.size, Rate: t.meter.perSecond()})
	}
	slices.SortFunc(out.Copies, func(a, b Progress) int { return cmp.Compare(a.Move, b.Move) })
	slices.SortFunc(out.Received, func(a, b Received) int { return cmp.Compare(a.Task, b.Task) })
	if c.deps.Keeps != nil {
		out.Keeps = c.deps.Keeps()
	}
	return out
}

// Handle serves VerbMoves; it reports whether req was that.
func (c *Copier) Handle(req peer.Request, reply peer.Done) bool {
	if req.Verb != peer.VerbMoves {
		return false
	}
	reply(encodeReport(c.Report()), nil)
	return true
}
