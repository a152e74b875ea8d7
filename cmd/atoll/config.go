package main

import (
	"errors"
	"fmt"
	"io/fs"
	"os"

	"github.com/spf13/cobra"

	"github.com/atolldb/atoll/node/process"
)

func configCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "config",
		Short: "Check and show configurations of nodes",
		Args:  cobra.NoArgs,
		RunE:  func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	cmd.AddCommand(configCheckCommand(), configShowCommand())
	return cmd
}

// loadConfig reads a configuration as a node does.
func loadConfig(file string) (process.Config, error) {
	cfg, err := process.Load(file, os.Environ())
	return cfg, refusedConfig(err)
}

// refusedConfig makes a configuration that is wrong a case of wrong usage: it
// stays wrong when the same is tried again. A file that cannot be read may be
// there later.
func refusedConfig(err error) error {
	if file := (*fs.PathError)(nil); err == nil || errors.As(err, &file) {
		return err
	}
	return withCode(exitUsage, err)
}

func configCheckCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "check FILE",
		Short: "Say all that is wrong with a configuration",
		Long: `Say all that is wrong with a configuration file and the ` + process.EnvPrefix + `* variables as they
are: keys that do not exist and values out of bounds, all at once. Nothing is
opened and no other node is asked. The exit code is 2 when something is wrong.`,
		Args: cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			if _, err := loadConfig(args[0]); err != nil {
				return err
			}
			_, err := fmt.Fprintf(cmd.OutOrStdout(), "%s is fine\n", args[0])
			return err
		},
	}
}

func configShowCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "show [FILE]",
		Short: "Print the configuration in force",
		Long: `Print the configuration that a file, the ` + process.EnvPrefix + `* variables and the defaults give
together, as YAML without passwords; without a file, that of 'start --dev'.`,
		Args: cobra.MaximumNArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			var cfg process.Config
			var err error
			if len(args) == 1 {
				cfg, err = loadConfig(args[0])
			} else {
				cfg, err = process.Dev("atoll-dev").Override(os.Environ())
				err = refusedConfig(err)
			}
			if err != nil {
				return err
			}
			text, err := cfg.YAML()
			if err != nil {
				return err
			}
			_, err = cmd.OutOrStdout().Write(text)
			return err
		},
	}
}
