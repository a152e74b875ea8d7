package main

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/atolldb/atoll/client"
)

const (
	defaultEndpoints = "127.0.0.1:7400"
	endpointsVar     = "ATOLL_ENDPOINTS"
	defaultTimeout   = 5 * time.Second
)

// request holds the flags that commands have in common. They have the same
// names and meanings everywhere.
type request struct {
	endpoints string
	timeout   time.Duration
	region    string
	fallback  []string
	bucket    string
	level     level
	r, w      count
	regions   count
	sloppy    bool

	session                 string // file
	acceptLoss              bool
	maxStaleness, waitFresh time.Duration

	after     string // what --after or --if-context was given
	condition conditionFlags
	info      client.Info

	key       string // of a write
	requestID string
	retry     bool
	triedIn   []string
	id        client.RequestID // zero without --request-id
}

// serverFlags say where the server is.
func (q *request) serverFlags(cmd *cobra.Command, timeout time.Duration) {
	f := cmd.Flags()
	f.StringVar(&q.endpoints, "endpoints", defaultEndpoints,
		"`HOST:PORT,...` of one or more nodes of the region to use; without it "+endpointsVar)
	f.DurationVar(&q.timeout, "timeout", timeout, "for each operation, and for connecting")
}

func (q *request) bucketFlag(cmd *cobra.Command) {
	cmd.Flags().StringVar(&q.bucket, "bucket", "default", "`NAME` of the bucket")
}

func (q *request) levelFlag(cmd *cobra.Command) {
	cmd.Flags().Var(&q.level, "consistency", "who takes part, see 'atoll help consistency': "+strings.Join(levelNames(), ", "))
	complete(cmd, "consistency", levelNames())
	cmd.Flags().Var(&q.regions, "regions", "exactly so many regions take part, the one asked among them, whatever --consistency says")
}

func (q *request) readFlags(cmd *cobra.Command) {
	q.levelFlag(cmd)
	cmd.Flags().Var(&q.r, "r", "exactly so many owners of each region that takes part answer a read, whatever --consistency says")
}

func (q *request) writeFlags(cmd *cobra.Command) {
	if cmd.Flags().Lookup("consistency") == nil {
		q.levelFlag(cmd)
	}
	cmd.Flags().Var(&q.w, "w", "exactly so many owners of each region that takes part have a write durably, whatever --consistency says")
	cmd.Flags().BoolVar(&q.sloppy, "sloppy", false, "other nodes stand in for owners that are away; reads may miss the write until those are back")
}

// target is where to connect: flag before environment before default.
func (q *request) target(cmd *cobra.Command) string {
	if env := os.Getenv(endpointsVar); env != "" && !cmd.Flags().Changed("endpoints") {
		return env
	}
	return q.endpoints
}

func (q *request) check(cmd *cobra.Command) error {
	if q.timeout <= 0 {
		return usage(cmd, fmt.Errorf("the timeout has to be positive%s", inputBounds("timeout", "> 0", q.timeout.String())))
	}
	for _, addr := range q.addresses(cmd) {
		if _, port, err := net.SplitHostPort(addr); err != nil || port == "" {
			return usage(cmd, errors.New("not the address of a node"+inputBounds("endpoints", "HOST:PORT,...", strconv.Quote(addr))))
		}
	}
	return nil
}

// addresses of the target; none is one that is empty.
func (q *request) addresses(cmd *cobra.Command) []string {
	var out []string
	for addr := range strings.SplitSeq(q.target(cmd), ",") {
		if addr = strings.TrimSpace(addr); addr != "" {
			out = append(out, addr)
		}
	}
	if len(out) == 0 {
		return []string{""}
	}
	return out
}

// open connects; the caller closes. Siblings are never resolved behind the
// user's back.
func (q *request) open(cmd *cobra.Command, more ...client.Option) (*client.Client, error) {
	if err := errors.Join(q.check(cmd), q.checkFollow(cmd)); err != nil {
		return nil, err
	}
	ctx, cancel := context.WithTimeout(cmd.Context(), q.timeout)
	defer cancel()
	opts := append(q.where(), client.Timeout(q.timeout))
	if q.bucket != "" {
		opts = append(opts, client.Bucket(q.bucket))
	}
	c, err := client.Open(ctx, q.target(cmd), append(opts, more...)...)
	switch {
	case errors.Is(err, client.ErrUnavailable), errors.Is(err, client.ErrDeadline):
		return nil, unreachable(q.target(cmd), err)
	case err != nil:
		return nil, q.failure(fmt.Errorf("connect to %s: %w", q.target(cmd), err))
	}
	return c, nil
}

func (q *request) readOptions() []client.ReadOption {
	opts := []client.ReadOption{client.Level(q.level), client.Explain(&q.info)}
	if q.r > 0 {
		opts = append(opts, client.R(int(q.r)))
	}
	if q.regions > 0 {
		opts = append(opts, client.Regions(int(q.regions)))
	}
	if q.maxStaleness > 0 {
		opts = append(opts, client.MaxStaleness(q.maxStaleness))
	}
	if q.waitFresh > 0 {
		opts = append(opts, client.WaitFresh(q.waitFresh))
	}
	return opts
}

func (q *request) writeOptions() []client.WriteOption {
	opts := []client.WriteOption{client.Level(q.level), client.Explain(&q.info)}
	if q.w > 0 {
		opts = append(opts, client.W(int(q.w)))
	}
	if q.regions > 0 {
		opts = append(opts, client.Regions(int(q.regions)))
	}
	if q.sloppy {
		opts = append(opts, client.Sloppy())
	}
	switch {
	case q.retry:
		opts = append(opts, client.Again(q.id).TriedIn(q.triedIn...))
	case !q.id.IsZero():
		opts = append(opts, client.Request(q.id))
	}
	return opts
}

// level is the flag --consistency; zero is the server's default.
type level client.Level

var levels = []client.Level{
	client.LocalOne, client.LocalTwo, client.LocalThree, client.LocalQuorum, client.LocalAll,
	client.Quorum, client.EachQuorum, client.All, client.LocalSerial, client.Serial,
}

func levelNames() []string {
	names := make([]string, len(levels))
	for i, l := range levels {
		names[i] = l.String()
	}
	return names
}

// Set implements pflag.Value.
func (l *level) Set(s string) error {
	for _, k := range levels {
		if k.String() == s {
			*l = level(k)
			return nil
		}
	}
	return fmt.Errorf("no such level%s", inputBounds("consistency", strings.Join(levelNames(), "|"), s))
}

func (l *level) String() string {
	if *l == 0 {
		return client.LocalQuorum.String()
	}
	return client.Level(*l).String()
}

// Type implements pflag.Value.
func (*level) Type() string { return "LEVEL" }

// count is a flag for a number of owners or regions; zero is not given.
type count uint32

// maxCount is well above any number of owners: the server knows the real one.
const maxCount = 64

// Set implements pflag.Value.
func (c *count) Set(s string) error {
	var n int
	if _, err := fmt.Sscanf(s+"\n", "%d\n", &n); err != nil || n < 1 || n > maxCount {
		return fmt.Errorf("not a number of owners or regions (limit 1..%d, seen %s)", maxCount, s)
	}
	*c = count(n)
	return nil
}

func (c *count) String() string {
	if *c == 0 {
		return ""
	}
	return fmt.Sprint(uint32(*c))
}

// Type implements pflag.Value.
func (*count) Type() string { return "N" }

// atMostOne refuses flags that contradict each other. Cobra's own groups do not
// let the exit code be chosen.
func atMostOne(cmd *cobra.Command, flags ...string) error {
	var given []string
	for _, f := range flags {
		if cmd.Flags().Changed(f) {
			given = append(given, "--"+f)
		}
	}
	if len(given) > 1 {
		return usage(cmd, fmt.Errorf("%s: give one of them", strings.Join(given, " and ")))
	}
	return nil
}

// complete gives the shell the values of a flag.
func complete(cmd *cobra.Command, flag string, values []string) {
	// It fails only for a flag that does not exist or has one already.
	_ = cmd.RegisterFlagCompletionFunc(flag, cobra.FixedCompletions(slices.Clone(values), cobra.ShellCompDirectiveNoFileComp))
}
