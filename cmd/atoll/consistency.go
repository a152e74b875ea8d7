package main

import "github.com/spf13/cobra"

const consistencyHelp = `--consistency says who takes part in a read or a write. N is how many owners a key
has in each region, Q a majority of them.

  local-one, local-two, local-three
                  so many owners of the region that is asked
  local-quorum    Q of them: a read sees every local-quorum write made in the
                  same region. The default, for reads and writes
  local-all       all N of them
  quorum          Q of them, and Q in enough other regions to be a majority of
                  the regions. It is a quorum of regional quorums, NOT a majority
                  of all replicas; with two regions it is each-quorum
  each-quorum     Q in every region
  all             all N in every region
  local-serial    Q of the region that is asked decide together, one operation of
                  the key after the other: what a condition (--if-absent, ...)
                  asks for is certain, and a read sees all of it that is done
  serial          the same, in the bucket's home region (atoll bucket create
                  --home REGION), whichever region is asked: for all of them there
                  is one order. It takes a round trip to the home, and fails where
                  that cannot be reached

Local levels never leave the region. The others wait for other regions: a write
is made here first, and then sent there. If they are silent until the --timeout,
the write is not taken back: it holds here, gets there later, and the exit code is
9 (partial). A write that too few regions could take, as far as the node knows, is
refused and not applied: exit code 6.

A read and a write surely see each other when their owners overlap: local-quorum
with local-quorum in one region, quorum with quorum anywhere.

--r and --w replace how many owners of each region, and --regions how many
regions, the one that is asked among them.`

// consistencyTopic is "atoll help consistency".
func consistencyTopic() *cobra.Command {
	return &cobra.Command{
		Use:   "consistency",
		Short: "What the levels of reads and writes mean",
		Long:  consistencyHelp,
	}
}
