package main

import (
	"context"
	"errors"
	"fmt"

	"github.com/spf13/cobra"

	"github.com/atolldb/atoll/node/process"
	adminv1 "github.com/atolldb/atoll/proto/atoll/admin/v1"
)

// paceFlags are what of the pace is to change.
type paceFlags struct {
	bytes      process.Size
	concurrent int
}

func (p *paceFlags) add(cmd *cobra.Command) {
	f := cmd.Flags()
	f.TextVar(&p.bytes, "bytes", process.Size(0), "`SIZE` that one node receives a second, such as 32MiB")
	f.IntVar(&p.concurrent, "concurrent", 0, "partitions in transition at a time")
}

func paceCommand() *cobra.Command {
	var q request
	var pace paceFlags
	cmd := &cobra.Command{
		Use:   "pace",
		Short: "Show or change what moves may take",
		Long: `Show or change what moves may take: how many bytes a second one node receives for
them, and how many partitions are in transition at a time. It holds for all tasks
of the region, at once.`,
		Example: `  atoll pace
  atoll pace --bytes 16MiB
  atoll pace --bytes 200MiB --concurrent 32`,
		Args: cobra.NoArgs,
	}
	q.serverFlags(cmd, defaultTimeout)
	pace.add(cmd)
	out := formatFlag(cmd, "table", "json")
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		if err := pace.check(cmd); err != nil {
			return err
		}
		return q.withCluster(cmd, func(c *cluster) error {
			now := c.topology.GetPace()
			if cmd.Flags().Changed("bytes") || cmd.Flags().Changed("concurrent") {
				ctx, cancel := context.WithTimeout(cmd.Context(), q.timeout)
				defer cancel()
				res, err := c.SetPace(ctx, &adminv1.SetPaceRequest{BytesPerSecond: uint64(pace.bytes), Concurrent: uint32(pace.concurrent)})
				if err != nil {
					return changeFailure("set the pace", err)
				}
				now = res.Pace
			}
			if out.value == "json" {
				return printProto(cmd.OutOrStdout(), now)
			}
			_, err := fmt.Fprintf(cmd.OutOrStdout(), "%s a second for each node, %d partitions at a time\n",
				sizeText(int64(now.GetBytesPerSecond())), now.GetConcurrent())
			return err
		})
	}
	return cmd
}

func (p *paceFlags) check(cmd *cobra.Command) error {
	f := cmd.Flags()
	switch {
	case f.Changed("bytes") && p.bytes <= 0:
		return usage(cmd, errors.New("no moves would ever end; 'atoll task pause' stops one"+inputBounds("bytes", "1KiB or more", p.bytes.String())))
	case f.Changed("concurrent") && (p.concurrent < 1 || p.concurrent > 1<<16):
		return usage(cmd, errors.New("bad number of partitions"+inputBounds("concurrent", "1..65536", fmt.Sprint(p.concurrent))))
	}
	return nil
}
