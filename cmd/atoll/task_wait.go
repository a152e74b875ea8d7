package main

import (
	"context"
	"fmt"
	"strings"
	"sync/atomic"
	"time"

	"github.com/spf13/cobra"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	adminv1 "github.com/atolldb/atoll/proto/atoll/admin/v1"
)

const (
	// waitBeat is how often a task that is waited for is asked about, and
	// waitPatience how long nobody may answer.
	waitBeat     = 500 * time.Millisecond
	waitPatience = time.Minute
)

func taskWaitCommand() *cobra.Command {
	var q request
	cmd := &cobra.Command{
		Use:   "wait ID",
		Short: "Wait until a task has ended",
		Long: `Wait until a task has ended, and tell how far it is: by a bar on a terminal, in
a line every ten seconds elsewhere. Ctrl-C ends the waiting, not the task. The
exit code is 0 when the task is done, 1 when it was aborted, and 6 when no node
answers for a minute. With -o json standard output is the task as 'atoll task show'
prints it, when it has ended, aborted ones too; how far it is goes to standard error.`,
		Example: `  atoll task wait 7
  timeout 600 atoll task wait 7
  atoll task wait 7 -o json | jq '(.ended_ms | tonumber) - (.begun_ms | tonumber)'`,
		Args: cobra.ExactArgs(1),
	}
	q.serverFlags(cmd, defaultTimeout)
	out := formatFlag(cmd, "table", "json")
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		id, err := taskID(cmd, args[0])
		if err != nil {
			return err
		}
		return q.follow(cmd, id, out)
	}
	return cmd
}

// follow waits until the task has ended, and prints what became of it.
func (q *request) follow(cmd *cobra.Command, id uint64, out *format) error {
	var line atomic.Pointer[string]
	show := func(s string) { line.Store(&s) }
	show(fmt.Sprintf("task %d", id))
	bar := isTerminal(cmd.ErrOrStderr())
	p := startProgress(cmd.ErrOrStderr(), func() string { return *line.Load() })
	var last *adminv1.Task
	err := q.poll(cmd, func(ctx context.Context, c *cluster) (bool, error) {
		res, err := c.GetTask(ctx, &adminv1.GetTaskRequest{Id: id})
		if err != nil {
			return false, err
		}
		last = res.Task
		show(progressLine(last, bar))
		return last.EndedMs != 0, nil
	})
	p.end()
	if err != nil {
		return err
	}
	if out.value == "json" {
		err = printProto(cmd.OutOrStdout(), last)
	}
	switch {
	case err != nil:
		return err
	case last.Aborted:
		return withCode(exitError, fmt.Errorf("task %d was aborted", id))
	case out.value == "json":
		return nil
	}
	_, err = fmt.Fprintf(cmd.OutOrStdout(), "task %d is done, after %s\n", id, millisText(last.EndedMs-last.BegunMs))
	return err
}

// poll asks, every beat, until ask says that it is over or fails for another
// reason than that nobody answers.
func (q *request) poll(cmd *cobra.Command, ask func(context.Context, *cluster) (bool, error)) error {
	var c *cluster
	defer func() {
		if c != nil {
			c.close()
		}
	}()
	tick := time.NewTicker(waitBeat)
	defer tick.Stop()
	answered := time.Now()
	for {
		err := q.connect(cmd, &c)
		over := false
		if err == nil {
			ctx, cancel := context.WithTimeout(cmd.Context(), q.timeout)
			over, err = ask(ctx, c)
			cancel()
		}
		code := status.Code(err)
		silent := exitCode(err) == exitUnavailable || code == codes.Unavailable || code == codes.DeadlineExceeded
		switch {
		case err == nil && over:
			return nil
		case err == nil:
			answered = time.Now()
		case !silent, time.Since(answered) > waitPatience:
			if _, ok := status.FromError(err); ok {
				err = adminFailure("ask how far it is", err)
			}
			return err
		case c != nil: // another node may know
			c.close()
			c = nil
		}
		select {
		case <-tick.C:
		case <-cmd.Context().Done():
			return cmd.Context().Err()
		}
	}
}

// connect makes sure of a connection.
func (q *request) connect(cmd *cobra.Command, c **cluster) error {
	if *c != nil {
		return nil
	}
	next, err := q.dialCluster(cmd)
	if err == nil {
		*c = next
	}
	return err
}

// progressLine is a bar for a terminal, or a line for a log.
func progressLine(t *adminv1.Task, bar bool) string {
	line := taskLine(t)
	if bar {
		line = barText(share(t)) + " " + line
	}
	if state := taskState(t); state != "running" {
		line += ", " + state
	}
	if len(t.WaitsFor) > 0 && t.BytesPerSecond == 0 && t.EndedMs == 0 {
		line += " for " + t.WaitsFor[0]
		if more := len(t.WaitsFor) - 1; more > 0 {
			line += fmt.Sprintf(" and %d more", more)
		}
	}
	return line
}

// barText is a bar of 20 cells, of which share is full.
func barText(share float64) string {
	const cells = 20
	full := int(share * cells)
	full = min(max(full, 0), cells)
	return "[" + strings.Repeat("#", full) + strings.Repeat(".", cells-full) + "]"
}
