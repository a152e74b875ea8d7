package main

import (
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/spf13/cobra"

	"github.com/atolldb/atoll/client"
	"github.com/atolldb/atoll/crdt/hlc"
	adminv1 "github.com/atolldb/atoll/proto/atoll/admin/v1"
)

func sidelogCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "sidelog",
		Short: "Look at what was set aside as too late, restore it, or forget it",
		Long: `Look at what was set aside as too late, restore it, or forget it.

When deletes have been collected nobody remembers them. So an old value that comes
after that, from a disk that was away for long, say, is not let back in when two
owners once had it and have it no more: it was deleted. It is set aside on the node
that it came to, and not destroyed. Each node keeps 65536 entries; when they are
full, such messages are refused.`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	cmd.AddCommand(sidelogListCommand(), sidelogRestoreCommand(), sidelogForgetCommand())
	return cmd
}

// kept is an entry, and the node that has it.
type kept struct {
	node  string
	entry *adminv1.AsideEntry
}

// eachKept visits the side logs of all nodes of the region. Nodes that do not
// answer are an error at the end.
func (q *request) eachKept(cmd *cobra.Command, c *cluster, visit func(kept) error) error {
	var silent []error
	for _, m := range c.topology.Members {
		for after := []byte(nil); ; {
			res, err := q.listAside(cmd.Context(), c, m.Id, after)
			if err != nil {
				silent = append(silent, fmt.Errorf("node %s: %w", m.Id, err))
				break
			}
			for _, e := range res.Entries {
				if err := visit(kept{m.Id, e}); err != nil {
					return err
				}
				after = e.Id
			}
			if !res.More || len(res.Entries) == 0 {
				break
			}
		}
	}
	if len(silent) > 0 {
		return withCode(exitDegraded, fmt.Errorf("not all side logs were read:\n  %w", errors.Join(silent...)))
	}
	return nil
}

func (q *request) listAside(ctx context.Context, c *cluster, node string, after []byte) (*adminv1.ListAsideResponse, error) {
	ctx, cancel := context.WithTimeout(ctx, q.timeout)
	defer cancel()
	res, err := c.ListAside(ctx, &adminv1.ListAsideRequest{Node: node, After: after})
	if err != nil {
		return nil, adminFailure("read the side log", err)
	}
	return res, nil
}

func (q *request) forget(ctx context.Context, c *cluster, k kept) error {
	ctx, cancel := context.WithTimeout(ctx, q.timeout)
	defer cancel()
	_, err := c.ForgetAside(ctx, &adminv1.ForgetAsideRequest{Node: k.node, Ids: [][]byte{k.entry.Id}})
	if err != nil {
		return changeFailure("forget an entry of the side log", err)
	}
	return nil
}

func sidelogListCommand() *cobra.Command {
	var q request
	cmd := &cobra.Command{
		Use:     "ls",
		Aliases: []string{"list"},
		Short:   "List what the nodes of the region have set aside",
		Example: `  atoll collect sidelog ls
  atoll collect sidelog ls -o jsonl | jq -r .record.key`,
		Args: cobra.NoArgs,
	}
	q.serverFlags(cmd, defaultTimeout)
	out := formatFlag(cmd, "table", "jsonl")
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		return q.withCluster(cmd, func(c *cluster) error {
			rows := newTable(cmd.OutOrStdout(), "node", "bucket", "key", "partition", "written", "value", "id")
			err := q.eachKept(cmd, c, func(k kept) error {
				if out.value == "jsonl" {
					return printJSON(cmd.OutOrStdout(), struct {
						Node string `json:"node"`
						protoEntry
					}{k.node, entryJSON(k.entry)})
				}
				for _, v := range k.entry.Record.Versions {
					rows.AppendRow([]any{
						k.node, k.entry.Record.Bucket, preview(k.entry.Record.Key), k.entry.Partition,
						timeText(hlc.Stamp(v.Stamp).Millis()), asideValue(v), hex.EncodeToString(k.entry.Id)[:24],
					})
				}
				return nil
			})
			if out.value == "table" {
				rows.Render()
			}
			return err
		})
	}
	return cmd
}

type protoEntry struct {
	Partition uint32    `json:"partition"`
	Record    protoJSON `json:"record"`
	ID        []byte    `json:"id"`
}

func entryJSON(e *adminv1.AsideEntry) protoEntry {
	return protoEntry{e.Partition, protoJSON{e.Record}, e.Id}
}

func asideValue(v *adminv1.ExportVersion) string {
	if v.Deleted {
		return "(a delete)"
	}
	return preview(v.Value)
}

// chosen says which entries are meant.
type chosen struct {
	all    bool
	bucket string
	keys   []string
}

func (o *chosen) flags(cmd *cobra.Command) {
	cmd.Flags().BoolVar(&o.all, "all", false, "all entries of all nodes of the region")
	cmd.Flags().StringVar(&o.bucket, "bucket", "default", "`NAME` of the bucket of the keys")
}

func (o *chosen) check(cmd *cobra.Command, args []string) error {
	o.keys = args
	if o.all == (len(args) > 0) {
		return usage(cmd, errors.New("name keys, or give --all"))
	}
	return nil
}

func (o *chosen) has(k kept) bool {
	return o.all || k.entry.Record.Bucket == o.bucket && slices.Contains(o.keys, string(k.entry.Record.Key))
}

func sidelogForgetCommand() *cobra.Command {
	var q request
	var which chosen
	cmd := &cobra.Command{
		Use:   "forget (KEY... | --all)",
		Short: "Delete entries that were rightly set aside",
		Example: `  atoll collect sidelog forget cart/42
  atoll collect sidelog forget --all`,
	}
	q.serverFlags(cmd, defaultTimeout)
	which.flags(cmd)
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		if err := which.check(cmd, args); err != nil {
			return err
		}
		return q.withCluster(cmd, func(c *cluster) error {
			n := 0
			err := q.eachKept(cmd, c, func(k kept) error {
				if !which.has(k) {
					return nil
				}
				n++
				return q.forget(cmd.Context(), c, k)
			})
			if _, print := fmt.Fprintf(cmd.OutOrStdout(), "%d entries forgotten\n", n); err == nil {
				err = print
			}
			return err
		})
	}
	return cmd
}

func sidelogRestoreCommand() *cobra.Command {
	var q request
	var which chosen
	var anyway bool
	cmd := &cobra.Command{
		Use:   "restore (KEY... | --all)",
		Short: "Write what was set aside anew",
		Long: `Write what was set aside anew, as writes of now, and forget the entries. A key that
has a value by now is left alone, and the exit code is 8; --anyway writes the old
one beside it as a sibling, or, in a bucket of the last writer, over it. What has
expired is forgotten.`,
		Example: `  atoll collect sidelog restore cart/42
  atoll collect sidelog restore --all`,
	}
	q.serverFlags(cmd, defaultTimeout)
	which.flags(cmd)
	cmd.Flags().BoolVar(&anyway, "anyway", false, "also to keys that have a value by now")
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		if err := which.check(cmd, args); err != nil {
			return err
		}
		return q.withCluster(cmd, func(c *cluster) error {
			r := restore{q: &q, cmd: cmd, anyway: anyway, clients: map[string]*client.Client{}}
			defer r.close()
			err := q.eachKept(cmd, c, func(k kept) error {
				if !which.has(k) {
					return nil
				}
				done, err := r.one(k)
				if err != nil || !done {
					return err
				}
				return q.forget(cmd.Context(), c, k)
			})
			if _, print := fmt.Fprintf(cmd.OutOrStdout(), "%d values restored, %d entries had nothing to restore\n", r.written, r.empty); err == nil {
				err = print
			}
			if err == nil && len(r.left) > 0 {
				err = withCode(exitDegraded, fmt.Errorf("%d keys have a value by now and were left alone: %s\n  next: look at them, then --anyway or 'atoll collect sidelog forget'",
					len(r.left), list(r.left)))
			}
			return err
		})
	}
	return cmd
}

type restore struct {
	q              *request
	cmd            *cobra.Command
	anyway         bool
	clients        map[string]*client.Client // by bucket
	written, empty int
	left           []string
}

func (r *restore) close() {
	for _, c := range r.clients {
		c.Close() //nolint:errcheck // the writes are answered
	}
}

func (r *restore) client(bucket string) (*client.Client, error) {
	if c := r.clients[bucket]; c != nil {
		return c, nil
	}
	q := *r.q
	q.bucket = bucket
	c, err := q.open(r.cmd)
	if err == nil {
		r.clients[bucket] = c
	}
	return c, err
}

// one restores an entry; it reports whether that can be forgotten then.
func (r *restore) one(k kept) (bool, error) {
	c, err := r.client(k.entry.Record.Bucket)
	if err != nil {
		return false, err
	}
	key := string(k.entry.Record.Key)
	have, err := c.Get(r.cmd.Context(), key)
	if err != nil && !errors.Is(err, client.ErrNotFound) && !errors.Is(err, client.ErrSiblings) {
		return false, r.q.failure(err)
	}
	values := map[string]bool{}
	for _, s := range have.Siblings() {
		values[string(s.Value)] = true
	}
	if have.Value() != nil {
		values[string(have.Value())] = true
	}
	wrote := 0
	for _, v := range k.entry.Record.Versions {
		left, live := lifetime(v, time.Now())
		switch {
		case !live || values[string(v.Value)]: // another node had it aside, too
			continue
		case have.Exists() && !r.anyway:
			r.left = append(r.left, preview([]byte(key)))
			return false, nil
		}
		var opts []client.WriteOption
		if left > 0 {
			opts = append(opts, client.TTL(left))
		}
		if _, err := c.Put(r.cmd.Context(), key, v.Value, opts...); err != nil {
			return false, r.q.failure(err)
		}
		wrote++
	}
	r.written += wrote
	if wrote == 0 {
		r.empty++
	}
	return true, nil
}

// lifetime that a version has left, 0 for ever, and whether it is a value at all.
func lifetime(v *adminv1.ExportVersion, now time.Time) (time.Duration, bool) {
	switch {
	case v.Deleted:
		return 0, false
	case v.ExpiresAt == 0:
		return 0, true
	}
	left := time.UnixMilli(v.ExpiresAt).Sub(now).Truncate(time.Millisecond)
	return left, left > 0
}
