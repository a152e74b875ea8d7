package main

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/atolldb/atoll/client"
)

// maxSessionFile is far above what a session's token takes.
const maxSessionFile = 8 << 20

func (q *request) sessionFlag(cmd *cobra.Command) {
	cmd.Flags().StringVar(&q.session, "session", "",
		"`FILE` that keeps what this and other commands with it have seen and written, in any region: none of them sees less; it is made if it is not there")
	cmd.Flags().BoolVar(&q.acceptLoss, "accept-loss", false,
		"go on without writes of the --session that are lost for good; without it, fail and say how many there are")
}

// accepting runs an operation, and again without what is lost, if that is allowed.
func (q *request) accepting(cmd *cobra.Command, c *client.Client, run func() error) error {
	err := run()
	var e *client.Error
	if !errors.Is(err, client.ErrSessionLost) || !errors.As(err, &e) || !q.acceptLoss || c.AcceptLoss() == 0 {
		return err
	}
	fmt.Fprintf(cmd.ErrOrStderr(), "the session goes on without %d writes of %s that are lost\n", e.Missing, strings.Join(e.MissingFrom, ", "))
	return run()
}

func (q *request) stalenessFlags(cmd *cobra.Command) {
	cmd.Flags().DurationVar(&q.maxStaleness, "max-staleness", 0,
		"fail unless the answer holds everything that each other region had written until so long ago; without it, no bound")
	cmd.Flags().DurationVar(&q.waitFresh, "wait-fresh", 0, "--max-staleness, but wait for such an answer until --timeout")
}

func (q *request) checkStaleness(cmd *cobra.Command) error {
	for name, d := range map[string]time.Duration{"max-staleness": q.maxStaleness, "wait-fresh": q.waitFresh} {
		if cmd.Flags().Changed(name) && d <= 0 {
			return usage(cmd, fmt.Errorf("the bound has to be positive%s", inputBounds(name, "> 0", d.String())))
		}
	}
	return atMostOne(cmd, "max-staleness", "wait-fresh")
}

// inSession is c, or goes on with the session of the file that was named.
func (q *request) inSession(cmd *cobra.Command, c *client.Client) (*client.Client, error) {
	if q.session == "" {
		return c, nil
	}
	f, err := os.Open(q.session)
	if errors.Is(err, fs.ErrNotExist) {
		// Before the command does anything.
		if _, err := os.Stat(filepath.Dir(q.session)); err != nil {
			return nil, usage(cmd, fmt.Errorf("nowhere to keep the session: %w", err))
		}
		return c.Session(), nil
	}
	if err != nil {
		return nil, withCode(exitUsage, err)
	}
	defer f.Close() //nolint:errcheck // only read
	b, err := io.ReadAll(io.LimitReader(f, maxSessionFile))
	if err != nil {
		return nil, withCode(exitUsage, fmt.Errorf("read the session: %w", err))
	}
	s, err := c.SessionFrom(strings.TrimSpace(string(b)))
	if err != nil {
		return nil, usage(cmd, fmt.Errorf("the file does not hold a session%s",
			inputBounds("session", "a file that a command with --session has written", fmt.Sprintf("%d bytes", len(b)))))
	}
	return s, nil
}

// kept keeps the session after a write that ended with err, which tells more than that
// the session could not be kept.
func (q *request) kept(c *client.Client, err error) error {
	kept := q.keepSession(c)
	switch {
	case kept == nil:
		return err
	case err == nil:
		return fmt.Errorf("the write was applied, but its session is not there for the next command: %w", kept)
	default:
		return described{err.Error() + "\n  " + kept.Error(), err}
	}
}

// keepSession writes what the session knows by now, in one step: a command that is
// killed leaves the old one.
func (q *request) keepSession(c *client.Client) error {
	if q.session == "" {
		return nil
	}
	tmp, err := os.CreateTemp(filepath.Dir(q.session), filepath.Base(q.session)+".*")
	if err != nil {
		return fmt.Errorf("keep the session: %w", err)
	}
	_, err = tmp.WriteString(c.Token() + "\n")
	if cerr := tmp.Close(); err == nil {
		err = cerr
	}
	if err == nil {
		err = os.Rename(tmp.Name(), q.session)
	}
	if err != nil {
		os.Remove(tmp.Name()) //nolint:errcheck // the first error tells
		return fmt.Errorf("keep the session: %w", err)
	}
	return nil
}
