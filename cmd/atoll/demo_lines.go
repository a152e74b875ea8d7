package main

import (
	"bufio"
	"context"
	"errors"
	"io"
	"os"
	"strings"

	"golang.org/x/term"
)

// maxLine bounds a line: a value of any size, and what stands around it.
const maxLine = maxValue + 64<<10

// lines are where the shell reads from.
type lines struct {
	scan *bufio.Scanner
	tty  *term.Terminal
	fd   int
}

// lineReader reads a script, or standard input for nil.
func lineReader(script *string) *lines {
	if script != nil {
		return scanLines(strings.NewReader(*script))
	}
	fd := int(os.Stdin.Fd())
	if !term.IsTerminal(fd) {
		return scanLines(os.Stdin)
	}
	rw := struct {
		io.Reader
		io.Writer
	}{os.Stdin, os.Stdout}
	return &lines{tty: term.NewTerminal(rw, ""), fd: fd}
}

func scanLines(r io.Reader) *lines {
	l := &lines{scan: bufio.NewScanner(r)}
	l.scan.Buffer(nil, maxLine)
	return l
}

func (l *lines) interactive() bool { return l.tty != nil }

// next returns the next line, io.EOF at the end, or the error of ctx; lines are
// of no use after that, since a read cannot be called back: its goroutine stays
// until something comes. The terminal is raw only while a line is edited.
func (l *lines) next(ctx context.Context, prompt string) (string, error) {
	if l.tty != nil {
		old, err := term.MakeRaw(l.fd)
		if err != nil {
			return "", err
		}
		defer term.Restore(l.fd, old)                             //nolint:errcheck // it could be made raw
		if w, h, err := term.GetSize(l.fd); err == nil && w > 0 { // some terminals do not know
			_ = l.tty.SetSize(w, h) // it only counts columns
		}
		l.tty.SetPrompt(prompt)
	}
	type read struct {
		line string
		err  error
	}
	got := make(chan read, 1)
	go func() {
		line, err := l.read()
		got <- read{line, err}
	}()
	select {
	case r := <-got:
		return r.line, r.err
	case <-ctx.Done():
		return "", ctx.Err()
	}
}

func (l *lines) read() (string, error) {
	if l.tty != nil {
		return l.tty.ReadLine()
	}
	if l.scan.Scan() {
		return l.scan.Text(), nil
	}
	if err := l.scan.Err(); err != nil {
		return "", err
	}
	return "", io.EOF
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
