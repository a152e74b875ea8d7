package main

import (
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"

	"github.com/atolldb/atoll/cmd/atoll/workload"
)

// intervalLine tells how it goes.
func intervalLine(r workload.Report) string {
	s := fmt.Sprintf("%6.1fs  %8.0f op/s", r.To, r.Rate)
	for _, kind := range slices.Sorted(maps.Keys(r.Latency)) {
		l := r.Latency[kind]
		s += fmt.Sprintf("  %s p50 %s p99 %s max %s ms", kind, microsText(l.P50), microsText(l.P99), microsText(l.Max))
	}
	if r.Failed > 0 {
		s += "  failed " + errorsText(r.Errors)
	}
	return s
}

func errorsText(errs map[string]int) string {
	parts := make([]string, 0, len(errs))
	for _, reason := range slices.Sorted(maps.Keys(errs)) {
		parts = append(parts, fmt.Sprintf("%s %d", reason, errs[reason]))
	}
	return strings.Join(parts, ", ")
}

// microsText is a latency in milliseconds.
func microsText(us int64) string { return fmt.Sprintf("%.2f", float64(us)/1000) }

func benchTable(w io.Writer, q *benchFlags, t workload.Total) error {
	loop := "closed loop"
	if q.rate > 0 {
		loop = fmt.Sprintf("open loop at %g/s", q.rate)
	}
	fmt.Fprintf(w, "mix %s, %s, %d clients, %d keys %s, values of %d bytes, %s\n\n",
		q.mix, loop, q.clients, q.keys, q.dist, q.valueSize, q.levelsText())
	rows := newTable(w, "ms", "count", "per s", "mean", "p50", "p95", "p99", "p99.9", "max")
	for _, kind := range slices.Sorted(maps.Keys(t.Latency)) {
		l := t.Latency[kind]
		rows.AppendRow([]any{
			kind, l.Count, fmt.Sprintf("%.0f", float64(l.Count)/max(t.To, 1e-9)), fmt.Sprintf("%.2f", l.Mean/1000),
			microsText(l.P50), microsText(l.P95), microsText(l.P99), microsText(l.P999), microsText(l.Max),
		})
	}
	rows.Render()
	_, err := fmt.Fprintf(w, "\n%d ok in %.2f s, %.0f/s; %d failed\n", t.OK, t.To, t.Rate, t.Failed)
	tell := func(when bool, format string, args ...any) {
		if when && err == nil {
			_, err = fmt.Fprintf(w, format+"\n", args...)
		}
	}
	tell(t.Failed > 0, "failures: %s; the first after %.2f s, the last after %.2f s", errorsText(t.Errors), t.FirstError, t.LastError)
	tell(t.Missing > 0, "%d reads found nothing: use --preload", t.Missing)
	tell(t.Siblings > 0, "%d reads found siblings", t.Siblings)
	tell(t.NotStarted > 0, "%d operations were due and not started: the region, or --clients, did not keep up", t.NotStarted)
	if t.Pacing != nil {
		tell(true, "pacing: late by p50 %s p99 %s max %s ms", microsText(t.Pacing.P50), microsText(t.Pacing.P99), microsText(t.Pacing.Max))
	}
	tell(t.Interrupted, "interrupted")
	return err
}

func (q *benchFlags) levelsText() string {
	s := q.level.String()
	if q.r > 0 {
		s += fmt.Sprintf(", r %d", q.r)
	}
	if q.w > 0 {
		s += fmt.Sprintf(", w %d", q.w)
	}
	if q.regions > 0 {
		s += fmt.Sprintf(", in %d regions", q.regions)
	}
	return s
}
