// Package catalog knows which buckets there are: it keeps their definitions in
// the store itself, as one record that is replicated like any other, and holds the
// newest that this node has seen for everybody who asks by name.
//
// Package bucket decides what a change leads to and how definitions merge; here
// they are read, written and looked up. It has nothing to do with keys.
//
// The record is the key "buckets" of coord.SystemBucket. Its value is a table in
// bucket's encoding. Changes that are made at the same time become siblings, and
// whoever reads them merges them; the next change leaves one value again. A copy
// stands beside the store of the node, so that it knows its buckets when it
// starts and nobody else is there; as a file "buckets" in the same encoding.
//
// Invariants:
//
//	C1  What the node knows of a bucket never becomes older.
//	C2  A change is told to be made only when a majority of the owners has decided
//	    it, and no other change of the region was made since it was read; what
//	    another region changed at the same time is merged.
//	C3  Refresh answers with what a read found that began after it was asked.
//
// Run owns the one goroutine. Refreshes run on those of the coordinator and on
// timers.
package catalog

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/hashicorp/go-hclog"

	"github.com/atolldb/atoll/crdt/hlc"
	"github.com/atolldb/atoll/node/bucket"
	"github.com/atolldb/atoll/node/coord"
	"github.com/atolldb/atoll/node/storage"
	"github.com/atolldb/atoll/node/topology"
)

// Config of a catalog.
type Config struct {
	// Floor are the buckets that are there where the store does not say otherwise.
	Floor bucket.Table
	// Beat is how often the store is asked; 0 is 1 s.
	Beat time.Duration
}

// Deps are what a catalog works with.
type Deps struct {
	// Get and Put are the coordinator's.
	Get func(coord.Get, func(coord.GetResult, error))
	Put func(coord.Put, func(coord.PutResult, error))
	// Regions are the names of all regions, ascending.
	Regions func() []string
	Beside  Beside
	HLC     *hlc.Clock
	// Chance is drawn from to spread the nodes' beats.
	Chance func() float64
	Log    hclog.Logger
}

// Beside keeps small files beside the store.
type Beside interface {
	WriteBeside(name string, data []byte) error
	ReadBeside(name string) ([]byte, error)
}

const (
	tableKey    = "buckets"
	tableFile   = "buckets"
	readTimeout = 2 * time.Second
	// refreshGap is the least time between two reads that Refresh begins.
	refreshGap = 50 * time.Millisecond
)

// Catalog of one node.
type Catalog struct {
	cfg  Config
	deps Deps
	now  atomic.Pointer[known]
	// read is when the store was last read, in nanoseconds since 1970.
	read atomic.Int64
	// turn is taken by the one change that is under way.
	turn chan struct{}

	strangers strangers

	mu      sync.Mutex
	waiting []*waiter
	busy    bool
	begun   time.Time // of the last read for a refresh
}

// known is immutable.
type known struct {
	view    bucket.View
	buckets map[string]coord.Bucket
	place   *bucket.Place
}

// New returns a catalog that knows what the copy beside the store says. A copy
// that cannot be read is one that is not there.
func New(cfg Config, deps Deps) (*Catalog, error) {
	if cfg.Beat == 0 {
		cfg.Beat = time.Second
	}
	c := &Catalog{cfg: cfg, deps: deps, turn: make(chan struct{}, 1)}
	floor := bucket.View{Floor: cfg.Floor}
	c.now.Store(&known{view: floor, place: floor.Place()})
	c.adopt(nil)
	b, err := deps.Beside.ReadBeside(tableFile)
	if errors.Is(err, storage.ErrNotFound) {
		return c, nil
	}
	if err != nil {
		return nil, fmt.Errorf("read the copy of the buckets: %w", err)
	}
	t, err := bucket.DecodeTable(b)
	if err != nil {
		deps.Log.Warn("the copy of the buckets is unreadable, and they are read from the store", "error", err)
		return c, nil
	}
	c.adopt(t)
	return c, nil
}

// Bucket finds a bucket by name, as far as this node knows.
func (c *Catalog) Bucket(name string) (coord.Bucket, bool) {
	b, ok := c.now.Load().buckets[name]
	return b, ok
}

// Known are the buckets that this node knows to be there, and when the store was
// last asked; the zero time is never.
func (c *Catalog) Known() (bucket.Table, time.Time) {
	var at time.Time
	if ns := c.read.Load(); ns != 0 {
		at = time.Unix(0, ns)
	}
	return c.now.Load().view.All(), at
}

// adopt merges what was read into what is known; it reports whether that is more
// than before.
func (c *Catalog) adopt(t bucket.Table) bool {
	for {
		old := c.now.Load()
		stored := bucket.Merge(old.view.Stored, t)
		same := slices.EqualFunc(stored, old.view.Stored, func(a, b bucket.Definition) bool {
			return a.Revision == b.Revision && a.Stamp == b.Stamp && a.Kind == b.Kind && slices.Equal(a.Regions, b.Regions)
		})
		if same && old.buckets != nil {
			return false
		}
		next := &known{view: bucket.View{Stored: stored, Floor: old.view.Floor}, buckets: map[string]coord.Bucket{}}
		next.place = next.view.Place()
		for _, d := range next.view.All() {
			next.buckets[d.Name] = policies(d)
		}
		if c.now.CompareAndSwap(old, next) {
			return !same
		}
	}
}

// policies is a definition as a coordinator goes by it.
func policies(d bucket.Definition) coord.Bucket {
	b := coord.Bucket{
		Kind: d.Kind, MaxValue: int(d.MaxValue), Sloppy: d.Sloppy, Reads: d.Reads, Writes: d.Writes,
		RequireContext: d.RequireContext, WarnSiblings: int(d.WarnSiblings), MaxSiblings: int(d.MaxSiblings),
		TTL: time.Duration(d.TTL) * time.Millisecond, Home: topology.Region(d.Home),
	}
	for _, r := range d.Regions {
		b.Regions = append(b.Regions, topology.Region(r))
	}
	return b
}

// Run reads the record every beat, until ctx ends.
func (c *Catalog) Run(ctx context.Context) error {
	kept := c.now.Load()
	for {
		began := time.Now()
		if _, _, err := c.load(ctx); err != nil {
			c.deps.Log.Debug("the buckets cannot be read now", "error", err)
		}
		if newest := c.now.Load(); newest != kept {
			kept = newest
			c.keep(newest.view.Stored)
		}
		pause := c.cfg.Beat - time.Since(began) + time.Duration(c.deps.Chance()*float64(c.cfg.Beat)/4)
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(max(pause, c.cfg.Beat/4)):
		}
	}
}

// keep writes the copy. Without it nothing is lost but the knowledge of a node
// that starts alone.
func (c *Catalog) keep(t bucket.Table) {
	if err := c.deps.Beside.WriteBeside(tableFile, bucket.AppendTable(nil, t)); err != nil {
		c.deps.Log.Warn("the copy of the buckets cannot be written", "error", err)
	}
}
