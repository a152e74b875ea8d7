package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"time"

	"github.com/spf13/cobra"
	"google.golang.org/grpc"

	"github.com/atolldb/atoll/cmd/atoll/dump"
	adminv1 "github.com/atolldb/atoll/proto/atoll/admin/v1"
)

const exportTimeout = 30 * time.Second

func exportCommand() *cobra.Command {
	var q request
	cmd := &cobra.Command{
		Use:   "export",
		Short: "Write every record of the region, siblings and deletes included",
		Long: `Write every record of the region to standard output, one line each: all
versions, deletes included, with the pasts that decide about conflicts. Each
record is merged over a quorum of its owners. The order is that of the
placement hash, so that equal data give equal bytes in every region:

  diff <(atoll export --endpoints eu:7400) <(atoll export --endpoints us:7400)

The format is described in docs/export-format.md. It is for comparing; to keep
data use 'atoll backup', which writes the same records and an end by which the
file is known to be whole. 'atoll import' reads another, simpler format. How many
records, siblings and deletes there were is printed on standard error.`,
		Example: `  atoll export > dump.jsonl
  atoll export | jq -r 'select(.versions | length > 1) | .key'`,
		Args: cobra.NoArgs,
	}
	q.serverFlags(cmd, exportTimeout)
	cmd.Flags().Lookup("timeout").Usage = "for connecting, and between two messages"
	cmd.Flags().StringVar(&q.bucket, "bucket", "", "`NAME` of the bucket; without it, all")
	formatFlag(cmd, "jsonl")
	cmd.RunE = func(cmd *cobra.Command, _ []string) error { return runExport(cmd, &q) }
	return cmd
}

func runExport(cmd *cobra.Command, q *request) error {
	c, err := q.dialCluster(cmd)
	if err != nil {
		return err
	}
	defer c.close()
	out := bufio.NewWriterSize(cmd.OutOrStdout(), 256<<10)
	var n exported
	var line []byte
	err = n.pull(cmd.Context(), q, c, func(r *adminv1.ExportRecord) error {
		line = dump.Append(line[:0], r)
		if _, err := out.Write(line); err != nil {
			return fmt.Errorf("write the dump: %w", err)
		}
		return nil
	})
	if flushErr := out.Flush(); err == nil {
		err = flushErr
	}
	if err == nil {
		_, err = fmt.Fprintf(cmd.ErrOrStderr(), "exported %d records: %d with siblings, %d deletes\n", n.records, n.siblings, n.deletes)
		return err
	}
	fmt.Fprintf(cmd.ErrOrStderr(), "the output is incomplete: it ends after %d records\n", n.records)
	return err
}

// exported counts records, those with two or more versions, and versions that
// are deletes.
type exported struct{ records, siblings, deletes int }

// pull calls each for every record of the bucket, of all without one. When nothing
// comes for the timeout, it gives up.
func (n *exported) pull(ctx context.Context, q *request, c *cluster, each func(*adminv1.ExportRecord) error) error {
	inner, cancel := context.WithCancel(ctx)
	defer cancel()
	stream, err := c.Export(inner, &adminv1.ExportRequest{Bucket: q.bucket})
	if err != nil {
		return adminFailure("export", err)
	}
	silence := time.AfterFunc(q.timeout, cancel)
	defer silence.Stop()
	err = n.each(stream, func() { silence.Reset(q.timeout) }, each)
	if err != nil && inner.Err() != nil && ctx.Err() == nil {
		return withCode(exitUnavailable, fmt.Errorf("export: nothing came for %s", q.timeout))
	}
	return err
}

// each calls do for what the stream has; alive is called for each message.
func (n *exported) each(
	stream grpc.ServerStreamingClient[adminv1.ExportResponse], alive func(), do func(*adminv1.ExportRecord) error,
) error {
	for {
		msg, err := stream.Recv()
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return adminFailure("export", err)
		}
		alive()
		for _, r := range msg.Records {
			if err := do(r); err != nil {
				return err
			}
			n.count(r)
		}
	}
}

func (n *exported) count(r *adminv1.ExportRecord) {
	n.records++
	if len(r.Versions) > 1 {
		n.siblings++
	}
	for _, v := range r.Versions {
		if v.Deleted {
			n.deletes++
		}
	}
}
