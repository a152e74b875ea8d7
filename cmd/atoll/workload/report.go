package workload

import (
	"maps"
	"time"

	"github.com/HdrHistogram/hdrhistogram-go"
)

// Latency in microseconds, of successes.
type Latency struct {
	Count int64   `json:"count"`
	Mean  float64 `json:"mean"`
	P50   int64   `json:"p50"`
	P95   int64   `json:"p95"`
	P99   int64   `json:"p99"`
	P999  int64   `json:"p99.9"`
	Max   int64   `json:"max"`
}

// Report of an interval, or of a whole run.
type Report struct {
	// From and To in seconds since the end of the warm-up.
	From float64 `json:"from_s"`
	To   float64 `json:"to_s"`
	// OK and Failed operations that ended in that time, and successes per
	// second.
	OK     int64   `json:"ok"`
	Failed int64   `json:"failed"`
	Rate   float64 `json:"rate"`
	// Latency of each kind that occurred.
	Latency map[string]Latency `json:"latency_us"`
	// Errors by reason, and when the first and the last were met, in seconds
	// since the end of the warm-up.
	Errors     map[string]int `json:"errors"`
	FirstError float64        `json:"first_error_s,omitempty"`
	LastError  float64        `json:"last_error_s,omitempty"`
	// Missing reads found nothing; Siblings of them found several values.
	Missing  int `json:"missing"`
	Siblings int `json:"siblings"`
}

// Total is the report of a whole run.
type Total struct {
	Report
	// NotStarted operations of an open loop were due and had no client that
	// was free before the end.
	NotStarted int64 `json:"not_started"`
	// Pacing is how late operations of an open loop began although a client
	// was waiting to begin them: the error of this measurement.
	Pacing *Latency `json:"pacing_late_us,omitempty"`
	// Interrupted: the context ended the run.
	Interrupted bool `json:"interrupted"`
}

func latencyOf(h *hdrhistogram.Histogram) Latency {
	return Latency{
		Count: h.TotalCount(), Mean: float64(int64(h.Mean()*10)) / 10,
		P50: h.ValueAtQuantile(50), P95: h.ValueAtQuantile(95), P99: h.ValueAtQuantile(99),
		P999: h.ValueAtQuantile(99.9), Max: h.Max(),
	}
}

// report of c, for a time that is told from zero on.
func (c *counts) report(zero, from, to time.Time) Report {
	r := Report{
		From: from.Sub(zero).Seconds(), To: to.Sub(zero).Seconds(),
		Latency: map[string]Latency{}, Errors: maps.Clone(c.failures),
		Missing: c.missing, Siblings: c.siblings,
	}
	for k, h := range c.latency {
		if h != nil && h.TotalCount() > 0 {
			l := latencyOf(h)
			r.Latency[Kind(k).String()] = l
			r.OK += l.Count
		}
	}
	for _, n := range c.failures {
		r.Failed += int64(n)
	}
	if r.Failed > 0 {
		r.FirstError, r.LastError = c.firstFail.Sub(zero).Seconds(), c.lastFail.Sub(zero).Seconds()
	}
	if s := r.To - r.From; s > 0 {
		r.Rate = float64(r.OK) / s
	}
	return r
}
