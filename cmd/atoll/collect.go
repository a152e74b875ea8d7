package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strings"
	"sync/atomic"
	"time"

	"github.com/spf13/cobra"

	"github.com/atolldb/atoll/node/collect"
	adminv1 "github.com/atolldb/atoll/proto/atoll/admin/v1"
)

func collectCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "collect",
		Short: "Take the marks of deletes off the disks, and see what that waits for",
		Long: `Take the marks of deletes (tombstones) off the disks, and see what that waits for.

A delete leaves a mark, which stays until it is proved that no owner in any region
can need it: each partition has rounds, in which all its owners take part. A node
that is away, in any region, makes them wait. The nodes of the region with the
lowest number begin them, as often as collect.every in their configuration says.`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	cmd.AddCommand(collectStatusCommand(), collectRunCommand(), sidelogCommand())
	return cmd
}

func collectStatusCommand() *cobra.Command {
	var q request
	cmd := &cobra.Command{
		Use:   "status",
		Short: "Show how far deletes are collected, and what it waits for",
		Long: `Show how far deletes are collected in each region, and what it waits for. The exit
code is 8 when a node does not answer or a round came to nothing.

  OLDEST   deletes before this are off the node's disk; "never" for a partition
           that no round has been through
  ROUNDS   of partitions, which the node has begun and which were completed, since
           it was started; OFF are those that came to nothing
  DROPPED  records that it took off its disk
  ASIDE    old versions that came too late; see 'atoll collect sidelog'`,
		Example: `  atoll collect status
  atoll collect status -o json | jq -r '.nodes[].stalls[] | .node + " " + .detail'`,
		Args: cobra.NoArgs,
	}
	q.serverFlags(cmd, defaultTimeout)
	out := formatFlag(cmd, "table", "json")
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		return q.ask(cmd, func(ctx context.Context, c *cluster) error {
			res, err := c.CollectStatus(ctx, &adminv1.CollectStatusRequest{})
			if err != nil {
				return adminFailure("ask how far deletes are collected", err)
			}
			if err := printCollect(cmd.OutOrStdout(), out, res.Collect); err != nil {
				return err
			}
			return collectOutcome(res.Collect)
		})
	}
	return cmd
}

func collectRunCommand() *cobra.Command {
	var q request
	var grace time.Duration
	var wait bool
	cmd := &cobra.Command{
		Use:   "run",
		Short: "Collect deletes now",
		Long: `Begin a round of every partition now, one after the other, whether it is due or
not. With --wait the exit code is 8 when one came to nothing.

--grace takes younger deletes, too. That is safe: what is collected is proved not
to be needed. But old messages that come after it have to be asked about, and are
set aside when nobody knows them.`,
		Example: `  atoll collect run
  atoll collect run --grace 10m --wait`,
		Args: cobra.NoArgs,
	}
	q.serverFlags(cmd, defaultTimeout)
	f := cmd.Flags()
	f.DurationVar(&grace, "grace", 0, "how old a delete is, at least; without it, as the nodes are configured")
	f.BoolVar(&wait, "wait", false, "wait until it has ended, and tell how far it is")
	out := formatFlag(cmd, "table", "json")
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		ask := &adminv1.CollectRequest{}
		if cmd.Flags().Changed("grace") {
			if grace < collect.MinGrace {
				return usage(cmd, errors.New("the grace is too short"+inputBounds("grace", collect.MinGrace.String()+" or more", grace.String())))
			}
			ms := grace.Milliseconds()
			ask.GraceMs = &ms
		}
		return q.ask(cmd, func(ctx context.Context, c *cluster) error {
			res, err := c.Collect(ctx, ask)
			if err != nil {
				return adminFailure("begin rounds", err)
			}
			last := res.Collect
			if wait {
				if last, err = q.followCollect(cmd); err != nil {
					return err
				}
			}
			if err := printCollect(cmd.OutOrStdout(), out, last); err != nil || !wait {
				return err
			}
			return collectOutcome(last)
		})
	}
	return cmd
}

// followCollect waits until no node works on what was asked for.
func (q *request) followCollect(cmd *cobra.Command) (*adminv1.CollectProgress, error) {
	var line atomic.Pointer[string]
	begun := "collect"
	line.Store(&begun)
	bar := isTerminal(cmd.ErrOrStderr())
	p := startProgress(cmd.ErrOrStderr(), func() string { return *line.Load() })
	defer p.end()
	var last *adminv1.CollectProgress
	err := q.poll(cmd, func(ctx context.Context, c *cluster) (bool, error) {
		res, err := c.CollectStatus(ctx, &adminv1.CollectStatusRequest{})
		if err != nil {
			return false, err
		}
		last = res.Collect
		text := collectLine(last)
		if all, through := demanded(last); bar && all > 0 {
			text = barText(float64(through)/float64(all)) + " " + text
		}
		line.Store(&text)
		return !last.Running, nil
	})
	return last, err
}

// demanded are the partitions of what was asked for last, and those that are
// through.
func demanded(p *adminv1.CollectProgress) (all, through uint32) {
	for _, n := range p.Nodes {
		all += n.GetDemand().GetPartitions()
		through += n.GetDemand().GetDone() + n.GetDemand().GetOff()
	}
	return all, through
}

// collectLine is how far it is, in one line.
func collectLine(p *adminv1.CollectProgress) string {
	all, through := demanded(p)
	var off uint32
	var waits string
	for _, n := range p.Nodes {
		off += n.GetDemand().GetOff()
		if w := n.GetCurrent().GetWaitsFor(); w != "" && waits == "" {
			waits = fmt.Sprintf(", partition %d waits for %s", n.Current.Partition, w)
		}
	}
	line := fmt.Sprintf("%d of %d partitions", through, all)
	if off > 0 {
		line += fmt.Sprintf(", %d came to nothing", off)
	}
	return line + waits
}

func printCollect(w io.Writer, out *format, p *adminv1.CollectProgress) error {
	if out.value == "json" {
		return printProto(w, p)
	}
	var b strings.Builder
	for _, r := range regionsOf(p) {
		fmt.Fprintf(&b, "region %s: %s\n", r, oldestOf(p, r))
	}
	if all, _ := demanded(p); all > 0 {
		state := "ended"
		if p.Running {
			state = "running"
		}
		fmt.Fprintf(&b, "asked for, %s: %s\n", state, collectLine(p))
	}
	b.WriteString("\n")
	if _, err := io.WriteString(w, b.String()); err != nil {
		return err
	}
	rows := newTable(w, "node", "region", "every", "grace", "oldest", "rounds", "off", "last", "dropped", "aside", "error")
	for _, n := range p.Nodes {
		if n.Error != "" {
			rows.AppendRow([]any{n.Id, n.Region, "?", "?", "?", "?", "?", "?", "?", "?", n.Error})
			continue
		}
		every := "never"
		if n.EveryMs > 0 {
			every = millisText(n.EveryMs)
		}
		rows.AppendRow([]any{
			n.Id, n.Region, every, millisText(n.GraceMs), floorText(n), fmt.Sprintf("%d of %d", n.RoundsDone, n.RoundsBegun),
			n.RoundsOff, timeText(n.LastDoneMs), n.Dropped, n.SetAside, "",
		})
	}
	rows.Render()
	for _, n := range p.Nodes {
		if err := printStalls(w, n); err != nil {
			return err
		}
	}
	return nil
}

func printStalls(w io.Writer, n *adminv1.NodeCollect) error {
	var b strings.Builder
	if c := n.Current; c != nil {
		fmt.Fprintf(&b, "\n%s is at partition %d: %s", n.Id, c.Partition, c.Pass)
		if c.WaitsFor != "" {
			fmt.Fprintf(&b, ", waits for %s", c.WaitsFor)
		}
		b.WriteString("\n")
	}
	for _, s := range n.Stalls {
		fmt.Fprintf(&b, "\n%s waits since %s: %s\n", stalledText(s), timeText(s.SinceMs), stallText(s))
	}
	_, err := io.WriteString(w, b.String())
	return err
}

func stalledText(s *adminv1.CollectStall) string {
	if s.Partitions == 1 {
		return fmt.Sprintf("partition %d", s.First)
	}
	return fmt.Sprintf("partition %d and %d more", s.First, s.Partitions-1)
}

func stallText(s *adminv1.CollectStall) string {
	if s.Node == "" {
		return s.Detail
	}
	return s.Node + ": " + s.Detail
}

func regionsOf(p *adminv1.CollectProgress) (regions []string) {
	seen := map[string]bool{}
	for _, n := range p.Nodes {
		if !seen[n.Region] {
			seen[n.Region] = true
			regions = append(regions, n.Region)
		}
	}
	return regions
}

// oldestOf a region is one figure: from when on deletes are still on its disks.
func oldestOf(p *adminv1.CollectProgress, region string) string {
	var oldest int64
	var silent []string
	never := uint32(0)
	for _, n := range p.Nodes {
		switch {
		case n.Region != region:
		case n.Error != "":
			silent = append(silent, n.Id)
		default:
			never = max(never, n.NeverCollected)
			if n.OldestFloorMs != 0 && (oldest == 0 || n.OldestFloorMs < oldest) {
				oldest = n.OldestFloorMs
			}
		}
	}
	text := "deletes before " + timeText(oldest) + " are off the disks"
	switch {
	case oldest == 0:
		text = "no deletes were collected yet"
	case never > 0:
		text += fmt.Sprintf(", but for %d partitions that had no round yet", never)
	}
	if len(silent) > 0 {
		text += "; without " + list(silent) + ", which did not answer"
	}
	return text
}

func floorText(n *adminv1.NodeCollect) string {
	switch {
	case n.Owned == 0:
		return "-"
	case n.NeverCollected > 0:
		return "never"
	}
	return timeText(n.OldestFloorMs)
}

// collectOutcome is an error when something does not go on.
func collectOutcome(p *adminv1.CollectProgress) error {
	var bad []string
	for _, n := range p.Nodes {
		if n.Error != "" {
			bad = append(bad, fmt.Sprintf("node %s: %s", n.Id, n.Error))
		}
		for _, s := range n.Stalls {
			bad = append(bad, stalledText(s)+": "+stallText(s))
		}
	}
	if len(bad) == 0 {
		return nil
	}
	return withCode(exitDegraded, errors.New("deletes are not collected everywhere:\n  "+strings.Join(bad, "\n  ")))
}
