package book

import (
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"
)

// Headings of every runbook, in order.
var Headings = []string{"Trigger", "Impact", "Decide", "Act", "Verify", "Roll back", "Afterwards"}

const (
	// MaxDecide is how many commands there may be before one has to act.
	MaxDecide = 3
	// MaxLines above Afterwards: two screens.
	MaxLines = 140
)

// Book is one runbook.
type Book struct {
	Name string
	// Regions and Nodes of each that a rehearsal starts.
	Regions []string
	Nodes   int
	// Config are lines for every node's configuration.
	Config []string
	// After is the runbook that was followed before, "" for none.
	After string
	// Faults are injected, in order, before the first command.
	Faults []string
	// Serving are the regions whose clients are to be served again when RTO is
	// over, counted from the first command, and in which nothing may fail later.
	Serving []string
	RTO     time.Duration
	// Fails are the reasons for which clients' operations fail between the faults and
	// the first command of Act, all of them and no others; none for whatever.
	Fails []string
	// Following is a region with more clients, which follow the map of regions: of
	// what they ask for nothing fails, from the beginning to the end. "" for none.
	Following string
	// RPO is whether acknowledged writes may be missing at the end: "0" none,
	// "printed" no more than what the runbook's commands have named, or "backup" what
	// was acknowledged after the backup (a fault) began.
	RPO string
	// Env are values that commands use as $NAME.
	Env map[string]string
	// Steps are the commands of Decide, Act and Verify.
	Steps []Step
}

// Step is one command.
type Step struct {
	Heading string
	Line    int
	Command string
	// Exit code that it ends with, unless AnyExit.
	Exit    int
	AnyExit bool
	// Within is how long it is repeated until it says what it should; 0: once.
	Within time.Duration
	// Expect are lines of its output; … stands for anything.
	Expect []string
}

// Parse reads a runbook.
func Parse(name, text string) (*Book, error) {
	p := parser{book: Book{Name: name, Nodes: 3, RPO: "0", Env: map[string]string{}}, lines: strings.Split(text, "\n")}
	for _, part := range []func() error{p.front, p.body, p.check} {
		if err := part(); err != nil {
			return nil, fmt.Errorf("%s:%d: %w", name, p.at, err)
		}
	}
	return &p.book, nil
}

type parser struct {
	book  Book
	lines []string
	at    int // lines read
	above int // lines before Afterwards
	seen  []string
}

func (p *parser) next() (string, bool) {
	if p.at == len(p.lines) {
		return "", false
	}
	p.at++
	return p.lines[p.at-1], true
}

func (p *parser) front() error {
	if l, _ := p.next(); l != "---" {
		return fmt.Errorf("a runbook begins with front matter")
	}
	for {
		l, ok := p.next()
		if !ok {
			return fmt.Errorf("the front matter does not end")
		}
		if l == "---" {
			return nil
		}
		key, value, ok := strings.Cut(l, ": ")
		if !ok {
			return fmt.Errorf("front matter is 'key: value', not %q", l)
		}
		if err := p.field(key, strings.TrimSpace(value)); err != nil {
			return fmt.Errorf("%s: %w", key, err)
		}
	}
}

func (p *parser) field(key, value string) (err error) {
	b := &p.book
	switch key {
	case "runbook":
		if value != b.Name {
			return fmt.Errorf("the file is called %s", b.Name)
		}
	case "regions":
		b.Regions = strings.Fields(value)
	case "nodes":
		b.Nodes, err = strconv.Atoi(value)
	case "config":
		b.Config = append(b.Config, value)
	case "after":
		b.After = value
	case "fault":
		b.Faults = append(b.Faults, value)
	case "serving":
		b.Serving = strings.Fields(value)
	case "fails":
		b.Fails = strings.Fields(value)
	case "following":
		b.Following = value
	case "rto":
		b.RTO, err = time.ParseDuration(value)
	case "rpo":
		if b.RPO = value; value != "0" && value != "printed" && value != "backup" {
			return fmt.Errorf("0, printed or backup, not %q", value)
		}
	case "set":
		name, v, ok := strings.Cut(value, "=")
		if !ok {
			return fmt.Errorf("NAME=value, not %q", value)
		}
		b.Env[name] = v
	default:
		return fmt.Errorf("there is no such key")
	}
	return err
}

func (p *parser) body() error {
	heading := ""
	for {
		l, ok := p.next()
		if !ok {
			return nil
		}
		switch {
		case strings.HasPrefix(l, "## "):
			heading = strings.TrimPrefix(l, "## ")
			p.seen = append(p.seen, heading)
			if heading == "Afterwards" {
				p.above = p.at
			}
		case isFence(l):
			if err := p.block(heading, l); err != nil {
				return err
			}
		}
	}
}

func isFence(l string) bool { return strings.HasPrefix(strings.TrimSpace(l), "```") }

// fenced returns the lines up to the closing fence, without the opening one's
// indent.
func (p *parser) fenced(open string) ([]string, error) {
	indent := open[:len(open)-len(strings.TrimLeft(open, " "))]
	var out []string
	for {
		l, ok := p.next()
		if !ok {
			return nil, fmt.Errorf("a block does not end")
		}
		if strings.TrimSpace(l) == "```" {
			return out, nil
		}
		out = append(out, strings.TrimPrefix(l, indent))
	}
}

func (p *parser) block(heading, open string) error {
	words := strings.Fields(strings.TrimPrefix(strings.TrimSpace(open), "```"))
	if len(words) == 0 || words[0] != "sh" {
		return fmt.Errorf("a block that is no command (sh), nor follows one (text)")
	}
	s := Step{Heading: heading, Line: p.at}
	for _, w := range words[1:] {
		key, value, _ := strings.Cut(w, "=")
		var err error
		switch key {
		case "exit":
			if s.AnyExit = value == "any"; !s.AnyExit {
				s.Exit, err = strconv.Atoi(value)
			}
		case "within":
			s.Within, err = time.ParseDuration(value)
		default:
			err = fmt.Errorf("exit=N or within=D")
		}
		if err != nil {
			return fmt.Errorf("%q: %w", w, err)
		}
	}
	command, err := p.fenced(open)
	if err != nil {
		return err
	}
	s.Command = strings.Join(command, "\n")
	for p.at < len(p.lines) && strings.TrimSpace(p.lines[p.at]) == "" {
		p.at++
	}
	follow, _ := p.next()
	if strings.TrimSpace(follow) != "```text" {
		return fmt.Errorf("%q is not followed by what it prints (```text)", s.Command)
	}
	printed, err := p.fenced(follow)
	if err != nil {
		return err
	}
	for _, l := range printed {
		if l = strings.Join(strings.Fields(l), " "); l != "" {
			s.Expect = append(s.Expect, l)
		}
	}
	switch heading {
	case "Decide", "Act", "Verify":
		p.book.Steps = append(p.book.Steps, s)
	case "Roll back", "Afterwards": // what nobody does every time
	default:
		return fmt.Errorf("a command under %q", heading)
	}
	return nil
}

func (p *parser) check() error {
	b := &p.book
	count := map[string]int{}
	for _, s := range b.Steps {
		count[s.Heading]++
	}
	switch {
	case !slices.Equal(p.seen, Headings):
		return fmt.Errorf("headings are %q, not %q", p.seen, Headings)
	case p.above > MaxLines:
		return fmt.Errorf("%d lines above Afterwards, more than %d", p.above, MaxLines)
	case count["Decide"] == 0 || count["Decide"] > MaxDecide:
		return fmt.Errorf("%d commands to decide by, 1..%d", count["Decide"], MaxDecide)
	case count["Act"] == 0 || count["Verify"] == 0:
		return fmt.Errorf("nothing to do, or nothing to verify")
	case len(b.Regions) == 0 || b.Nodes < 1 || len(b.Faults) == 0 || b.RTO <= 0 || len(b.Serving) == 0:
		return fmt.Errorf("regions, nodes, fault, rto and serving have to be given")
	}
	return nil
}

// Matches reports whether a command's output has all that is expected, and else
// the first line that is missing. Runs of blanks are one.
func (s *Step) Matches(output string) (missing string, ok bool) {
	var lines []string
	for l := range strings.Lines(output) {
		lines = append(lines, strings.Join(strings.Fields(l), " "))
	}
	for _, want := range s.Expect {
		if !slices.ContainsFunc(lines, func(l string) bool { return like(want, l) }) {
			return want, false
		}
	}
	return "", true
}

// like reports whether a line has the pieces of a pattern in order.
func like(pattern, line string) bool {
	pieces := strings.Split(pattern, "…")
	for i, piece := range pieces {
		at := strings.Index(line, piece)
		if at < 0 || i == 0 && at != 0 {
			return false
		}
		if i == len(pieces)-1 {
			return piece == "" || strings.HasSuffix(line, piece)
		}
		line = line[at+len(piece):]
	}
	return true
}
