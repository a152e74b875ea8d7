//go:build chaos && linux

package chaos

import (
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"os"
	"slices"
	"strings"
	"sync"
	"text/tabwriter"

	"github.com/atolldb/atoll/e2e/chaos/history"
)

// result of one scenario.
type result struct {
	Scenario string  `json:"scenario"`
	Seed     uint64  `json:"seed"`
	Seconds  float64 `json:"seconds"`
	// Faults injected, by kind.
	Faults map[string]int `json:"faults"`
	// Operations that clients asked for, how many failed and with which
	// reasons; writes by what clients were told; reads whose answer was
	// checked; final reads.
	Operations int64          `json:"operations"`
	Failed     int64          `json:"failed"`
	Reasons    map[string]int `json:"reasons,omitempty"`
	History    history.Counts `json:"history"`
	// Violations of C1, by kind, and the first of them.
	Violations map[history.Kind]int `json:"violations"`
	Told       []history.Violation  `json:"told,omitempty"`
	// Unmet: what broke C2 or C3. Known: what did so and was known before.
	Unmet []string `json:"unmet,omitempty"`
	Known []string `json:"known,omitempty"`
	// HealedMS is how long it took until everything was whole, after the last
	// fault had ended and the clients had stopped.
	HealedMS int64    `json:"healed_ms"`
	Notes    []string `json:"notes,omitempty"`
	NotRun   string   `json:"not_run,omitempty"`
}

// report is what the run prints at its end.
type report struct {
	mu      sync.Mutex
	results []*result
}

func (r *report) add(res *result) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.results = append(r.results, res)
}

func sum[K comparable](m map[K]int) (n int) {
	for _, v := range m {
		n += v
	}
	return n
}

func listed(m map[string]int) string {
	var out []string
	for _, k := range slices.Sorted(maps.Keys(m)) {
		out = append(out, fmt.Sprintf("%s %d", k, m[k]))
	}
	return strings.Join(out, ", ")
}

// table prints a line for each scenario, then what was not run, then sums.
func (r *report) table(w io.Writer) {
	if len(r.results) == 0 {
		return
	}
	tw := tabwriter.NewWriter(w, 0, 4, 2, ' ', 0)
	fmt.Fprintln(tw, "\nSCENARIO\tSECONDS\tFAULTS\tOPERATIONS\tACKED\tFAILED\tCHECKED\tHEALED\tVIOLATIONS\tUNMET\tKNOWN")
	all := result{Faults: map[string]int{}, Violations: map[history.Kind]int{}}
	for _, s := range r.results {
		if s.NotRun != "" {
			continue
		}
		checked := s.History.Reads
		fmt.Fprintf(tw, "%s\t%.0f\t%d\t%d\t%d\t%d\t%d\t%.1f s\t%d\t%d\t%d\n", s.Scenario, s.Seconds, sum(s.Faults),
			s.Operations, s.History.Acked, s.Failed, checked, float64(s.HealedMS)/1000, sum(s.Violations), len(s.Unmet), len(s.Known))
		all.Seconds += s.Seconds
		all.Operations += s.Operations
		all.Failed += s.Failed
		all.History.Acked += s.History.Acked
		all.History.Reads += checked
		all.Unmet, all.Known = append(all.Unmet, s.Unmet...), append(all.Known, s.Known...)
		for k, n := range s.Faults {
			all.Faults[k] += n
		}
		for k, n := range s.Violations {
			all.Violations[k] += n
		}
	}
	fmt.Fprintf(tw, "all\t%.0f\t%d\t%d\t%d\t%d\t%d\t\t%d\t%d\t%d\n", all.Seconds, sum(all.Faults), all.Operations,
		all.History.Acked, all.Failed, all.History.Reads, sum(all.Violations), len(all.Unmet), len(all.Known))
	tw.Flush()
	fmt.Fprintf(w, "faults: %s\n", listed(all.Faults))
	for _, s := range r.results {
		for _, n := range s.Notes {
			fmt.Fprintf(w, "note %s: %s\n", s.Scenario, n)
		}
	}
	for _, s := range r.results {
		for _, k := range s.Known {
			fmt.Fprintf(w, "EXPECTED FAILING %s: %s\n", s.Scenario, k)
		}
	}
	for _, s := range r.results {
		if s.NotRun != "" {
			fmt.Fprintf(w, "NOT RUN %s: %s\n", s.Scenario, s.NotRun)
		}
	}
}

// save writes all as JSON, one scenario a line.
func (r *report) save(path string) error {
	f, err := os.Create(path)
	if err != nil {
		return err
	}
	defer f.Close()
	enc := json.NewEncoder(f)
	for _, s := range r.results {
		if err := enc.Encode(s); err != nil {
			return err
		}
	}
	return nil
}
