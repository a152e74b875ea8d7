package main

import (
	"errors"
	"fmt"

	"github.com/spf13/cobra"

	"github.com/atolldb/atoll/client"
)

// awaitedJSON is what await prints with -o json.
type awaitedJSON struct {
	Everywhere bool         `json:"everywhere"` // in as many regions as asked for
	Regions    []regionJSON `json:"regions"`
}

func awaitCommand() *cobra.Command {
	var q request
	cmd := &cobra.Command{
		Use:   "await --session FILE",
		Short: "Wait until other regions have what a session wrote and saw",
		Long: `Wait until other regions have everything that the commands with the same
--session have written and seen: at each-quorum, which is the default, quorum or
all, or in as many regions as --regions says, the one that is asked among them.

Nothing is written. When the time of --timeout is over the exit code is 9
(partial), and it may be asked again. Where some of it is known to be lost for good
nobody waits for that: the exit code is 8, at once, and with --accept-loss the
session goes on without it, and the rest is waited for.`,
		Example: `  atoll put price 8 --session s && atoll await --session s --timeout 30s`,
		Args:    cobra.NoArgs,
	}
	q.serverFlags(cmd, defaultTimeout)
	q.followFlags(cmd)
	q.levelFlag(cmd)
	q.sessionFlag(cmd)
	out := formatFlag(cmd, "table", "json")
	cmd.RunE = func(cmd *cobra.Command, _ []string) error { return runAwait(cmd, &q, out) }
	return cmd
}

func runAwait(cmd *cobra.Command, q *request, out *format) error {
	if q.session == "" {
		return usage(cmd, errors.New("no session: say which one with --session"))
	}
	c, err := q.open(cmd)
	if err != nil {
		return err
	}
	defer c.Close() //nolint:errcheck // nothing is under way
	if c, err = q.inSession(cmd, c); err != nil {
		return err
	}
	var opts []client.AwaitOption
	if q.level != 0 {
		opts = append(opts, client.Level(q.level))
	}
	if q.regions > 0 {
		opts = append(opts, client.Regions(int(q.regions)))
	}
	var regions []client.RegionInfo
	err = q.accepting(cmd, c, func() (err error) {
		regions, err = c.AwaitReplication(cmd.Context(), opts...)
		return err
	})
	if q.acceptLoss {
		if kerr := q.keepSession(c); err == nil {
			err = kerr
		}
	}
	if err != nil && !errors.Is(err, client.ErrPartial) {
		return q.failure(err)
	}
	if perr := printAwaited(cmd, out, regions, err == nil); perr != nil {
		return perr
	}
	if err != nil {
		return withCode(exitPartial, fmt.Errorf("%w\n  next: ask again; 'atoll status' shows the links between regions", err))
	}
	return nil
}

func printAwaited(cmd *cobra.Command, out *format, regions []client.RegionInfo, everywhere bool) error {
	if out.value == "json" {
		return printJSON(cmd.OutOrStdout(), awaitedJSON{everywhere, regionsJSON(regions)})
	}
	t := newTable(cmd.OutOrStdout(), "REGION", "STATE", "OWNERS", "DETAIL")
	for _, g := range regions {
		t.AppendRow([]any{g.Region, g.State, fmt.Sprintf("%d, %d needed", g.Replicas, g.Needed), g.Detail})
	}
	t.Render()
	return nil
}
