package main

import (
	"errors"
	"fmt"
	"os"

	"github.com/spf13/cobra"

	"github.com/atolldb/atoll/node/process"
)

func growCommand() *cobra.Command {
	var config string
	cmd := &cobra.Command{
		Use:   "grow --config FILE",
		Short: "Prepare a region of one NATS server for three",
		Long: `Prepare the data directory of a region's only node, which must be stopped, for a
configuration in which its NATS server is one of three (nats.cluster). A server
of a cluster would delete what a standalone one left: so the region's metadata
is exported to a file in the data directory, and the old store is moved out of
the way. When the node is started, and the two others with it, it puts the
metadata into the new servers.

The log for other regions stays behind. What they had not pulled from it they
find by comparing clocks: nothing is lost, it takes some seconds more.`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if config == "" {
				return usage(cmd, errors.New("--config is needed: what the region is to grow to"))
			}
			cfg, err := loadConfig(config)
			if err != nil {
				return err
			}
			cfg.Log.Level = "warn"
			grown, err := process.Grow(cmd.Context(), cfg, cfg.Log.Logger(os.Stderr))
			if err != nil {
				return err
			}
			_, err = fmt.Fprintf(cmd.OutOrStdout(), `%s is ready for a cluster of NATS servers
  metadata   %s
  old store  %s (not needed any more)
next: start this node and at least one other that runs a server
`, cfg.DataDir, grown.Carried, grown.Retired)
			return err
		},
	}
	cmd.Flags().StringVar(&config, "config", "", "configuration `FILE` of the node in the grown region")
	return cmd
}
