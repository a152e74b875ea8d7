package main

import (
	"fmt"
	"runtime"

	"github.com/spf13/cobra"
)

func versionCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "version",
		Short: "Print the version of this program",
		Args:  cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			_, err := fmt.Fprintln(cmd.OutOrStdout(), programText())
			return err
		},
	}
}

// programText names this program and what it was built with.
func programText() string {
	return fmt.Sprintf("atoll %s %s %s/%s", version, runtime.Version(), runtime.GOOS, runtime.GOARCH)
}
