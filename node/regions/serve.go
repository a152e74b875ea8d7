package regions

import (
	"context"
	"errors"
	"fmt"

	"github.com/atolldb/atoll/geo/regionmap"
	"github.com/atolldb/atoll/node/peer"
	"github.com/atolldb/atoll/node/topology"
)

// What VerbRegions asks: 1 byte, and then what the asker knows (tell), or a register
// that is empty (look), that holds a ballot in Promised (prepare) or, in At and
// Accepted, a proposal (accept). The answer is what the receiver knows, or its region's register as it is
// stored then. A refused ballot is an answer, too: its Promised is higher, or its
// Decided is.
const (
	askTell    = 1
	askPrepare = 2
	askAccept  = 3
	askLook    = 4
)

// Handle serves VerbRegions; it reports whether req was that.
func (r *Regions) Handle(req peer.Request, reply peer.Done) bool {
	if req.Verb != peer.VerbRegions {
		return false
	}
	invalid := func(err error) { reply(nil, &peer.Refusal{Code: peer.CodeInvalid, Detail: err.Error()}) }
	if len(req.Body) == 0 {
		invalid(regionmap.ErrMalformed)
		return true
	}
	kind, body := req.Body[0], req.Body[1:]
	if kind == askTell {
		k, err := regionmap.DecodeKnown(body)
		if err != nil {
			invalid(err)
			return true
		}
		r.Learn(k)
		mine := r.Known()
		if mine.Map.N == 0 {
			mine = regionmap.Known{}
		}
		reply(regionmap.EncodeKnown(mine), nil)
		return true
	}
	asked, err := regionmap.DecodeRegister(body)
	switch {
	case err != nil:
		invalid(err)
		return true
	case kind != askLook && kind != askPrepare && (kind != askAccept || asked.Accepted == nil):
		invalid(fmt.Errorf("unknown question %d about the map of regions", kind))
		return true
	}
	select {
	case r.serving <- struct{}{}:
	default:
		reply(nil, &peer.Refusal{Code: peer.CodeOverloaded, Detail: "too many changes of the map of regions at once"})
		return true
	}
	go func() {
		defer func() { <-r.serving }()
		ctx, stop := context.WithTimeout(context.Background(), min(req.Timeout, storeTimeout))
		defer stop()
		reg, err := r.vote(ctx, kind, asked)
		if err != nil {
			reply(nil, &peer.Refusal{Code: peer.CodeUnknown, Detail: err.Error()})
			return
		}
		reply(regionmap.EncodeRegister(reg), nil)
	}()
	return true
}

// vote has the own region's acceptor answer. That it refuses is no error.
func (r *Regions) vote(ctx context.Context, kind byte, asked regionmap.Register) (regionmap.Register, error) {
	if kind == askLook {
		reg, _, err := r.load(ctx)
		return reg, err
	}
	reg, err := r.swap(ctx, func(reg regionmap.Register) (regionmap.Register, error) {
		reg = reg.Decide(asked.Decided)
		if kind == askPrepare {
			return reg.Prepare(asked.Promised)
		}
		return reg.Accept(asked.At, asked.Accepted)
	})
	if errors.Is(err, regionmap.ErrOutbid) {
		err = nil
	}
	return reg, err
}

var errNoStore = errors.New("this region has no store to keep a map of regions in")

func (r *Regions) load(ctx context.Context) (regionmap.Register, topology.Revision, error) {
	var reg regionmap.Register
	if r.deps.Store == nil {
		return reg, 0, errNoStore
	}
	b, at, err := r.deps.Store.LoadRegions(ctx)
	if err != nil {
		return reg, 0, err
	}
	if b != nil {
		if reg, err = regionmap.DecodeRegister(b); err != nil {
			return reg, 0, fmt.Errorf("register of the map of regions: %w", err)
		}
	}
	return reg, at, nil
}

// swap replaces the region's register by what step makes of it, and returns what is
// stored then. An error of step is returned with the register as it was.
func (r *Regions) swap(ctx context.Context, step func(regionmap.Register) (regionmap.Register, error)) (regionmap.Register, error) {
	for {
		reg, at, err := r.load(ctx)
		if err != nil {
			return reg, err
		}
		next, err := step(reg)
		if err != nil {
			return reg, err
		}
		b := regionmap.EncodeRegister(next)
		if at != 0 && string(b) == string(regionmap.EncodeRegister(reg)) {
			return reg, nil
		}
		switch err := r.deps.Store.SwapRegions(ctx, b, at); {
		case err == nil:
			return next, nil
		case !errors.Is(err, topology.ErrConflict):
			return reg, err
		}
	}
}
