package main

import (
	"fmt"
	"io"
	"strings"
	"time"

	adminv1 "github.com/atolldb/atoll/proto/atoll/admin/v1"
)

// changeText says what a change is, for the head of its plan.
func changeText(c *adminv1.Change) string {
	nodes := strings.Join(c.GetNodes(), ", ")
	text := "change of an unknown kind"
	switch c.GetKind() {
	case adminv1.ChangeKind_CHANGE_KIND_JOIN:
		text = "join " + nodes
	case adminv1.ChangeKind_CHANGE_KIND_DRAIN:
		text = "drain " + nodes
	case adminv1.ChangeKind_CHANGE_KIND_REPLACE:
		text = fmt.Sprintf("replace %s by %s", nodes, c.By)
	case adminv1.ChangeKind_CHANGE_KIND_WEIGHT:
		text = fmt.Sprintf("weight %d for %s", c.Weight, nodes)
	case adminv1.ChangeKind_CHANGE_KIND_RACK:
		text = fmt.Sprintf("rack %s for %s", c.Rack, nodes)
	case adminv1.ChangeKind_CHANGE_KIND_REPLICAS:
		text = fmt.Sprintf("%d replicas", c.Replicas)
	case adminv1.ChangeKind_CHANGE_KIND_REBALANCE:
		text = "rebalance"
	}
	if c.GetAcceptLoss() {
		text += ", accepting loss"
	}
	return text
}

// planTable shows what a plan takes.
func planTable(w io.Writer, p *adminv1.PlanResponse) error {
	if _, err := fmt.Fprintf(w, "%s, planned on epoch %d\n\n", changeText(p.Change), p.Id.GetEpoch()); err != nil {
		return err
	}
	rows := newTable(w, "node", "owned", "then", "fair", "primary", "then", "receives", "sends")
	for _, n := range p.Nodes {
		rows.AppendRow([]any{
			n.Id, n.OwnedBefore, n.OwnedAfter, fmt.Sprintf("%.1f", n.FairAfter), n.PrimaryBefore, n.PrimaryAfter,
			sizeText(int64(n.BytesIn)), sizeText(int64(n.BytesOut)),
		})
	}
	rows.Render()
	var b strings.Builder
	if len(p.Moves) == 0 {
		b.WriteString("\nno partition moves\n")
	} else {
		fmt.Fprintf(&b, "\n%d moves, %d of them copy a partition: about %s in all\n", len(p.Moves), p.Copies, sizeText(int64(p.Bytes)))
	}
	if p.Minimum > 0 {
		fmt.Fprintf(&b, "copies / least possible: %d / %d = %.2f\n", p.Copies, p.Minimum, float64(p.Copies)/float64(p.Minimum))
	}
	fmt.Fprintf(&b, "balance, the largest owned / fair share: %s before, %s then\n",
		balance(p.Nodes, (*adminv1.NodePlan).GetOwnedBefore, (*adminv1.NodePlan).GetFairBefore),
		balance(p.Nodes, (*adminv1.NodePlan).GetOwnedAfter, (*adminv1.NodePlan).GetFairAfter))
	if p.Bytes > 0 {
		fmt.Fprintf(&b, "at least %s, at %s a second for each node and %d partitions at a time\n",
			(time.Duration(p.Seconds) * time.Second).String(), sizeText(int64(p.Pace.GetBytesPerSecond())), p.Pace.GetConcurrent())
	}
	for _, warning := range p.Warnings {
		fmt.Fprintf(&b, "warning: %s\n", warning)
	}
	_, err := io.WriteString(w, b.String())
	return err
}

// balance is 1.00 when nobody owns more than its fair share.
func balance(nodes []*adminv1.NodePlan, owned func(*adminv1.NodePlan) uint32, fair func(*adminv1.NodePlan) float64) string {
	most := 0.0
	for _, n := range nodes {
		if f := fair(n); f > 0 {
			most = max(most, float64(owned(n))/f)
		}
	}
	if most == 0 {
		return "-"
	}
	return fmt.Sprintf("%.2f", most)
}
