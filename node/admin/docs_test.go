package admin_test

import (
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/atolldb/atoll/node/admin"
	"github.com/atolldb/atoll/node/coord"
)

var (
	fullName  = regexp.MustCompile("atoll_[a-z][a-z_]*[a-z]")
	shortName = regexp.MustCompile("`([a-z]+(?:_[a-z]+)+)`")
)

// metricsIn returns the metrics that a document names: with the prefix
// anywhere, and without it in the section on what to watch.
func metricsIn(text string) []string {
	names := fullName.FindAllString(text, -1)
	_, watch, _ := strings.Cut(text, "\n## What to watch\n")
	watch, _, _ = strings.Cut(watch, "\n## ")
	for _, m := range shortName.FindAllStringSubmatch(watch, -1) {
		names = append(names, "atoll_"+m[1])
	}
	slices.Sort(names)
	return slices.Compact(names)
}

// otherDocuments are all that people read while a deployment runs.
func otherDocuments(t *testing.T) []string {
	t.Helper()
	files := []string{"../../README.md"}
	for _, pattern := range []string{"../../docs/*.md", "../../docs/bench/*.md", "../../deploy/runbooks/*.md"} {
		more, err := filepath.Glob(pattern)
		if err != nil || len(more) < 3 {
			t.Fatalf("%s: %d files, %v", pattern, len(more), err)
		}
		files = append(files, more...)
	}
	return files
}

// What people are told to look at exists; and what tells of changes of
// membership, of stand-ins and of the disk is told.
func TestOperationsNameMetricsThatExist(t *testing.T) {
	text, err := os.ReadFile("../../docs/operations.md")
	if err != nil {
		t.Fatal(err)
	}
	requests := admin.NewRequests()
	requests.Coordinator(&fake{}).Get(coord.Get{}, func(coord.GetResult, error) {})
	code, body := ask(t, server(admin.Config{Requests: requests}), "/metrics")
	if code != http.StatusOK {
		t.Fatalf("status %d", code)
	}
	exists := map[string]bool{}
	for line := range strings.Lines(body) {
		if rest, ok := strings.CutPrefix(line, "# TYPE "); ok {
			name, _, _ := strings.Cut(rest, " ")
			exists[name] = true
		}
	}
	for _, file := range []string{"docs/regions.md", "deploy/prometheus/regions.rules.yaml", "deploy/prometheus/nodes.rules.yaml"} {
		text, err := os.ReadFile("../../" + file)
		if err != nil {
			t.Fatal(err)
		}
		named := fullName.FindAllString(string(text), -1)
		if len(named) < 4 {
			t.Errorf("%s names %d metrics: are they found?", file, len(named))
		}
		for _, name := range named {
			if !exists[strings.TrimSuffix(name, "_count")] {
				t.Errorf("%s names %s, which does not exist", file, name)
			}
		}
	}
	for _, file := range otherDocuments(t) {
		text, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		for _, name := range fullName.FindAllString(string(text), -1) {
			if !exists[strings.TrimSuffix(name, "_count")] && name != "atoll_backup" { // the head of a backup
				t.Errorf("%s names %s, which does not exist", file, name)
			}
		}
	}
	named := metricsIn(string(text))
	if len(named) < 20 {
		t.Errorf("%d metrics are named: are they found?", len(named))
	}
	for _, name := range named {
		if !exists[name] {
			t.Errorf("operations.md names %s, which does not exist", name)
		}
	}
	for name := range exists {
		for _, of := range []string{
			"topology_", "metadata_", "handoff_", "stale_", "partitions_", "peers_", "hint_",
			"collect_", "late_", "unreadable_", "quarantined_", "index_", "disk_", "repair_running", "repair_progress_",
		} {
			if strings.HasPrefix(name, "atoll_"+of) && !slices.Contains(named, name) {
				t.Errorf("operations.md does not tell of %s", name)
			}
		}
	}
}
