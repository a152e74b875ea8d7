package main

import (
	"context"
	"errors"
	"fmt"
	"strings"
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
included; or end that with off. Without an argument, show it, and whether the region that
is asked holds it; the exit code is 8 while it does not, or while the lease does not bind yet.

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
					_, err = fmt.Fprint(cmd.OutOrStdout(), leaseText(st.Map), "\n", heldText(st))
				}
				if err != nil {
					return err
				}
				return ifDegraded(leaseDegraded(st))
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
		return fmt.Sprintf("homes decide at SERIAL with a lease of %s", millisText(int64(m.LeaseMs)))
	}
	return fmt.Sprintf("a lease of %s, which not all nodes are known to go by yet", millisText(int64(m.LeaseMs)))
}

// heldText is a line on what the region that was asked holds of the lease, as the node
// knows that answered; "" where there is nothing to hold.
func heldText(st *adminv1.GetRegionsResponse) string {
	if st.Lease == nil {
		return ""
	}
	if st.Lease.LeftMs == 0 {
		return fmt.Sprintf("region %s does not hold it: it decides nothing\n", st.Region)
	}
	text := fmt.Sprintf("region %s holds it for %s, and longer if it is granted again", st.Region, millisText(int64(st.Lease.LeftMs)))
	for _, g := range st.Lease.Grants {
		left := "nothing"
		if g.LeftMs > 0 {
			left = millisText(int64(g.LeftMs))
		}
		text += fmt.Sprintf("; granted by %s: %s", g.Region, left)
	}
	return text + "\n"
}

// leaseDegraded lists what is not as it should be with the lease: it does not bind yet, or
// the region that was asked does not hold it.
func leaseDegraded(st *adminv1.GetRegionsResponse) (bad []string) {
	if st.Map.LeaseMs > 0 && !st.Map.LeaseBinds {
		bad = append(bad, "the lease does not bind yet: not all nodes are known to go by it, and a failover may leave two homes")
	}
	if st.Lease == nil || st.Lease.LeftMs > 0 {
		return bad
	}
	var not []string
	for _, g := range st.Lease.Grants {
		if g.LeftMs == 0 {
			not = append(not, g.Region)
		}
	}
	return append(bad, fmt.Sprintf("the lease of region %s has run out: buckets with their home there refuse SERIAL; not granted by %s",
		st.Region, strings.Join(not, ", ")))
}
