package main

import (
	"context"
	_ "embed"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"slices"
	"strings"
	"syscall"
	"time"

	"github.com/hashicorp/go-hclog"
	"github.com/spf13/cobra"

	"github.com/atolldb/atoll/internal/pause"
	"github.com/atolldb/atoll/node/fleet"
	"github.com/atolldb/atoll/node/topology"
)

//go:embed testdata/demo/tour.txt
var tour string

type demo struct {
	regions []string
	nodes   int
	latency time.Duration
	nats    int
	dir     string
	script  string
	tour    bool
	level   string
}

func demoCommand() *cobra.Command {
	d := &demo{}
	cmd := &cobra.Command{
		Use:   "demo",
		Short: "Run regions of nodes in one process, with a shell to cut links and kill nodes",
		Long: `Run a whole deployment in one process: real nodes with real disks, gRPC and
NATS on loopback, in a temporary directory that is removed at the end.

The shell takes every command of atoll, sent to the region in use, and commands
that begin with a backslash; \help lists them. Without a terminal the shell reads
commands from standard input or --script, and stops at the first command of its
own that fails; with neither it plays the tour. Ctrl-C ends the command that
runs; at the prompt it ends the demo, as Ctrl-D and \quit do.`,
		Example: `  atoll demo
  atoll demo --tour
  atoll demo --regions eu,us,ap --latency 40ms
  printf '%s\n' 'put k v' 'get k' | atoll demo`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error { return d.run(cmd) },
	}
	f := cmd.Flags()
	f.StringSliceVar(&d.regions, "regions", []string{"eu", "us"}, "`NAMES` of the regions")
	f.IntVar(&d.nodes, "nodes", 3, "nodes of each region, 1..9")
	f.DurationVar(&d.latency, "latency", 20*time.Millisecond, "between regions, one way")
	f.IntVar(&d.nats, "nats", 3, "NATS servers of each region: 1 or 3; with fewer than three nodes it is 1")
	f.StringVar(&d.dir, "dir", "", "`DIR` to keep the data in, for demos of the same regions, nodes and NATS servers; without it a temporary one")
	f.StringVar(&d.script, "script", "", "`FILE` with commands for the shell")
	f.BoolVar(&d.tour, "tour", false, "play the tour: two regions disagree and agree again")
	f.StringVar(&d.level, "log-level", "off", "of the nodes: "+strings.Join(demoLevels, ", "))
	complete(cmd, "log-level", demoLevels)
	return cmd
}

var demoLevels = []string{"off", "error", "warn", "info", "debug"}

func (d *demo) check(cmd *cobra.Command) error {
	bad := func(text, field, limit string, seen any) error {
		return usage(cmd, errors.New(text+inputBounds(field, limit, fmt.Sprint(seen))))
	}
	switch {
	case d.nodes < 1 || d.nodes > 9:
		return bad("the number of nodes is out of bounds", "nodes", "1..9", d.nodes)
	case d.nats != 1 && d.nats != 3:
		return bad("NATS runs on one server or on three", "nats", "1|3", d.nats)
	case d.latency < 0:
		return bad("the latency cannot be negative", "latency", ">= 0", d.latency)
	case !slices.Contains(demoLevels, d.level):
		return bad("no such level", "log-level", strings.Join(demoLevels, "|"), d.level)
	case d.tour && !d.canTour():
		return usage(cmd, errors.New(tourNeeds))
	}
	return atMostOne(cmd, "tour", "script")
}

const tourNeeds = "the tour plays in the regions eu and us, with three nodes or more in each"

// canTour says that the regions and nodes that the tour names are there.
func (d *demo) canTour() bool {
	return slices.Contains(d.regions, "eu") && slices.Contains(d.regions, "us") && d.nodes >= 3
}

func (d *demo) run(cmd *cobra.Command) error {
	if err := d.check(cmd); err != nil {
		return err
	}
	input, err := d.input()
	if err != nil {
		return err
	}
	dir, cleanUp, err := d.directory()
	if err != nil {
		return err
	}
	defer cleanUp()
	// All of these would leave the directory behind: so would a reader of
	// standard output that has gone, as in "atoll demo | head".
	ctx, stop := signal.NotifyContext(cmd.Context(), syscall.SIGTERM, syscall.SIGHUP)
	defer stop()
	ctx, gone := context.WithCancel(ctx)
	defer gone()
	out := heard{cmd.OutOrStdout(), gone}
	// Without it, an interrupt between two commands would end the process. SIGPIPE says
	// nothing of standard output: it comes with each write to a connection whose other
	// end has gone, too, as when a node is killed.
	unheeded := make(chan os.Signal, 1)
	signal.Notify(unheeded, os.Interrupt, syscall.SIGPIPE)
	defer signal.Stop(unheeded)

	f, err := fleet.New(fleet.Config{
		Regions: regionNames(d.regions), Nodes: d.nodes, Dir: dir, Latency: d.latency, NATSServers: d.nats, Version: version,
		Logger: hclog.New(&hclog.LoggerOptions{Level: hclog.LevelFromString(d.level), Output: cmd.ErrOrStderr()}),
	})
	if err != nil {
		return err
	}
	defer func() {
		signal.Reset(os.Interrupt, syscall.SIGTERM) // one more does not wait for this
		if err := f.Stop(); err != nil {
			fmt.Fprintln(cmd.ErrOrStderr(), "atoll: stop:", err)
		}
	}()
	began := time.Now()
	fmt.Fprintf(out, "starting %d regions of %d nodes in %s ...\n", len(d.regions), d.nodes, dir)
	if err := startFleet(ctx, f); err != nil {
		return err
	}
	s := &shell{ctx: ctx, fleet: f, region: f.Regions()[0], out: out}
	s.banner(time.Since(began))
	in := lineReader(input)
	if err := s.run(in); err != nil || input != nil || in.interactive() || s.ran || ctx.Err() != nil {
		return err
	}
	if !d.canTour() {
		fmt.Fprintln(s.out, "no terminal and no commands, and "+tourNeeds)
		return nil
	}
	fmt.Fprintln(s.out, "no terminal and no commands: playing the tour")
	return s.run(lineReader(&tour))
}

// heard is a writer that tells when nobody reads any more.
type heard struct {
	io.Writer
	gone func()
}

func (h heard) Write(b []byte) (int, error) {
	n, err := h.Writer.Write(b)
	if err != nil {
		h.gone()
	}
	return n, err
}

// lookAgain is how often a fleet is looked at that is waited for.
const lookAgain = 20 * time.Millisecond

// startFleet waits until all nodes serve and hear the other regions, for a minute or until
// an interrupt.
func startFleet(ctx context.Context, f *fleet.Fleet) error {
	ctx, stop := signal.NotifyContext(ctx, os.Interrupt)
	defer stop()
	ctx, cancel := context.WithTimeout(ctx, time.Minute)
	defer cancel()
	if err := f.Start(ctx); err != nil {
		return err
	}
	return pause.Until(ctx, lookAgain, f.Heard)
}

func regionNames(names []string) []topology.Region {
	out := make([]topology.Region, len(names))
	for i, n := range names {
		out[i] = topology.Region(n)
	}
	return out
}

// input is a script, or nil for standard input.
func (d *demo) input() (*string, error) {
	switch {
	case d.tour:
		return &tour, nil
	case d.script != "":
		b, err := os.ReadFile(d.script)
		if err != nil {
			return nil, withCode(exitUsage, err)
		}
		text := string(b)
		return &text, nil
	}
	return nil, nil
}

func (d *demo) directory() (dir string, cleanUp func(), err error) {
	if d.dir != "" {
		return d.dir, func() {}, os.MkdirAll(d.dir, 0o700)
	}
	dir, err = os.MkdirTemp("", "atoll-demo-")
	if err != nil {
		return "", nil, fmt.Errorf("make a temporary directory: %w", err)
	}
	return dir, func() { _ = os.RemoveAll(dir) }, nil // a temporary directory that stays is no failure
}
