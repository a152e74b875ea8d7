package main

import (
	"github.com/spf13/cobra"

	"github.com/atolldb/atoll/client"
)

func delCommand() *cobra.Command {
	var q request
	cmd := &cobra.Command{
		Use:   "del KEY",
		Short: "Delete the value of a key",
		Long: `Delete the value of a key, siblings included.

With --after exactly what that context had seen is deleted, without it what a
read at this moment sees; what somebody else writes meanwhile stays. Deleting
a key that has no value is no error.

` + conditionHelp + `

` + requestHelp,
		Example: `  atoll del cart/42
  atoll del cart/42 --after "$(atoll get cart/42 -o json | jq -r .context)"`,
		Args: cobra.ExactArgs(1),
	}
	q.serverFlags(cmd, defaultTimeout)
	q.followFlags(cmd)
	q.bucketFlag(cmd)
	q.writeFlags(cmd)
	q.sessionFlag(cmd)
	q.afterFlag(cmd)
	q.conditionFlags(cmd)
	q.requestFlags(cmd)
	out := formatFlag(cmd, "none", "json")
	cmd.RunE = func(cmd *cobra.Command, args []string) error { return runDel(cmd, &q, out, args[0]) }
	return cmd
}

func runDel(cmd *cobra.Command, q *request, out *format, key string) error {
	if err := q.checkRequest(cmd, key); err != nil {
		return err
	}
	c, err := q.open(cmd)
	if err != nil {
		return err
	}
	defer c.Close() //nolint:errcheck // the write is answered
	if c, err = q.inSession(cmd, c); err != nil {
		return err
	}
	follow, err := q.followOptions(cmd, c, key)
	if err != nil {
		return err
	}
	opts := append(q.writeOptions(), follow...)
	var v client.Version
	err = q.accepting(cmd, c, func() (err error) {
		v, err = c.Delete(cmd.Context(), key, opts...)
		return err
	})
	return q.kept(c, q.written(cmd, out, key, v, err))
}
