package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"sync/atomic"

	"github.com/spf13/cobra"

	adminv1 "github.com/atolldb/atoll/proto/atoll/admin/v1"
)

func repairCommand() *cobra.Command {
	var q request
	var deep, wait bool
	var partition uint32
	cmd := &cobra.Command{
		Use:   "repair",
		Short: "Compare all owners of all partitions now, and make them equal",
		Long: `Have every node compare its partitions with their other owners now, and fetch
what it lacks. This goes on all the time, in the background; asked for, it begins
at once, and tells how far it is, as one number.

--deep recounts every record from the disk first, and so finds what the disk has
spoiled or lost without a word. It reads everything.

With --wait the exit code is 8 when something could not be repaired: an owner
that did not answer, or a record that no owner can read.`,
		Example: `  atoll repair
  atoll repair --deep --wait
  atoll repair --partition 17 --wait
  atoll repair status`,
		Args: cobra.NoArgs,
	}
	q.serverFlags(cmd, defaultTimeout)
	f := cmd.Flags()
	f.BoolVar(&deep, "deep", false, "recount every record from the disk first")
	f.BoolVar(&wait, "wait", false, "wait until it has ended, and tell how far it is")
	f.Uint32Var(&partition, "partition", 0, "`N`, this partition alone")
	out := formatFlag(cmd, "table", "json")
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		return q.ask(cmd, func(ctx context.Context, c *cluster) error {
			ask := &adminv1.RepairRequest{Deep: deep}
			if cmd.Flags().Changed("partition") {
				ask.Partition = &partition
			}
			res, err := c.Repair(ctx, ask)
			if err != nil {
				return adminFailure("start the repair", err)
			}
			if !wait {
				return printRepair(cmd.OutOrStdout(), out, res.Repair)
			}
			last, err := q.followRepair(cmd)
			if err != nil {
				return err
			}
			if err := printRepair(cmd.OutOrStdout(), out, last); err != nil {
				return err
			}
			return repairOutcome(last)
		})
	}
	cmd.AddCommand(repairStatusCommand())
	return cmd
}

func repairStatusCommand() *cobra.Command {
	var q request
	cmd := &cobra.Command{
		Use:     "status",
		Short:   "Tell how far the last repair is",
		Example: `  atoll repair status`,
		Args:    cobra.NoArgs,
	}
	q.serverFlags(cmd, defaultTimeout)
	out := formatFlag(cmd, "table", "json")
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		return q.ask(cmd, func(ctx context.Context, c *cluster) error {
			res, err := c.RepairStatus(ctx, &adminv1.RepairStatusRequest{})
			if err != nil {
				return adminFailure("ask for the repair", err)
			}
			return printRepair(cmd.OutOrStdout(), out, res.Repair)
		})
	}
	return cmd
}

// followRepair waits until no node repairs any more.
func (q *request) followRepair(cmd *cobra.Command) (*adminv1.RepairProgress, error) {
	var line atomic.Pointer[string]
	begun := "repair"
	line.Store(&begun)
	bar := isTerminal(cmd.ErrOrStderr())
	p := startProgress(cmd.ErrOrStderr(), func() string { return *line.Load() })
	defer p.end()
	var last *adminv1.RepairProgress
	err := q.poll(cmd, func(ctx context.Context, c *cluster) (bool, error) {
		res, err := c.RepairStatus(ctx, &adminv1.RepairStatusRequest{})
		if err != nil {
			return false, err
		}
		last = res.Repair
		text := repairLine(last)
		if bar {
			text = barText(last.Progress) + " " + text
		}
		line.Store(&text)
		return !last.Running, nil
	})
	return last, err
}

func repairLine(r *adminv1.RepairProgress) string {
	var keys, bad uint64
	for _, n := range r.Nodes {
		keys += n.RepairedKeys
		bad += n.Unreadable
	}
	line := fmt.Sprintf("%.0f %%, %d records repaired", 100*r.Progress, keys)
	if bad > 0 {
		line += fmt.Sprintf(", %d partitions with UNREADABLE records", bad)
	}
	return line
}

func printRepair(w io.Writer, out *format, r *adminv1.RepairProgress) error {
	if out.value == "json" {
		return printProto(w, r)
	}
	head := "repair ended: " + repairLine(r)
	switch {
	case r.Running:
		head = "repair running: " + repairLine(r)
	case !slices.ContainsFunc(r.Nodes, func(n *adminv1.NodeRepair) bool { return n.BegunMs > 0 || n.Error != "" }):
		head = "nobody has asked for a repair since the nodes started; they compare themselves all the time without"
	}
	if _, err := fmt.Fprintf(w, "%s\n\n", head); err != nil {
		return err
	}
	rows := newTable(w, "node", "state", "partitions", "skipped", "repaired", "unreadable", "begun", "error")
	for _, n := range r.Nodes {
		rows.AppendRow([]any{
			n.Id, repairState(n), fmt.Sprintf("%d of %d", n.Done, n.Partitions), n.Skipped, n.RepairedKeys, n.Unreadable,
			timeText(n.BegunMs), n.Error,
		})
	}
	rows.Render()
	return nil
}

func repairState(n *adminv1.NodeRepair) string {
	state := "ended"
	switch {
	case n.Error != "":
		return "FAILED"
	case n.Running:
		state = "running"
	case n.BegunMs == 0:
		return "never"
	}
	if n.Deep {
		state += ", deep"
	}
	return state
}

// repairOutcome is an error when something is left to do.
func repairOutcome(r *adminv1.RepairProgress) error {
	var bad []string
	for _, n := range r.Nodes {
		if n.Error != "" {
			bad = append(bad, fmt.Sprintf("node %s: %s", n.Id, n.Error))
		}
		if n.Skipped > 0 {
			bad = append(bad, fmt.Sprintf("node %s: %d partitions were not compared with all their owners", n.Id, n.Skipped))
		}
		if n.Unreadable > 0 {
			bad = append(bad, fmt.Sprintf("node %s: %d partitions have a record that no owner can read", n.Id, n.Unreadable))
		}
	}
	if len(bad) == 0 {
		return nil
	}
	return withCode(exitDegraded, errors.New("not everything was repaired:\n  "+strings.Join(bad, "\n  ")))
}
