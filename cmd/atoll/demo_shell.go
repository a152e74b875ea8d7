package main

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"strings"
	"time"

	"golang.org/x/term"

	"github.com/atolldb/atoll/node/topology"
)

// meta is a command of the shell itself.
type meta struct {
	name, args, help string
	min, max         int
	run              func(s *shell, args []string) error
}

func metaCommands() []meta {
	return []meta{
		{`\use`, "REGION", "send commands to another region", 1, 1, func(s *shell, a []string) error {
			if !slices.Contains(s.fleet.Regions(), topology.Region(a[0])) {
				return fmt.Errorf("no region %q; there are %v", a[0], s.fleet.Regions())
			}
			s.region = topology.Region(a[0])
			return nil
		}},
		{`\partition`, "A B", "cut the links between two regions, or two nodes", 2, 2, func(s *shell, a []string) error {
			return s.fleet.Partition(a[0], a[1])
		}},
		{`\heal`, "[A B]", "mend them, or everything", 0, 2, func(s *shell, a []string) error {
			if len(a) != 2 {
				s.fleet.HealAll()
				return nil
			}
			return s.fleet.Heal(a[0], a[1])
		}},
		{`\kill`, "NODE", "end a node as if its process had died", 1, 1, func(s *shell, a []string) error {
			return s.fleet.Kill(topology.NodeID(a[0]))
		}},
		{`\stop`, "NODE", "stop a node in order", 1, 1, func(s *shell, a []string) error {
			return s.fleet.StopNode(topology.NodeID(a[0]))
		}},
		{`\start`, "NODE", "start a node that is down", 1, 1, func(s *shell, a []string) error {
			ctx, cancel := context.WithTimeout(s.ctx, time.Minute)
			defer cancel()
			return s.fleet.StartNode(ctx, topology.NodeID(a[0]))
		}},
		{`\wait`, "", "wait until all nodes of all regions are equal", 0, 0, func(s *shell, _ []string) error { return s.wait() }},
		{`\expect`, "TEXT", "fail unless the last command printed this", 1, 1, func(s *shell, a []string) error {
			if !strings.Contains(s.last, a[0]) {
				return fmt.Errorf("expected %q in what the last command printed", a[0])
			}
			return nil
		}},
		{`\expect-exit`, "CODE", "fail unless the last command ended so", 1, 1, func(s *shell, a []string) error {
			if got := fmt.Sprint(s.code); got != a[0] {
				return fmt.Errorf("expected exit code %s, got %s", a[0], got)
			}
			return nil
		}},
		{`\help`, "", "list these commands", 0, 0, func(s *shell, _ []string) error {
			for _, m := range metaCommands() {
				fmt.Fprintf(s.out, "  %-26s %s\n", strings.TrimSpace(m.name+" "+m.args), m.help)
			}
			fmt.Fprintln(s.out, "  anything else              a command of atoll, as in: put KEY VALUE")
			return nil
		}},
		{`\quit`, "", "stop everything", 0, 0, func(*shell, []string) error { return errQuit }},
	}
}

// do runs one line.
func (s *shell) do(line string) error {
	words, err := splitWords(line)
	if rest, ok := strings.CutPrefix(line, `\expect `); ok {
		words, err = []string{`\expect`, rest}, nil // the text as it stands
	}
	if err != nil {
		return err
	}
	if !strings.HasPrefix(words[0], `\`) {
		s.command(words)
		return nil
	}
	for _, m := range metaCommands() {
		if m.name != words[0] {
			continue
		}
		if n := len(words) - 1; n < m.min || n > m.max {
			return fmt.Errorf("usage: %s %s", m.name, m.args)
		}
		return m.run(s, words[1:])
	}
	return fmt.Errorf("no command %s; \\help lists them", words[0])
}

// command runs a command of atoll against the region in use.
func (s *shell) command(words []string) {
	cmd := root()
	if found, _, err := cmd.Find(words); err == nil && found.Flags().Lookup("endpoints") != nil && !slices.Contains(words, "--endpoints") {
		words = append(words, "--endpoints", strings.Join(s.fleet.Endpoints(s.region), ","))
	}
	var printed bytes.Buffer
	out := io.MultiWriter(s.out, &printed)
	cmd.SetOut(out)
	cmd.SetErr(out)
	cmd.SetArgs(words)
	err := cmd.ExecuteContext(s.ctx)
	s.code = exitOK
	if err != nil {
		s.code = exitCode(err)
		if text := err.Error(); text != "" {
			fmt.Fprintln(out, "atoll: "+text)
		}
	}
	if b := printed.Bytes(); len(b) > 0 && b[len(b)-1] != '\n' {
		fmt.Fprintln(s.out) // get prints the value's bytes and nothing else
	}
	s.last = printed.String()
	if s.code != exitOK {
		fmt.Fprintf(s.out, "(exit code %d)\n", s.code)
	}
}

// wait returns when all nodes are equal.
func (s *shell) wait() error {
	ctx, cancel := context.WithTimeout(s.ctx, 2*time.Minute)
	defer cancel()
	began := time.Now()
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for {
		err := s.fleet.Converged()
		if err == nil {
			fmt.Fprintf(s.out, "all nodes of all regions are equal after %v\n", time.Since(began).Round(10*time.Millisecond))
			return nil
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return fmt.Errorf("not equal yet: %w", err)
		}
	}
}

// splitWords splits a line as shells do: at spaces, with single and double
// quotes and backslashes inside double ones.
func splitWords(line string) ([]string, error) {
	var words []string
	var word strings.Builder
	started := false
	quote := rune(0)
	escaped := false
	for _, r := range line {
		switch {
		case escaped:
			word.WriteRune(r)
			escaped = false
		case quote == '"' && r == '\\':
			escaped = true
		case quote != 0 && r == quote:
			quote = 0
		case quote != 0:
			word.WriteRune(r)
		case r == '\'' || r == '"':
			quote, started = r, true
		case r == ' ' || r == '\t':
			if started {
				words = append(words, word.String())
				word.Reset()
				started = false
			}
		default:
			word.WriteRune(r)
			started = true
		}
	}
	if quote != 0 || escaped {
		return nil, errors.New("a quote is not closed")
	}
	if started {
		words = append(words, word.String())
	}
	return words, nil
}

// lines are where the shell reads from.
type lines struct {
	scan *bufio.Scanner
	tty  *term.Terminal
	fd   int
}

func lineReader(script *string) *lines {
	if script != nil {
		return &lines{scan: bufio.NewScanner(strings.NewReader(*script))}
	}
	fd := int(os.Stdin.Fd())
	if !term.IsTerminal(fd) {
		return &lines{scan: bufio.NewScanner(os.Stdin)}
	}
	rw := struct {
		io.Reader
		io.Writer
	}{os.Stdin, os.Stdout}
	return &lines{tty: term.NewTerminal(rw, ""), fd: fd}
}

func (l *lines) interactive() bool { return l.tty != nil }

// next returns the next line; the terminal is raw only while it is edited.
func (l *lines) next(prompt string) (string, error) {
	if l.tty == nil {
		if l.scan.Scan() {
			return l.scan.Text(), nil
		}
		if err := l.scan.Err(); err != nil {
			return "", err
		}
		return "", io.EOF
	}
	old, err := term.MakeRaw(l.fd)
	if err != nil {
		return "", err
	}
	l.tty.SetPrompt(prompt)
	line, err := l.tty.ReadLine()
	if rerr := term.Restore(l.fd, old); err == nil {
		err = rerr
	}
	return line, err
}
