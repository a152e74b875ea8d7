package geotest

import (
	"context"
	"fmt"
	"sync"

	"github.com/atolldb/atoll/crdt"
	"github.com/atolldb/atoll/geo"
	"github.com/atolldb/atoll/hashring"
)

// Delivered names a dot in a partition.
type Delivered struct {
	Partition hashring.Partition
	Dot       crdt.Dot
}

// Inbox is a geo.Sink in memory: it remembers how often each dot came, and the
// newest record of each key.
type Inbox struct {
	signal
	dots    map[Delivered]int
	newest  map[string]crdt.Dot
	records map[string][]byte
	fail    func(entries []geo.Entry) error
}

// NewInbox returns an empty sink. fail, when not nil, is asked before each
// delivery; its error is what ApplyRemote returns.
func NewInbox(fail func(entries []geo.Entry) error) *Inbox {
	return &Inbox{
		signal: newSignal(), fail: fail, dots: make(map[Delivered]int),
		newest: make(map[string]crdt.Dot), records: make(map[string][]byte),
	}
}

// ApplyRemote implements geo.Sink.
func (i *Inbox) ApplyRemote(ctx context.Context, origin string, entries []geo.Entry) error {
	if ctx.Err() != nil {
		return fmt.Errorf("apply entries of %s: %w", origin, ctx.Err())
	}
	if i.fail != nil {
		if err := i.fail(entries); err != nil {
			return err
		}
	}
	i.update(func() {
		for _, e := range entries {
			for _, d := range e.Dots {
				i.dots[Delivered{e.Partition, d}]++
				if key := string(e.Key); d.Compare(i.newest[key]) > 0 {
					i.newest[key], i.records[key] = d, e.Record
				}
			}
		}
	})
	return nil
}

// Count is the number of different dots that came.
func (i *Inbox) Count() int {
	i.mu.Lock()
	defer i.mu.Unlock()
	return len(i.dots)
}

// Times tells how often d came.
func (i *Inbox) Times(d Delivered) int {
	i.mu.Lock()
	defer i.mu.Unlock()
	return i.dots[d]
}

// Record returns what came with the highest dot of key: the merge of records
// that one actor minted.
func (i *Inbox) Record(key string) []byte {
	i.mu.Lock()
	defer i.mu.Unlock()
	return i.records[key]
}

// signal guards state that tests wait on without sleeping.
type signal struct {
	mu      *sync.Mutex
	changed *chan struct{}
}

func newSignal() signal {
	ch := make(chan struct{})
	return signal{mu: new(sync.Mutex), changed: &ch}
}

func (s signal) update(f func()) {
	s.mu.Lock()
	defer s.mu.Unlock()
	f()
	close(*s.changed)
	*s.changed = make(chan struct{})
}

// wait returns nil once ok, called under the lock after every change, returns
// true; or ctx's error.
func (s signal) wait(ctx context.Context, ok func() bool) error {
	for {
		s.mu.Lock()
		done, changed := ok(), *s.changed
		s.mu.Unlock()
		if done {
			return nil
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// WaitCount waits until n different dots came.
func (i *Inbox) WaitCount(ctx context.Context, n int) error {
	if err := i.wait(ctx, func() bool { return len(i.dots) >= n }); err != nil {
		return fmt.Errorf("%d of %d dots came: %w", i.Count(), n, err)
	}
	return nil
}
