package main

import (
	"context"
	"errors"
	"fmt"
	"net/url"
	"strings"

	"github.com/spf13/cobra"

	adminv1 "github.com/atolldb/atoll/proto/atoll/admin/v1"
)

// regionAdd is what the command is given beside a name.
type regionAdd struct {
	drFlags
	at, nats []string
	dryRun   bool
}

func regionAddCommand() *cobra.Command {
	q := &regionAdd{}
	cmd := &cobra.Command{
		Use:   "add REGION",
		Short: "Take a new region in, while the others serve",
		Long: `Take REGION in, whose nodes run: its configuration lists all regions, the others' need
not list it, and none of their nodes is restarted. Its number and its nodes are asked
of it (--at). It may have a name that a removed region had, but neither its number nor
the ids of its nodes.

All nodes begin to replicate to and from it; it gets everything that there is, slowed
down for clients; it is counted by levels of all regions when it lacks nothing; then
it is ACTIVE. Send clients there when it is: before that it takes no writes. The plan
is shown first. On a terminal the name of the region has to be typed then; elsewhere
it has to be given by --confirm. 'atoll dr status' shows how far it is, and 'atoll dr
abort' ends it before it is ACTIVE: the region is REMOVED then, and its number used up.

A region that is alone has to be prepared first: geo.others and the URLs of its NATS
servers in the configuration of all its nodes, which are restarted one after the other.
The plan names those that are not prepared.

Where its NATS servers ask who connects, they are shown what the own region's are
(nats_access in the configuration).`,
		Example: `  atoll region add ap --at ap-1:7400 --nats nats://ap-1:4222,nats://ap-2:4222 --dry-run
  atoll region add ap --at ap-1:7400 --nats nats://ap-1:4222,nats://ap-2:4222 --confirm ap --wait`,
		Args: cobra.ExactArgs(1),
	}
	q.serverFlags(cmd, drTimeout)
	f := cmd.Flags()
	f.StringSliceVar(&q.at, "at", nil, "`HOST:PORT,...` of nodes of the new region, for clients")
	f.StringSliceVar(&q.nats, "nats", nil, "`URL,...` of the new region's NATS servers, as the other regions reach them")
	f.StringVar(&q.confirm, "confirm", "", "`REGION` once more, instead of typing it")
	f.BoolVar(&q.force, "force", false, "go over checks that do not hold, change the map without a majority of regions, and take the place of what is under way")
	f.BoolVar(&q.wait, "wait", false, "wait until it has ended, as 'atoll dr wait' does")
	f.BoolVar(&q.dryRun, "dry-run", false, "show the plan, and change nothing")
	q.out = formatFlag(cmd, "table", "json")
	cmd.RunE = func(cmd *cobra.Command, args []string) error { return q.run(cmd, args[0]) }
	return cmd
}

func (q *regionAdd) run(cmd *cobra.Command, name string) (err error) {
	switch {
	case len(q.at) == 0:
		return usage(cmd, errors.New("--at is needed: a node of the new region"))
	case len(q.nats) == 0:
		return usage(cmd, errors.New("--nats is needed: the new region's NATS servers"))
	}
	for _, text := range q.nats {
		if u, err := url.Parse(text); err != nil || u.Host == "" || u.Scheme != "nats" && u.Scheme != "tls" || u.User != nil {
			return usage(cmd, errors.New("not the URL of a NATS server"+inputBounds("nats", "nats://HOST:PORT or tls://HOST:PORT, without a user", text)))
		}
	}
	if q.newcomer, err = q.introduce(cmd, name); err != nil {
		return err
	}
	if !q.dryRun {
		return q.begin(cmd, "add", name)
	}
	return q.onRegions(cmd, "plan", func(ctx context.Context, c adminv1.RegionsClient) error {
		plan, err := c.PlanOperation(ctx, q.planFor("add", name))
		if err != nil {
			return err
		}
		return q.show(cmd, "add", name, plan)
	})
}

// introduce asks the new region who it is.
func (q *regionAdd) introduce(cmd *cobra.Command, name string) (*adminv1.RegionNewcomer, error) {
	var c *cluster
	var err error
	for _, addr := range q.at {
		if c, err = q.dialNode(cmd.Context(), addr); err == nil {
			break
		}
	}
	if err != nil {
		return nil, unreachableBy(strings.Join(q.at, ","), "--at", err)
	}
	defer c.close()
	ctx, cancel := context.WithTimeout(cmd.Context(), q.timeout)
	defer cancel()
	known, err := adminv1.NewRegionsClient(c.conn).GetRegions(ctx, &adminv1.GetRegionsRequest{})
	if err != nil {
		return nil, adminFailure("ask the new region for its number", err)
	}
	if c.topology.Region != name {
		return nil, usage(cmd, fmt.Errorf("the nodes at %s are of region %q, not %q", strings.Join(q.at, ","), c.topology.Region, name))
	}
	out := &adminv1.RegionNewcomer{Partitions: c.topology.Partitions, Nats: q.nats}
	for _, r := range known.Map.Regions {
		if r.Name == name {
			out.Id = r.Id // of several of one name, the newest
		}
	}
	for _, m := range c.topology.Members {
		if m.State != adminv1.MemberState_MEMBER_STATE_LEFT {
			out.Members = append(out.Members, &adminv1.RegionSeed{Id: m.Id, Rack: m.Rack, ClientAddr: m.ClientAddr, PeerAddr: m.PeerAddr})
		}
	}
	return out, nil
}
