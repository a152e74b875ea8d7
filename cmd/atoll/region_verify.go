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

// maxVerifyWait is what a node takes as --wait at most.
const maxVerifyWait = time.Minute

func regionVerifyCommand() *cobra.Command {
	var q request
	var deep bool
	var wait time.Duration
	cmd := &cobra.Command{
		Use:   "verify REGION REGION",
		Short: "Compare two regions partition by partition",
		Long: `Compare clocks and digests of all partitions between all owners in two regions.
That takes a moment for any amount of data, and changes nothing. The exit code is 0
when every partition is equal everywhere, else 8.

A partition that is not equal is

  behind   when its owners have not received the same writes: some are on their way,
           or were lost on it and will be fetched. While clients write, look with
           --wait until each was seen equal once
  differs  when they have received the same and hold different records, seen twice:
           a disk has lost something. 'atoll repair --deep' mends that
  silent   when an owner did not answer

Digests are kept along with writes. --deep counts them anew from the disks, which
reads everything, and so finds what a disk has lost unnoticed.`,
		Example: `  atoll region verify eu us
  atoll region verify eu us --wait 30s
  atoll region verify eu us --deep --timeout 1h -o json | jq '.others'`,
		Args: cobra.ExactArgs(2),
	}
	q.serverFlags(cmd, defaultTimeout)
	cmd.Flags().BoolVar(&deep, "deep", false, "count digests anew from the disks")
	cmd.Flags().DurationVar(&wait, "wait", 5*time.Second, "look again for so long at what is not equal; 1m at most")
	out := formatFlag(cmd, "table", "json")
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		if wait < 0 || wait > maxVerifyWait {
			return usage(cmd, errors.New("bad wait"+inputBounds("wait", "0s..1m", wait.String())))
		}
		if args[0] == args[1] {
			return usage(cmd, errors.New("a region cannot be compared with itself"+inputBounds("REGION", "two regions", args[0])))
		}
		return q.withCluster(cmd, func(c *cluster) error {
			ctx, cancel := context.WithTimeout(cmd.Context(), q.timeout+wait)
			defer cancel()
			res, err := c.RegionVerify(ctx, &adminv1.RegionVerifyRequest{A: args[0], B: args[1], Deep: deep, WaitMs: wait.Milliseconds()})
			if err != nil {
				return adminFailure("compare the regions", err)
			}
			if out.value == "json" {
				err = printProto(cmd.OutOrStdout(), res)
			} else {
				err = verifyTable(cmd.OutOrStdout(), args[0], args[1], res)
			}
			if err == nil && len(res.Others) > 0 {
				err = withCode(exitDegraded, fmt.Errorf("%d of %d partitions are not equal", len(res.Others), res.Partitions))
			}
			return err
		})
	}
	return cmd
}

var verdictTexts = map[adminv1.VerdictKind]string{
	adminv1.VerdictKind_VERDICT_KIND_BEHIND:  "behind",
	adminv1.VerdictKind_VERDICT_KIND_DIFFERS: "differs",
	adminv1.VerdictKind_VERDICT_KIND_SILENT:  "silent",
}

// maxVerdicts bounds the rows of the table; JSON has all.
const maxVerdicts = 50

func verifyTable(w io.Writer, a, b string, r *adminv1.RegionVerifyResponse) error {
	kinds := map[adminv1.VerdictKind]int{}
	for _, o := range r.Others {
		kinds[o.Kind]++
	}
	if _, err := fmt.Fprintf(w, "%s and %s: %d of %d partitions equal, %d behind, %d differ, %d silent, in %s\n",
		a, b, r.Equal, r.Partitions, kinds[adminv1.VerdictKind_VERDICT_KIND_BEHIND],
		kinds[adminv1.VerdictKind_VERDICT_KIND_DIFFERS], kinds[adminv1.VerdictKind_VERDICT_KIND_SILENT], millisText(r.TookMs)); err != nil {
		return err
	}
	if len(r.Others) == 0 {
		return nil
	}
	if _, err := fmt.Fprintln(w); err != nil {
		return err
	}
	rows := newTable(w, "partition", "is", "missing in "+a, "missing in "+b, "nodes")
	for i, o := range r.Others {
		if i == maxVerdicts {
			break
		}
		inA, inB := "", ""
		if o.Kind == adminv1.VerdictKind_VERDICT_KIND_BEHIND {
			inA, inB = fmt.Sprint(o.MissingInA), fmt.Sprint(o.MissingInB)
		}
		rows.AppendRow([]any{o.Partition, verdictTexts[o.Kind], inA, inB, list(o.Nodes)})
	}
	rows.Render()
	if n := len(r.Others) - maxVerdicts; n > 0 {
		_, err := fmt.Fprintf(w, "and %d more: -o json has all\n", n)
		return err
	}
	return nil
}
