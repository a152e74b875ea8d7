package main

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"os/signal"
	"runtime"
	"strings"
	"syscall"
	"time"

	"github.com/spf13/cobra"

	"github.com/atolldb/atoll/cmd/atoll/workload"
)

// beat is how late the operations of an open loop may begin; it costs about
// 2 % of a core.
const beat = 200 * time.Microsecond

type benchFlags struct {
	request
	mix, dist, prefix string
	clients           int
	connections       int
	rate              float64
	keys, valueSize   int
	duration, warmup  time.Duration
	ops               int64
	preload           bool
	seed              uint64
	every             time.Duration
}

func benchCommand() *cobra.Command {
	var q benchFlags
	cmd := &cobra.Command{
		Use:   "bench",
		Short: "Put the region under load and measure latencies",
		Long: `Put the region under load and measure latencies.

Without --rate the loop is closed: each of --clients sends its next operation
when its last was answered. With --rate it is open: operations begin at even
times, whatever became of those before, and latency counts from when one was
due, so that a stall is seen by all that were due meanwhile. --clients then is
how many may be under way; what was due and found no free client before the
end is told as not started. How late operations began although a client was
waiting is told as pacing: the error of the measurement.

Mixes: a half get, half put; b 95 % get, 5 % put; c and get only get; put only
put; rmw gets a key and puts it after what it read. Puts without a read
replace what is there, so that no siblings pile up.

Keys are chosen uniformly, by Zipf's law with exponent 0.99, or (latest) so
that writes take turns and reads prefer what was written last. Latencies are
those of successes; failures are counted by reason. Nothing is deleted: use a
--prefix of your own on a cluster with data.`,
		Example: `  atoll bench --preload --mix b --clients 256
  atoll bench --mix put --rate 2000 --duration 60s --value-size 1024
  atoll bench --mix c --r 1 --warmup 5s -o json > result.json`,
		Args: cobra.NoArgs,
	}
	q.serverFlags(cmd, 2*time.Second)
	q.followFlags(cmd)
	q.bucketFlag(cmd)
	q.readFlags(cmd)
	q.writeFlags(cmd)
	f := cmd.Flags()
	f.StringVar(&q.mix, "mix", "b", "`MIX` of operations: "+strings.Join(workload.Mixes, ", "))
	f.StringVar(&q.dist, "dist", "uniform", "`DISTRIBUTION` of keys: "+strings.Join(workload.Distributions, ", "))
	complete(cmd, "mix", workload.Mixes)
	complete(cmd, "dist", workload.Distributions)
	f.IntVar(&q.clients, "clients", 64, "operations under way at a time")
	f.Float64Var(&q.rate, "rate", 0, "operations per second that are begun, answered or not; without it, a closed loop")
	f.IntVar(&q.connections, "connections", 1, "connections to each node")
	f.IntVar(&q.keys, "keys", 100_000, "different keys")
	f.IntVar(&q.valueSize, "value-size", 100, "bytes of a value")
	f.DurationVar(&q.duration, "duration", 10*time.Second, "how long to measure; with --ops no bound unless given")
	f.Int64Var(&q.ops, "ops", 0, "end after so many operations")
	f.DurationVar(&q.warmup, "warmup", 0, "load that is not measured, before")
	f.BoolVar(&q.preload, "preload", false, "write all keys first")
	f.StringVar(&q.prefix, "prefix", "bench/", "of all keys")
	f.Uint64Var(&q.seed, "seed", 1, "of the choice of operations and keys")
	f.DurationVar(&q.every, "interval", 5*time.Second, "how often to tell how it goes; 0 for never")
	out := formatFlag(cmd, "table", "json", "jsonl")
	cmd.RunE = func(cmd *cobra.Command, _ []string) error { return runBench(cmd, &q, out) }
	return cmd
}

// check returns what the mix and the distribution stand for.
func (q *benchFlags) check(cmd *cobra.Command) (workload.Mix, workload.Chooser, error) {
	bad := func(field, limit string, seen any) error {
		return usage(cmd, errors.New("bad "+field+inputBounds(field, limit, fmt.Sprint(seen))))
	}
	mix, err := workload.ParseMix(q.mix)
	if err != nil {
		return mix, nil, bad("mix", strings.Join(workload.Mixes, "|"), q.mix)
	}
	switch {
	case q.clients < 1 || q.clients > 1<<16:
		err = bad("clients", fmt.Sprintf("1..%d", 1<<16), q.clients)
	case q.connections < 1 || q.connections > 64:
		err = bad("connections", "1..64", q.connections)
	case q.rate < 0 || q.rate > 1e7:
		err = bad("rate", "0..10000000", q.rate)
	case q.keys < 1 || q.keys > 1e12:
		err = bad("keys", "1..1000000000000", q.keys)
	case q.valueSize < 0 || q.valueSize > maxValue:
		err = bad("value-size", fmt.Sprintf("0..%d bytes", maxValue), q.valueSize)
	case q.duration <= 0:
		err = bad("duration", "> 0", q.duration)
	case q.ops < 0:
		err = bad("ops", ">= 0", q.ops)
	case q.warmup < 0:
		err = bad("warmup", ">= 0", q.warmup)
	case q.every < 0:
		err = bad("interval", ">= 0", q.every)
	default:
		err = q.request.check(cmd)
	}
	if err != nil {
		return mix, nil, err
	}
	if q.ops > 0 && !cmd.Flags().Changed("duration") {
		q.duration = 0
	}
	chooser, err := workload.NewChooser(q.dist, q.keys)
	if err != nil {
		return mix, nil, bad("dist", strings.Join(workload.Distributions, "|"), q.dist)
	}
	return mix, chooser, nil
}

func runBench(cmd *cobra.Command, q *benchFlags, out *format) error {
	mix, chooser, err := q.check(cmd)
	if err != nil {
		return err
	}
	target, err := q.connect(cmd)
	if err != nil {
		return err
	}
	defer target.close()
	ctx, stop := signal.NotifyContext(cmd.Context(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	context.AfterFunc(ctx, stop) // a second signal ends the process

	if q.preload {
		began := time.Now()
		values := workload.NewValues(rand.New(rand.NewPCG(q.seed, 1<<63)), q.valueSize)
		if err := target.preload(ctx, q.prefix, q.keys, values, q.seed); err != nil {
			if ctx.Err() != nil {
				err = errors.New("interrupted; some keys are written")
			}
			return q.failure(fmt.Errorf("preload: %w", err))
		}
		took := time.Since(began)
		fmt.Fprintf(cmd.ErrOrStderr(), "preloaded %d keys in %s, %.0f/s\n", q.keys, took.Round(time.Millisecond), float64(q.keys)/took.Seconds())
	}
	if q.rate > 0 {
		stopBeat, err := startMetronome(beat)
		if err != nil {
			return err
		}
		defer stopBeat()
	}
	var tellErr error
	started := time.Now()
	total := workload.Run(ctx, workload.Config{
		Do: target.do, Clients: q.clients, Rate: q.rate,
		Mix: mix, Chooser: chooser, Prefix: q.prefix, ValueSize: q.valueSize, Seed: q.seed,
		Warmup: q.warmup, Duration: q.duration, Ops: q.ops, Every: q.every,
		Tell: func(r workload.Report) {
			if out.value == "jsonl" && tellErr == nil {
				tellErr = printJSON(cmd.OutOrStdout(), struct {
					Interval workload.Report `json:"interval"`
				}{r})
			}
			fmt.Fprintln(cmd.ErrOrStderr(), intervalLine(r))
		},
	})
	if tellErr != nil {
		return tellErr
	}
	if out.value == "table" {
		err = benchTable(cmd.OutOrStdout(), q, total)
	} else {
		err = printJSON(cmd.OutOrStdout(), benchJSON{q.parameters(cmd, started), total})
	}
	if err == nil && total.OK == 0 && total.Failed > 0 {
		err = q.failure(fmt.Errorf("no operation succeeded; the last one: %w", target.lastFailure()))
	}
	return err
}

// benchJSON is the result with -o json, and the last line with -o jsonl.
type benchJSON struct {
	Parameters map[string]any `json:"parameters"`
	Result     workload.Total `json:"result"`
}

// parameters are all that the result depends on and that is known here.
func (q *benchFlags) parameters(cmd *cobra.Command, started time.Time) map[string]any {
	loop := "closed"
	if q.rate > 0 {
		loop = "open"
	}
	p := map[string]any{
		"started": started.UTC().Format(timeForm), "version": version, "go": runtime.Version(), "cpus": runtime.NumCPU(),
		"endpoints": q.target(cmd), "bucket": q.bucket, "loop": loop, "rate": q.rate,
		"mix": q.mix, "dist": q.dist, "clients": q.clients, "connections": q.connections,
		"keys": q.keys, "value_size": q.valueSize, "prefix": q.prefix, "seed": q.seed, "preload": q.preload,
		"duration_s": q.duration.Seconds(), "warmup_s": q.warmup.Seconds(), "ops": q.ops,
		"timeout_s": q.timeout.Seconds(), "consistency": q.level.String(), "r": uint32(q.r), "w": uint32(q.w), "regions": uint32(q.regions),
	}
	return p
}
