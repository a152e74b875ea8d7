// Command atoll runs nodes of Atoll and speaks to them.
//
// Standard output carries data, standard error messages. The exit code says
// what happened; see exit.go.
package main

import (
	"context"
	"fmt"
	"os"
)

// version is set by the linker: -ldflags "-X main.version=v1.2.3".
var version = "dev"

func main() {
	os.Exit(run(context.Background(), os.Args[1:]))
}

// run is main without the process: it returns the exit code.
func run(ctx context.Context, args []string) int {
	cmd := root()
	cmd.SetArgs(args)
	out := &output{to: os.Stdout}
	cmd.SetOut(out)
	err := cmd.ExecuteContext(ctx)
	if err == nil {
		err = out.failed()
	}
	if err == nil {
		return exitOK
	}
	if text := err.Error(); text != "" {
		fmt.Fprintln(cmd.ErrOrStderr(), "atoll: "+text)
	}
	return exitCode(err)
}
