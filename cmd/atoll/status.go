package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/atolldb/atoll/node/api"
	adminv1 "github.com/atolldb/atoll/proto/atoll/admin/v1"
)

func statusCommand() *cobra.Command {
	var q request
	cmd := &cobra.Command{
		Use:   "status",
		Short: "Show the nodes of the region and what it lacks of others",
		Long: `Show the nodes of the region, and its links from other regions. The exit code
is 8 when a node or a link is down or not ready, a record is unreadable, a clock is
off, or a disk is full, and standard error says why.

  ST        U up, D down: it did not answer. Then N normal; J joining: it
            starts, catches up, or has registered and owns nothing yet; L leaving:
            it is being drained
  PARTS     partitions owned, and of these primary
  REPAIRED  records that anti-entropy changed there since it started; READS
            the same by read repair
  GAPS      writes below its clocks' highest that it has not received
  CLOCKS, DATA  digests over all owned partitions, the first half; nodes that
            own the same partitions end with the same digests
  GEO       writes made there that the log to other regions has not confirmed

Of a link: whether a heartbeat came within 2.5 s and how old the last one is,
how many writes are known to be missing here, how old the oldest of them is,
and how many bytes are still to come as far as that is known.`,
		Example: `  atoll status
  atoll status -o json | jq '.nodes[] | {id, repaired_keys}'`,
		Args: cobra.NoArgs,
	}
	q.serverFlags(cmd, defaultTimeout)
	out := formatFlag(cmd, "table", "json")
	cmd.RunE = func(cmd *cobra.Command, _ []string) error { return runStatus(cmd, &q, out) }
	return cmd
}

func runStatus(cmd *cobra.Command, q *request, out *format) error {
	return q.ask(cmd, func(ctx context.Context, c *cluster) error {
		st, err := c.GetStatus(ctx, &adminv1.GetStatusRequest{})
		if err != nil {
			return adminFailure("ask for the status", err)
		}
		if out.value == "json" {
			err = printProto(cmd.OutOrStdout(), st)
		} else {
			err = statusTables(cmd.OutOrStdout(), c.topology, st)
		}
		if err != nil {
			return err
		}
		return ifDegraded(degraded(st))
	})
}

// ifDegraded is the error of a command that has found what is listed there, nil for
// nothing.
func ifDegraded(bad []string) error {
	if len(bad) == 0 {
		return nil
	}
	return withCode(exitDegraded, errors.New("degraded:\n  "+strings.Join(bad, "\n  ")))
}

// degraded lists everything that is not as it should be. That writes wait for
// a link that is up is how it should be.
func degraded(st *adminv1.GetStatusResponse) []string {
	var bad []string
	for _, n := range st.Nodes {
		switch {
		case n.Error != "":
			bad = append(bad, fmt.Sprintf("node %s does not answer: %s", n.Id, n.Error))
		case !n.Ready:
			bad = append(bad, fmt.Sprintf("node %s is not ready", n.Id))
		}
		if n.Unreadable > 0 {
			bad = append(bad, fmt.Sprintf("node %s cannot read %d records; 'atoll repair' fetches them from other owners", n.Id, n.Unreadable))
		}
		if n.ClockOff {
			bad = append(bad, fmt.Sprintf("node %s has a clock that is %s other nodes': it takes no writes until that is right; see its time synchronisation", n.Id, aheadText(n.ClockAheadMs)))
		}
		if n.DiskFull {
			bad = append(bad, fmt.Sprintf("node %s has no room on its disk (%s free, of %s that it needs): it takes no writes; make room, or give it less to keep", n.Id, diskText(n), sizeText(n.DiskNeeds)))
		}
		if len(n.PeersDown) > 0 {
			bad = append(bad, fmt.Sprintf("node %s does not reach %s", n.Id, strings.Join(n.PeersDown, ", ")))
		}
	}
	return append(append(bad, metadataSilent(st)...), deadLinks(st.Links)...)
}

// deadLinks is a line for each link that is not alive.
func deadLinks(links []*adminv1.LinkStatus) (bad []string) {
	for _, l := range links {
		switch {
		case neverHeard(l):
			bad = append(bad, fmt.Sprintf("node %s has just started and not heard region %s yet", l.Node, l.Origin))
		case !l.Alive:
			bad = append(bad, fmt.Sprintf("node %s hears nothing from region %s for %s", l.Node, l.Origin, millisText(l.HeartbeatAgeMs)))
		}
	}
	return bad
}

// metadataSilent is a line for all nodes that the metadata servers do not answer: mostly
// it is all of them, since two of the three servers are away. How many of the members run
// one does not tell: that of a node which has left and was not stopped counts, too.
func metadataSilent(st *adminv1.GetStatusResponse) []string {
	var nodes []string
	var longest int64
	for _, n := range st.Nodes {
		if n.MetadataSilentMs > api.MetadataLate.Milliseconds() {
			nodes, longest = append(nodes, n.Id), max(longest, n.MetadataSilentMs)
		}
	}
	if len(nodes) == 0 {
		return nil
	}
	return []string{fmt.Sprintf("the region's metadata servers have not answered %s for %s: no node can join, leave or be replaced, and none that was away can start; start the nodes that run them; where their disks were full, make room and restart them",
		strings.Join(nodes, ", "), millisText(longest))}
}

// metadataServers are the nodes that run one of the region's metadata servers, those whose
// own has just started and catches up, and how many there are; 0 for not known.
func metadataServers(st *adminv1.GetStatusResponse) (on, behind []string, total int) {
	for _, n := range st.Nodes {
		switch {
		case n.Error != "":
		case n.MetadataServer:
			on, total = append(on, n.Id), max(total, int(n.MetadataServers))
		case n.MetadataServerBehind:
			behind = append(behind, n.Id)
		}
	}
	return on, behind, total
}

// metadataNote is a line where not all metadata servers run, "" otherwise. It is no fault
// while a majority of them does: what their nodes are otherwise, other lines say.
func metadataNote(st *adminv1.GetStatusResponse) string {
	on, behind, total := metadataServers(st)
	if len(on) >= total {
		return ""
	}
	text := fmt.Sprintf("%d of %d metadata servers run: those of %s; ", len(on), total, strings.Join(on, ", "))
	if len(behind) > 0 {
		text += fmt.Sprintf("%s just started one, which counts when it has what they have; ", strings.Join(behind, ", "))
	}
	if len(on)+len(behind) < total {
		text += `more than half have to. If a node that ran one is gone for good, let another one take its part over (docs/operations.md, "A metadata server moves"); `
	}
	return strings.TrimSuffix(text, "; ") + "\n"
}

// aheadText says by how much a clock differs, behind which the others are named.
func aheadText(ms int64) string {
	if ms < 0 {
		return millisText(-ms) + " behind"
	}
	return millisText(ms) + " ahead of"
}

// neverHeard says that the age of the last heartbeat is that of the node: one
// as young as that would make the link alive.
func neverHeard(l *adminv1.LinkStatus) bool {
	return !l.Alive && l.HeartbeatAgeMs < linkAlive.Milliseconds()
}

// linkAlive is how young a heartbeat has to be.
const linkAlive = 2500 * time.Millisecond

// nodeState is U(p) or D(own), then N(ormal), J(oining) or L(eaving).
func nodeState(t *adminv1.GetTopologyResponse, n *adminv1.NodeStatus) string {
	seen, state := "U", "N"
	if n.Error != "" {
		seen = "D"
	} else if !n.Ready {
		state = "J"
	}
	for _, m := range t.Members {
		switch {
		case m.Id != n.Id:
		case m.State == adminv1.MemberState_MEMBER_STATE_JOINING:
			state = "J"
		case m.State == adminv1.MemberState_MEMBER_STATE_DRAINING:
			state = "L"
		}
	}
	return seen + state
}

// nodeNotes are what is worth saying of a node that serves.
func nodeNotes(n *adminv1.NodeStatus) (notes []string) {
	if n.PartitionsBehind > 0 {
		notes = append(notes, fmt.Sprintf("catches up with %d partitions", n.PartitionsBehind))
	}
	if n.Leftovers > 0 {
		notes = append(notes, fmt.Sprintf("holds %d partitions that it has given away, and deletes them later", n.Leftovers))
	}
	if n.Hints > 0 {
		notes = append(notes, fmt.Sprintf("keeps %d hints (%s) for owners that were away", n.Hints, sizeText(int64(n.HintBytes))))
	}
	return notes
}

func statusTables(w io.Writer, t *adminv1.GetTopologyResponse, st *adminv1.GetStatusResponse) error {
	if _, err := fmt.Fprintf(w, "region %s, epoch %d\n%s\n", st.Region, st.Epoch, transition(t)); err != nil {
		return err
	}
	notes := ""
	nodes := newTable(w, "st", "node", "actor", "parts", "repaired", "reads", "gaps", "clocks", "data",
		"store", "disk free", "geo", "up", "version")
	for _, n := range st.Nodes {
		if n.Error != "" {
			nodes.AppendRow([]any{nodeState(t, n), n.Id})
			continue
		}
		nodes.AppendRow([]any{
			nodeState(t, n), n.Id, actorText(n.Actor), fmt.Sprintf("%d/%d", n.PartitionsOwned, n.PartitionsPrimary),
			n.RepairedKeys, n.ReadRepairs, n.OpenGaps, digestText(n.ClockDigest), digestText(n.DataDigest),
			sizeText(n.StoreBytes), diskText(n), n.GeoPending, millisText(n.UptimeMs), n.Version,
		})
		for _, note := range nodeNotes(n) {
			notes += n.Id + " " + note + "\n"
		}
	}
	nodes.Render()
	notes += metadataNote(st)
	if notes != "" {
		if _, err := io.WriteString(w, "\n"+notes); err != nil {
			return err
		}
	}
	if len(st.Links) == 0 {
		return nil
	}
	if _, err := fmt.Fprintln(w); err != nil {
		return err
	}
	links := newTable(w, "from", "seen by", "alive", "heartbeat", "missing", "oldest", "bytes")
	for _, l := range st.Links {
		alive, heard := "yes", millisText(l.HeartbeatAgeMs)
		if !l.Alive {
			alive = "NO"
		}
		if neverHeard(l) {
			heard = "none yet"
		}
		links.AppendRow([]any{
			l.Origin, l.Node, alive, heard, l.Pending, millisText(l.OldestMs), sizeText(int64(l.PendingBytes)),
		})
	}
	links.Render()
	return nil
}

// digestText is enough of a digest to compare by eye.
func digestText(d uint64) string { return fmt.Sprintf("%08x", d>>32) }

func diskText(n *adminv1.NodeStatus) string {
	if n.DiskTotal <= 0 {
		return "?"
	}
	return fmt.Sprintf("%s (%d %%)", sizeText(n.DiskFree), n.DiskFree*100/n.DiskTotal)
}

// millisText keeps what a person reads of a time.
func millisText(ms int64) string {
	d := time.Duration(ms) * time.Millisecond
	switch {
	case d >= time.Hour:
		return fmt.Sprintf("%dh%02dm", int(d.Hours()), int(d.Minutes())%60)
	case d >= 10*time.Second:
		return d.Round(time.Second).String()
	}
	return d.String()
}
