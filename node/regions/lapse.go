package regions

import (
	"context"
	"encoding/binary"
	"fmt"
	"strings"
	"sync"
	"time"

	"github.com/atolldb/atoll/geo/failover"
	"github.com/atolldb/atoll/geo/regionmap"
	"github.com/atolldb/atoll/node/peer"
	"github.com/atolldb/atoll/node/topology"
)

// shut is since when the region of an operation gets no majority of grants any more.
type shut struct {
	of    operation
	since time.Time
}

// waits is how long leases hold after they are granted no more.
func waits(m *regionmap.Map) time.Duration { return time.Duration(m.Lease.Wait()) * time.Millisecond }

// lapse says why a node of the operation's region may still hold a lease, "" if none
// can. Others grant it nothing from when their stores know that it is not counted; the
// time from then on is measured here, so another driver measures it anew.
func (s *Steer) lapse(ctx context.Context, m *regionmap.Map, o *failover.Operation) string {
	if m.Lease.Ms == 0 {
		return ""
	}
	if of := operationOf(o); s.shut.of != of {
		s.shut = shut{of: of}
	}
	if s.shut.since.IsZero() {
		refuse, grant := s.refuse(ctx, m, o.Region)
		if m.Binds(o.Region) && !m.Shut(o.Region, refuse) {
			return "it is not known that enough regions refuse " + o.Region + " a lease; not " + strings.Join(grant, ", ")
		}
		s.shut.since = time.Now()
	}
	if left := waits(m) - time.Since(s.shut.since); left > 0 {
		return fmt.Sprintf("leases of %s may hold for %v yet", o.Region, left.Round(time.Second))
	}
	return ""
}

// refuse returns the regions whose stores know that one is not counted, and the names
// of the others.
func (s *Steer) refuse(ctx context.Context, m *regionmap.Map, region string) (refuse []uint8, grant []string) {
	var mu sync.Mutex
	var wg sync.WaitGroup
	for _, r := range m.Regions {
		if r.Name == region || r.State == regionmap.Removed {
			continue
		}
		wg.Go(func() {
			reg, err := s.r.askRegion(ctx, r.Name, askLook, regionmap.Register{})
			mu.Lock()
			defer mu.Unlock()
			if d := reg.Decided.Map; err == nil && d != nil && d.N > 0 && !d.Counts(region) {
				refuse = append(refuse, r.ID)
				return
			}
			grant = append(grant, r.Name)
		})
	}
	wg.Wait()
	return refuse, grant
}

// bind has the map say that the lease binds all regions, once all nodes of those that
// are counted have kept it. One region does, while nothing is under way.
func (s *Steer) bind(ctx context.Context) {
	k := s.r.Known()
	if k.Map.Bound() || k.Contested || !s.deps.Leads() {
		return
	}
	if o, err := failover.Current(k.Map); err != nil || o != nil && !o.Ended {
		return
	}
	for _, r := range k.Map.Regions {
		if r.State.Counts() {
			if r.Name != string(s.r.cfg.Region) {
				return
			}
			break
		}
	}
	ctx, stop := context.WithTimeout(ctx, askTimeout)
	defer stop()
	if wants := s.unkept(ctx, k.Map); len(wants) > 0 {
		s.r.deps.Log.Debug("a lease does not bind yet", "version", k.Map.Version.String(), "not-kept-by", wants)
		return
	}
	_, err := s.r.Change(ctx, false, func(m *regionmap.Map) error {
		if !m.Equal(k.Map) {
			return errOvertaken
		}
		m.Bind()
		return nil
	})
	if err == nil {
		s.r.deps.Log.Info("a lease binds all regions", "version", k.Map.Version.String())
	}
}

// unkept are the nodes of counted regions that have not kept the map, or do not answer.
func (s *Steer) unkept(ctx context.Context, m *regionmap.Map) (out []topology.NodeID) {
	var mu sync.Mutex
	var wg sync.WaitGroup
	for _, region := range m.Regions {
		if !region.State.Counts() {
			continue
		}
		for _, id := range s.deps.Nodes(region.Name) {
			wg.Go(func() {
				kept := s.r.kept.Load()
				if id != s.r.cfg.Self {
					kept = 0
					b, err := peer.Call(ctx, s.r.deps.Transport, id, peer.Request{Verb: peer.VerbRegions, Timeout: tellTimeout, Body: []byte{askKept}})
					if err == nil && len(b) == 8 {
						kept = binary.BigEndian.Uint64(b)
					}
				}
				if kept < m.N {
					mu.Lock()
					defer mu.Unlock()
					out = append(out, id)
				}
			})
		}
	}
	wg.Wait()
	return out
}
