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

The format is described in docs/export-format.md. It is for comparing and for
keeping; 'atoll import' reads another, simpler one. How many records, siblings
and deletes there were is printed on standard error.`,
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
	ctx, cancel := context.WithCancel(cmd.Context())
	defer cancel()
	stream, err := c.Export(ctx, &adminv1.ExportRequest{Bucket: q.bucket})
	if err != nil {
		return adminFailure("export", err)
	}
	out := bufio.NewWriterSize(cmd.OutOrStdout(), 256<<10)
	var n exported
	silence := time.AfterFunc(q.timeout, cancel)
	defer silence.Stop()
	err = n.copy(out, stream, func() { silence.Reset(q.timeout) })
	if flushErr := out.Flush(); err == nil {
		err = flushErr
	}
	switch {
	case err != nil && ctx.Err() != nil && cmd.Context().Err() == nil:
		err = withCode(exitUnavailable, fmt.Errorf("export: nothing came for %s", q.timeout))
	case err == nil:
		_, err = fmt.Fprintf(cmd.ErrOrStderr(), "exported %d records: %d with siblings, %d deletes\n", n.records, n.siblings, n.deletes)
		return err
	}
	fmt.Fprintf(cmd.ErrOrStderr(), "the output is incomplete: it ends after %d records\n", n.records)
	return err
}

// exported counts records, those with two or more versions, and versions that
// are deletes.
type exported struct{ records, siblings, deletes int }

// copy writes what the stream has; alive is called for each message.
func (n *exported) copy(w io.Writer, stream grpc.ServerStreamingClient[adminv1.ExportResponse], alive func()) error {
	var line []byte
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
			line = dump.Append(line[:0], r)
			if _, err := w.Write(line); err != nil {
				return fmt.Errorf("write the dump: %w", err)
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
