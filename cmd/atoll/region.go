package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"time"

	"github.com/spf13/cobra"

	adminv1 "github.com/atolldb/atoll/proto/atoll/admin/v1"
)

func regionCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:     "region",
		Aliases: []string{"geo"},
		Short:   "Show what regions lack of each other, compare them, add and remove them",
		Args:    cobra.NoArgs,
		RunE:    func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	cmd.AddCommand(regionLagCommand(), regionVerifyCommand(), regionAddCommand(), regionRemoveCommand())
	return cmd
}

// lagLimits are what --max-pending, --max-unheld and --max-age allow; 0 for everything.
type lagLimits struct {
	pending, unheld uint64
	age             time.Duration
}

func regionLagCommand() *cobra.Command {
	var q request
	var limits lagLimits
	var watch bool
	cmd := &cobra.Command{
		Use:   "lag",
		Short: "Show which writes of a region are missing in others",
		Long: `Show, for each pair of regions, which writes of the one are missing in the other,
as the nodes of either count them: the origin by what the destination last said,
the destination by what the origin last said. The exit code is 8 when a link is
dead, a figure is not known or over what --max-pending, --max-unheld and
--max-age allow, a region needs a full sync, or a node does not answer; standard error says why.
With --watch it says so there and goes on; when the node that it asks is gone, with
another one of --endpoints.

  LINK     alive: a heartbeat of the other region came within 2.5 s; else DEAD,
           and the figures are those of its last word
  HEARD    age of the last heartbeat
  PENDING  writes that no owner at the destination has, exactly. "?" follows where
           some partitions are not counted: nobody was heard of them since the
           nodes were started; "~" where a heartbeat was missed, for a moment: then
           there may be less, or at the destination more; "!" where the origin's
           index keeps no more of them (repair.index_bytes): the destination needs a
           full sync, unless the log brings everything
  OLDEST   for how long the oldest of them has been known to be missing
  BYTES    what they take, as an estimate from above
  UNHELD   writes that some owner at the destination lacks, as the origin sees it
  COMPLETE how old what is read at the destination may be, by the origin's clocks`,
		Example: `  atoll region lag
  atoll region lag --watch
  atoll region lag --max-age 30s -o json | jq '.links[] | {origin, destination, seen_by, pending}'`,
		Args: cobra.NoArgs,
	}
	q.serverFlags(cmd, defaultTimeout)
	cmd.Flags().BoolVar(&watch, "watch", false, "look every two seconds, until Ctrl-C")
	cmd.Flags().Uint64Var(&limits.pending, "max-pending", 0, "more pending `WRITES` than this are degraded; 0 for any number")
	cmd.Flags().Uint64Var(&limits.unheld, "max-unheld", 0, "more `WRITES` that some owner lacks are degraded; 0 for any number")
	cmd.Flags().DurationVar(&limits.age, "max-age", 0, "pending writes that are older are degraded; 0 for any age")
	out := formatFlag(cmd, "table", "json")
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		if limits.age < 0 {
			return usage(cmd, errors.New("bad age"+inputBounds("max-age", "0 or more", limits.age.String())))
		}
		c, err := q.dialCluster(cmd)
		if err != nil {
			return err
		}
		defer func() { c.close() }()
		tick := time.NewTicker(watchBeat)
		defer tick.Stop()
		for first := true; ; first = false {
			err := q.regionLag(cmd, c, watch, limits, out)
			gone := exitCode(err) == exitUnavailable && !first
			if !watch || err != nil && !gone && exitCode(err) != exitDegraded {
				return err
			}
			if err != nil {
				fmt.Fprintln(cmd.ErrOrStderr(), err)
			}
			if gone { // another one is asked; or this one again, if none answers
				if other, err := q.dialCluster(cmd); err == nil {
					c.close()
					c = other
				}
			}
			select {
			case <-tick.C:
			case <-cmd.Context().Done():
				return nil
			}
		}
	}
	return cmd
}

func (q *request) regionLag(cmd *cobra.Command, c *cluster, watch bool, limits lagLimits, out *format) error {
	ctx, cancel := context.WithTimeout(cmd.Context(), q.timeout)
	defer cancel()
	res, err := c.RegionLag(ctx, &adminv1.RegionLagRequest{})
	if err != nil {
		return adminFailure("ask what regions lack", err)
	}
	w := cmd.OutOrStdout()
	if watch && out.value == "table" && isTerminal(w) {
		fmt.Fprint(w, "\x1b[H\x1b[2J") // home, clear
	}
	if out.value == "json" {
		err = printProto(w, res)
	} else {
		err = lagTable(w, res, time.Now())
	}
	if err != nil {
		return err
	}
	return ifDegraded(lagging(res, limits))
}

func lagTable(w io.Writer, r *adminv1.RegionLagResponse, now time.Time) error {
	if len(r.Links) == 0 {
		_, err := fmt.Fprintf(w, "region %s knows of no other region\n", r.Region)
		return err
	}
	rows := newTable(w, "from", "to", "seen by", "link", "heard", "pending", "oldest", "bytes", "unheld", "complete")
	for _, l := range r.Links {
		link, heard := "alive", millisText(l.HeartbeatAgeMs)
		if !l.Alive {
			link = "DEAD"
		}
		if !l.Heard {
			heard = "never"
		}
		pending, unheld, complete := fmt.Sprint(l.Pending), "", ""
		if l.UnknownPartitions > 0 {
			pending += " ?"
		} else if l.UnsurePartitions > 0 {
			pending += " ~"
		}
		if len(l.NeedsFullSync) > 0 {
			pending += " !"
		}
		if l.SeenBy == l.Origin {
			unheld = fmt.Sprint(l.Unheld)
		} else if complete = "?"; l.CompleteAsOfMs > 0 {
			complete = millisText(max(0, now.UnixMilli()-l.CompleteAsOfMs))
		}
		rows.AppendRow([]any{
			l.Origin, l.Destination, l.SeenBy, link, heard, pending, millisText(l.OldestMs),
			sizeText(int64(l.PendingBytes)), unheld, complete,
		})
	}
	rows.Render()
	return nil
}

// lagging lists what is not as it should be, or not known.
func lagging(r *adminv1.RegionLagResponse, limits lagLimits) []string {
	var bad []string
	for _, l := range r.Links {
		other := l.Origin
		if l.SeenBy == l.Origin {
			other = l.Destination
		}
		at := fmt.Sprintf("from %s to %s, as %s sees it: ", l.Origin, l.Destination, l.SeenBy)
		switch {
		case !l.Heard:
			bad = append(bad, at+"region "+other+" was never heard since the nodes were started")
		case !l.Alive:
			bad = append(bad, at+"nothing is heard from region "+other+" for "+millisText(l.HeartbeatAgeMs))
		}
		if l.Heard && l.UnknownPartitions > 0 {
			bad = append(bad, fmt.Sprintf("%s%d partitions are not counted: nobody in region %s was heard of them since the nodes that count them were started; they are counted when somebody is", at, l.UnknownPartitions, other))
		}
		if len(l.NeedsFullSync) > 0 {
			bad = append(bad, fmt.Sprintf("%sregion %s needs a full sync with %s", at, other, list(l.NeedsFullSync)))
		}
		if limits.pending > 0 && l.Pending > limits.pending {
			bad = append(bad, fmt.Sprintf("%s%d writes are pending", at, l.Pending))
		}
		if limits.unheld > 0 && l.Unheld > limits.unheld {
			bad = append(bad, fmt.Sprintf("%s%d writes are not at every owner in %s", at, l.Unheld, other))
		}
		if limits.age > 0 && l.OldestMs > limits.age.Milliseconds() {
			bad = append(bad, at+"a write is pending for "+millisText(l.OldestMs))
		}
	}
	if len(r.Silent) > 0 {
		bad = append(bad, "without "+list(r.Silent)+", which did not answer")
	}
	return bad
}
