package apitest

import (
	"context"
	"strconv"
	"sync"

	"github.com/atolldb/atoll/node/api"
	"github.com/atolldb/atoll/node/coord"
)

// links to other regions, which there are none of: they are as they were set.
type links struct {
	mu       sync.Mutex
	lag      api.Lag
	verified api.Verified
}

// SetLag says what the region tells of its links.
func (r *Region) SetLag(lag api.Lag) {
	r.links.mu.Lock()
	defer r.links.mu.Unlock()
	r.links.lag = lag
}

// SetVerified says what comparing regions eu and us finds.
func (r *Region) SetVerified(v api.Verified) {
	r.links.mu.Lock()
	defer r.links.mu.Unlock()
	r.links.verified = v
}

// Lag implements api.Links.
func (l *links) Lag(context.Context) (api.Lag, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.lag, nil
}

// Verify implements api.Links.
func (l *links) Verify(_ context.Context, s api.VerifyScope) (api.Verified, error) {
	for _, name := range []string{string(s.A), string(s.B)} {
		if name != "eu" && name != "us" {
			return api.Verified{}, &coord.Error{
				Code: coord.CodeInvalid, Detail: "no such region", Field: "region", Limit: "[eu us]", Seen: strconv.Quote(name),
			}
		}
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.verified, nil
}
