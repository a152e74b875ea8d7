// Testreport runs `go test -json` with the arguments it is given and prints
// what a person wants to know: a line per package, the output of what failed,
// the name and the reason of what was skipped, and the counts.
//
//	testreport [-totals FILE] [go test arguments]
//
// With -totals it appends "passed failed skipped" to FILE, so that a caller
// can add up several runs. A package that fails without a failing test (it
// does not build, a goroutine panicked, the process ended) counts as one
// failure, so "0 failed" always means that go test was content.
package main

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"os/signal"
	"syscall"
	"time"
)

func main() {
	args, totals := os.Args[1:], ""
	if len(args) >= 2 && args[0] == "-totals" {
		totals, args = args[1], args[2:]
	}
	code, err := run(args, totals)
	if err != nil {
		fmt.Fprintln(os.Stderr, "testreport:", err)
		code = 1
	}
	os.Exit(code)
}

func run(args []string, totals string) (int, error) {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	cmd := exec.CommandContext(ctx, "go", append([]string{"test", "-json"}, args...)...)
	cmd.Cancel = func() error { return cmd.Process.Signal(os.Interrupt) }
	cmd.WaitDelay = 10 * time.Second
	cmd.Stderr = os.Stderr
	out, err := cmd.StdoutPipe()
	if err != nil {
		return 1, err
	}
	if err := cmd.Start(); err != nil {
		return 1, fmt.Errorf("start go test: %w", err)
	}
	r := newReport(os.Stdout)
	readErr := r.read(out)
	waitErr := cmd.Wait()
	r.finish(waitErr != nil)
	if totals != "" {
		if err := appendTotals(totals, r); err != nil {
			return 1, err
		}
	}
	if readErr != nil {
		return 1, fmt.Errorf("read go test's output: %w", readErr)
	}
	if waitErr != nil || r.failed > 0 {
		return 1, nil
	}
	return 0, nil
}

func appendTotals(path string, r *report) error {
	f, err := os.OpenFile(path, os.O_APPEND|os.O_CREATE|os.O_WRONLY, 0o644)
	if err != nil {
		return err
	}
	if _, err := fmt.Fprintln(f, r.passed, r.failed, len(r.skipped)); err != nil {
		f.Close()
		return err
	}
	return f.Close()
}
