package main

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/spf13/cobra"

	adminv1 "github.com/atolldb/atoll/proto/atoll/admin/v1"
)

func drLeaseCommand() *cobra.Command {
	var q request
	var force bool
	cmd := &cobra.Command{
		Use:   "lease [DURATION|off]",
		Short: "Have homes decide at SERIAL only with a lease",
		Long: `Have the home region of a bucket decide at SERIAL only while it holds a lease of that
DURATION (5s to 5m), which a majority of the regions that are in service renews, itself
included; or end that with off. Without an argument, show it.

With a lease a failover never leaves two homes: it waits until no lease of the lost
region holds any more. It costs that a home which is cut off from so many regions that
no majority is left refuses SERIAL when its lease has run out, as REGION_FENCED, until
it is back or fails the others over; with two regions that is each of them, as soon as
it is alone. Other levels do not take part in it. Longer is calmer, and a failover
waits longer: 15s outlasts an election in another region's store.

Without a lease a region that lives behind a cut goes on deciding after a failover: two
homes, until it hears of that. See docs/dr.md.`,
		Example: `  atoll dr lease
  atoll dr lease 15s
  atoll dr lease off`,
		Args: cobra.MaximumNArgs(1),
	}
	q.serverFlags(cmd, drTimeout)
	cmd.Flags().BoolVar(&force, "force", false, "change the map without a majority of regions")
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		var lease time.Duration
		if len(args) > 0 && args[0] != "off" {
			var err error
			if lease, err = time.ParseDuration(args[0]); err != nil || lease <= 0 {
				return usage(cmd, errors.New("a lease is a duration such as 15s, or off, not "+args[0]))
			}
		}
		return q.onRegions(cmd, "set the lease", func(ctx context.Context, c adminv1.RegionsClient) error {
			if len(args) == 0 {
				st, err := c.GetRegions(ctx, &adminv1.GetRegionsRequest{})
				if err == nil {
					_, err = fmt.Fprintln(cmd.OutOrStdout(), leaseText(st.Map))
				}
				return err
			}
			res, err := c.SetLease(ctx, &adminv1.SetLeaseRequest{LeaseMs: uint64(lease.Milliseconds()), Force: force})
			if err == nil {
				_, err = fmt.Fprintln(cmd.OutOrStdout(), leaseText(res.Map))
			}
			return err
		})
	}
	return cmd
}

// leaseText says by what homes decide.
func leaseText(m *adminv1.RegionMap) string {
	switch {
	case m.LeaseMs == 0:
		return "no lease: a failover of a region that lives behind a cut leaves two homes at SERIAL"
	case m.LeaseBinds:
		return fmt.Sprintf("homes decide at SERIAL with a lease of %s (atoll_region_lease_left_seconds says which hold it)", millisText(int64(m.LeaseMs)))
	}
	return fmt.Sprintf("a lease of %s, which not all nodes are known to go by yet", millisText(int64(m.LeaseMs)))
}
