package main

import (
	"fmt"
	"runtime"

	"github.com/spf13/cobra"
)

func versionCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "version",
		Short: "Print the version of this program",
		Example: `  atoll version
  atoll version -o json | jq -r .version`,
		Args: cobra.NoArgs,
	}
	out := formatFlag(cmd, "text", "json")
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		if out.value == "json" {
			return printJSON(cmd.OutOrStdout(), versionJSON{version, runtime.Version(), runtime.GOOS, runtime.GOARCH})
		}
		_, err := fmt.Fprintln(cmd.OutOrStdout(), programText())
		return err
	}
	return cmd
}

type versionJSON struct {
	Version string `json:"version"`
	Go      string `json:"go"`
	OS      string `json:"os"`
	Arch    string `json:"arch"`
}

// programText names this program and what it was built with.
func programText() string {
	return fmt.Sprintf("atoll %s %s %s/%s", version, runtime.Version(), runtime.GOOS, runtime.GOARCH)
}
