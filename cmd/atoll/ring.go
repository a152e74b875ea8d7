package main

import (
	"context"
	"fmt"
	"io"
	"strings"

	"github.com/spf13/cobra"

	"github.com/atolldb/atoll/crdt"
	adminv1 "github.com/atolldb/atoll/proto/atoll/admin/v1"
)

func actorText(a uint32) string { return crdt.Actor(a).String() }

func ringCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "ring",
		Short: "Show which node owns what",
		Args:  cobra.NoArgs,
		RunE:  func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	cmd.AddCommand(ringOwnerCommand(), ringShowCommand())
	return cmd
}

func ringOwnerCommand() *cobra.Command {
	var q request
	cmd := &cobra.Command{
		Use:     "owner KEY",
		Short:   "Name the partition and the owners of a key, the primary first",
		Example: `  atoll ring owner cart/42`,
		Args:    cobra.ExactArgs(1),
	}
	q.serverFlags(cmd, defaultTimeout)
	q.bucketFlag(cmd)
	out := formatFlag(cmd, "table", "json")
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		c, err := q.dialCluster(cmd)
		if err != nil {
			return err
		}
		defer c.close()
		ctx, cancel := context.WithTimeout(cmd.Context(), q.timeout)
		defer cancel()
		at, err := c.Locate(ctx, &adminv1.LocateRequest{Bucket: q.bucket, Key: []byte(args[0])})
		if err != nil {
			return adminFailure("locate the key", err)
		}
		if out.value == "json" {
			return printProto(cmd.OutOrStdout(), at)
		}
		t := newTable(cmd.OutOrStdout(), "hash", "partition", "epoch", "owners")
		t.AppendRow([]any{fmt.Sprintf("%016x", at.KeyHash), at.Partition, at.Epoch, strings.Join(at.Owners, ", ")})
		t.Render()
		return nil
	}
	return cmd
}

func ringShowCommand() *cobra.Command {
	var q request
	var each bool
	cmd := &cobra.Command{
		Use:   "show",
		Short: "Show the region's members and how many partitions each owns",
		Example: `  atoll ring show
  atoll ring show --partitions`,
		Args: cobra.NoArgs,
	}
	q.serverFlags(cmd, defaultTimeout)
	cmd.Flags().BoolVar(&each, "partitions", false, "list each partition with its owners instead")
	out := formatFlag(cmd, "table", "json")
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		c, err := q.dialCluster(cmd)
		if err != nil {
			return err
		}
		defer c.close()
		switch {
		case out.value == "json":
			return printProto(cmd.OutOrStdout(), c.topology)
		case each:
			partitionTable(cmd.OutOrStdout(), c.topology)
			return nil
		}
		return memberTable(cmd.OutOrStdout(), c.topology)
	}
	return cmd
}

// ownerNames of partition p, the primary first.
func ownerNames(t *adminv1.GetTopologyResponse, p int) []string {
	n := int(t.Replicas)
	if (p+1)*n > len(t.Owners) {
		return nil
	}
	var names []string
	for _, i := range t.Owners[p*n : (p+1)*n] {
		if int(i) < len(t.Members) {
			names = append(names, t.Members[i].Id)
		}
	}
	return names
}

func partitionTable(w io.Writer, t *adminv1.GetTopologyResponse) {
	rows := newTable(w, "partition", "owners")
	for p := range int(t.Partitions) {
		rows.AppendRow([]any{p, strings.Join(ownerNames(t, p), ", ")})
	}
	rows.Render()
}

func memberTable(w io.Writer, t *adminv1.GetTopologyResponse) error {
	if _, err := fmt.Fprintf(w, "region %s, epoch %d, %d partitions with %d owners each\n\n",
		t.Region, t.Epoch, t.Partitions, t.Replicas); err != nil {
		return err
	}
	primary, owned := map[string]int{}, map[string]int{}
	for p := range int(t.Partitions) {
		for i, id := range ownerNames(t, p) {
			owned[id]++
			if i == 0 {
				primary[id]++
			}
		}
	}
	rows := newTable(w, "node", "rack", "weight", "owned", "primary", "share", "clients", "peers")
	for _, m := range t.Members {
		share := 0.0
		if len(t.Owners) > 0 {
			share = 100 * float64(owned[m.Id]) / float64(len(t.Owners))
		}
		rows.AppendRow([]any{
			m.Id, m.Rack, m.Weight, owned[m.Id], primary[m.Id], fmt.Sprintf("%.1f %%", share), m.ClientAddr, m.PeerAddr,
		})
	}
	rows.Render()
	return nil
}
