package main

import (
	"fmt"
	"io"
	"strings"

	"github.com/atolldb/atoll/crdt"
	adminv1 "github.com/atolldb/atoll/proto/atoll/admin/v1"
)

// regionsDegraded lists everything that is not as it should be.
func regionsDegraded(st *adminv1.GetRegionsResponse) (bad []string) {
	if st.Map.Contested {
		bad = append(bad, "two maps of regions have one number: no consensus of all regions until the map is changed again")
	}
	bad = append(bad, leaseDegraded(st)...)
	for _, r := range st.Map.Regions {
		if r.State != "ACTIVE" && r.State != "REMOVED" {
			bad = append(bad, fmt.Sprintf("region %s is %s", r.Name, r.State))
		}
	}
	if o := st.Operation; o != nil && !o.Ended {
		bad = append(bad, operationLine(o))
	}
	return append(bad, deadLinks(st.Links)...)
}

func mapText(m *adminv1.RegionMap) string {
	text := fmt.Sprintf("map of regions %d", m.Version)
	if m.Version == 0 {
		text += ", as configured"
	}
	if m.Forced {
		text += ", forced"
	}
	return text
}

func regionsTable(w io.Writer, st *adminv1.GetRegionsResponse) error {
	if _, err := fmt.Fprintf(w, "%s, seen by region %s\n\n", mapText(st.Map), st.Region); err != nil {
		return err
	}
	rows := newTable(w, "region", "id", "state", "times fenced", "moved homes")
	moved := map[string][]string{}
	for _, h := range st.Map.Homes {
		moved[h.Region] = append(moved[h.Region], h.Bucket)
	}
	for _, r := range st.Map.Regions {
		rows.AppendRow([]any{r.Name, r.Id, r.State, r.Fence, homesText(moved[r.Name])})
	}
	rows.Render()
	if _, err := fmt.Fprint(w, leaseText(st.Map), "\n", heldText(st)); err != nil {
		return err
	}
	if o := st.Operation; o != nil {
		if _, err := fmt.Fprintf(w, "\n%s\n", operationLine(o)); err != nil {
			return err
		}
		if o.Missing.GetCounted() {
			if err := missingTable(w, o.Kind, o.Missing); err != nil {
				return err
			}
		}
		if o.Lost.GetCounted() {
			return missingTable(w, lostMeanwhile, o.Lost)
		}
	}
	return nil
}

// homesShown bounds the buckets that a table names.
const homesShown = 8

// homesText names buckets whose home is not, or may not be, where their definition says.
func homesText(buckets []string) string {
	switch n := len(buckets); {
	case n == 0:
		return "-"
	case n > homesShown:
		return fmt.Sprintf("%s and %d more", strings.Join(buckets[:homesShown], ", "), n-homesShown)
	}
	return strings.Join(buckets, ", ")
}

// operationLine is where an operation is.
func operationLine(o *adminv1.RegionOperation) string {
	if o == nil {
		return "no operation"
	}
	text := fmt.Sprintf("%s of %s", o.Kind, o.Region)
	at := 0
	for i, s := range o.Stages {
		if s == o.Stage {
			at = i + 1
		}
	}
	switch {
	case o.Ended && o.Aborted && o.Kind != "failback":
		return text + ": aborted"
	case o.Ended:
		return fmt.Sprintf("%s: done, after %s", text, millisText(int64(o.ClosedMs-o.BeganMs)))
	}
	text += fmt.Sprintf(": stage %d of %d, %s: %s", at, len(o.Stages), o.Stage, o.Doing)
	if o.Waits != "" {
		text += "; waits: " + o.Waits
	}
	return text
}

// lostMeanwhile stands for a kind of operation where writes are told that one has
// ceased to wait for.
const lostMeanwhile = "lost"

// missingShown bounds the runs that a table shows.
const missingShown = 20

func missingTable(w io.Writer, kind string, m *adminv1.MissingWrites) error {
	what := "writes are known to be missing"
	switch kind {
	case "failback":
		what = "writes came late"
	case "switchover":
		what = "writes have still to arrive"
	case "rebuild":
		what = "writes are known to be lost for good"
	case lostMeanwhile:
		what = "writes were lost with disks meanwhile: no owner has them any more"
	case "remove":
		what = "writes are known to be missing, and lost for good with the region"
	}
	text := fmt.Sprintf("%d %s\n", m.Writes, what)
	if m.Writes > 0 && len(m.Buckets) == 0 && (kind == "failover" || kind == "remove" || kind == "rebuild" || kind == lostMeanwhile) {
		text += "of which keys and buckets they are is not known: clocks name writes, not keys\n"
	}
	if kind == "failover" || kind == "remove" && m.Writes > 0 {
		text += fmt.Sprintf("the region was heard last %s before this was counted; what it took after that cannot be known\n", millisText(int64(m.HeardMs)))
	}
	if _, err := io.WriteString(w, text); err != nil || len(m.Runs) == 0 {
		return err
	}
	if err := bucketsTable(w, m); err != nil {
		return err
	}
	rows := newTable(w, "partition", "actor", "first", "last")
	for _, r := range m.Runs[:min(missingShown, len(m.Runs))] {
		rows.AppendRow([]any{r.Partition, crdt.Actor(r.Actor).String(), r.First, r.Last})
	}
	rows.Render()
	if n := len(m.Runs) - missingShown; n > 0 {
		_, err := fmt.Fprintf(w, "and %d runs more; -o json has them\n", n)
		return err
	}
	return nil
}

func operationTable(w io.Writer, kind, region string, p *adminv1.PlanOperationResponse) error {
	if _, err := fmt.Fprintf(w, "%s of %s, planned on map %d: %s\n", kind, region, p.Version, strings.Join(p.Stages, ", ")); err != nil {
		return err
	}
	returns := kind == "failback" || kind == "add" || kind == "rebuild"
	if !returns {
		if _, err := fmt.Fprintf(w, "homes go to %s\n", p.To); err != nil {
			return err
		}
	}
	for _, c := range p.Checks {
		ok := "ok "
		if !c.Ok {
			ok = "NO "
		}
		if _, err := fmt.Fprintf(w, "%s %-9s %s\n", ok, c.Name, c.Detail); err != nil {
			return err
		}
	}
	if returns {
		return nil
	}
	if !p.Missing.GetCounted() {
		_, err := fmt.Fprintln(w, "what is missing cannot be counted")
		return err
	}
	return missingTable(w, kind, p.Missing)
}

// bucketsTable shows missing writes by bucket, and how many are of none that is known.
func bucketsTable(w io.Writer, m *adminv1.MissingWrites) error {
	if len(m.Buckets) == 0 {
		return nil
	}
	rows := newTable(w, "bucket", "writes")
	rest := m.Writes
	for _, b := range m.Buckets {
		rows.AppendRow([]any{b.Bucket, b.Writes})
		rest -= min(rest, b.Writes)
	}
	if rest > 0 {
		rows.AppendRow([]any{"(not known)", rest})
	}
	rows.Render()
	_, err := fmt.Fprintln(w)
	return err
}

// drillReport tells what a drill has measured. Writes that came late were not lost.
func drillReport(w io.Writer, inJSON bool, over, back *adminv1.RegionOperation) error {
	rto, out := over.ClosedMs-over.BeganMs, back.ClosedMs-over.BeganMs
	lost, late := over.Lost.GetWrites()+back.Lost.GetWrites(), back.Missing.GetWrites()
	if inJSON {
		_, err := fmt.Fprintf(w, `{"drill":%q,"rto_ms":%d,"rpo_writes":%d,"late_writes":%d,"out_of_service_ms":%d}`+"\n", over.Region, rto, lost, late, out)
		return err
	}
	_, err := fmt.Fprintf(w, "drill of %s: RTO %s, RPO %d writes (%d came late); it was out of service for %s\n",
		over.Region, millisText(int64(rto)), lost, late, millisText(int64(out)))
	return err
}
