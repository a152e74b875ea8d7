package regions

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"time"

	"github.com/atolldb/atoll/geo/regionmap"
	"github.com/atolldb/atoll/node/peer"
	"github.com/atolldb/atoll/node/topology"
)

// Errors of Change.
var (
	// ErrNoMajority: nothing was changed, since too few regions can be asked.
	ErrNoMajority = errors.New("no majority of the regions can be asked")
	// ErrUnknown: some regions have taken the change, and not known to be enough. It
	// may hold, or may come to hold with the next change.
	ErrUnknown = errors.New("it is not known whether the map of regions was changed")
)

// maxTurns of a change that others outbid, or that finishes what others began.
const maxTurns = 12

// Change makes the next content of the map by edit, which is called with a copy of
// the newest one, perhaps several times, and returns what is known then. Unless it is
// forced it is decided by a majority of the regions that are not removed. A forced
// one holds at once, and wins over any other of its number; the regions that cannot
// be reached learn of it when they can. An error of edit is returned as it is:
// nothing was changed.
func (r *Regions) Change(ctx context.Context, force bool, edit func(*regionmap.Map) error) (regionmap.Known, error) {
	if force {
		return r.force(ctx, edit)
	}
	round := uint64(0)
	for turn := range maxTurns {
		if turn > 0 {
			r.mu.Lock()
			pause := time.Duration(r.rand.Int64N(int64(20*time.Millisecond) << min(turn, 5)))
			r.mu.Unlock()
			select {
			case <-time.After(pause):
			case <-ctx.Done():
				return r.Known(), fmt.Errorf("%w: %w", regionmap.ErrOutbid, ctx.Err())
			}
		}
		p := r.propose(round)
		done, err := p.run(ctx, edit)
		if err != nil && !errors.Is(err, regionmap.ErrOutbid) || done {
			return r.Known(), err
		}
		round = p.highest
	}
	return r.Known(), regionmap.ErrOutbid
}

func (r *Regions) force(ctx context.Context, edit func(*regionmap.Map) error) (regionmap.Known, error) {
	ctx, stop := context.WithTimeout(ctx, storeTimeout)
	defer stop()
	reg, _, err := r.load(ctx)
	if err != nil && !errors.Is(err, errNoStore) {
		return r.Known(), err
	}
	r.Learn(reg.Decided)
	next, err := r.edited(r.Known(), edit)
	if err != nil {
		return r.Known(), err
	}
	next.Forced = true
	k := regionmap.Known{Map: next}
	if r.deps.Store != nil {
		if _, err := r.swap(ctx, func(reg regionmap.Register) (regionmap.Register, error) { return reg.Decide(k), nil }); err != nil {
			return r.Known(), fmt.Errorf("%w: %w", ErrUnknown, err)
		}
	}
	r.Learn(k)
	return r.Known(), nil
}

// edited is the next content, of the next number.
func (r *Regions) edited(known regionmap.Known, edit func(*regionmap.Map) error) (*regionmap.Map, error) {
	next := known.Map.Clone()
	if err := edit(next); err != nil {
		return nil, err
	}
	next.Version = regionmap.Version{N: known.Map.N + 1, By: uint8(r.cfg.ID)}
	return next, next.Check()
}

// proposal is one ballot.
type proposal struct {
	r       *Regions
	ballot  regionmap.Ballot
	highest uint64 // round that anybody has promised
}

func (r *Regions) propose(above uint64) *proposal {
	r.mu.Lock()
	defer r.mu.Unlock()
	return &proposal{r: r, highest: above, ballot: regionmap.Ballot{Round: above + 1, By: uint8(r.cfg.ID), Nonce: r.rand.Uint32()}}
}

// run carries the ballot through; it reports whether the caller's edit is decided.
func (p *proposal) run(ctx context.Context, edit func(*regionmap.Map) error) (bool, error) {
	r := p.r
	known := r.Known()
	voters, need := known.Map.Voters(), known.Map.Majority()
	answers, silent := p.ask(ctx, voters, askPrepare, regionmap.Register{Promised: p.ballot})
	var promises []regionmap.Register
	for _, a := range answers {
		p.highest = max(p.highest, a.Promised.Round)
		r.Learn(a.Decided)
		if a.Promised == p.ballot {
			promises = append(promises, a)
		}
	}
	switch {
	case len(answers) < need:
		return false, fmt.Errorf("%w: %d of %d answered, %d are needed; silent: %s", ErrNoMajority, len(answers), len(voters), need, strings.Join(silent, "; "))
	case len(promises) < need, r.Known().Map.N > known.Map.N:
		return false, regionmap.ErrOutbid // or it has to be judged anew by a newer map
	}
	base, finish := regionmap.Base(known, promises)
	next := finish
	if finish == nil {
		var err error
		if next, err = r.edited(base, edit); err != nil {
			return false, err
		}
	}
	answers, silent = p.ask(ctx, voters, askAccept, regionmap.Register{At: p.ballot, Accepted: next, Promised: p.ballot})
	accepted := 0
	for _, a := range answers {
		p.highest = max(p.highest, a.Promised.Round)
		if a.At == p.ballot && a.Accepted != nil && a.Accepted.Equal(next) || a.Decided.Map != nil && a.Decided.Map.Equal(next) {
			accepted++
		}
	}
	if accepted < need {
		if accepted == 0 && len(answers) == len(voters) {
			return false, regionmap.ErrOutbid
		}
		return false, fmt.Errorf("%w: %d of %d regions have taken it, %d are needed; silent: %s", ErrUnknown, accepted, len(voters), need, strings.Join(silent, "; "))
	}
	k := regionmap.Known{Map: next}
	r.Learn(k)
	// Who asked for the change may count on others to hear of it, whatever becomes of
	// this node. If the store does not take it, they find it accepted (finish).
	if _, err := r.swap(ctx, func(reg regionmap.Register) (regionmap.Register, error) { return reg.Decide(k), nil }); err != nil {
		r.deps.Log.Debug("the region's store does not take the map of regions", "error", err)
	}
	return finish == nil, nil
}

var errNothing = errors.New("there is nothing to finish")

// finish carries through what somebody else has had accepted and told nobody: it may
// be decided, and then it has to become known.
func (r *Regions) finish(ctx context.Context, round uint64) {
	p := r.propose(round)
	_, err := p.run(ctx, func(*regionmap.Map) error { return errNothing })
	if err != nil && !errors.Is(err, errNothing) {
		r.deps.Log.Debug("a change of the map of regions that others began is not finished", "error", err)
	}
}

// ask asks a node of each region, and another one if it does not answer. It returns
// the answers, and who gave none.
func (p *proposal) ask(ctx context.Context, voters []string, kind byte, what regionmap.Register) (answers []regionmap.Register, silent []string) {
	var mu sync.Mutex
	var wg sync.WaitGroup
	for _, region := range voters {
		wg.Go(func() {
			a, err := p.r.askRegion(ctx, region, kind, what)
			mu.Lock()
			defer mu.Unlock()
			if err != nil {
				silent = append(silent, region+" ("+err.Error()+")")
				return
			}
			answers = append(answers, a)
		})
	}
	wg.Wait()
	return answers, silent
}

func (r *Regions) askRegion(ctx context.Context, region string, kind byte, what regionmap.Register) (regionmap.Register, error) {
	ctx, stop := context.WithTimeout(ctx, voteTimeout)
	defer stop()
	if region == string(r.cfg.Region) {
		return r.vote(ctx, kind, what)
	}
	err := errors.New("none of its nodes is known")
	for _, t := range r.deps.Others() {
		if string(t.Region) != region {
			continue
		}
		body := append([]byte{kind}, regionmap.EncodeRegister(what)...)
		for _, id := range r.some(t.Present(), 3) {
			var b []byte
			if b, err = r.call(ctx, id, body); err != nil {
				continue
			}
			return regionmap.DecodeRegister(b)
		}
	}
	return regionmap.Register{}, err
}

func (r *Regions) call(ctx context.Context, id topology.NodeID, body []byte) ([]byte, error) {
	return peer.Call(ctx, r.deps.Transport, id, peer.Request{Verb: peer.VerbRegions, Timeout: voteTimeout / 3, Body: body})
}
