package main

import (
	"errors"
	"fmt"
	"io"

	"github.com/spf13/cobra"

	"github.com/atolldb/atoll/client"
)

func siblingsCommand() *cobra.Command {
	var q request
	var m mostSiblings
	cmd := &cobra.Command{
		Use:   "siblings [KEY]",
		Short: "Show all concurrent versions of a key, or the keys that have most",
		Long: `Show all versions of a key that no other supersedes: one row when there is no
conflict. The number in the first column, or the version, is what 'atoll
resolve --pick' takes. Values are quoted and cut; -o json has them whole, but for
those that the node left out because all together are more than 1 MiB: 'atoll get
--version' prints one. Versions with the same value are one row ("and 2 equal"; -o
json names them): they are no conflict, and the next write after a read replaces all.

Without KEY, show the keys of the region that have most versions, in the bucket or
in all of them. Every record is read for that, at a quorum, so in a large region it
takes minutes; what does not have --min versions stays on the nodes. REGIONS says in
how many regions the versions were written, WRITERS by how many nodes: siblings of one
region come from clients that write without having read ('atoll put' without --after),
those of several may come from a cut between them.`,
		Example: `  atoll siblings cart/42
  atoll siblings cart/42 -o json | jq -r '.siblings[].value'
  atoll siblings --bucket carts -n 5
  atoll siblings --min 32 -o json | jq -r '.keys[].key'`,
		Args: cobra.MaximumNArgs(1),
	}
	q.serverFlags(cmd, defaultTimeout)
	q.followFlags(cmd)
	q.bucketFlag(cmd)
	q.readFlags(cmd)
	out := formatFlag(cmd, "table", "json")
	m.flags(cmd)
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		if len(args) == 0 {
			return m.run(cmd, &q, out)
		}
		if err := onlyWithoutKey(cmd, "limit", "min"); err != nil {
			return err
		}
		return runSiblings(cmd, &q, out, args[0])
	}
	return cmd
}

func runSiblings(cmd *cobra.Command, q *request, out *format, key string) error {
	c, err := q.open(cmd)
	if err != nil {
		return err
	}
	defer c.Close() //nolint:errcheck // reads leave nothing behind
	obj, err := q.readAll(cmd, c, key, client.OmitLarge())
	if err != nil {
		return err
	}
	if out.value == "json" {
		return printJSON(cmd.OutOrStdout(), q.objectJSON(key, obj))
	}
	siblingsTable(cmd.OutOrStdout(), obj.Siblings())
	return nil
}

// readAll reads a key to look at its siblings; unresolved ones are no error.
func (q *request) readAll(cmd *cobra.Command, c *client.Client, key string, more ...client.ReadOption) (client.Object, error) {
	obj, err := c.Get(cmd.Context(), key, append(q.readOptions(), more...)...)
	switch {
	case errors.Is(err, client.ErrSiblings):
		return obj, nil
	case errors.Is(err, client.ErrNotFound):
		return obj, withCode(exitNotFound, fmt.Errorf("%q has no value", key))
	}
	return obj, q.failure(err)
}

func siblingsTable(w io.Writer, siblings []client.Sibling) {
	t := newTable(w, "#", "version", "region", "time", "size", "value")
	for i, s := range siblings {
		value := preview(s.Value)
		if s.Deleted {
			value = "(deleted)"
		}
		if s.Omitted {
			value = "(left out)"
		}
		value += equalText(s)
		t.AppendRow([]any{i, versionText(s.ID), s.Region, s.Time.UTC().Format(timeForm), s.Size, value})
	}
	t.Render()
}

// equalText says how many other versions of the same value a sibling stands for.
func equalText(s client.Sibling) string {
	if len(s.Equals) == 0 {
		return ""
	}
	return fmt.Sprintf(" and %d equal", len(s.Equals))
}
