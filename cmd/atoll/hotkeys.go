package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"time"

	"github.com/spf13/cobra"

	adminv1 "github.com/atolldb/atoll/proto/atoll/admin/v1"
)

// watchBeat is how often --watch looks.
const watchBeat = 2 * time.Second

func hotkeysCommand() *cobra.Command {
	var q request
	var n int
	var watch bool
	cmd := &cobra.Command{
		Use:   "hotkeys",
		Short: "Show the keys that are asked for most",
		Long: `Show the keys that clients ask for most, over all nodes of the region. The rates
are estimates by sketches of bounded size: each may be too high by what is under
ERROR, and never too low.`,
		Example: `  atoll hotkeys
  atoll hotkeys -n 5 --watch
  atoll hotkeys -o json | jq -r '.keys[0].key | @base64d'`,
		Args: cobra.NoArgs,
	}
	q.serverFlags(cmd, defaultTimeout)
	cmd.Flags().IntVarP(&n, "limit", "n", 20, "keys at most")
	cmd.Flags().BoolVar(&watch, "watch", false, "look every two seconds, until Ctrl-C")
	out := formatFlag(cmd, "table", "json")
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		if n < 1 || n > 1000 {
			return usage(cmd, errors.New("bad number of keys"+inputBounds("limit", "1..1000", fmt.Sprint(n))))
		}
		c, err := q.dialCluster(cmd)
		if err != nil {
			return err
		}
		defer c.close()
		tick := time.NewTicker(watchBeat)
		defer tick.Stop()
		for {
			if err := q.hotKeys(cmd, c, n, watch, out); err != nil || !watch {
				return err
			}
			select {
			case <-tick.C:
			case <-cmd.Context().Done():
				return nil
			}
		}
	}
	return cmd
}

func (q *request) hotKeys(cmd *cobra.Command, c *cluster, n int, watch bool, out *format) error {
	ctx, cancel := context.WithTimeout(cmd.Context(), q.timeout)
	defer cancel()
	res, err := c.HotKeys(ctx, &adminv1.HotKeysRequest{Limit: uint32(n)})
	if err != nil {
		return adminFailure("ask for the hot keys", err)
	}
	w := cmd.OutOrStdout()
	if out.value == "json" {
		return printProto(w, res)
	}
	if watch && isTerminal(w) {
		fmt.Fprint(w, "\x1b[H\x1b[2J") // home, clear
	}
	return hotTable(w, res)
}

func hotTable(w io.Writer, r *adminv1.HotKeysResponse) error {
	all := r.ReadsPerSecond + r.WritesPerSecond
	if _, err := fmt.Fprintf(w, "%.1f reads and %.1f writes a second; a key that is not listed has %.1f at most\n",
		r.ReadsPerSecond, r.WritesPerSecond, r.Floor); err != nil {
		return err
	}
	if len(r.Silent) > 0 {
		if _, err := fmt.Fprintf(w, "without %s, which did not answer\n", list(r.Silent)); err != nil {
			return err
		}
	}
	if _, err := fmt.Fprintln(w); err != nil {
		return err
	}
	rows := newTable(w, "key", "bucket", "reads/s", "writes/s", "error", "share", "partition", "owners")
	for _, k := range r.Keys {
		share := 0.0
		if all > 0 {
			share = min(100*(k.ReadsPerSecond+k.WritesPerSecond)/all, 100)
		}
		rows.AppendRow([]any{
			preview(k.Key), k.Bucket, fmt.Sprintf("%.1f", k.ReadsPerSecond), fmt.Sprintf("%.1f", k.WritesPerSecond),
			fmt.Sprintf("%.1f", k.Error), fmt.Sprintf("%.1f %%", share), k.Partition, list(k.Owners),
		})
	}
	rows.Render()
	return nil
}
