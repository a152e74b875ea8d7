package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"strconv"
	"strings"

	"github.com/spf13/cobra"

	adminv1 "github.com/atolldb/atoll/proto/atoll/admin/v1"
)

// changeTimeout is longer than that of operations: a plan of a large region is
// work.
const changeTimeout = defaultTimeout * 6

// changeSpec is one kind of change: how it is written, and what it means.
type changeSpec struct {
	use, short, long, example string
	args                      cobra.PositionalArgs
	flags                     func(*cobra.Command, *changeFlags)
	parse                     func(*changeFlags, []string) (*adminv1.Change, error)
}

// changeFlags of all commands that change the members.
type changeFlags struct {
	request
	yes, planOnly, wait, acceptLoss bool
	by                              string
	out                             *format
}

var joinSpec = changeSpec{
	use: "join NODE...", short: "Give new nodes their share of the partitions",
	long: `Give nodes that have registered with the region ('joining' in 'atoll node ls')
their share of the partitions. Join several at once: each partition then moves
once at most.`,
	example: `  atoll node join eu-4 --plan
  atoll node join eu-4 eu-5 --yes --wait`,
	args:  cobra.MinimumNArgs(1),
	parse: nodesChange(adminv1.ChangeKind_CHANGE_KIND_JOIN),
}

var drainSpec = changeSpec{
	use: "drain NODE...", short: "Take all partitions from nodes, which then leave",
	long: `Take all partitions from nodes, and have them leave when they own nothing any
more. The processes go on: stop them when the task is done and 'atoll node ls'
does not list them. A node that has left cannot come back under its name. One that
keeps hints leaves when it has handed them over: 'atoll task show' says for whom.

Draining works for a node that is dead, too: the others are copied from. To put
a new machine in its place use 'atoll node replace', which moves less.`,
	example: `  atoll node drain eu-2 --plan
  atoll node drain eu-2 --yes --wait`,
	args:  cobra.MinimumNArgs(1),
	flags: acceptLossFlag,
	parse: nodesChange(adminv1.ChangeKind_CHANGE_KIND_DRAIN),
}

var replaceSpec = changeSpec{
	use: "replace DEAD --by NEW", short: "Put a new node in the place of a dead one",
	long: `Put a new node in the place of a dead one. The new one has to have registered
with the region, under a name of its own ('joining' in 'atoll node ls'); with the
rack and the weight of the dead one it gets exactly what that had. The dead one
leaves, and cannot come back under its name.

What it held is copied from the other owners. With three replicas that takes
both: every write that was acknowledged at a quorum is then in the copy.`,
	example: `  atoll node replace eu-2 --by eu-4 --plan
  atoll node replace eu-2 --by eu-4 --yes --wait`,
	args: cobra.ExactArgs(1),
	flags: func(cmd *cobra.Command, q *changeFlags) {
		acceptLossFlag(cmd, q)
		cmd.Flags().StringVar(&q.by, "by", "", "`NODE` that takes the place; required")
	},
	parse: func(q *changeFlags, args []string) (*adminv1.Change, error) {
		if q.by == "" {
			return nil, errors.New("--by is missing: which node takes the place?")
		}
		return &adminv1.Change{
			Kind: adminv1.ChangeKind_CHANGE_KIND_REPLACE, Nodes: args, By: q.by, AcceptLoss: q.acceptLoss,
		}, nil
	},
}

var weightSpec = changeSpec{
	use: "weight NODE WEIGHT", short: "Change how large a node's share is, next to the others'",
	long: `Change how large a node's share is: a node of weight 2 owns twice as many
partitions as one of weight 1, as far as racks allow.`,
	example: `  atoll node weight eu-3 2 --plan`,
	args:    cobra.ExactArgs(2),
	parse: func(_ *changeFlags, args []string) (*adminv1.Change, error) {
		n, err := number("weight", args[1])
		return &adminv1.Change{Kind: adminv1.ChangeKind_CHANGE_KIND_WEIGHT, Nodes: args[:1], Weight: n}, err
	},
}

var rackSpec = changeSpec{
	use: "rack NODE RACK", short: "Say that a node is in another rack",
	long: `Say that a node is in another rack. No two owners of a partition are in one rack
while there are as many racks as replicas, so that this may move much.`,
	example: `  atoll node rack eu-3 b2 --plan`,
	args:    cobra.ExactArgs(2),
	parse: func(_ *changeFlags, args []string) (*adminv1.Change, error) {
		return &adminv1.Change{Kind: adminv1.ChangeKind_CHANGE_KIND_RACK, Nodes: args[:1], Rack: args[1]}, nil
	},
}

var replicasSpec = changeSpec{
	use: "replicas N", short: "Change the number of owners of every partition",
	args: cobra.ExactArgs(1),
	parse: func(_ *changeFlags, args []string) (*adminv1.Change, error) {
		n, err := number("replicas", args[0])
		return &adminv1.Change{Kind: adminv1.ChangeKind_CHANGE_KIND_REPLICAS, Replicas: n}, err
	},
}

var rebalanceSpec = changeSpec{
	use: "rebalance", short: "Make the shares even again, as after a task was aborted",
	args: cobra.NoArgs,
	parse: func(*changeFlags, []string) (*adminv1.Change, error) {
		return &adminv1.Change{Kind: adminv1.ChangeKind_CHANGE_KIND_REBALANCE}, nil
	},
}

func nodesChange(kind adminv1.ChangeKind) func(*changeFlags, []string) (*adminv1.Change, error) {
	return func(q *changeFlags, args []string) (*adminv1.Change, error) {
		return &adminv1.Change{Kind: kind, Nodes: args, AcceptLoss: q.acceptLoss}, nil
	}
}

// number is an argument; what its bounds are the server knows.
func number(field, s string) (uint32, error) {
	n, err := strconv.ParseUint(s, 10, 32)
	if err != nil {
		return 0, errors.New("not a number" + inputBounds(field, "1 or more", strconv.Quote(s)))
	}
	return uint32(n), nil
}

func acceptLossFlag(cmd *cobra.Command, q *changeFlags) {
	cmd.Flags().BoolVar(&q.acceptLoss, "accept-loss", false,
		"copy from fewer owners than an acknowledged write is safe with: when those are gone for good, and only then")
}

const changeHelp = `

The plan is shown first: what moves, how many bytes that is, how much more than
the least, the balance before and after, and how long it takes at the pace. On a
terminal you are then asked. --yes commits without asking, --plan only shows.
The region goes on reading and writing all the while; 'atoll task' follows,
pauses and aborts what was committed, 'atoll pace' slows it down.`

// command that plans, asks and commits.
func (s changeSpec) command() *cobra.Command {
	q := &changeFlags{}
	cmd := &cobra.Command{Use: s.use, Short: s.short, Long: s.long + changeHelp, Example: s.example, Args: s.args}
	q.serverFlags(cmd, changeTimeout)
	f := cmd.Flags()
	f.BoolVarP(&q.yes, "yes", "y", false, "commit the plan without asking")
	f.BoolVar(&q.planOnly, "plan", false, "show the plan, and commit nothing")
	f.BoolVar(&q.wait, "wait", false, "wait until the task has ended, as 'atoll task wait' does")
	if s.flags != nil {
		s.flags(cmd, q)
	}
	q.out = formatFlag(cmd, "table", "json")
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		change, err := s.parse(q, args)
		if err != nil {
			return usage(cmd, err)
		}
		if err := atMostOne(cmd, "plan", "yes"); err != nil {
			return err
		}
		return q.run(cmd, change)
	}
	return cmd
}

// run plans, and, unless it is told otherwise, asks and commits.
func (q *changeFlags) run(cmd *cobra.Command, change *adminv1.Change) error {
	if !q.planOnly && !q.yes && !isTerminal(cmd.InOrStdin()) {
		return usage(cmd, errors.New("there is nobody to ask: give --yes to commit, or --plan to look"))
	}
	c, err := q.dialCluster(cmd)
	if err != nil {
		return err
	}
	defer c.close()
	plan, err := q.plan(cmd.Context(), c, change)
	if err != nil {
		return err
	}
	switch {
	case q.planOnly && q.out.value == "json":
		return printProto(cmd.OutOrStdout(), plan)
	case q.out.value == "table":
		if err := planTable(cmd.OutOrStdout(), plan); err != nil {
			return err
		}
	}
	if q.planOnly {
		return nil
	}
	if !q.yes && !confirmed(cmd) {
		return withCode(exitError, errors.New("nothing was committed"))
	}
	task, err := q.commit(cmd.Context(), c, plan.Id, change)
	if err != nil {
		return err
	}
	return q.committed(cmd, task)
}

// committed tells of the task, and follows it if that is wanted.
func (q *changeFlags) committed(cmd *cobra.Command, task uint64) error {
	var err error
	if q.out.value == "json" {
		err = printProto(cmd.OutOrStdout(), &adminv1.CommitResponse{Task: task})
	} else {
		_, err = fmt.Fprintf(cmd.OutOrStdout(), "committed as task %d\n", task)
	}
	if err != nil {
		return err
	}
	if q.wait {
		return q.follow(cmd, task, q.out)
	}
	if q.out.value != "json" {
		_, err = fmt.Fprintf(cmd.ErrOrStderr(), "'atoll task wait %d' follows it\n", task)
	}
	return err
}

func (q *changeFlags) plan(ctx context.Context, c *cluster, change *adminv1.Change) (*adminv1.PlanResponse, error) {
	ctx, cancel := context.WithTimeout(ctx, q.timeout)
	defer cancel()
	plan, err := c.Plan(ctx, &adminv1.PlanRequest{Change: change})
	if err != nil {
		return nil, adminFailure("plan", err)
	}
	return plan, nil
}

func (q *changeFlags) commit(
	ctx context.Context, c *cluster, id *adminv1.PlanID, change *adminv1.Change,
) (uint64, error) {
	ctx, cancel := context.WithTimeout(ctx, q.timeout)
	defer cancel()
	res, err := c.Commit(ctx, &adminv1.CommitRequest{Id: id, Change: change})
	if err != nil {
		return 0, changeFailure("commit the plan", err)
	}
	return res.Task, nil
}

// confirmed asks the person at the terminal.
func confirmed(cmd *cobra.Command) bool {
	fmt.Fprint(cmd.ErrOrStderr(), "commit this plan? [y/N] ")
	line, _ := bufio.NewReader(cmd.InOrStdin()).ReadString('\n') // an end without an answer is a no
	answer := strings.ToLower(strings.TrimSpace(line))
	return answer == "y" || answer == "yes"
}
