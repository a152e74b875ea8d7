package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"strconv"
	"time"

	"github.com/spf13/cobra"

	"github.com/atolldb/atoll/client"
	"github.com/atolldb/atoll/cmd/atoll/dump"
)

func backupCommand() *cobra.Command {
	var q request
	cmd := &cobra.Command{
		Use:   "backup (FILE | -)",
		Short: "Write all data of the region to a file that 'atoll restore' reads",
		Long: `Write every record of the region, siblings and deletes included, and the
definitions of the buckets, to a new file, while clients work. Each record is
merged over a quorum of its owners: every write is in it that the region had
acknowledged at a quorum before the backup began, of this region or arrived from
another one. Of what is written meanwhile some is in it.

The file has an end with a SHA-256 of all before: 'atoll restore --check' says
whether it is whole. It appears under its name when it is whole and synced; until
then it is FILE.partial. With - it goes to standard output, to be compressed or
sent away:

  atoll backup - | zstd > backup.zst

A backup has no actors, clocks, topology or secrets: it is for a deployment that
begins anew, or to get single keys back. It is not encrypted.`,
		Example: `  atoll backup atoll-$(date +%F).backup --endpoints eu-1:7400
  atoll restore --check atoll-2026-11-22.backup`,
		Args: cobra.ExactArgs(1),
	}
	q.serverFlags(cmd, exportTimeout)
	cmd.Flags().Lookup("timeout").Usage = "for connecting, and between two messages"
	cmd.Flags().StringVar(&q.bucket, "bucket", "", "`NAME` of the bucket; without it, all")
	out := formatFlag(cmd, "none", "json")
	cmd.RunE = func(cmd *cobra.Command, args []string) error { return runBackup(cmd, &q, out, args[0]) }
	return cmd
}

func runBackup(cmd *cobra.Command, q *request, out *format, name string) error {
	if name == "-" && out.value == "json" {
		return usage(cmd, errors.New("-o json and the backup would both go to standard output: name a file"))
	}
	c, err := q.dialCluster(cmd)
	if err != nil {
		return err
	}
	defer c.close()
	began := time.Now()
	var n exported
	var size int64
	if name == "-" {
		err = n.backUp(cmd.Context(), q, c, began, cmd.OutOrStdout())
	} else {
		size, err = wholeFile(name, func(w io.Writer) error { return n.backUp(cmd.Context(), q, c, began, w) })
	}
	if err != nil {
		return fmt.Errorf("no backup was made: %w", err)
	}
	fmt.Fprintf(cmd.ErrOrStderr(), "backed up %d records of region %s: %d with siblings, %d deletes; begun %s, took %s\n",
		n.records, c.topology.Region, n.siblings, n.deletes, began.UTC().Format(timeForm), time.Since(began).Round(time.Millisecond))
	if out.value == "json" {
		return printJSON(cmd.OutOrStdout(), map[string]any{
			"region": c.topology.Region, "records": n.records, "siblings": n.siblings, "deletes": n.deletes,
			"began": began.UTC().Format(timeForm), "seconds": time.Since(began).Seconds(), "bytes": size,
		})
	}
	return nil
}

// backUp writes a backup to w.
func (n *exported) backUp(ctx context.Context, q *request, c *cluster, began time.Time, to io.Writer) error {
	w := bufio.NewWriterSize(to, 256<<10)
	b, err := dump.NewWriter(w, dump.Head{Region: c.topology.Region, Bucket: q.bucket, Began: began})
	if err != nil {
		return err
	}
	kv := client.New(c.conn, client.NoSession(), client.Timeout(q.timeout))
	defer kv.Close() //nolint:errcheck // nothing is under way
	all, err := kv.Buckets().List(ctx)
	if err != nil {
		return q.failure(err)
	}
	if q.bucket != "" && !slices.ContainsFunc(all, func(b client.BucketInfo) bool { return b.Name == q.bucket }) {
		return withCode(exitUsage, errors.New("no such bucket"+inputBounds("bucket", "a bucket that exists", strconv.Quote(q.bucket))))
	}
	for _, one := range all {
		if q.bucket == "" || q.bucket == one.Name {
			if err := b.Define(definitionOf(one)); err != nil {
				return err
			}
		}
	}
	if err := n.pull(ctx, q, c, b.Record); err != nil {
		return err
	}
	if err := b.End(); err != nil {
		return err
	}
	return w.Flush()
}

// wholeFile makes a file that is there, with that name, only when it is whole and
// on the disk.
func wholeFile(name string, fill func(io.Writer) error) (size int64, err error) {
	if _, err := os.Lstat(name); err == nil {
		return 0, withCode(exitUsage, fmt.Errorf("%s is there already", name))
	}
	partial := name + ".partial"
	f, err := os.OpenFile(partial, os.O_WRONLY|os.O_CREATE|os.O_TRUNC, 0o600)
	if err != nil {
		return 0, withCode(exitUsage, err)
	}
	if err = fill(f); err == nil {
		err = f.Sync()
	}
	if st, statErr := f.Stat(); statErr == nil {
		size = st.Size()
	}
	if closeErr := f.Close(); err == nil {
		err = closeErr
	}
	if err == nil {
		err = os.Link(partial, name) // never over a file that has come meanwhile
	}
	return size, errors.Join(err, os.Remove(partial))
}

// definitionOf a bucket, for a backup.
func definitionOf(b client.BucketInfo) dump.Definition {
	policy := func(p client.LevelPolicy) dump.Policy {
		name := func(l client.Level) string { return (*bucketLevel)(&l).String() }
		return dump.Policy{Default: name(p.Default), Min: name(p.Min), Max: name(p.Max), Override: name(p.Override)}
	}
	return dump.Definition{
		Name: b.Name, Kind: b.Kind.String(), Reads: policy(b.Reads), Writes: policy(b.Writes), Sloppy: b.Sloppy,
		RequireContext: b.RequireContext, WarnSiblings: b.WarnSiblings, MaxSiblings: b.MaxSiblings, MaxValue: b.MaxValue,
		TTLMs: b.TTL.Milliseconds(), Regions: b.Regions, Home: b.Home,
	}
}

// bucketOf is the inverse of definitionOf.
func bucketOf(d dump.Definition) (client.BucketInfo, error) {
	var kind kindFlag
	err := kind.Set(d.Kind)
	policy := func(p dump.Policy) client.LevelPolicy {
		level := func(name string) client.Level {
			var l bucketLevel
			if name != "" {
				err = errors.Join(err, l.Set(name))
			}
			return client.Level(l)
		}
		return client.LevelPolicy{Default: level(p.Default), Min: level(p.Min), Max: level(p.Max), Override: level(p.Override)}
	}
	b := client.BucketInfo{
		Name: d.Name, Kind: client.BucketKind(kind), Reads: policy(d.Reads), Writes: policy(d.Writes), Sloppy: d.Sloppy,
		RequireContext: d.RequireContext, WarnSiblings: d.WarnSiblings, MaxSiblings: d.MaxSiblings, MaxValue: d.MaxValue,
		TTL: time.Duration(d.TTLMs) * time.Millisecond, Regions: d.Regions, Home: d.Home,
	}
	if err != nil {
		return client.BucketInfo{}, fmt.Errorf("the backup's bucket %q: %w", d.Name, err)
	}
	return b, nil
}
