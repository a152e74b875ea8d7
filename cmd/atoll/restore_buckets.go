package main

import (
	"context"
	"errors"
	"fmt"
	"reflect"

	"github.com/spf13/cobra"

	"github.com/atolldb/atoll/client"
	"github.com/atolldb/atoll/cmd/atoll/dump"
)

// definer makes the buckets of a backup. What an operator has decided in this
// deployment stays: only a bucket that is not there is made, and one that nobody has
// ever changed gets the backup's policy.
type definer struct {
	q     *restoreFlags
	c     *client.Client
	cmd   *cobra.Command
	there map[string]client.BucketInfo
}

// all buckets that are there, by name, and with --dry-run those that would be.
func (d *definer) all(ctx context.Context) (map[string]client.BucketInfo, error) {
	if d.there == nil {
		list, err := d.c.Buckets().List(ctx)
		if err != nil {
			return nil, err
		}
		d.there = map[string]client.BucketInfo{}
		for _, b := range list {
			d.there[b.Name] = b
		}
	}
	return d.there, nil
}

func (d *definer) bucket(ctx context.Context, def dump.Definition) error {
	want, err := bucketOf(def)
	if err != nil {
		return err
	}
	there, err := d.all(ctx)
	if err != nil {
		return d.q.failure(err)
	}
	is, known := there[want.Name]
	want.Revision, want.Changed = is.Revision, is.Changed
	switch {
	case known && is.Kind != want.Kind:
		return withCode(exitPrecondition, fmt.Errorf("bucket %s is of kind %s here, and %s in the backup; --bucket restores others alone", want.Name, is.Kind, want.Kind))
	case known && reflect.DeepEqual(definitionOf(is), definitionOf(want)):
		return nil
	case known && (is.Revision > 0 || d.q.noDefine):
		fmt.Fprintf(d.cmd.ErrOrStderr(), "bucket %s has another policy than in the backup, and keeps it\n", want.Name)
		return nil
	case d.q.noDefine:
		return withCode(exitUsage, fmt.Errorf("bucket %s is not there; without --no-buckets it would be made", want.Name))
	case d.q.dry:
		fmt.Fprintf(d.cmd.ErrOrStderr(), "bucket %s would be made or changed\n", want.Name)
	case known:
		want, err = d.c.Buckets().Update(ctx, want)
		if err == nil {
			fmt.Fprintf(d.cmd.ErrOrStderr(), "bucket %s has the backup's policy\n", want.Name)
		}
	default:
		want, err = d.c.Buckets().Create(ctx, want)
		if err == nil {
			fmt.Fprintf(d.cmd.ErrOrStderr(), "bucket %s was made\n", want.Name)
		}
	}
	if err != nil {
		if errors.Is(err, client.ErrRevision) || errors.Is(err, client.ErrBucketExists) {
			return d.q.failure(fmt.Errorf("somebody changes bucket %s: %w", want.Name, err))
		}
		return d.q.failure(err)
	}
	there[want.Name] = want
	return nil
}
