package client

import (
	"context"

	"github.com/atolldb/atoll/crdt/session"
	atollv1 "github.com/atolldb/atoll/proto/atoll/v1"
)

// AwaitOption is an option of AwaitReplication: a Level that leaves the region, or
// Regions.
type AwaitOption interface{ applyAwait(*awaitConfig) }

type awaitConfig struct {
	level   Level
	regions uint32
}

func (l Level) applyAwait(c *awaitConfig)       { c.level = l }
func (n RegionCount) applyAwait(c *awaitConfig) { c.regions = uint32(n) }

// maxAwaitToken bounds, in bytes, what one call asks for; a session may know more.
const maxAwaitToken = session.MaxSent / 2

// AwaitReplication waits until everything that c's session has written, and seen,
// is in other regions: at EachQuorum, which is the default, Quorum or All, or in as
// many as Regions says, c's own one among them. It returns what each region has,
// as far as it was asked; and with ErrPartial, when ctx or the timeout has ended
// the wait. Nothing is written: it may be called again.
//
// Where some of that is known to be lost for good nobody waits for it: the error is
// ErrSessionLost, at once, and says how many writes of which regions. It is again,
// until the session accepts that (Client.AcceptLoss).
func (c *Client) AwaitReplication(ctx context.Context, opts ...AwaitOption) ([]RegionInfo, error) {
	var cfg awaitConfig
	for _, o := range opts {
		o.applyAwait(&cfg)
	}
	const name = "await"
	if c.session == nil {
		return nil, c.complete(invalid("session", "a client with a session", "NoSession", "nobody knows what is to be waited for"), &op{name: name}, nil)
	}
	var regions []RegionInfo
	pieces := c.session.all()
	for first := true; first || len(pieces) > 0; first = false {
		n, size := 0, 0
		for n < len(pieces) && size < maxAwaitToken {
			size += len(pieces[n].Sealed)
			n++
		}
		req := &atollv1.AwaitReplicationRequest{
			Session: session.Compose(pieces[:n]), Level: atollv1.Level(cfg.level), Regions: cfg.regions,
		}
		sent := pieces[:n]
		pieces = pieces[n:]
		res := &atollv1.AwaitReplicationResponse{}
		o := callOp(name, "", false, atollv1.KV_AwaitReplication_FullMethodName, req, res)
		o.hash, o.level, o.waits = 0, cfg.level, true // no key's
		if _, _, err := c.do(ctx, o); err != nil {
			if err.Reason == "SESSION_LOST" {
				c.session.lostOf(sent, err.session)
			}
			return err.Regions(), err
		}
		regions = leastOf(regions, regionInfos(res.Regions))
	}
	return regions, nil
}

// leastOf is, for each region, the least that was told of it.
func leastOf(a, b []RegionInfo) []RegionInfo {
	if a == nil {
		return b
	}
	for i := range a {
		if i < len(b) && (b[i].State > a[i].State || b[i].State == a[i].State && b[i].Replicas < a[i].Replicas) {
			a[i] = b[i]
		}
	}
	return a
}
