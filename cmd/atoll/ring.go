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
		Short: "Show which node owns what, and change it in two steps",
		Args:  cobra.NoArgs,
		RunE:  func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	cmd.AddCommand(ringOwnerCommand(), ringShowCommand(), ringPlanCommand(), ringCommitCommand())
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
		return q.ask(cmd, func(ctx context.Context, c *cluster) error {
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
		})
	}
	return cmd
}

func ringShowCommand() *cobra.Command {
	var q request
	var each, moves bool
	cmd := &cobra.Command{
		Use:   "show",
		Short: "Show the region's members and how many partitions each owns",
		Long: `Show the region's members and how many partitions each owns: it answers for
them now. While partitions move, GETS and GIVES are what is still to switch.`,
		Example: `  atoll ring show
  atoll ring show --partitions
  atoll ring show --moves`,
		Args: cobra.NoArgs,
	}
	q.serverFlags(cmd, defaultTimeout)
	cmd.Flags().BoolVar(&each, "partitions", false, "list each partition with its owners instead")
	cmd.Flags().BoolVar(&moves, "moves", false, "list the moves that are planned or under way instead")
	out := formatFlag(cmd, "table", "json")
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		if err := atMostOne(cmd, "partitions", "moves"); err != nil {
			return err
		}
		return q.withCluster(cmd, func(c *cluster) error {
			switch {
			case out.value == "json":
				return printProto(cmd.OutOrStdout(), c.topology)
			case each:
				partitionTable(cmd.OutOrStdout(), c.topology)
				return nil
			case moves:
				moveTable(cmd.OutOrStdout(), c.topology)
				return nil
			}
			return memberTable(cmd.OutOrStdout(), c.topology)
		})
	}
	return cmd
}

func partitionTable(w io.Writer, t *adminv1.GetTopologyResponse) {
	rows := newTable(w, "partition", "owners")
	for p := range int(t.Partitions) {
		rows.AppendRow([]any{p, strings.Join(ownerNames(t, p), ", ")})
	}
	rows.Render()
}

func memberTable(w io.Writer, t *adminv1.GetTopologyResponse) error {
	owners := fmt.Sprintf("%d owners each", t.Replicas)
	if len(t.Rows) > 0 {
		owners = fmt.Sprintf("different numbers of owners, on the way to %d", t.Replicas)
	}
	if _, err := fmt.Fprintf(w, "region %s, epoch %d, %d partitions with %s\n%s\n",
		t.Region, t.Epoch, t.Partitions, owners, transition(t)); err != nil {
		return err
	}
	by, copies := holdingsOf(t)
	header := []any{"node", "state", "rack", "weight", "owned", "primary", "share"}
	if len(t.Moves) > 0 {
		header = append(header, "gets", "gives")
	}
	rows := newTable(w, append(header, "clients", "peers")...)
	for _, m := range t.Members {
		h := by[m.Id]
		share := 0.0
		if copies > 0 {
			share = 100 * float64(h.owned) / float64(copies)
		}
		row := []any{m.Id, stateText(m.State), m.Rack, m.Weight, h.owned, h.primary, fmt.Sprintf("%.1f %%", share)}
		if len(t.Moves) > 0 {
			row = append(row, h.gets, h.gives)
		}
		rows.AppendRow(append(row, m.ClientAddr, m.PeerAddr))
	}
	rows.Render()
	return nil
}

// transition is a line about the moves, with its end, or nothing.
func transition(t *adminv1.GetTopologyResponse) string {
	if len(t.Moves) == 0 {
		return ""
	}
	n := stagesOf(t.Moves)
	return fmt.Sprintf("moves: %d planned, %d copying, %d switched; at most %d partitions at a time, %s a second for each node\n",
		n.planned, n.copying, n.switched, t.Pace.GetConcurrent(), sizeText(int64(t.Pace.GetBytesPerSecond())))
}

// moveTable lists the moves in the order in which they are taken up.
func moveTable(w io.Writer, t *adminv1.GetTopologyResponse) {
	rows := newTable(w, "task", "partition", "slot", "from", "to", "stage", "since epoch")
	for _, m := range t.Moves {
		rows.AppendRow([]any{m.Task, m.Partition, m.Slot, nobody(m.From), nobody(m.To), stageText(m.Stage), m.Began})
	}
	rows.Render()
}
