package process

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/atolldb/atoll/node/topology/jskv"
)

const (
	// metadataFresh is for how long an answer is good: who looks within that asks nobody.
	metadataFresh = 5 * time.Second
	// metadataPatience is how long who looks waits for an answer. /readyz is asked by
	// those who give up after a second.
	metadataPatience = 250 * time.Millisecond
	// metadataLimit bounds a request. A server that knows of no leader answers after half
	// a second.
	metadataLimit = 2 * time.Second
	// metadataOld is how old an answer may be that is told while the next one is waited for.
	metadataOld = 15 * time.Second
)

// metadataWatch knows how many of the region's metadata servers are up. It asks only when
// somebody looks, and one of them then, who hears the others: how many nodes there are
// makes no difference to any of them.
type metadataWatch struct {
	ask func(context.Context) (jskv.Servers, error)
	// wake holds one.
	wake chan struct{}

	mu   sync.Mutex
	last metadata
	next chan struct{} // closed when last is another one
}

// metadata is what was told.
type metadata struct {
	jskv.Servers
	// Err says that nobody answered: then Up is 0, and Total what it was.
	Err error
	// At is when it was asked for, zero for never.
	At time.Time
}

func newMetadataWatch(ask func(context.Context) (jskv.Servers, error)) *metadataWatch {
	return &metadataWatch{ask: ask, wake: make(chan struct{}, 1), next: make(chan struct{})}
}

// Run asks when it is woken, until ctx ends.
func (w *metadataWatch) Run(ctx context.Context) {
	for {
		select {
		case <-ctx.Done():
			return
		case <-w.wake:
		}
		if last, _ := w.known(); last.fresh() {
			continue // who woke it had not seen that yet
		}
		w.round(ctx)
	}
}

func (w *metadataWatch) round(ctx context.Context) {
	at := time.Now()
	bound, cancel := context.WithTimeout(ctx, metadataLimit)
	servers, err := w.ask(bound)
	cancel()
	if ctx.Err() != nil {
		return
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	if err != nil {
		servers = jskv.Servers{Total: w.last.Total}
	}
	w.last = metadata{servers, err, at}
	close(w.next)
	w.next = make(chan struct{})
}

func (w *metadataWatch) known() (metadata, <-chan struct{}) {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.last, w.next
}

// look returns what was told last, and has it asked again if that is not fresh. It waits
// for the answer for metadataPatience at most.
func (w *metadataWatch) look() metadata {
	last, next := w.known()
	if last.fresh() {
		return last
	}
	select {
	case w.wake <- struct{}{}:
	default:
	}
	patience := time.NewTimer(metadataPatience)
	defer patience.Stop()
	select {
	case <-next:
	case <-patience.C:
	}
	last, _ = w.known()
	return last
}

func (m metadata) fresh() bool { return !m.At.IsZero() && time.Since(m.At) < metadataFresh }

// waits is what is not possible without a quorum, and what is.
const waits = "changes of membership wait, and no node that was away can start; reads and writes do not need them"

// problem says what is wrong, nil for nothing.
func (m metadata) problem() error {
	servers := "the metadata servers"
	if m.Total > 0 {
		servers = fmt.Sprintf("the %d metadata servers", m.Total)
	}
	switch {
	case m.At.IsZero() || time.Since(m.At) > metadataOld:
		return errors.New("the metadata servers were asked, and have not answered yet: look again")
	case m.Err != nil:
		return fmt.Errorf("%s do not answer: without a quorum, or cut off from this node: %s", servers, waits)
	case m.Up == 0:
		return fmt.Errorf("%s are without a quorum: %s", servers, waits)
	case !m.Quorum():
		return fmt.Errorf("%d of %d metadata servers up, without a quorum: %s", m.Up, m.Total, waits)
	case m.Up < m.Total:
		return fmt.Errorf("%d of %d metadata servers up", m.Up, m.Total)
	}
	return nil
}
