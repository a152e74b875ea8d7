package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"strings"
	"sync/atomic"
	"time"

	"github.com/spf13/cobra"

	adminv1 "github.com/atolldb/atoll/proto/atoll/admin/v1"
)

// drTimeout bounds one question: all nodes of all regions may have to be asked, and
// those of a lost one do not answer.
const drTimeout = 20 * time.Second

func drCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "dr",
		Short: "Take regions out of service, go on without one that is lost, bring them back",
		Long: `Take regions out of service, go on without one that is lost, and bring them back.

All of it is a change of the map of regions, which a majority of the regions decides;
--force makes it without one. The region that is asked drives an operation from then
on, whichever of its nodes leads: ask one that stays. What is lost with a region, and
what cannot be known, is told in docs/dr.md; the steps are in deploy/runbooks.`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	cmd.AddCommand(drStatusCommand(), drPlanCommand(), drWaitCommand(), drAbortCommand(), drDrillCommand(), drLeaseCommand())
	for _, s := range []drSpec{
		{"switchover", "Take a region out of service, and lose nothing",
			`Take REGION out of service: clients are told to move, its writes stop, the others get
what it has taken, its homes move. It ends FENCED; 'atoll dr failback' brings it back.`},
		{"failover", "Go on without a region that is lost",
			`Go on without REGION, which is lost. What is shown first is exactly which of its writes
the other regions were told of and do not have; what it took after it was heard last
is not among them, and cannot be known. They join when it returns.`},
		{"rebuild", "Let a region begin anew whose disks are gone for good",
			`Let REGION begin anew, whose disks are all gone for good, with the names and the number
that it had. It has to be FENCED, by 'atoll dr failover'. Start its nodes with empty disks,
now or before: they wait for this. They serve nobody, not even reads, until they have all
that the others have; then the region is counted again, and ACTIVE. What the failover
told to be missing is lost for good then, and sessions that know of it are told so. If the
disks turn up after all, do not mix them: start all nodes with the old ones, or none.`},
		{"failback", "Bring a region back that was fenced",
			`Bring REGION back: it gives the others what it had not sent, gets what it missed, and
is counted again once both hold. Writes that came late are concurrent with those that
were made without it: siblings, or superseded. No home moves.`},
	} {
		cmd.AddCommand(s.command())
	}
	return cmd
}

// onRegions calls do with the service of the first endpoint that answers.
func (q *request) onRegions(cmd *cobra.Command, doing string, do func(context.Context, adminv1.RegionsClient) error) error {
	return q.ask(cmd, func(ctx context.Context, c *cluster) error {
		if err := do(ctx, adminv1.NewRegionsClient(c.conn)); err != nil {
			var coded codedError
			if errors.As(err, &coded) {
				return err
			}
			return adminFailure(doing, err)
		}
		return nil
	})
}

func drStatusCommand() *cobra.Command {
	var q request
	cmd := &cobra.Command{
		Use:   "status",
		Short: "Show which regions are in service, and what is under way",
		Long: `Show the map of regions as the node that is asked knows it, and the operation that is
under way, or was last. The exit code is 8 while a region is not ACTIVE, or is not heard by
the one that is asked, an operation is under way, the map is contested, or a lease does
not bind yet or is not held by the region that is asked; standard error says why.

  TIMES FENCED  how often the region was taken out of service, or done without
  MOVED HOMES   buckets whose operations at SERIAL are decided there since a switchover
                or a failover; all others where 'atoll bucket show' says`,
		Example: `  atoll dr status
  atoll dr status -o json | jq -r '.map.regions[] | select(.state != "ACTIVE").name'`,
		Args: cobra.NoArgs,
	}
	q.serverFlags(cmd, drTimeout)
	out := formatFlag(cmd, "table", "json")
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		return q.onRegions(cmd, "ask for the map of regions", func(ctx context.Context, c adminv1.RegionsClient) error {
			st, err := c.GetRegions(ctx, &adminv1.GetRegionsRequest{})
			if err != nil {
				return err
			}
			if out.value == "json" {
				err = printProto(cmd.OutOrStdout(), st)
			} else {
				err = regionsTable(cmd.OutOrStdout(), st)
			}
			if err != nil {
				return err
			}
			return ifDegraded(regionsDegraded(st))
		})
	}
	return cmd
}

// drFlags are those of operations.
type drFlags struct {
	request
	to, confirm string
	force, wait bool
	out         *format
	newcomer    *adminv1.RegionNewcomer  // of an add
	ended       *adminv1.RegionOperation // what was waited for
}

func (q *drFlags) planFor(kind, region string) *adminv1.PlanOperationRequest {
	return &adminv1.PlanOperationRequest{Kind: kind, Region: region, To: q.to, Force: q.force, Newcomer: q.newcomer}
}

func drPlanCommand() *cobra.Command {
	q := &drFlags{}
	cmd := &cobra.Command{
		Use:   "plan switchover|failover|failback|rebuild|remove REGION",
		Short: "Show what an operation would do, and what keeps it from that",
		Long: `Show what an operation on REGION would do, and change nothing: the checks, the stages,
and the writes that are missing. The exit code is 4 when a check does not hold.`,
		Example: `  atoll dr plan failover us
  atoll dr plan failover us -o json | jq '.missing'`,
		Args: cobra.ExactArgs(2),
	}
	q.serverFlags(cmd, drTimeout)
	cmd.Flags().StringVar(&q.to, "to", "", "`REGION` that gets the homes; without it the one that is asked")
	q.out = formatFlag(cmd, "table", "json")
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		return q.onRegions(cmd, "plan", func(ctx context.Context, c adminv1.RegionsClient) error {
			plan, err := c.PlanOperation(ctx, q.planFor(args[0], args[1]))
			if err != nil {
				return err
			}
			return q.show(cmd, args[0], args[1], plan)
		})
	}
	return cmd
}

// show prints a plan; a check that does not hold is an error.
func (q *drFlags) show(cmd *cobra.Command, kind, region string, plan *adminv1.PlanOperationResponse) error {
	var err error
	if q.out.value == "json" {
		err = printProto(cmd.OutOrStdout(), plan)
	} else {
		err = operationTable(cmd.OutOrStdout(), kind, region, plan)
	}
	if err != nil || q.force {
		return err
	}
	for _, c := range plan.Checks {
		if !c.Ok {
			return withCode(exitPrecondition, fmt.Errorf("check %q does not hold: %s; --force goes over it", c.Name, c.Detail))
		}
	}
	return nil
}

type drSpec struct{ kind, short, long string }

func (s drSpec) command() *cobra.Command {
	q := &drFlags{}
	cmd := &cobra.Command{
		Use:   s.kind + " REGION",
		Short: s.short,
		Long: s.long + `

The plan is shown first. On a terminal the name of the region has to be typed then;
elsewhere it has to be given by --confirm.`,
		Example: "  atoll dr " + s.kind + " us --confirm us --wait",
		Args:    cobra.ExactArgs(1),
	}
	q.serverFlags(cmd, drTimeout)
	f := cmd.Flags()
	if s.kind != "failback" && s.kind != "rebuild" {
		f.StringVar(&q.to, "to", "", "`REGION` that gets the homes; without it the one that is asked")
	}
	f.StringVar(&q.confirm, "confirm", "", "`REGION` once more, instead of typing it")
	f.BoolVar(&q.force, "force", false, "go over checks that do not hold, change the map without a majority of regions, and take the place of what is under way")
	f.BoolVar(&q.wait, "wait", false, "wait until it has ended, as 'atoll dr wait' does")
	q.out = formatFlag(cmd, "table", "json")
	cmd.RunE = func(cmd *cobra.Command, args []string) error { return q.begin(cmd, s.kind, args[0]) }
	return cmd
}

// lookFirst is the command that shows the plan alone.
func lookFirst(kind, region string) string {
	if kind == "add" {
		return "--dry-run"
	}
	return "'atoll dr plan " + kind + " " + region + "'"
}

// begin shows the plan, has the region named, and begins.
func (q *drFlags) begin(cmd *cobra.Command, kind, region string) error {
	switch {
	case q.confirm == "" && !isTerminal(cmd.InOrStdin()):
		return usage(cmd, errors.New("there is nobody to ask: give --confirm "+region+", or look first: "+lookFirst(kind, region)))
	case q.confirm != "" && q.confirm != region:
		return usage(cmd, fmt.Errorf("--confirm says %q, not %q", q.confirm, region))
	}
	var plan *adminv1.PlanOperationResponse
	err := q.onRegions(cmd, "plan", func(ctx context.Context, c adminv1.RegionsClient) (err error) {
		if plan, err = c.PlanOperation(ctx, q.planFor(kind, region)); err != nil {
			return err
		}
		return q.show(cmd, kind, region, plan)
	})
	if err != nil {
		return err
	}
	if q.confirm == "" && !named(cmd, region) {
		return withCode(exitError, errors.New("nothing was changed"))
	}
	err = q.onRegions(cmd, "begin the "+kind, func(ctx context.Context, c adminv1.RegionsClient) error {
		_, err := c.BeginOperation(ctx, &adminv1.BeginOperationRequest{Plan: q.planFor(kind, region), Version: &plan.Version})
		return err
	})
	if err != nil {
		return err
	}
	if q.wait {
		return q.followOperation(cmd)
	}
	_, err = fmt.Fprintf(cmd.ErrOrStderr(), "%s of %s has begun; 'atoll dr wait' follows it\n", kind, region)
	return err
}

// named has the person at the terminal type the region's name.
func named(cmd *cobra.Command, region string) bool {
	fmt.Fprintf(cmd.ErrOrStderr(), "type the name of the region to go on: ")
	line, _ := bufio.NewReader(cmd.InOrStdin()).ReadString('\n')
	return strings.TrimSpace(line) == region
}

func drWaitCommand() *cobra.Command {
	q := &drFlags{}
	cmd := &cobra.Command{
		Use:   "wait",
		Short: "Wait until the operation has ended",
		Long: `Wait until the operation that is under way has ended. Ctrl-C ends the waiting, not the
operation. The exit code is 0 when it is done, and 1 when it was aborted.`,
		Example: "  atoll dr wait",
		Args:    cobra.NoArgs,
	}
	q.serverFlags(cmd, drTimeout)
	q.out = formatFlag(cmd, "table", "json")
	cmd.RunE = func(cmd *cobra.Command, _ []string) error { return q.followOperation(cmd) }
	return cmd
}

// followOperation waits until what is under way has ended.
func (q *drFlags) followOperation(cmd *cobra.Command) error {
	var line atomic.Pointer[string]
	line.Store(new(string))
	p := startProgress(cmd.ErrOrStderr(), func() string { return *line.Load() })
	var last *adminv1.RegionOperation
	err := q.poll(cmd, func(ctx context.Context, c *cluster) (bool, error) {
		res, err := adminv1.NewRegionsClient(c.conn).GetRegions(ctx, &adminv1.GetRegionsRequest{})
		if err != nil {
			return false, err
		}
		last = res.Operation
		if last == nil {
			return true, nil
		}
		text := operationLine(last)
		line.Store(&text)
		return last.Ended, nil
	})
	p.end()
	switch {
	case err != nil:
		return err
	case last == nil:
		return withCode(exitError, errors.New("there was no operation"))
	case last.Aborted && last.Kind != "failback":
		return withCode(exitError, fmt.Errorf("%s of %s was aborted", last.Kind, last.Region))
	}
	q.ended = last
	if q.out.value == "json" {
		return printProto(cmd.OutOrStdout(), last)
	}
	_, err = fmt.Fprintf(cmd.OutOrStdout(), "%s of %s is done, after %s\n", last.Kind, last.Region, millisText(int64(last.ClosedMs-last.BeganMs)))
	if err == nil && last.Kind == "rebuild" && last.Missing.GetCounted() {
		_, err = fmt.Fprintf(cmd.OutOrStdout(), "%d writes are known to be lost for good; 'atoll dr status -o json' lists them\n", last.Missing.Writes)
	}
	if err == nil && last.Kind == "failback" && last.Missing.GetCounted() {
		_, err = fmt.Fprintf(cmd.OutOrStdout(), "%d writes came late; 'atoll dr status -o json' lists them\n", last.Missing.Writes)
	}
	if err == nil && last.Lost.GetCounted() {
		_, err = fmt.Fprintf(cmd.OutOrStdout(), "%d writes were lost with disks meanwhile, and no owner has them any more; 'atoll dr status -o json' lists them\n", last.Lost.Writes)
	}
	return err
}

func drAbortCommand() *cobra.Command {
	q := &drFlags{}
	cmd := &cobra.Command{
		Use:   "abort",
		Short: "End what is under way, or turn it back",
		Long: `End the operation that is under way, as long as homes have not moved. A region that was
only draining is ACTIVE at once; one that was fenced comes back as by 'atoll dr
failback'; one that was to be removed stays as it was, and one that
was to come in is REMOVED. A failback or a rebuild cannot
be aborted.`,
		Example: "  atoll dr abort",
		Args:    cobra.NoArgs,
	}
	q.serverFlags(cmd, drTimeout)
	cmd.Flags().BoolVar(&q.force, "force", false, "change the map without a majority of regions")
	q.out = formatFlag(cmd, "table", "json")
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		return q.onRegions(cmd, "abort", func(ctx context.Context, c adminv1.RegionsClient) error {
			res, err := c.AbortOperation(ctx, &adminv1.AbortOperationRequest{Force: q.force})
			if err != nil {
				return err
			}
			if q.out.value == "json" {
				return printProto(cmd.OutOrStdout(), res.Operation)
			}
			_, err = fmt.Fprintln(cmd.OutOrStdout(), operationLine(res.Operation))
			return err
		})
	}
	return cmd
}

func drDrillCommand() *cobra.Command {
	q := &drFlags{}
	cmd := &cobra.Command{
		Use:   "drill REGION",
		Short: "Switch a region over and back, and tell how long each took",
		Long: `Rehearse: switch REGION over, bring it back, and tell how long each took (RTO: until
the others served everything without it) and how many writes were lost (RPO). REGION takes
no writes meanwhile, and homes that were in it stay where they moved. Nothing is lost.
It has to be confirmed like a switchover.`,
		Example: "  atoll dr drill us --confirm us",
		Args:    cobra.ExactArgs(1),
	}
	q.serverFlags(cmd, drTimeout)
	cmd.Flags().StringVar(&q.to, "to", "", "`REGION` that gets the homes; without it the one that is asked")
	cmd.Flags().StringVar(&q.confirm, "confirm", "", "`REGION` once more, instead of typing it")
	q.out = formatFlag(cmd, "table", "json")
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		q.wait = true
		if err := q.begin(cmd, "switchover", args[0]); err != nil {
			return err
		}
		over := q.ended
		q.to, q.confirm = "", args[0]
		if err := q.begin(cmd, "failback", args[0]); err != nil {
			return err
		}
		return drillReport(cmd.OutOrStdout(), q.out.value == "json", over, q.ended)
	}
	return cmd
}
