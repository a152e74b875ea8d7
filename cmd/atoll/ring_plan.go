package main

import (
	"fmt"
	"io"
	"os"

	"github.com/spf13/cobra"
	"google.golang.org/protobuf/encoding/protojson"

	adminv1 "github.com/atolldb/atoll/proto/atoll/admin/v1"
)

// maxPlanFile is well above the plan of 65,536 partitions.
const maxPlanFile = 64 << 20

func ringPlanCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "plan",
		Short: "Calculate a change, to be looked at and committed later",
		Long: `Calculate a change, and print the plan as a line of JSON, to be looked at and
committed by 'atoll ring commit'. -o table shows it to people. 'atoll node join'
and its siblings do both at once.`,
		Example: `  atoll ring plan drain eu-2 > plan.json
  jq '.moves | length' plan.json
  atoll ring commit plan.json`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	for _, s := range []changeSpec{
		joinSpec, drainSpec, replaceSpec, weightSpec, rackSpec, replicasSpec, rebalanceSpec,
	} {
		cmd.AddCommand(s.planCommand())
	}
	return cmd
}

// planCommand only plans.
func (s changeSpec) planCommand() *cobra.Command {
	q := &changeFlags{planOnly: true}
	cmd := &cobra.Command{
		Use: s.use, Short: s.short, Long: s.long, Args: s.args,
		Example: "  atoll ring plan " + s.use + " > plan.json",
	}
	q.serverFlags(cmd, changeTimeout)
	if s.flags != nil {
		s.flags(cmd, q)
	}
	q.out = formatFlag(cmd, "json", "table")
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		change, err := s.parse(q, args)
		if err != nil {
			return usage(cmd, err)
		}
		return q.run(cmd, change)
	}
	return cmd
}

func ringCommitCommand() *cobra.Command {
	q := &changeFlags{}
	cmd := &cobra.Command{
		Use:   "commit (FILE | -)",
		Short: "Commit a plan of 'atoll ring plan'",
		Long: `Commit a plan of 'atoll ring plan'. It is planned again, and refused with exit
code 4 when other moves come out than those in the file.`,
		Example: `  atoll ring commit plan.json --wait
  atoll ring plan rebalance | atoll ring commit -`,
		Args: cobra.ExactArgs(1),
	}
	q.serverFlags(cmd, changeTimeout)
	cmd.Flags().BoolVar(&q.wait, "wait", false, "wait until the task has ended, as 'atoll task wait' does")
	q.out = formatFlag(cmd, "table", "json")
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		plan, err := readPlan(cmd.InOrStdin(), args[0])
		if err != nil {
			return usage(cmd, err)
		}
		return q.withCluster(cmd, func(c *cluster) error {
			task, err := q.commit(cmd.Context(), c, plan.Id, plan.Change)
			if err != nil {
				return err
			}
			return q.committed(cmd, task)
		})
	}
	return cmd
}

func readPlan(stdin io.Reader, name string) (*adminv1.PlanResponse, error) {
	in := stdin
	if name != "-" {
		f, err := os.Open(name)
		if err != nil {
			return nil, err
		}
		defer f.Close() //nolint:errcheck // nothing was written
		in = f
	}
	b, err := io.ReadAll(io.LimitReader(in, maxPlanFile+1))
	switch {
	case err != nil:
		return nil, fmt.Errorf("read the plan: %w", err)
	case len(b) > maxPlanFile:
		return nil, fmt.Errorf("the plan is too large%s", inputBounds("plan", sizeText(maxPlanFile), "more"))
	}
	plan := &adminv1.PlanResponse{}
	if err := protojson.Unmarshal(b, plan); err != nil || plan.Id == nil || plan.Change == nil {
		return nil, fmt.Errorf("%s is no plan: it has to be what 'atoll ring plan' printed", name)
	}
	return plan, nil
}
