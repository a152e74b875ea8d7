package main

import (
	"context"
	"slices"

	"github.com/spf13/cobra"
	"google.golang.org/protobuf/proto"

	adminv1 "github.com/atolldb/atoll/proto/atoll/admin/v1"
)

func nodeCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "node",
		Short: "List the nodes of the region, and let them join, leave and be replaced",
		Args:  cobra.NoArgs,
		RunE:  func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	cmd.AddCommand(nodeListCommand())
	for _, s := range []changeSpec{joinSpec, drainSpec, replaceSpec, weightSpec, rackSpec} {
		cmd.AddCommand(s.command())
	}
	return cmd
}

func nodeListCommand() *cobra.Command {
	var q request
	cmd := &cobra.Command{
		Use:     "ls",
		Aliases: []string{"list"},
		Short:   "List the nodes of the region",
		Long: `List the nodes of the region.

  STATE   up: may own partitions. joining: has registered, and waits for 'atoll
          node join'. draining: gives all away, then leaves
  SEEN    whether the node answers now, and which others say that it does not
  OWNED   partitions that it answers for; GETS and GIVES those that are still to
          switch to it and from it
  BEHIND  owned partitions that it catches up with, and does not answer for yet
  EPOCH   of the topology that it has on its disk`,
		Example: `  atoll node ls
  atoll node ls -o json | jq -r '.nodes[] | select(.member.state == "MEMBER_STATE_JOINING") | .member.id'`,
		Args: cobra.NoArgs,
	}
	q.serverFlags(cmd, defaultTimeout)
	out := formatFlag(cmd, "table", "json")
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		return q.ask(cmd, func(ctx context.Context, c *cluster) error {
			st, err := c.GetStatus(ctx, &adminv1.GetStatusRequest{})
			if err != nil {
				return adminFailure("ask for the status", err)
			}
			if out.value == "json" {
				return printNodes(cmd, c.topology, st)
			}
			nodeTable(cmd, c.topology, st)
			return nil
		})
	}
	return cmd
}

func statusOf(st *adminv1.GetStatusResponse, id string) *adminv1.NodeStatus {
	for _, n := range st.Nodes {
		if n.Id == id {
			return n
		}
	}
	return nil
}

// missedBy are the nodes that do not reach id.
func missedBy(st *adminv1.GetStatusResponse, id string) (by []string) {
	for _, n := range st.Nodes {
		if slices.Contains(n.PeersDown, id) {
			by = append(by, n.Id)
		}
	}
	return by
}

// seenText is whether a node answers, and what the others say.
func seenText(st *adminv1.GetStatusResponse, id string) string {
	n := statusOf(st, id)
	text := "up"
	switch {
	case n == nil:
		return "?"
	case n.Error != "":
		text = "DOWN"
	case !n.Ready:
		text = "not ready"
	}
	if by := missedBy(st, id); len(by) > 0 && n.Error == "" {
		text += ", not by " + list(by)
	}
	return text
}

func nodeTable(cmd *cobra.Command, t *adminv1.GetTopologyResponse, st *adminv1.GetStatusResponse) {
	by, _ := holdingsOf(t)
	rows := newTable(cmd.OutOrStdout(),
		"node", "state", "seen", "rack", "weight", "owned", "gets", "gives", "behind", "bytes", "epoch", "clients")
	for _, m := range t.Members {
		h := by[m.Id]
		row := []any{m.Id, stateText(m.State), seenText(st, m.Id), m.Rack, m.Weight, h.owned, h.gets, h.gives}
		if n := statusOf(st, m.Id); n != nil && n.Error == "" {
			row = append(row, n.PartitionsBehind, sizeText(n.StoreBytes), n.Epoch)
		} else {
			row = append(row, "?", "?", "?")
		}
		rows.AppendRow(append(row, m.ClientAddr))
	}
	rows.Render()
}

// printNodes prints members and what they say, as one line.
func printNodes(cmd *cobra.Command, t *adminv1.GetTopologyResponse, st *adminv1.GetStatusResponse) error {
	type node struct {
		Member   protoJSON  `json:"member"`
		Owned    int        `json:"owned"`
		Primary  int        `json:"primary"`
		Gets     int        `json:"gets"`
		Gives    int        `json:"gives"`
		MissedBy []string   `json:"missed_by"`
		Status   *protoJSON `json:"status,omitempty"`
	}
	out := struct {
		Region string   `json:"region"`
		Epoch  uint64   `json:"epoch"`
		Nodes  []node   `json:"nodes"`
		Left   []string `json:"left"`
	}{Region: t.Region, Epoch: t.Epoch, Left: append([]string{}, t.Left...)}
	by, _ := holdingsOf(t)
	for _, m := range t.Members {
		h := by[m.Id]
		n := node{
			Member: protoJSON{m}, Owned: h.owned, Primary: h.primary, Gets: h.gets, Gives: h.gives,
			MissedBy: append([]string{}, missedBy(st, m.Id)...),
		}
		if s := statusOf(st, m.Id); s != nil {
			n.Status = &protoJSON{s}
		}
		out.Nodes = append(out.Nodes, n)
	}
	return printJSON(cmd.OutOrStdout(), out)
}

// protoJSON is a message within other JSON.
type protoJSON struct{ proto.Message }

// MarshalJSON implements json.Marshaler.
func (p protoJSON) MarshalJSON() ([]byte, error) { return marshalProto(p.Message) }
