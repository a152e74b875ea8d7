package regions

import (
	"context"
	"encoding/binary"
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
	// askGrant is for a lease: 1 byte, the asker's region, and what it knows. The answer
	// is how many nanoseconds ago the store has said what it rests on, 8 bytes, and what
	// is known. askKept is for the number of the map that is on the disk, 8 bytes.
	askGrant = 5
	askKept  = 6
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
	if kind == askKept {
		reply(binary.BigEndian.AppendUint64(nil, r.kept.Load()), nil)
		return true
	}
	var do func(context.Context) ([]byte, error)
	asked, err := regionmap.Register{}, error(nil)
	if kind == askGrant {
		var theirs regionmap.Known
		if len(body) == 0 {
			err = regionmap.ErrMalformed
		} else {
			theirs, err = regionmap.DecodeKnown(body[1:])
			asker := body[0]
			do = func(ctx context.Context) ([]byte, error) { return r.grantTo(ctx, asker, theirs) }
		}
	} else {
		asked, err = regionmap.DecodeRegister(body)
		do = func(ctx context.Context) ([]byte, error) {
			reg, err := r.vote(ctx, kind, asked)
			if err != nil {
				return nil, err
			}
			return regionmap.EncodeRegister(reg), nil
		}
	}
	switch {
	case err != nil:
		invalid(err)
		return true
	case kind != askGrant && kind != askLook && kind != askPrepare && (kind != askAccept || asked.Accepted == nil):
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
		b, err := do(ctx)
		if err != nil {
			reply(nil, &peer.Refusal{Code: peer.CodeUnknown, Detail: err.Error()})
			return
		}
		reply(b, nil)
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
