package main

import (
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/atolldb/atoll/hashring/capacity"
	"github.com/atolldb/atoll/node/process"
)

func planCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "plan",
		Short: "Calculate before building",
		Args:  cobra.NoArgs,
		RunE:  func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	cmd.AddCommand(planCapacityCommand())
	return cmd
}

// capacityFlags are an input as people write it.
type capacityFlags struct {
	capacity.Input
	nodes []int

	data, value, disk, throttle process.Size
	cache, memtable, log        process.Size
	rtt, retention              time.Duration
}

func planCapacityCommand() *cobra.Command {
	d := capacity.Default()
	q := capacityFlags{
		Input: d, value: process.Size(d.ValueSize), throttle: process.Size(d.Throttle),
		cache: process.Size(d.BlockCache), memtable: process.Size(d.Memtable), log: process.Size(d.LogBytes),
	}
	cmd := &cobra.Command{
		Use:   "capacity",
		Short: "Tell what a deployment takes: disk, memory, cores, links, time to rebuild a node",
		Long: `Tell what a deployment takes, before it is built: partitions, disk, memory and
cores of the busiest node, what passes between nodes and regions, idle and under
load, and how long a lost node takes to rebuild. Nothing is opened and nobody is
asked.

All regions are alike and hold everything. --data is the bytes of all values,
each counted once; or give the number of --keys. Rates are of clients, for each
region. Sizes of formats and beats of loops are those of the code; processor
time and memory were measured on one machine (docs/bench/) and are an
estimate on any other. docs/capacity.md has the formulas.

With several --nodes there is a column for each, or a line of JSON. Warnings are
rules of thumb that the plan breaks; they are no error.`,
		Example: `  atoll plan capacity --nodes 9 --data 2TB --write-rate 5000 --disk 2TB
  atoll plan capacity --nodes 10,100,1000 --regions 2 --data 50TB --value-size 1000B
  atoll plan capacity --nodes 6 --keys 1000000000 -o json`,
		Args: cobra.NoArgs,
	}
	f := cmd.Flags()
	f.IntSliceVar(&q.nodes, "nodes", []int{d.Nodes}, "`N,...` nodes of each region")
	f.IntVar(&q.Racks, "racks", 0, "racks of each region; 0 for as many as replicas")
	f.IntVar(&q.Regions, "regions", d.Regions, "regions")
	f.IntVar(&q.Replicas, "replicas", d.Replicas, "owners of each key in each region")
	f.IntVar(&q.Partitions, "partitions", 0, "partitions of the key space; 0 for the recommended number")
	f.TextVar(&q.data, "data", process.Size(0), "`SIZE` of all values, each counted once, such as 50TB")
	f.Float64Var(&q.Keys, "keys", 0, "number of keys, instead of --data")
	f.IntVar(&q.KeySize, "key-size", d.KeySize, "average bytes of bucket, separator and key")
	f.TextVar(&q.value, "value-size", q.value, "average `SIZE` of a value")
	f.Float64Var(&q.WriteRate, "write-rate", 0, "writes a second, asked of each region")
	f.Float64Var(&q.ReadRate, "read-rate", 0, "reads a second at a quorum, asked of each region")
	f.DurationVar(&q.rtt, "regions-rtt", seconds(d.RTT), "round trip between two regions")
	f.TextVar(&q.disk, "disk", process.Size(0), "`SIZE` of a node's disk; 0B for unknown")
	f.TextVar(&q.throttle, "disk-throttle", q.throttle, "`SIZE` that a node reads or writes a second to move partitions")
	f.DurationVar(&q.retention, "index-retention", seconds(d.IndexRetention), "for how long the dot index keeps a write: until the slowest region has it")
	f.IntVar(&q.Incarnations, "incarnations", d.Incarnations, "actors that each node has had: one, and one for each stop that was not clean")
	f.TextVar(&q.cache, "block-cache", q.cache, "`SIZE` of memory.block_cache")
	f.TextVar(&q.memtable, "memtable", q.memtable, "`SIZE` of memory.memtable")
	f.TextVar(&q.log, "log", q.log, "`SIZE` of the geo log, half of nats.max_store")
	out := formatFlag(cmd, "table", "json", "markdown")
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		reports, err := q.plan(cmd)
		if err != nil {
			return err
		}
		return printCapacity(cmd.OutOrStdout(), out.value, reports)
	}
	return cmd
}

func seconds(s float64) time.Duration { return time.Duration(s * float64(time.Second)) }

func (q *capacityFlags) plan(cmd *cobra.Command) ([]capacity.Report, error) {
	if err := atMostOne(cmd, "data", "keys"); err != nil {
		return nil, err
	}
	in := q.Input
	in.ValueSize = int(q.value)
	if q.data > 0 {
		if q.value == 0 {
			return nil, usage(cmd, errors.New("--data says nothing when values are empty: give --keys"))
		}
		in.Keys = float64(q.data) / float64(q.value)
	}
	in.RTT, in.IndexRetention = q.rtt.Seconds(), q.retention.Seconds()
	in.Disk, in.Throttle = float64(q.disk), float64(q.throttle)
	in.BlockCache, in.Memtable, in.LogBytes = float64(q.cache), float64(q.memtable), float64(q.log)
	var reports []capacity.Report
	for _, n := range q.nodes {
		in.Nodes = n
		r, err := capacity.Plan(in)
		if err != nil {
			return nil, usage(cmd, err)
		}
		reports = append(reports, r)
	}
	if len(reports) == 0 {
		return nil, usage(cmd, errors.New("--nodes is empty"))
	}
	return reports, nil
}

func printCapacity(w io.Writer, form string, reports []capacity.Report) error {
	switch form {
	case "json":
		for _, r := range reports {
			if err := printJSON(w, r); err != nil {
				return err
			}
		}
		return nil
	case "markdown":
		_, err := io.WriteString(w, capacity.Markdown(reports))
		return err
	}
	return capacityTable(w, reports)
}

func capacityTable(w io.Writer, reports []capacity.Report) error {
	header := []any{"of", "what"}
	columns := make([][]capacity.Row, len(reports))
	for i, r := range reports {
		header = append(header, fmt.Sprintf("%d nodes", r.Input.Nodes))
		columns[i] = r.Rows()
	}
	t := newTable(w, header...)
	last := ""
	for i, row := range columns[0] {
		topic := row.Topic
		if topic == last {
			topic = ""
		}
		last = row.Topic
		cells := []any{topic, row.Name}
		for _, c := range columns {
			cells = append(cells, c[i].Value)
		}
		t.AppendRow(cells)
	}
	t.Render()
	var warnings []string
	for _, r := range reports {
		for _, warning := range r.Warnings {
			warnings = append(warnings, fmt.Sprintf("warning (%d nodes, %s): %s\n", r.Input.Nodes, warning.Code, warning.Text))
		}
	}
	if len(warnings) == 0 {
		return nil
	}
	_, err := io.WriteString(w, "\n"+strings.Join(slices.Compact(warnings), ""))
	return err
}
