package main

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/atolldb/atoll/client"
	"github.com/atolldb/atoll/node/process"
)

func bucketCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "bucket",
		Short: "Look at buckets, make them, and change their policies",
		Long: `A bucket is a space of keys with one policy: what becomes of concurrent writes,
which consistency levels it allows, how large values are, how long they live.
Its definition is kept by the store itself: what is changed on any node is known
to all nodes of the region within about a second, and to other regions when the
stream between them has brought it.

The bucket "default" is always there. Those that the configuration of the nodes
names are there with revision 0, until one of these commands changes them: then
what the store says holds.`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	cmd.AddCommand(bucketListCommand(), bucketShowCommand(), bucketCreateCommand(), bucketSetCommand(), bucketRemoveCommand())
	return cmd
}

// withBuckets calls do with the buckets and a context that the timeout bounds.
func (q *request) withBuckets(cmd *cobra.Command, do func(context.Context, client.Buckets) error) error {
	c, err := q.open(cmd)
	if err != nil {
		return err
	}
	defer c.Close() //nolint:errcheck // nothing is under way
	ctx, cancel := context.WithTimeout(cmd.Context(), q.timeout)
	defer cancel()
	return do(ctx, c.Buckets())
}

func bucketListCommand() *cobra.Command {
	var q request
	cmd := &cobra.Command{
		Use: "ls", Aliases: []string{"list"}, Short: "List all buckets",
		Example: `  atoll bucket ls
  atoll bucket ls -o json | jq -r '.buckets[].name'`,
		Args: cobra.NoArgs,
	}
	q.serverFlags(cmd, defaultTimeout)
	out := formatFlag(cmd, "table", "json")
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		return q.withBuckets(cmd, func(ctx context.Context, b client.Buckets) error {
			all, err := b.List(ctx)
			if err != nil {
				return q.failure(err)
			}
			if out.value == "json" {
				list := struct {
					Buckets []bucketJSON `json:"buckets"`
				}{make([]bucketJSON, len(all))}
				for i, one := range all {
					list.Buckets[i] = bucketForm(one)
				}
				return printJSON(cmd.OutOrStdout(), list)
			}
			rows := newTable(cmd.OutOrStdout(), "bucket", "kind", "revision", "reads", "writes", "max value", "siblings", "ttl", "more")
			for _, one := range all {
				rows.AppendRow([]any{
					one.Name, one.Kind, one.Revision, policyText(one.Reads), policyText(one.Writes), maxValueText(one),
					siblingsText(one), ttlText(one.TTL), moreText(one),
				})
			}
			rows.Render()
			return nil
		})
	}
	return cmd
}

func bucketShowCommand() *cobra.Command {
	var q request
	cmd := &cobra.Command{
		Use: "show NAME", Short: "Show all of one bucket's definition",
		Example: `  atoll bucket show carts
  atoll bucket show carts -o json | jq .revision`,
		Args: cobra.ExactArgs(1),
	}
	q.serverFlags(cmd, defaultTimeout)
	out := formatFlag(cmd, "table", "json")
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		q.bucket = args[0]
		return q.withBuckets(cmd, func(ctx context.Context, b client.Buckets) error {
			info, err := b.Get(ctx, args[0])
			if err != nil {
				return q.failure(err)
			}
			return printBucket(cmd, out, info)
		})
	}
	return cmd
}

func bucketCreateCommand() *cobra.Command {
	var q request
	var p bucketFlags
	cmd := &cobra.Command{
		Use: "create NAME", Short: "Make a bucket",
		Long: `Make a bucket. Its kind is for ever:

  mv   concurrent writes stay beside each other as siblings, until somebody
       resolves them; nothing is lost
  lww  the last writer wins; concurrent writes are lost without a trace

If a bucket of this name was deleted, the new one has to be of its kind, and its
keys are there again.`,
		Example: `  atoll bucket create carts
  atoll bucket create sessions --kind lww --ttl 24h --read-default local-one
  atoll bucket create ledger --write-min quorum --require-context`,
		Args: cobra.ExactArgs(1),
	}
	q.serverFlags(cmd, defaultTimeout)
	var kind kindFlag
	cmd.Flags().Var(&kind, "kind", "what becomes of concurrent writes: mv, lww")
	complete(cmd, "kind", []string{"mv", "lww"})
	p.add(cmd)
	out := formatFlag(cmd, "table", "json")
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		q.bucket = args[0]
		info := client.BucketInfo{Name: args[0], Kind: client.BucketKind(kind)}
		p.apply(cmd, &info)
		return q.withBuckets(cmd, func(ctx context.Context, b client.Buckets) error {
			made, err := b.Create(ctx, info)
			if err != nil {
				return q.failure(err)
			}
			return printBucket(cmd, out, made)
		})
	}
	return cmd
}

func bucketSetCommand() *cobra.Command {
	var q request
	var p bucketFlags
	var revision uint64
	cmd := &cobra.Command{
		Use: "set NAME", Aliases: []string{"update"}, Short: "Change a bucket's policies",
		Long: `Change what the flags name, and nothing else. The bucket is read and written back
if nobody has changed it meanwhile; --revision asks for more: that it is still
what the caller has seen.`,
		Example: `  atoll bucket set carts --max-siblings 32
  atoll bucket set carts --read-override local-one  # until it is taken back
  atoll bucket set carts --read-override default`,
		Args: cobra.ExactArgs(1),
	}
	q.serverFlags(cmd, defaultTimeout)
	p.add(cmd)
	cmd.Flags().Uint64Var(&revision, "revision", 0, "refuse if the bucket has another revision than `N`")
	out := formatFlag(cmd, "table", "json")
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		q.bucket = args[0]
		return q.withBuckets(cmd, func(ctx context.Context, b client.Buckets) error {
			info, err := b.Get(ctx, args[0])
			if err != nil {
				return q.failure(err)
			}
			if cmd.Flags().Changed("revision") {
				info.Revision = revision
			}
			if p.apply(cmd, &info) == 0 {
				return usage(cmd, errors.New("say what to change"))
			}
			if info, err = b.Update(ctx, info); err != nil {
				return q.failure(err)
			}
			return printBucket(cmd, out, info)
		})
	}
	return cmd
}

func bucketRemoveCommand() *cobra.Command {
	var q request
	var yes bool
	var revision uint64
	cmd := &cobra.Command{
		Use: "rm NAME --yes", Aliases: []string{"delete"}, Short: "Take a bucket away, and leave its keys unreachable",
		Long: `Take a bucket away, in all regions. Its keys are not deleted: nobody can read or
write them any more, they take up their room, and they are there again when a
bucket of this name and kind is made. To be rid of them, delete them first.`,
		Example: `  atoll bucket rm carts --yes
  atoll bucket rm carts --yes --revision 7 -o json`,
		Args: cobra.ExactArgs(1),
	}
	q.serverFlags(cmd, defaultTimeout)
	cmd.Flags().BoolVarP(&yes, "yes", "y", false, "it is meant")
	cmd.Flags().Uint64Var(&revision, "revision", 0, "refuse if the bucket has another revision than `N`")
	out := formatFlag(cmd, "table", "json")
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		q.bucket = args[0]
		if !yes {
			return usage(cmd, errors.New("this makes all keys of the bucket unreachable: say that it is meant by --yes"))
		}
		return q.withBuckets(cmd, func(ctx context.Context, b client.Buckets) error {
			if !cmd.Flags().Changed("revision") {
				info, err := b.Get(ctx, args[0])
				if err != nil {
					return q.failure(err)
				}
				revision = info.Revision
			}
			if err := b.Delete(ctx, args[0], revision); err != nil {
				return q.failure(err)
			}
			if out.value == "json" {
				return printJSON(cmd.OutOrStdout(), removedBucketJSON{args[0], revision})
			}
			_, err := fmt.Fprintf(cmd.OutOrStdout(), "bucket %s is gone; its keys are not\n", args[0])
			return err
		})
	}
	return cmd
}

// bucketFlags are the parts of a definition that can be changed. Only flags that
// are given count.
type bucketFlags struct {
	reads, writes             policyFlags
	sloppy, requireContext    bool
	warnSiblings, maxSiblings int
	maxValue                  sizeFlag
	ttl                       time.Duration
	regions                   []string
	home                      string
}

type policyFlags struct{ normal, least, most, override bucketLevel }

func (p *bucketFlags) add(cmd *cobra.Command) {
	f := cmd.Flags()
	for _, of := range []struct {
		what, name string
		to         *policyFlags
	}{{"reads", "read", &p.reads}, {"writes", "write", &p.writes}} {
		f.Var(&of.to.normal, of.name+"-default", "level of "+of.what+" that ask for none")
		f.Var(&of.to.least, of.name+"-min", "weakest level that "+of.what+" may ask for; 'default' for any")
		f.Var(&of.to.most, of.name+"-max", "strongest level that "+of.what+" may ask for; 'default' for any")
		f.Var(&of.to.override, of.name+"-override", "level of all "+of.what+", whatever they ask for; 'default' takes it back")
		for _, name := range []string{"-default", "-min", "-max", "-override"} {
			complete(cmd, of.name+name, append([]string{"default"}, levelNames()...))
		}
	}
	f.BoolVar(&p.sloppy, "sloppy", false, "other nodes stand in for owners that are away, in all writes")
	f.BoolVar(&p.requireContext, "require-context", false, "refuse a put without --after where a value is")
	f.IntVar(&p.warnSiblings, "warn-siblings", 0, "mark answers for keys with `N` versions or more; 0 for 64")
	f.IntVar(&p.maxSiblings, "max-siblings", 0, "refuse writes that would leave more than `N` versions, 2..256; 0 for 256")
	f.Var(&p.maxValue, "max-value", "largest value, up to 8MiB; 0 for 1MiB")
	f.DurationVar(&p.ttl, "ttl", 0, "lifetime of puts that ask for none; 0 for ever")
	f.StringSliceVar(&p.regions, "regions", nil, "`REGIONS` that have the bucket, apart by commas, and no others; a change may add some. All by default")
	f.StringVar(&p.home, "home", "", "`REGION` that decides operations at serial; a switchover or failover moves that, 'atoll dr status' shows where to")
}

// apply sets what was given, and returns how much that is.
func (p *bucketFlags) apply(cmd *cobra.Command, info *client.BucketInfo) int {
	given := 0
	for name, set := range map[string]func(){
		"read-default":    func() { info.Reads.Default = client.Level(p.reads.normal) },
		"read-min":        func() { info.Reads.Min = client.Level(p.reads.least) },
		"read-max":        func() { info.Reads.Max = client.Level(p.reads.most) },
		"read-override":   func() { info.Reads.Override = client.Level(p.reads.override) },
		"write-default":   func() { info.Writes.Default = client.Level(p.writes.normal) },
		"write-min":       func() { info.Writes.Min = client.Level(p.writes.least) },
		"write-max":       func() { info.Writes.Max = client.Level(p.writes.most) },
		"write-override":  func() { info.Writes.Override = client.Level(p.writes.override) },
		"sloppy":          func() { info.Sloppy = p.sloppy },
		"require-context": func() { info.RequireContext = p.requireContext },
		"warn-siblings":   func() { info.WarnSiblings = p.warnSiblings },
		"max-siblings":    func() { info.MaxSiblings = p.maxSiblings },
		"max-value":       func() { info.MaxValue = int(p.maxValue) },
		"ttl":             func() { info.TTL = p.ttl },
		"regions":         func() { info.Regions = p.regions },
		"home":            func() { info.Home = p.home },
	} {
		if cmd.Flags().Changed(name) {
			set()
			given++
		}
	}
	return given
}

// bucketLevel is a level of a bucket's policy; zero says nothing.
type bucketLevel client.Level

// Set implements pflag.Value.
func (l *bucketLevel) Set(s string) error {
	parsed, err := client.ParseLevel(s)
	if err != nil {
		return fmt.Errorf("no such level%s", inputBounds("level", "default|"+strings.Join(levelNames(), "|"), s))
	}
	*l = bucketLevel(parsed)
	return nil
}

func (l *bucketLevel) String() string {
	if *l == 0 {
		return ""
	}
	return client.Level(*l).String()
}

// Type implements pflag.Value.
func (*bucketLevel) Type() string { return "LEVEL" }

// kindFlag is a kind of bucket.
type kindFlag client.BucketKind

// Set implements pflag.Value.
func (k *kindFlag) Set(s string) error {
	for _, kind := range []client.BucketKind{client.MV, client.LWW} {
		if kind.String() == s {
			*k = kindFlag(kind)
			return nil
		}
	}
	return fmt.Errorf("no such kind%s", inputBounds("kind", "mv|lww", s))
}

func (k *kindFlag) String() string { return client.BucketKind(*k).String() }

// Type implements pflag.Value.
func (*kindFlag) Type() string { return "KIND" }

// sizeFlag is a number of bytes.
type sizeFlag process.Size

// Set implements pflag.Value.
func (s *sizeFlag) Set(text string) error { return (*process.Size)(s).UnmarshalText([]byte(text)) }

func (s *sizeFlag) String() string {
	if *s == 0 {
		return ""
	}
	return process.Size(*s).String()
}

// Type implements pflag.Value.
func (*sizeFlag) Type() string { return "SIZE" }
