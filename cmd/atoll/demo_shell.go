package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"slices"
	"strings"
	"time"

	"github.com/atolldb/atoll/node/fleet"
	"github.com/atolldb/atoll/node/topology"
)

// shell reads commands and runs them, one after another.
type shell struct {
	ctx    context.Context //nolint:containedctx // of the whole demo
	fleet  *fleet.Fleet
	region topology.Region
	out    io.Writer
	// last is what the last command printed, and code how it ended.
	last string
	code int
	// ran says that there was a command.
	ran bool
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

func (s *shell) prompt() string { return string(s.region) + "> " }

var errQuit = errors.New("quit")

// run reads lines to their end, or until a signal ends the demo. What fails
// ends a script; at a terminal it is told.
func (s *shell) run(in *lines) error {
	for {
		line, err := s.next(in)
		if errors.Is(err, io.EOF) || errors.Is(err, context.Canceled) {
			if in.interactive() {
				fmt.Fprintln(s.out) // after the prompt
			}
			return nil
		}
		if err != nil {
			return err
		}
		if line = strings.TrimSpace(line); line == "" {
			continue
		}
		if !in.interactive() {
			s.echo(line)
		}
		if strings.HasPrefix(line, "#") {
			continue
		}
		s.ran = true
		interrupted, err := s.do(line)
		switch {
		case errors.Is(err, errQuit), s.ctx.Err() != nil, interrupted && !in.interactive():
			return nil
		case err != nil && !in.interactive():
			return fmt.Errorf("%s: %w", line, err)
		case err != nil:
			fmt.Fprintln(s.out, err)
		}
	}
}

// next waits for a line, or for a signal: at the prompt each one ends the demo.
func (s *shell) next(in *lines) (string, error) {
	ctx, stop := signal.NotifyContext(s.ctx, os.Interrupt)
	defer stop()
	return in.next(ctx, s.prompt())
}

// echo shows a line of a script. What a script expects is of interest only
// when it is not met.
func (s *shell) echo(line string) {
	switch {
	case strings.HasPrefix(line, `\expect`):
	case strings.HasPrefix(line, "#"):
		fmt.Fprintln(s.out, line)
	default:
		fmt.Fprintln(s.out, s.prompt()+line)
	}
}

// do runs one line, until it is done or interrupted.
func (s *shell) do(line string) (interrupted bool, err error) {
	ctx, stop := signal.NotifyContext(s.ctx, os.Interrupt)
	defer stop()
	words, err := splitWords(line)
	if rest, ok := strings.CutPrefix(line, `\expect `); ok {
		words, err = []string{`\expect`, rest}, nil // the text as it stands
	}
	switch {
	case err != nil:
	case strings.HasPrefix(words[0], `\`):
		err = s.meta(ctx, words)
	default:
		s.command(ctx, words)
	}
	return ctx.Err() != nil, err
}

// command runs a command of atoll against the region in use.
func (s *shell) command(ctx context.Context, words []string) {
	var printed bytes.Buffer
	out := io.MultiWriter(s.out, &printed)
	err := s.execute(ctx, out, words)
	s.code = exitCode(err)
	if err != nil && err.Error() != "" {
		fmt.Fprintln(out, "atoll: "+err.Error())
	}
	if b := printed.Bytes(); len(b) > 0 && b[len(b)-1] != '\n' {
		fmt.Fprintln(s.out) // get prints the value's bytes and nothing else
	}
	s.last = printed.String()
	if s.code != exitOK {
		fmt.Fprintf(s.out, "(exit code %d)\n", s.code)
	}
}

func (s *shell) execute(ctx context.Context, out io.Writer, words []string) error {
	cmd := root()
	cmd.SetIn(noInput{})
	cmd.SetOut(out)
	cmd.SetErr(out)
	cmd.SetArgs(words)
	if found, _, err := cmd.Find(words); err == nil {
		if slices.Contains([]string{"demo", "start"}, found.Name()) {
			return usage(found, fmt.Errorf("%q is not for this shell: it has its own nodes; \\help lists what starts and stops them", found.Name()))
		}
		if f := found.Flags().Lookup("endpoints"); f != nil { // before those that the line gives
			if err := found.Flags().Set(f.Name, strings.Join(s.fleet.Endpoints(s.region), ",")); err != nil {
				return err
			}
		}
	}
	return cmd.ExecuteContext(ctx)
}

// noInput is the standard input of commands: the shell reads the real one.
type noInput struct{}

func (noInput) Read([]byte) (int, error) {
	return 0, errors.New("in this shell, commands have no standard input; give a file")
}
