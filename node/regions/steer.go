package regions

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/atolldb/atoll/crdt"
	"github.com/atolldb/atoll/geo/failover"
	"github.com/atolldb/atoll/geo/regionmap"
	"github.com/atolldb/atoll/internal/planted"
	"github.com/atolldb/atoll/node/peer"
	"github.com/atolldb/atoll/node/topology"
)

// SteerDeps are what an operation is driven with.
type SteerDeps struct {
	// Leads says that this node drives what its region has to.
	Leads func() bool
	// Clocks are what the owners in a region have, of the actors of one region, or of
	// all for 0. It is an error if of some partition fewer than a quorum answered.
	Clocks func(ctx context.Context, region string, of uint8) (failover.Clocks, error)
	// Owners is the same, and an error if any node of the region does not answer.
	Owners func(ctx context.Context, region string, of uint8) (failover.Clocks, error)
	// Told is what nodes here were told that a region's own actors have written, and
	// how long ago its youngest heartbeat came.
	Told func(ctx context.Context, region string) (told []*crdt.Clock, ago time.Duration, err error)
	// Homes are the buckets whose definition has its home in a region.
	Homes func(region string) []string
	// Has says whether a region has a bucket.
	Has func(region, bucket string) bool
	// Nodes of a region that have not left it.
	Nodes func(region string) []topology.NodeID
	// Kept are the buckets that no region keeps but this one.
	Kept func(region string) []string
	// Partitions of the key space. Taken says that a node's id is, or was, that of a
	// node of another region; Reach tries to open a connection to host:port.
	Partitions int
	Taken      func(topology.NodeID) bool
	Reach      func(ctx context.Context, at string) error
	// Compare has this region's nodes compare themselves with other regions at once.
	Compare func()
	// Tally counts writes that a region has by bucket, as far as its owners know yet to
	// which key each belongs.
	Tally func(ctx context.Context, region string, spans []failover.Span) (map[string]uint64, error)
	// Settle has all nodes of a region finish, or pass over, the proposals that they
	// hold and do not know to be decided, and returns how many are left. It is an
	// error if one of them does not answer.
	Settle func(ctx context.Context, region string) (left int, err error)
}

// Steer drives operations on regions. Run owns its goroutine.
type Steer struct {
	r    *Regions
	deps SteerDeps
	// waits is what the operation waited for when this node looked last.
	waits atomic.Pointer[string]

	// What an operation's stage began with; touched by Run alone.
	of      operation
	stage   uint8
	barrier *failover.Barrier
	looks   looks
	late    late
	shut    shut
	nudged  time.Time
}

// operation names one of those that a region drives: its number does not, as two that
// two of its nodes began at once, one of them by force, have the same.
type operation struct {
	id     uint64
	kind   failover.Kind
	region string
}

func operationOf(o *failover.Operation) operation { return operation{o.ID, o.Kind, o.Region} }

// NewSteer returns a driver of the changes of r.
func NewSteer(r *Regions, deps SteerDeps) *Steer {
	s := &Steer{r: r, deps: deps}
	s.waits.Store(new(string))
	return s
}

// Waits is what the operation under way waits for, as far as this node drives it.
func (s *Steer) Waits() string { return *s.waits.Load() }

const (
	steerBeat  = 300 * time.Millisecond
	steerIdle  = time.Second
	askTimeout = 10 * time.Second
)

// Run drives, or stands by, until ctx ends.
func (s *Steer) Run(ctx context.Context) error {
	for {
		rest := steerIdle
		if o := s.mine(); o != nil {
			rest = s.turn(ctx, o)
		} else {
			s.bind(ctx)
		}
		select {
		case <-ctx.Done():
			return nil
		case <-time.After(rest):
		}
	}
}

// mine is the operation that this node has to drive, nil for none.
func (s *Steer) mine() *failover.Operation {
	o, err := failover.Current(s.r.Known().Map)
	if err != nil || o == nil || o.Ended || o.By != string(s.r.cfg.Region) || !s.deps.Leads() {
		return nil
	}
	return o
}

// turn collects facts, and takes the operation on if they allow it.
func (s *Steer) turn(ctx context.Context, o *failover.Operation) time.Duration {
	ctx, stop := context.WithTimeout(ctx, askTimeout)
	defer stop()
	m := s.r.Known().Map
	facts := s.facts(ctx, m, o)
	if waits := o.Waits(&facts); waits != "" {
		if *s.waits.Swap(&waits) != waits {
			s.r.deps.Log.Info("an operation on regions waits", "kind", o.Kind.String(), "of", o.Region, "stage", o.At().Name, "for", waits)
		}
		return steerBeat
	}
	s.waits.Store(new(string))
	_, err := s.r.Change(ctx, o.Forced, func(m *regionmap.Map) error {
		went, err := failover.Advance(m, o, &facts)
		if err == nil && !went {
			return errOvertaken
		}
		if next, _ := failover.Current(m); err == nil && next.At().Homes {
			s.moveHomes(m, next)
		}
		return err
	})
	switch {
	case err == nil:
		next, _ := failover.Current(s.r.Known().Map)
		s.r.deps.Log.Info("an operation on regions went on", "kind", next.Kind.String(), "of", next.Region, "stage", next.At().Name)
		return 0
	case errors.Is(err, errOvertaken):
		return 0
	}
	text := "the next map cannot be decided: " + err.Error()
	s.waits.Store(&text)
	return steerIdle
}

var errOvertaken = errors.New("the operation is at another stage by now")

// facts for a stage.
func (s *Steer) facts(ctx context.Context, m *regionmap.Map, o *failover.Operation) failover.Facts {
	f := failover.Facts{Now: uint64(time.Now().UnixMilli())}
	stage := o.At()
	if stage.Aware {
		f.Unaware, f.Silent = s.aware(ctx, m, o)
	}
	if o.Kind == failover.Failover || o.Kind == failover.Remove {
		f.Leased = s.lapse(ctx, m, o)
	}
	if stage.Settled {
		f.Undecided = s.settle(ctx, o.Region)
	}
	if o.Kind == failover.Failback && (len(stage.Covers) > 0 || len(f.Unaware) == 0 && len(f.Silent[o.Region]) == 0) {
		s.cameLate(ctx, m, o)
	}
	if len(stage.Covers) == 0 {
		return f
	}
	if s.of != operationOf(o) || s.stage != o.Stage || s.barrier == nil {
		barrier, err := s.begin(ctx, m, o)
		if err != nil {
			f.Why = err.Error()
			return f
		}
		s.of, s.stage, s.barrier, s.looks = operationOf(o), o.Stage, barrier, looks{}
	}
	s.letGo(ctx, m, o)
	for i, c := range stage.Covers {
		lack := s.lack(ctx, m, o, c, s.barrier.Want(i))
		if lack.Writes > 0 {
			s.nudge()
			s.looks.lacking, lack.Detail = true, lack.Detail+s.looks.why
		}
		f.Lacks = append(f.Lacks, lack)
	}
	o.Lost = o.Lost.And(s.looks.lost)
	if o.Kind == failover.Failover {
		s.had(ctx, m, o)
	}
	return f
}

// settle has a region settle what is undecided there.
func (s *Steer) settle(ctx context.Context, region string) failover.Lack {
	if planted.Bug(planted.NoSettling) {
		return failover.Lack{Known: true}
	}
	left, err := s.deps.Settle(ctx, region)
	if err != nil {
		return failover.Lack{Detail: err.Error()}
	}
	return failover.Lack{Known: true, Writes: uint64(left)}
}

func idOf(m *regionmap.Map, region string) uint8 {
	if r := m.Get(region); r != nil {
		return r.ID
	}
	return 0
}

// had notes what the survivors have of the lost region's own.
func (s *Steer) had(ctx context.Context, m *regionmap.Map, o *failover.Operation) {
	seen, err := s.seen(ctx, s.side(m, o, failover.Others), idOf(m, o.Region))
	if err == nil {
		o.Had = failover.Compare(seen, nil)
	}
}

// side are the regions of one.
func (s *Steer) side(m *regionmap.Map, o *failover.Operation, side failover.Side) (out []string) {
	if side == failover.Subject {
		return []string{o.Region}
	}
	for _, r := range m.Regions {
		if r.Name != o.Region && r.State.Counts() {
			out = append(out, r.Name)
		}
	}
	return out
}

func (s *Steer) seen(ctx context.Context, regions []string, of uint8) ([]*crdt.Clock, error) {
	var all []*crdt.Clock
	for _, region := range regions {
		c, err := s.deps.Clocks(ctx, region, of)
		if err != nil {
			return nil, err
		}
		all = failover.Join(all, c.Seen())
	}
	return all, nil
}

// begin takes down what has to be covered, and has all compare at once.
func (s *Steer) begin(ctx context.Context, m *regionmap.Map, o *failover.Operation) (*failover.Barrier, error) {
	var wants [][]*crdt.Clock
	for _, c := range o.At().Covers {
		of := uint8(0)
		if c.Own {
			of = idOf(m, o.Region)
		}
		seen, err := s.seen(ctx, s.side(m, o, c.Of), of)
		if err != nil {
			return nil, err
		}
		if c.Of == failover.Subject && o.Kind == failover.Failback {
			// Whoever drove before may have counted more than is there by now.
			seen = failover.Join(seen, o.Missing.Clocks(len(seen)))
		}
		wants = append(wants, seen)
	}
	s.nudge()
	return failover.NewBarrier(wants...), nil
}

// nudgeBeat is how often regions are asked to compare themselves while something is
// missing: one round may not do, and they have a beat of their own beside it.
const nudgeBeat = 2 * time.Second

func (s *Steer) nudge() {
	if time.Since(s.nudged) >= nudgeBeat && !planted.Bug(planted.NoLevelling) {
		s.nudged = time.Now()
		s.deps.Compare()
	}
}

// lack counts what is still missing of one cover.
func (s *Steer) lack(ctx context.Context, m *regionmap.Map, o *failover.Operation, c failover.Cover, want []*crdt.Clock) failover.Lack {
	out := failover.Lack{Known: true}
	if planted.Bug(planted.NoLevelling) {
		return out
	}
	of := uint8(0)
	if c.Own {
		of = idOf(m, o.Region)
	}
	for _, region := range s.side(m, o, c.At) {
		clocks, err := s.deps.Clocks(ctx, region, of)
		if err != nil {
			return failover.Lack{Detail: err.Error()}
		}
		if n := clocks.Lacking(want); n > 0 {
			out.Writes += n
			out.Detail += fmt.Sprintf("in %s ", region)
		}
	}
	return out
}

// aware asks every node of every region which map it knows, and tells it.
func (s *Steer) aware(ctx context.Context, m *regionmap.Map, o *failover.Operation) (unaware, silent map[string][]string) {
	unaware, silent = map[string][]string{}, map[string][]string{}
	var mu sync.Mutex
	var wg sync.WaitGroup
	k := s.r.Known()
	body := append([]byte{askTell}, regionmap.EncodeKnown(k)...)
	for _, region := range m.Regions {
		if region.State == regionmap.Removed || region.Name == o.Region && o.Kind == failover.Failover {
			continue
		}
		nodes := s.deps.Nodes(region.Name)
		if len(nodes) == 0 { // nobody has told this node of them yet
			mu.Lock()
			silent[region.Name] = append(silent[region.Name], "its nodes, which are not known here yet")
			mu.Unlock()
		}
		for _, id := range nodes {
			if id == s.r.cfg.Self {
				continue
			}
			wg.Go(func() {
				b, err := peer.Call(ctx, s.r.deps.Transport, id, peer.Request{Verb: peer.VerbRegions, Timeout: tellTimeout, Body: body})
				var theirs regionmap.Known
				if err == nil {
					theirs, err = regionmap.DecodeKnown(b)
				}
				mu.Lock()
				defer mu.Unlock()
				switch {
				case err != nil:
					silent[region.Name] = append(silent[region.Name], string(id))
				case theirs.Map == nil || theirs.Map.N < k.Map.N:
					unaware[region.Name] = append(unaware[region.Name], string(id))
				}
			})
		}
	}
	wg.Wait()
	for _, of := range []map[string][]string{unaware, silent} {
		for _, ids := range of {
			slices.Sort(ids)
		}
	}
	return unaware, silent
}
