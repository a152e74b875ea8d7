//go:build linux

package deployment

import (
	"context"
	"fmt"
	"time"

	"google.golang.org/grpc"

	"github.com/atolldb/atoll/client"
	adminv1 "github.com/atolldb/atoll/proto/atoll/admin/v1"
)

const askTimeout = 3 * time.Second

// Status asks one node about itself and its region.
func (d *Deployment) Status(ctx context.Context, n *Node) (own *adminv1.NodeStatus, region *adminv1.GetStatusResponse, err error) {
	ctx, cancel := context.WithTimeout(ctx, askTimeout)
	defer cancel()
	cc, err := grpc.NewClient("passthrough:///"+n.Addr("client"), d.DialOptions()...)
	if err != nil {
		return nil, nil, err
	}
	defer cc.Close()
	region, err = adminv1.NewClusterClient(cc).GetStatus(ctx, &adminv1.GetStatusRequest{})
	if err != nil {
		return nil, nil, fmt.Errorf("status of %s: %w", n.ID, err)
	}
	for _, s := range region.GetNodes() {
		if s.GetId() != n.ID {
			continue
		}
		if s.GetError() != "" {
			return nil, region, fmt.Errorf("status of %s: %s", n.ID, s.GetError())
		}
		return s, region, nil
	}
	return nil, region, fmt.Errorf("%s does not know itself", n.ID)
}

// Collect has the deletes of a region taken off all disks that are as old as grace.
func (d *Deployment) Collect(ctx context.Context, n *Node, grace time.Duration) error {
	ctx, cancel := context.WithTimeout(ctx, askTimeout)
	defer cancel()
	cc, err := grpc.NewClient("passthrough:///"+n.Addr("client"), d.DialOptions()...)
	if err != nil {
		return err
	}
	defer cc.Close()
	ms := grace.Milliseconds()
	if _, err := adminv1.NewClusterClient(cc).Collect(ctx, &adminv1.CollectRequest{GraceMs: &ms}); err != nil {
		return fmt.Errorf("collect at %s: %w", n.ID, err)
	}
	return nil
}

// Dropped is how many dead records have left the node's disk since it was started.
func (d *Deployment) Dropped(ctx context.Context, n *Node) (uint64, error) {
	ctx, cancel := context.WithTimeout(ctx, askTimeout)
	defer cancel()
	cc, err := grpc.NewClient("passthrough:///"+n.Addr("client"), d.DialOptions()...)
	if err != nil {
		return 0, err
	}
	defer cc.Close()
	res, err := adminv1.NewClusterClient(cc).CollectStatus(ctx, &adminv1.CollectStatusRequest{})
	if err != nil {
		return 0, fmt.Errorf("ask %s how far deletes are collected: %w", n.ID, err)
	}
	for _, one := range res.GetCollect().GetNodes() {
		if one.GetId() == n.ID && one.GetError() == "" {
			return one.GetDropped(), nil
		}
	}
	return 0, fmt.Errorf("nobody says what %s has collected", n.ID)
}

// Lag is what links lack, as a node's region and those that it reaches tell.
func (d *Deployment) Lag(ctx context.Context, n *Node) ([]*adminv1.RegionLink, error) {
	ctx, cancel := context.WithTimeout(ctx, askTimeout)
	defer cancel()
	cc, err := grpc.NewClient("passthrough:///"+n.Addr("client"), d.DialOptions()...)
	if err != nil {
		return nil, err
	}
	defer cc.Close()
	res, err := adminv1.NewClusterClient(cc).RegionLag(ctx, &adminv1.RegionLagRequest{})
	if err != nil {
		return nil, fmt.Errorf("lag at %s: %w", n.ID, err)
	}
	return res.GetLinks(), nil
}

// Ready says, as an error, which node of a region does not answer reads yet: one with an
// empty disk takes writes before it does that, since it may lack something, and while two
// of three are like that no quorum reads.
func (d *Deployment) Ready(ctx context.Context, region string) error {
	for _, n := range d.Region(region) {
		if own, _, err := d.Status(ctx, n); err != nil {
			return err
		} else if !own.GetReady() {
			return fmt.Errorf("%s is not ready", n.ID)
		}
	}
	return nil
}

// Open says, as an error, what keeps a region from serving: it takes no write on all its
// nodes, or one of them does not answer reads.
func (d *Deployment) Open(ctx context.Context, c *client.Client, region string) error {
	if _, err := c.Put(ctx, "first/"+region, []byte("x"), client.LocalAll, client.Overwrite()); err != nil {
		return err
	}
	return d.Ready(ctx, region)
}

// Settled says, as an error, what keeps the region from being whole: nodes that
// do not answer or are not ready, gaps in clocks, clocks or data that differ
// among nodes that own everything, links to other regions that lack something.
func (d *Deployment) Settled(ctx context.Context, region string) error {
	nodes := d.Region(region)
	var first *adminv1.NodeStatus
	for _, n := range nodes {
		own, all, err := d.Status(ctx, n)
		switch {
		case err != nil:
			return err
		case !own.GetReady():
			return fmt.Errorf("%s is not ready", n.ID)
		case own.GetOpenGaps() > 0:
			return fmt.Errorf("%s has %d gaps", n.ID, own.GetOpenGaps())
		case len(own.GetPeersDown()) > 0:
			return fmt.Errorf("%s takes %v for down", n.ID, own.GetPeersDown())
		case len(d.cfg.Regions) > 1 && own.GetGeoPending() > 0:
			return fmt.Errorf("%s has %d writes to ship", n.ID, own.GetGeoPending())
		}
		for _, l := range all.GetLinks() {
			if !l.GetAlive() || l.GetPending() > 0 {
				return fmt.Errorf("%s lacks %d writes of %s (alive: %v)", n.ID, l.GetPending(), l.GetOrigin(), l.GetAlive())
			}
		}
		if first == nil {
			first = own
		}
		if len(nodes) > replicas {
			continue // they own different things
		}
		if own.GetClockDigest() != first.GetClockDigest() || own.GetDataDigest() != first.GetDataDigest() {
			return fmt.Errorf("digests of %s and %s differ: clocks %x and %x, data %x and %x", first.GetId(), own.GetId(),
				first.GetClockDigest(), own.GetClockDigest(), first.GetDataDigest(), own.GetDataDigest())
		}
	}
	return nil
}

const replicas = 3 // the default of the configuration
