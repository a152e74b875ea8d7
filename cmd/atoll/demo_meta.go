package main

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/atolldb/atoll/internal/pause"
	"github.com/atolldb/atoll/node/topology"
)

// meta is a command of the shell itself.
type meta struct {
	name, args, help string
	min, max         int
	run              func(ctx context.Context, s *shell, args []string) error
}

func metaCommands() []meta {
	return []meta{
		{`\use`, "REGION", "send commands to another region", 1, 1, func(_ context.Context, s *shell, a []string) error {
			if !slices.Contains(s.fleet.Regions(), topology.Region(a[0])) {
				return fmt.Errorf("no region %q; there are %v", a[0], s.fleet.Regions())
			}
			s.region = topology.Region(a[0])
			return nil
		}},
		{`\partition`, "A B", "cut the links between two regions, or two nodes", 2, 2, func(_ context.Context, s *shell, a []string) error {
			return s.fleet.Partition(a[0], a[1])
		}},
		{`\heal`, "[A B]", "mend them, or everything", 0, 2, func(_ context.Context, s *shell, a []string) error {
			switch len(a) {
			case 0:
				s.fleet.HealAll()
				return nil
			case 1:
				return errors.New("a link has two ends: \\heal A B, or \\heal for all")
			}
			return s.fleet.Heal(a[0], a[1])
		}},
		{`\kill`, "NODE", "end a node as if its process had died", 1, 1, func(_ context.Context, s *shell, a []string) error {
			return s.fleet.Kill(topology.NodeID(a[0]))
		}},
		{`\stop`, "NODE", "stop a node in order", 1, 1, func(_ context.Context, s *shell, a []string) error {
			return s.fleet.StopNode(topology.NodeID(a[0]))
		}},
		{`\start`, "NODE", "start a node that is down", 1, 1, func(ctx context.Context, s *shell, a []string) error {
			ctx, cancel := context.WithTimeout(ctx, time.Minute)
			defer cancel()
			return s.fleet.StartNode(ctx, topology.NodeID(a[0]))
		}},
		{`\wait`, "", "wait until all nodes of all regions are equal", 0, 0, func(ctx context.Context, s *shell, _ []string) error { return s.wait(ctx) }},
		{`\expect`, "TEXT", "fail unless the last command printed this", 1, 1, func(_ context.Context, s *shell, a []string) error {
			if !strings.Contains(s.last, a[0]) {
				return fmt.Errorf("expected %q in what the last command printed", a[0])
			}
			return nil
		}},
		{`\expect-exit`, "CODE", "fail unless the last command ended so", 1, 1, func(_ context.Context, s *shell, a []string) error {
			if got := fmt.Sprint(s.code); got != a[0] {
				return fmt.Errorf("expected exit code %s, got %s", a[0], got)
			}
			return nil
		}},
		{`\help`, "", "list these commands", 0, 0, func(_ context.Context, s *shell, _ []string) error {
			for _, m := range metaCommands() {
				fmt.Fprintf(s.out, "  %-26s %s\n", strings.TrimSpace(m.name+" "+m.args), m.help)
			}
			fmt.Fprintln(s.out, "  anything else              a command of atoll, as in: put KEY VALUE")
			return nil
		}},
		{`\quit`, "", "stop everything", 0, 0, func(context.Context, *shell, []string) error { return errQuit }},
	}
}

// meta runs a command of the shell itself.
func (s *shell) meta(ctx context.Context, words []string) error {
	for _, m := range metaCommands() {
		if m.name != words[0] {
			continue
		}
		if n := len(words) - 1; n < m.min || n > m.max {
			return errors.New(strings.TrimSpace("usage: " + m.name + " " + m.args))
		}
		return m.run(ctx, s, words[1:])
	}
	return fmt.Errorf("no command %s; \\help lists them", words[0])
}

// wait returns when all nodes are equal.
func (s *shell) wait(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, 2*time.Minute)
	defer cancel()
	began := time.Now()
	if err := pause.Until(ctx, lookAgain, s.fleet.Converged); err != nil {
		return fmt.Errorf("not equal yet: %w", err)
	}
	fmt.Fprintf(s.out, "all nodes of all regions are equal after %v\n", time.Since(began).Round(10*time.Millisecond))
	return nil
}
