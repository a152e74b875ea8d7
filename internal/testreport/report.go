package main

import (
	"bufio"
	"encoding/json"
	"fmt"
	"io"
	"slices"
	"strings"
)

// event is one line of `go test -json`; see `go doc test2json` and `go help
// buildjson`.
type event struct {
	Action      string
	Package     string
	Test        string
	Elapsed     float64 // seconds
	Output      string
	ImportPath  string
	FailedBuild string
}

type testID struct{ pkg, test string }

type skip struct {
	testID
	reason string
}

// report gathers the events of one run. Output is kept per test until the
// test ends, and printed only if it failed.
type report struct {
	w       io.Writer
	pending map[testID]*strings.Builder
	build   map[string]*strings.Builder
	inPkg   map[string]int // failed tests per package
	skipped []skip
	passed  int
	failed  int
}

func newReport(w io.Writer) *report {
	return &report{
		w:       w,
		pending: map[testID]*strings.Builder{},
		build:   map[string]*strings.Builder{},
		inPkg:   map[string]int{},
	}
}

// read takes lines until the end of in. A line that is not an event (go
// prints some errors plainly) is passed on as it is.
func (r *report) read(in io.Reader) error {
	lines := bufio.NewReader(in)
	for {
		line, err := lines.ReadBytes('\n')
		if len(line) > 0 {
			var e event
			if json.Unmarshal(line, &e) == nil && e.Action != "" {
				r.add(e)
			} else {
				fmt.Fprintf(r.w, "%s", line)
			}
		}
		if err == io.EOF {
			return nil
		}
		if err != nil {
			return err
		}
	}
}

func (r *report) add(e event) {
	id := testID{e.Package, e.Test}
	switch e.Action {
	case "run":
		r.buffer(id)
	case "output":
		r.buffer(id).WriteString(e.Output)
	case "build-output":
		if r.build[e.ImportPath] == nil {
			r.build[e.ImportPath] = &strings.Builder{}
		}
		r.build[e.ImportPath].WriteString(e.Output)
	case "pass", "fail", "skip":
		if e.Test == "" {
			r.endPackage(e)
		} else {
			r.endTest(id, e)
		}
	}
}

func (r *report) buffer(id testID) *strings.Builder {
	b := r.pending[id]
	if b == nil {
		b = &strings.Builder{}
		r.pending[id] = b
	}
	return b
}

func (r *report) endTest(id testID, e event) {
	out := r.buffer(id).String()
	delete(r.pending, id)
	switch e.Action {
	case "pass":
		r.passed++
	case "skip":
		r.skipped = append(r.skipped, skip{id, reason(out)})
	case "fail":
		r.failed++
		r.inPkg[id.pkg]++
		fmt.Fprintf(r.w, "--- failed: %s %s (%.1f s)\n%s", id.pkg, id.test, e.Elapsed, out)
	}
}

func (r *report) endPackage(e event) {
	id := testID{e.Package, ""}
	out := r.buffer(id).String()
	delete(r.pending, id)
	switch e.Action {
	case "pass":
		fmt.Fprintf(r.w, "ok    %-60s %6.1f s\n", e.Package, e.Elapsed)
	case "skip":
		fmt.Fprintf(r.w, "-     %-60s no test files\n", e.Package)
	case "fail":
		if b := r.build[e.FailedBuild]; b != nil {
			fmt.Fprintf(r.w, "%s", b)
			delete(r.build, e.FailedBuild)
		}
		fmt.Fprintf(r.w, "%s", out)
		r.unfinished(e.Package)
		if r.inPkg[e.Package] == 0 {
			r.failed++
		}
		r.inPkg[e.Package]++
		fmt.Fprintf(r.w, "FAIL  %-60s %6.1f s\n", e.Package, e.Elapsed)
	}
}

// unfinished prints what is known of tests whose process ended under them.
func (r *report) unfinished(pkg string) {
	var ids []testID
	for id := range r.pending {
		if id.pkg == pkg {
			ids = append(ids, id)
		}
	}
	slices.SortFunc(ids, func(a, b testID) int { return strings.Compare(a.test, b.test) })
	for _, id := range ids {
		fmt.Fprintf(r.w, "--- unfinished: %s %s\n%s", id.pkg, id.test, r.pending[id])
		delete(r.pending, id)
	}
}

// finish prints the skipped tests and the counts. goFailed says that go test
// itself was not content; if no event said why, that is a failure too.
func (r *report) finish(goFailed bool) {
	for _, b := range r.build {
		fmt.Fprintf(r.w, "%s", b)
	}
	if goFailed && r.failed == 0 {
		r.failed++
	}
	for _, s := range r.skipped {
		fmt.Fprintf(r.w, "skipped: %s %s: %s\n", s.pkg, s.test, s.reason)
	}
	fmt.Fprintf(r.w, "%d passed, %d failed, %d skipped\n", r.passed, r.failed, len(r.skipped))
}

// reason is what a test said last before it was skipped, without the
// position: "    file_test.go:12: needs root" gives "needs root".
func reason(out string) string {
	lines := strings.Split(out, "\n")
	for _, line := range slices.Backward(lines) {
		line = strings.TrimSpace(line)
		if line == "" || strings.HasPrefix(line, "--- ") || strings.HasPrefix(line, "=== ") {
			continue
		}
		if _, after, ok := strings.Cut(line, ".go:"); ok {
			if _, text, ok := strings.Cut(after, ": "); ok {
				return text
			}
		}
		return line
	}
	return "no reason given"
}
