package main

import (
	"context"
	_ "embed"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"strings"
	"syscall"
	"time"

	"github.com/hashicorp/go-hclog"
	"github.com/spf13/cobra"

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
commands from standard input or --script; with neither it plays the tour.`,
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
	f.IntVar(&d.nats, "nats", 3, "NATS servers of each region: 1 or 3")
	f.StringVar(&d.dir, "dir", "", "`DIR` to keep the data in; without it a temporary one")
	f.StringVar(&d.script, "script", "", "`FILE` with commands for the shell; it stops at the first failed \\expect")
	f.BoolVar(&d.tour, "tour", false, "play the tour: two regions disagree and agree again")
	f.StringVar(&d.level, "log-level", "off", "of the nodes: off, error, warn, info, debug")
	return cmd
}

func (d *demo) run(cmd *cobra.Command) error {
	if d.nodes < 1 || d.nodes > 9 {
		return usage(cmd, fmt.Errorf("the number of nodes is out of bounds%s", inputBounds("nodes", "1..9", fmt.Sprint(d.nodes))))
	}
	if d.nats != 1 && d.nats != 3 {
		return usage(cmd, fmt.Errorf("NATS runs on one server or on three%s", inputBounds("nats", "1|3", fmt.Sprint(d.nats))))
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
	ctx, stop := signal.NotifyContext(cmd.Context(), os.Interrupt, syscall.SIGTERM)
	defer stop()

	f, err := fleet.New(fleet.Config{
		Regions: regionNames(d.regions), Nodes: d.nodes, Dir: dir, Latency: d.latency, NATSServers: d.nats, Version: version,
		Logger: hclog.New(&hclog.LoggerOptions{Level: hclog.LevelFromString(d.level), Output: cmd.ErrOrStderr()}),
	})
	if err != nil {
		return err
	}
	began := time.Now()
	fmt.Fprintf(cmd.OutOrStdout(), "starting %d regions of %d nodes in %s ...\n", len(d.regions), d.nodes, dir)
	startCtx, cancel := context.WithTimeout(ctx, time.Minute)
	defer cancel()
	defer func() {
		if err := f.Stop(); err != nil {
			fmt.Fprintln(cmd.ErrOrStderr(), "atoll: stop:", err)
		}
	}()
	if err := f.Start(startCtx); err != nil {
		return err
	}
	s := &shell{ctx: ctx, fleet: f, region: f.Regions()[0], out: cmd.OutOrStdout()}
	s.banner(time.Since(began))
	return s.run(input)
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
			return nil, err
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
		return "", nil, err
	}
	return dir, func() { _ = os.RemoveAll(dir) }, nil // a temporary directory that stays is no failure
}

// shell reads commands and runs them.
type shell struct {
	ctx    context.Context
	fleet  *fleet.Fleet
	region topology.Region
	out    io.Writer
	// last is what the last command printed, and how it ended.
	last string
	code int
}

func (s *shell) banner(took time.Duration) {
	fmt.Fprintf(s.out, "ready in %v\n", took.Round(10*time.Millisecond))
	for _, r := range s.fleet.Regions() {
		fmt.Fprintf(s.out, "region %s: %s\n", r, strings.Join(s.fleet.Endpoints(r), ","))
	}
	first := s.fleet.Nodes()[0]
	fmt.Fprintf(s.out, "metrics of %s: http://%s/metrics\n", first, s.fleet.Admin(first))
	fmt.Fprintf(s.out, "from another terminal: atoll status --endpoints %s\n\n", s.fleet.Endpoints(s.region)[0])
}

var errQuit = errors.New("quit")

// run reads from a script, or from standard input when it is nil.
func (s *shell) run(script *string) error {
	lines := lineReader(script)
	empty := true
	for {
		line, err := lines.next(s.prompt())
		if errors.Is(err, io.EOF) {
			if empty && script == nil && !lines.interactive() {
				fmt.Fprintln(s.out, "no terminal and no commands: playing the tour")
				return s.run(&tour)
			}
			return nil
		}
		if err != nil {
			return err
		}
		line = strings.TrimSpace(line)
		if line == "" || strings.HasPrefix(line, "#") {
			if strings.HasPrefix(line, "#") {
				fmt.Fprintln(s.out, line)
			}
			continue
		}
		empty = false
		if !lines.interactive() {
			fmt.Fprintln(s.out, s.prompt()+line)
		}
		if err := s.do(line); err != nil {
			if errors.Is(err, errQuit) {
				return nil
			}
			if !lines.interactive() {
				return err
			}
			fmt.Fprintln(s.out, err)
		}
		if s.ctx.Err() != nil {
			return nil
		}
	}
}

func (s *shell) prompt() string { return string(s.region) + "> " }
