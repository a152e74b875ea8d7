package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"

	adminv1 "github.com/atolldb/atoll/proto/atoll/admin/v1"
)

func taskCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "task",
		Short: "Follow, pause and abort what moves partitions",
		Long: `Follow, pause and abort what moves partitions. A committed change is a task of
moves, each of which hands one copy of a partition to another node: it is planned,
then copying (the new node gets all writes, and reads still go to the old one),
then switched (reads go to the new one), then done.`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	cmd.AddCommand(taskListCommand(), taskShowCommand(), taskWaitCommand(),
		taskControl("pause", "Stop copying, and all switches, until 'atoll task resume'",
			`Stop copying, and all switches, until 'atoll task resume'. What is half moved
stays so for as long as you like: it is safe, and costs a second write for each
partition that is being copied.`,
			func(ctx context.Context, c *cluster, id uint64) (*adminv1.Task, error) {
				r, err := c.PauseTask(ctx, &adminv1.PauseTaskRequest{Id: id})
				return r.GetTask(), err
			}),
		taskControl("resume", "Go on with a task that was paused", "Go on with a task that was paused.",
			func(ctx context.Context, c *cluster, id uint64) (*adminv1.Task, error) {
				r, err := c.ResumeTask(ctx, &adminv1.ResumeTaskRequest{Id: id})
				return r.GetTask(), err
			}),
		taskControl("abort", "Take back the moves that have not switched",
			`Take back the moves that have not switched; those that have go on to their end,
and then the task has ended. What was copied for the others is deleted in the
background. Nodes that were to leave stay. Then shares are uneven, but safe:
'atoll ring plan rebalance' makes them even.`,
			func(ctx context.Context, c *cluster, id uint64) (*adminv1.Task, error) {
				r, err := c.AbortTask(ctx, &adminv1.AbortTaskRequest{Id: id})
				return r.GetTask(), err
			}),
	)
	return cmd
}

func taskListCommand() *cobra.Command {
	var q request
	cmd := &cobra.Command{
		Use:     "ls",
		Aliases: []string{"list"},
		Short:   "List the tasks that run, and those that ended last",
		Example: `  atoll task ls
  atoll task ls -o json | jq '.tasks[] | select(.ended_ms == "0") | .id'`,
		Args: cobra.NoArgs,
	}
	q.serverFlags(cmd, defaultTimeout)
	out := formatFlag(cmd, "table", "json")
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		return q.ask(cmd, func(ctx context.Context, c *cluster) error {
			res, err := c.ListTasks(ctx, &adminv1.ListTasksRequest{})
			if err != nil {
				return adminFailure("ask for the tasks", err)
			}
			if out.value == "json" {
				return printProto(cmd.OutOrStdout(), res)
			}
			taskTable(cmd.OutOrStdout(), res.Tasks)
			return nil
		})
	}
	return cmd
}

func taskShowCommand() *cobra.Command {
	var q request
	cmd := &cobra.Command{
		Use:     "show ID",
		Short:   "Show one task, what it waits for, and its moves",
		Example: `  atoll task show 7`,
		Args:    cobra.ExactArgs(1),
	}
	q.serverFlags(cmd, defaultTimeout)
	out := formatFlag(cmd, "table", "json")
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		id, err := taskID(cmd, args[0])
		if err != nil {
			return err
		}
		return q.withCluster(cmd, func(c *cluster) error {
			t, err := q.task(cmd.Context(), c, id)
			if err != nil {
				return err
			}
			if out.value == "json" {
				return printProto(cmd.OutOrStdout(), t)
			}
			return showTask(cmd.OutOrStdout(), t, c.topology)
		})
	}
	return cmd
}

// taskControl is one of pause, resume and abort.
func taskControl(
	verb, short, long string, do func(context.Context, *cluster, uint64) (*adminv1.Task, error),
) *cobra.Command {
	var q request
	cmd := &cobra.Command{
		Use: verb + " ID", Short: short, Long: long, Args: cobra.ExactArgs(1),
		Example: "  atoll task " + verb + " 7",
	}
	q.serverFlags(cmd, defaultTimeout)
	out := formatFlag(cmd, "table", "json")
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		id, err := taskID(cmd, args[0])
		if err != nil {
			return err
		}
		return q.ask(cmd, func(ctx context.Context, c *cluster) error {
			t, err := do(ctx, c, id)
			if err != nil {
				return changeFailure(verb+" the task", err)
			}
			if out.value == "json" {
				return printProto(cmd.OutOrStdout(), t)
			}
			_, err = fmt.Fprintf(cmd.OutOrStdout(), "task %d is %s\n", t.Id, taskState(t))
			return err
		})
	}
	return cmd
}

func taskID(cmd *cobra.Command, s string) (uint64, error) {
	id, err := strconv.ParseUint(s, 10, 64)
	if err != nil || id == 0 {
		return 0, usage(cmd, errors.New("not a task"+inputBounds("task", "a number of 'atoll task ls'", strconv.Quote(s))))
	}
	return id, nil
}

func (q *request) task(ctx context.Context, c *cluster, id uint64) (*adminv1.Task, error) {
	ctx, cancel := context.WithTimeout(ctx, q.timeout)
	defer cancel()
	res, err := c.GetTask(ctx, &adminv1.GetTaskRequest{Id: id})
	if err != nil {
		return nil, adminFailure("ask for the task", err)
	}
	return res.Task, nil
}

func taskKindText(k adminv1.TaskKind) string {
	return strings.ToLower(strings.TrimPrefix(k.String(), "TASK_KIND_"))
}

// taskState is one word about a task.
func taskState(t *adminv1.Task) string {
	switch {
	case t.EndedMs != 0 && t.Aborted:
		return "aborted"
	case t.EndedMs != 0:
		return "done"
	case t.Aborted:
		return "aborting"
	case t.Paused:
		return "paused"
	case len(t.WaitsFor) > 0 && t.BytesPerSecond == 0:
		return "waiting"
	}
	return "running"
}

// share of a task that is done, 0 to 1: by bytes where there are any.
func share(t *adminv1.Task) float64 {
	switch {
	case t.EndedMs != 0 && !t.Aborted:
		return 1
	case t.Bytes > 0:
		return min(float64(t.BytesDone)/float64(t.Bytes), 1)
	case t.Moves > 0:
		return float64(t.Done) / float64(t.Moves)
	}
	return 0
}

// leftText is how long a task still takes; "" when that is not known.
func leftText(t *adminv1.Task) string {
	if t.EndedMs != 0 || t.EtaMs < 0 || t.Paused || t.BytesPerSecond == 0 {
		return ""
	}
	return millisText(t.EtaMs - t.EtaMs%1000)
}

func rateText(t *adminv1.Task) string {
	if t.BytesPerSecond == 0 {
		return ""
	}
	return sizeText(int64(t.BytesPerSecond)) + "/s"
}

func taskTable(w io.Writer, tasks []*adminv1.Task) {
	rows := newTable(w, "id", "kind", "nodes", "state", "done", "planned", "copying", "switched", "ended", "bytes", "rate", "left", "begun")
	for _, t := range tasks {
		rows.AppendRow([]any{
			t.Id, taskKindText(t.Kind), list(t.Nodes), taskState(t), fmt.Sprintf("%.0f %%", 100*share(t)),
			t.Planned, t.Copying, t.Switched, fmt.Sprintf("%d of %d", t.Done, t.Moves),
			sizeText(int64(t.Bytes)), rateText(t), leftText(t), timeText(t.BegunMs),
		})
	}
	rows.Render()
}

func showTask(w io.Writer, t *adminv1.Task, top *adminv1.GetTopologyResponse) error {
	var b strings.Builder
	fmt.Fprintf(&b, "task %d: %s %s, %s\n", t.Id, taskKindText(t.Kind), list(t.Nodes), taskState(t))
	fmt.Fprintf(&b, "begun %s", timeText(t.BegunMs))
	if t.EndedMs != 0 {
		fmt.Fprintf(&b, ", ended %s, after %s", timeText(t.EndedMs), millisText(t.EndedMs-t.BegunMs))
	}
	fmt.Fprintf(&b, "\n%s\n", taskLine(t))
	if t.Copies > 0 || t.Received > 0 {
		fmt.Fprintf(&b, "received %s for %d complete copies of %s in all\n",
			sizeText(int64(t.Received)), t.Copies, sizeText(int64(t.Size)))
	}
	if len(t.Silent) > 0 {
		fmt.Fprintf(&b, "without what %s received: no answer\n", list(t.Silent))
	}
	if t.AcceptLoss {
		b.WriteString("copies may be made from fewer owners than is safe (--accept-loss)\n")
	}
	for _, what := range t.WaitsFor {
		fmt.Fprintf(&b, "waits for %s\n", what)
	}
	if _, err := io.WriteString(w, b.String()); err != nil {
		return err
	}
	mine := &adminv1.GetTopologyResponse{}
	for _, m := range top.Moves {
		if m.Task == t.Id && m.Stage != adminv1.MoveStage_MOVE_STAGE_PLANNED {
			mine.Moves = append(mine.Moves, m)
		}
	}
	if len(mine.Moves) == 0 {
		return nil
	}
	if _, err := fmt.Fprintln(w); err != nil {
		return err
	}
	moveTable(w, mine)
	return nil
}

// taskLine is how far a task is, in one line.
func taskLine(t *adminv1.Task) string {
	line := fmt.Sprintf("%.0f %%, %s of about %s, moves: %d done, %d switched, %d copying, %d planned",
		100*share(t), sizeText(int64(t.BytesDone)), sizeText(int64(t.Bytes)), t.Done, t.Switched, t.Copying, t.Planned)
	if r := rateText(t); r != "" {
		line += ", " + r
	}
	if l := leftText(t); l != "" {
		line += ", " + l + " left"
	}
	return line
}

// list of names for people.
func list(names []string) string { return strings.Join(names, ", ") }

func timeText(ms int64) string {
	if ms == 0 {
		return "-"
	}
	return time.UnixMilli(ms).UTC().Format("2006-01-02T15:04:05Z")
}
