//go:build linux

package machine

import (
	"bufio"
	"fmt"
	"os"
	"os/exec"
	"runtime"
	"strings"
	"testing"
	"time"
)

const tellTime = "ATOLL_TEST_TELL_TIME"

// TestMain: as a child of TestSkewClock the test tells the time, on and on, while
// other threads do nothing but ask for it.
func TestMain(m *testing.M) {
	if os.Getenv(tellTime) == "" {
		os.Exit(m.Run())
	}
	for range 4 {
		go func() {
			for time.Now().Unix() != 0 {
			}
		}()
	}
	began := time.Now()
	for {
		if _, err := fmt.Println(time.Now().Unix(), time.Since(began).Nanoseconds()); err != nil {
			os.Exit(0)
		}
		runtime.Gosched()
	}
}

func TestSkewClock(t *testing.T) {
	if runtime.GOARCH != "amd64" {
		t.Skip("NOT RUN: amd64 only")
	}
	cmd := exec.Command(os.Args[0])
	cmd.Env = append(os.Environ(), tellTime+"=1", "GOMAXPROCS=3")
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	defer cmd.Wait() //nolint:errcheck // it is killed
	defer cmd.Process.Kill()
	lines := bufio.NewScanner(out)
	// The pipe holds what was told before.
	told := func(by time.Duration) (elapsed time.Duration) {
		t.Helper()
		for deadline := time.Now().Add(10 * time.Second); time.Now().Before(deadline); {
			if !lines.Scan() {
				t.Fatalf("the child has ended: %v", lines.Err())
			}
			var unix, ns int64
			if _, err := fmt.Sscan(lines.Text(), &unix, &ns); err != nil {
				t.Fatalf("the child tells %q: %v", lines.Text(), err)
			}
			off := time.Until(time.Unix(unix, 0)) - by
			if off > -1500*time.Millisecond && off < 500*time.Millisecond {
				return time.Duration(ns)
			}
		}
		t.Fatalf("the child's clock is never off by %v", by)
		return 0
	}
	began, first := time.Now(), told(0)
	for _, by := range []time.Duration{3 * time.Second, -time.Hour, 0, 500 * time.Hour} {
		if err := SkewClock(cmd.Process.Pid, by); err != nil {
			t.Fatal(err)
		}
		now := told(by)
		if took := now - first; took < 0 || took > time.Since(began)+time.Second {
			t.Errorf("by the child's monotonic clock it is %v, by ours %v", took, time.Since(began))
		}
	}
	if err := SkewClock(cmd.Process.Pid, time.Millisecond); err == nil || !strings.Contains(err.Error(), "whole seconds") {
		t.Errorf("by a millisecond: %v", err)
	}
}
