package main

import "github.com/spf13/cobra"

func regionRemoveCommand() *cobra.Command {
	spec := drSpec{
		"remove", "Take a region that is out of service away, for good",
		`Take REGION away for good, while the others serve: no node is restarted. It has to be
out of service, by 'atoll dr switchover', or by 'atoll dr failover' if it is lost. What
is shown first is exactly which of its writes the other regions were told of and do not
have: those are lost for good then.

From then on nothing is kept for it (the marks of deletes, the index of what it lacks,
its place in the logs of the others), its nodes are told so and serve nothing, and its
number is never used again. Its name may be: that is a new region. 'atoll dr status'
shows how far it is, and 'atoll dr abort' ends it before the stage "removing".`,
	}
	cmd := spec.command()
	cmd.Example = "  atoll region remove us --confirm us --wait"
	return cmd
}
