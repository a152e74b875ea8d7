package main

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func TestReportCountsAndExplains(t *testing.T) {
	in := `{"Action":"run","Package":"p","Test":"TestGood"}
{"Action":"output","Package":"p","Test":"TestGood","Output":"chatter of a good test\n"}
{"Action":"pass","Package":"p","Test":"TestGood","Elapsed":0.1}
{"Action":"run","Package":"p","Test":"TestBad"}
{"Action":"output","Package":"p","Test":"TestBad","Output":"    p_test.go:9: want 1, got 2\n"}
{"Action":"fail","Package":"p","Test":"TestBad","Elapsed":0.2}
{"Action":"run","Package":"p","Test":"TestRoot"}
{"Action":"output","Package":"p","Test":"TestRoot","Output":"=== RUN   TestRoot\n"}
{"Action":"output","Package":"p","Test":"TestRoot","Output":"    p_test.go:20: needs root: nftables\n"}
{"Action":"output","Package":"p","Test":"TestRoot","Output":"--- SKIP: TestRoot (0.00s)\n"}
{"Action":"skip","Package":"p","Test":"TestRoot","Elapsed":0}
{"Action":"fail","Package":"p","Elapsed":0.5}
{"Action":"skip","Package":"empty","Elapsed":0}
`
	out, r := digest(t, in, true)
	if r.passed != 1 || r.failed != 1 || len(r.skipped) != 1 {
		t.Errorf("counted %d, %d, %d", r.passed, r.failed, len(r.skipped))
	}
	for _, want := range []string{
		"want 1, got 2", "FAIL  p ", "skipped: p TestRoot: needs root: nftables",
		"1 passed, 1 failed, 1 skipped\n",
	} {
		if !strings.Contains(out, want) {
			t.Errorf("no %q in\n%s", want, out)
		}
	}
	if strings.Contains(out, "chatter") {
		t.Errorf("a passed test was not silent:\n%s", out)
	}
}

func TestBrokenBuildCountsAsOneFailure(t *testing.T) {
	in := `{"ImportPath":"p","Action":"build-output","Output":"p/p.go:3:1: syntax error\n"}
{"ImportPath":"p","Action":"build-fail"}
{"Action":"start","Package":"p"}
{"Action":"output","Package":"p","Output":"FAIL\tp [build failed]\n"}
{"Action":"fail","Package":"p","Elapsed":0,"FailedBuild":"p"}
`
	out, r := digest(t, in, true)
	if r.failed != 1 || !strings.Contains(out, "syntax error") {
		t.Errorf("failed = %d, output:\n%s", r.failed, out)
	}
}

func TestDeadProcessShowsWhatItWasDoing(t *testing.T) {
	in := `{"Action":"run","Package":"p","Test":"TestExit"}
{"Action":"output","Package":"p","Test":"TestExit","Output":"about to leave\n"}
{"Action":"output","Package":"p","Output":"exit status 3\n"}
{"Action":"fail","Package":"p","Elapsed":0}
`
	out, r := digest(t, in, true)
	if r.failed != 1 || !strings.Contains(out, "--- unfinished: p TestExit\nabout to leave") {
		t.Errorf("failed = %d, output:\n%s", r.failed, out)
	}
}

func TestFailureWithoutEventsIsCounted(t *testing.T) {
	out, r := digest(t, "go: cannot find main module\n", true)
	if r.failed != 1 || !strings.Contains(out, "cannot find main module") {
		t.Errorf("failed = %d, output:\n%s", r.failed, out)
	}
	if _, r := digest(t, "", false); r.failed != 0 {
		t.Errorf("an empty success counts %d failures", r.failed)
	}
}

func TestTotalsAddUp(t *testing.T) {
	path := filepath.Join(t.TempDir(), "totals")
	for range 2 {
		if err := appendTotals(path, &report{passed: 3, failed: 1, skipped: make([]skip, 2)}); err != nil {
			t.Fatal(err)
		}
	}
	got, err := os.ReadFile(path)
	if err != nil || string(got) != "3 1 2\n3 1 2\n" {
		t.Errorf("totals %q, %v", got, err)
	}
}

func digest(t *testing.T, in string, goFailed bool) (string, *report) {
	t.Helper()
	var out strings.Builder
	r := newReport(&out)
	if err := r.read(strings.NewReader(in)); err != nil {
		t.Fatal(err)
	}
	r.finish(goFailed)
	return out.String(), r
}
