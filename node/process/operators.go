package process

import (
	"context"
	"errors"
	"fmt"
	"net"
	"slices"
	"time"

	"github.com/atolldb/atoll/node"
	"github.com/atolldb/atoll/node/admin"
	"github.com/atolldb/atoll/node/api"
	"github.com/atolldb/atoll/node/peer/grpcpeer"
	"github.com/atolldb/atoll/node/storage"
	"github.com/atolldb/atoll/node/storage/badgerstore"
	"github.com/atolldb/atoll/node/topology"
)

var errStarting = errors.New("starting")

// serveAdmin starts what operators ask.
func (p *Process) serveAdmin(s *stack, l net.Listener) {
	srv := admin.New(admin.Config{
		Node: string(p.cfg.Node), Region: string(p.cfg.Region), Version: p.cfg.Version,
		Figures: p.figures, Requests: p.requests, Checks: p.checks(),
		Dead: func() error {
			if p.node.Load() == nil {
				return nil
			}
			return p.store.Err()
		},
		Logger: p.log.Named("admin"),
	})
	s.run("admin listener", func(ctx context.Context) error { return srv.Run(ctx, l) })
}

// figures are nil until there is a node. (Store and links are set before it.)
func (p *Process) figures() *admin.Figures {
	n := p.node.Load()
	if n == nil {
		return nil
	}
	f := n.Figures()
	if kv := p.kv.Load(); kv != nil {
		limits := kv.Limits()
		f.Rim = &limits
		for _, e := range kv.HotKeys(1).Entries {
			f.HotShare = e.Share
		}
	}
	if aside, err := badgerstore.Quarantined(p.storeDir()); err == nil {
		f.Quarantined = len(aside)
	}
	f.Secrets = p.Secrets()
	if m := p.metadata.look(); m.Total > 0 {
		f.Metadata = &admin.Metadata{Servers: m.Total, Up: m.Up}
	}
	f.Asking, f.Asked = links(p.links.Stats()), links(p.peers.Stats())
	return f
}

func links(stats map[topology.NodeID]grpcpeer.Stats) map[topology.NodeID]admin.Link {
	out := make(map[topology.NodeID]admin.Link, len(stats))
	for id, s := range stats {
		out[id] = admin.Link{
			Up:          s.Up,
			MessagesOut: s.MessagesOut, BytesOut: s.BytesOut, FramesOut: s.FramesOut,
			MessagesIn: s.MessagesIn, BytesIn: s.BytesIn, FramesIn: s.FramesIn,
			Sessions: s.Sessions, Refused: s.Refused, Pending: s.Pending,
		}
	}
	return out
}

// checks of /readyz. An actor is critical so that a rolling restart waits for
// it; peers, links and the disk are not, since a node without them still
// serves what it can.
func (p *Process) checks() []admin.Check {
	check := func(name string, critical bool, of func(*node.Node) error) admin.Check {
		return admin.Check{Name: name, Critical: critical, Run: func() error {
			if n := p.node.Load(); n != nil {
				return of(n)
			}
			return p.startingError()
		}}
	}
	return []admin.Check{
		check("store", true, func(*node.Node) error { return p.store.Err() }),
		check("actor", true, (*node.Node).Ready),
		check("topology", false, checkPeers),
		check("metadata", false, p.checkMetadata),
		check("geo link", false, checkGeo),
		check("disk", false, checkDisk),
		check("clock", false, checkClock),
	}
}

// checkClock is no reason to take a node out of service: it serves reads, and what
// clients write through it others decide.
func checkClock(n *node.Node) error {
	if ahead, off := n.Clock(); off {
		return fmt.Errorf("%s ahead of the other nodes': this one takes no writes", ahead.Round(time.Millisecond))
	}
	return nil
}

func checkPeers(n *node.Node) error {
	if down := n.PeersDown(); len(down) > 0 {
		return fmt.Errorf("down, or cut off from this node: %s", slices.Sorted(slices.Values(down)))
	}
	return nil
}

// checkMetadata is about what changes of the region wait for, and nothing else does: so it
// is no reason to take a node out of service.
func (p *Process) checkMetadata(n *node.Node) error {
	if err := p.metadata.look().problem(); err != nil {
		return err
	}
	if d := n.MetadataSilent(); d > api.MetadataLate {
		return fmt.Errorf("the region's metadata servers have not answered for %s: changes wait", d.Round(time.Second))
	}
	return nil
}

// checkGeo is about the links from other regions.
func checkGeo(n *node.Node) error {
	var errs []error
	in, _ := n.Lag()
	for _, l := range in {
		if !l.Alive {
			errs = append(errs, fmt.Errorf("region %s: not heard for %s", l.Origin, l.HeartbeatAge.Round(time.Second)))
		}
	}
	return errors.Join(errs...)
}

func checkDisk(n *node.Node) error {
	switch n.Replica().Commits().Disk {
	case storage.DiskFull:
		return errors.New("writes are refused: make room")
	case storage.DiskWarn:
		return errors.New("getting full")
	default:
		return nil
	}
}
