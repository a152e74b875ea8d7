package capacity

import (
	"fmt"
	"strings"
)

// Row is one figure of a report as text.
type Row struct {
	// Topic is what the figure belongs to, Name what it is, Value with unit.
	Topic, Name, Value string
}

// Bytes is a number of bytes for people.
func Bytes(n float64) string {
	if n < 1024 {
		return fmt.Sprintf("%.0f B", n)
	}
	i := -1
	for n >= 1023.95 && i < 4 {
		n, i = n/1024, i+1
	}
	return fmt.Sprintf("%.1f %ciB", n, "KMGTP"[i])
}

// Duration is a number of seconds for people.
func Duration(s float64) string {
	switch {
	case s < 1:
		return fmt.Sprintf("%.0f ms", s*1000)
	case s < 120:
		return fmt.Sprintf("%.0f s", s)
	case s < 2*3600:
		return fmt.Sprintf("%.0f min", s/60)
	case s < 2*day:
		return fmt.Sprintf("%.1f h", s/3600)
	}
	return fmt.Sprintf("%.1f days", s/day)
}

// Count is a large number for people.
func Count(n float64) string {
	for _, u := range []struct {
		size float64
		name string
	}{{1e12, " T"}, {1e9, " G"}, {1e6, " M"}, {1e4, " k"}} {
		if n >= u.size {
			if u.size == 1e4 {
				return fmt.Sprintf("%.1f k", n/1e3)
			}
			return fmt.Sprintf("%.1f%s", n/u.size, u.name)
		}
	}
	if n != float64(int(n)) && n < 100 {
		return fmt.Sprintf("%.1f", n)
	}
	return fmt.Sprintf("%.0f", n)
}

func rate(n float64) string { return Bytes(n) + "/s" }

// span is a smallest and a largest number, once if they are equal.
func span(lo, hi int) string {
	if lo == hi {
		return fmt.Sprint(lo)
	}
	return fmt.Sprintf("%d..%d", lo, hi)
}

func percent(f float64) string { return fmt.Sprintf("%.0f %%", 100*f) }

// Rows are the report's figures. Reports of any two inputs have the same
// topics and names in the same order; what does not apply is "-".
func (r Report) Rows() []Row {
	in := r.Input
	var rows []Row
	topic := ""
	add := func(name, value string) { rows = append(rows, Row{topic, name, value}) }
	maybe := func(is bool, value string) string {
		if is {
			return value
		}
		return "-"
	}
	far := in.others() > 0

	topic = "region"
	add("nodes, in racks", fmt.Sprintf("%d, in %d", in.Nodes, in.Racks))
	add("partitions, recommended", fmt.Sprintf("%d, %d", in.Partitions, r.Ring.Recommended))
	add("table as clients get it", Bytes(r.Ring.TableBytes))
	add("NATS servers; client connections, routes", fmt.Sprintf("%d; %d, %d", r.NATS.Servers, r.NATS.Clients, r.NATS.Routes))

	topic = "partition"
	add("records to move", Bytes(r.Disk.PartitionBytes))
	add("actors in a clock", fmt.Sprint(r.Clocks.Actors))
	add("clock on the wire, in memory", Bytes(r.Clocks.WireBytes)+", "+Bytes(r.Clocks.MemoryBytes))
	add("clock snapshot on disk", Bytes(r.Clocks.SnapshotBytes))

	topic = "node"
	add("partitions owned (largest / mean)", fmt.Sprintf("%s (%.3f)", span(r.Ring.OwnedMin, r.Ring.OwnedMax), r.Ring.MaxOverMean))
	add("partitions as primary", span(r.Ring.PrimaryMin, r.Ring.PrimaryMax))
	add("keys", Count(r.Disk.Keys))
	add("peers, connections to them", fmt.Sprintf("%d, %d", r.Memory.Peers, r.Memory.Connections))

	topic = "disk"
	add("record encoded, in tables", Bytes(r.Disk.RecordBytes)+", "+Bytes(r.Disk.StoredBytes))
	add("records (tables x "+fmt.Sprint(tableFactor)+")", Bytes(r.Disk.Records))
	add("dot index a write, a day", Bytes(r.Disk.IndexEntry)+", "+Bytes(r.Disk.IndexPerDay))
	add("dot index kept for "+Duration(in.IndexRetention), Bytes(r.Disk.Index))
	add("requests remembered for 11 min", Bytes(r.Disk.Requests))
	add("clock snapshots", Bytes(r.Disk.Snapshots))
	add("memtable logs, geo log", Bytes(r.Disk.Fixed))
	add("total", Bytes(r.Disk.Total))
	add("disk used, after the loss of a neighbour", maybe(in.Disk > 0, percent(r.Disk.Used)+", "+percent(r.Loss.DiskUsed)))

	topic = "memory"
	add("store under load", Bytes(r.Memory.Store))
	add("partitions, clocks and tables", Bytes(r.Memory.Partitions))
	add("links", Bytes(r.Memory.Links))
	add("requests remembered for 15 min", Bytes(r.Memory.Requests))
	add("process (for GOMEMLIMIT)", Bytes(r.Memory.Process))
	add("page cache wanted beside it", Bytes(r.Memory.PageCache))

	topic = "processor"
	add("a write here, from elsewhere, a read", fmt.Sprintf("%.0f, %.0f, %.0f us", r.CPU.PutMicros, r.CPU.ApplyMicros, r.CPU.GetMicros))
	add("cores used by requests, background", fmt.Sprintf("%.2f, %.2f", r.CPU.Requests, r.CPU.Background))
	add("cores to have", fmt.Sprint(r.CPU.Cores))

	topic = "background"
	add("pings a second", Count(r.Liveness.Pings))
	add("anti-entropy messages a second, near, far", Count(r.Repair.Messages)+", "+maybe(far, Count(r.Repair.FarMessages)))
	add("anti-entropy near, idle, loaded", rate(r.Repair.IdleBytes)+", "+rate(r.Repair.LoadedBytes))
	add("anti-entropy far, idle, loaded", maybe(far, rate(r.Repair.FarIdleBytes)+", "+rate(r.Repair.FarLoadedBytes)))

	topic = "node lost"
	add("data", Bytes(r.Loss.Bytes))
	add("sources, receivers", fmt.Sprintf("%d, %d", r.Loss.Sources, r.Loss.Receivers))
	add("spread over receivers at "+rate(in.Throttle), maybe(r.Loss.SpreadSeconds > 0, Duration(r.Loss.SpreadSeconds)))
	add("onto one new node", maybe(r.Loss.ReplaceSeconds > 0, Duration(r.Loss.ReplaceSeconds)))

	topic = "between regions"
	add("log: writes in a message, messages a second", maybe(far, fmt.Sprintf("%.1f, %s", r.Geo.MessageEntries, Count(r.Geo.Messages))))
	add("log of a region a day, on each NATS server", maybe(far, Bytes(r.Geo.StreamPerDay)))
	add("log reaches back", maybe(far, Duration(r.Geo.LogSeconds)))
	add("heartbeats on a link, idle, loaded", maybe(far, rate(r.Geo.HeartbeatsIdle)+", "+rate(r.Geo.HeartbeatsLoaded)))
	add("a link, all told", maybe(far, rate(r.Geo.LinkBytes)))
	add("out of a region, to all others", maybe(far, rate(r.Geo.WANBytes)))
	return rows
}

// Markdown is a table with a column for each report, and their warnings.
func Markdown(reports []Report) string {
	if len(reports) == 0 {
		return ""
	}
	var b strings.Builder
	b.WriteString("| | |")
	for _, r := range reports {
		fmt.Fprintf(&b, " %d nodes |", r.Input.Nodes)
	}
	b.WriteString("\n|---|---|" + strings.Repeat("---:|", len(reports)) + "\n")
	columns := make([][]Row, len(reports))
	for i, r := range reports {
		columns[i] = r.Rows()
	}
	last := ""
	for i, row := range columns[0] {
		topic := row.Topic
		if topic == last {
			topic = ""
		}
		last = row.Topic
		fmt.Fprintf(&b, "| %s | %s |", topic, row.Name)
		for _, c := range columns {
			fmt.Fprintf(&b, " %s |", c[i].Value)
		}
		b.WriteByte('\n')
	}
	for _, r := range reports {
		for _, w := range r.Warnings {
			fmt.Fprintf(&b, "\n- %d nodes, `%s`: %s.", r.Input.Nodes, w.Code, w.Text)
		}
	}
	return strings.TrimRight(b.String(), "\n") + "\n"
}
