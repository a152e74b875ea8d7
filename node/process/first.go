package process

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/atolldb/atoll/node"
	"github.com/atolldb/atoll/node/keyring"
	"github.com/atolldb/atoll/node/peer"
	"github.com/atolldb/atoll/node/replica"
	"github.com/atolldb/atoll/node/topology"
)

// A node that has been started before begins with the topology on its disk and
// waits for nobody. At a node's first start the region's store decides. A store
// that has nothing is that of a new region, or of one that has lost it: so the
// members that the configuration lists make a region out of it only when every
// one of them says that it has none yet. A node that is not listed makes none.

const (
	firstBeat  = 200 * time.Millisecond
	firstTell  = 10 * time.Second // how often a node says what it waits for
	askTimeout = time.Second
)

// firstTopology returns the topology to start with.
func (p *Process) firstTopology(ctx context.Context, s *stack, store pendingStore, ring keyring.Ring) (*topology.Topology, error) {
	stored, err := replica.Stored(p.store)
	if err != nil {
		return nil, fmt.Errorf("open %s: %w", p.cfg.DataDir, err)
	}
	if stored != nil {
		own := p.world.own
		if stored.Region != own.Region || stored.RegionID != own.RegionID || stored.Rules.Partitions != own.Rules.Partitions {
			return own, nil // the replica says what is wrong
		}
		return stored, nil
	}
	p.isNew.Store(true)
	defer p.isNew.Store(false)
	asking, stop := context.WithCancel(ctx)
	defer stop()
	type outcome struct {
		t   *topology.Topology
		err error
	}
	found := make(chan outcome, 1)
	go func() {
		t, err := p.discover(asking, store, ring)
		found <- outcome{t, err}
	}()
	select {
	case o := <-found:
		return o.t, o.err
	case err := <-s.failed: // something that was started before
		stop()
		<-found
		return nil, err
	}
}

// discover asks the region's store, for as long as that takes.
func (p *Process) discover(ctx context.Context, store pendingStore, ring keyring.Ring) (*topology.Topology, error) {
	p.wait("the region's nats does not answer yet")
	mark := ring.SeedMark()
	agreed, err := store.agree(ctx, "digest-seed", mark)
	if err != nil {
		return nil, err
	}
	if agreed != mark {
		return nil, fmt.Errorf("join region %s: %w", p.cfg.Region, ErrOtherSecret)
	}
	var told time.Time
	var others *node.Origin // what they said in this turn or the one before
	began := time.Now()
	for {
		t, err := p.enrol(ctx, store)
		if err != nil {
			return nil, err
		}
		if t != nil {
			if others == nil {
				others = p.askOrigins(ctx)
			}
			return t, p.heedOrigins(ctx, store, others)
		}
		others = nil
		why := p.notNew(ctx)
		if why == nil {
			others = p.askOrigins(ctx)
			err := p.makeRegion(ctx, store, others, began)
			wait := (*beforeError)(nil)
			switch {
			case err == nil, errors.Is(err, topology.ErrConflict):
				continue // made, by this member or by another one
			case !errors.As(err, &wait):
				return nil, fmt.Errorf("make region %s: %w", p.cfg.Region, err)
			}
			why = wait
		}
		p.wait(why.Error())
		if time.Since(told) > firstTell {
			p.log.Warn("waiting for the region's topology", "why", why.Error())
			told = time.Now()
		}
		select {
		case <-ctx.Done():
			return nil, ctx.Err()
		case <-time.After(firstBeat):
		}
	}
}

// ErrOtherSecret says that the region was made with another secret.
var ErrOtherSecret = errors.New("the region was made with another secret (secret_file)")

// notNew says why it is not known that the region is new: nil if it is.
func (p *Process) notNew(ctx context.Context) error {
	listed := p.cfg.own().Members
	if !slices.ContainsFunc(listed, func(m Member) bool { return m.ID == p.cfg.Node }) {
		return fmt.Errorf("the store of region %s is empty: its listed members have not started yet", p.cfg.Region)
	}
	var mu sync.Mutex
	var silent, old []string
	var wg sync.WaitGroup
	for _, m := range listed {
		if m.ID == p.cfg.Node {
			continue
		}
		wg.Go(func() {
			has, err := p.hasTopology(ctx, m.ID)
			mu.Lock()
			defer mu.Unlock()
			switch {
			case err != nil:
				silent = append(silent, string(m.ID))
			case has:
				old = append(old, string(m.ID))
			}
		})
	}
	wg.Wait()
	slices.Sort(silent)
	slices.Sort(old)
	switch {
	case len(old) > 0:
		return fmt.Errorf("the store of region %s has lost its topology: %s will put it back", p.cfg.Region, strings.Join(old, ", "))
	case len(silent) > 0:
		return fmt.Errorf("region %s is made when all its listed members have started: no answer from %s", p.cfg.Region, strings.Join(silent, ", "))
	}
	return nil
}

// hasTopology asks a node whether it has one of the region.
func (p *Process) hasTopology(ctx context.Context, id topology.NodeID) (bool, error) {
	// A ping makes for a fresh attempt to connect.
	_, err := peer.Call(ctx, p.links, id, peer.Request{Verb: peer.VerbPing, Timeout: askTimeout})
	if no := (*peer.Refusal)(nil); err != nil && !errors.As(err, &no) {
		return false, err
	}
	b, err := peer.Call(ctx, p.links, id, peer.Request{Verb: peer.VerbTopology, Timeout: askTimeout, Body: topology.EncodeExchange(0, nil)})
	if err != nil {
		return false, err
	}
	epoch, _, err := topology.DecodeExchange(b)
	if err != nil {
		return false, fmt.Errorf("topology of %s: %w", id, err)
	}
	return epoch != 0, nil
}

// answerNew answers peers before there is a node: a new one has no topology.
func (p *Process) answerNew(req peer.Request, reply peer.Done) {
	if req.Verb == peer.VerbTopology && p.isNew.Load() {
		reply(topology.EncodeExchange(0, nil), nil)
		return
	}
	reply(nil, &peer.Refusal{Code: peer.CodeStopping, Detail: "starting"})
}

// wait notes what the start waits for.
func (p *Process) wait(why string) { p.waits.Store(&why) }

func (p *Process) startingError() error {
	if why := p.waits.Load(); why != nil {
		return fmt.Errorf("%w: %s", errStarting, *why)
	}
	return errStarting
}
