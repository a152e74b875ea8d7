//go:build e2e

package e2e

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/atolldb/atoll/e2e/program"
)

var binary string

// sideEnv is set in processes that a test starts of this binary; see TestSide.
const sideEnv = "ATOLL_E2E_SIDE"

func TestMain(m *testing.M) {
	if os.Getenv(sideEnv) != "" {
		os.Exit(m.Run()) // a process of a test's: it needs no binary
	}
	dir, err := os.MkdirTemp("", "atoll-e2e-")
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	binary = filepath.Join(dir, "atoll")
	if err := program.Build(binary); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	code := m.Run()
	_ = os.RemoveAll(dir)
	os.Exit(code)
}

// result of a command that ended.
type result struct {
	stdout, stderr string
	code           int
	took           time.Duration
}

// atoll runs a command of the binary to its end.
func atoll(ctx context.Context, stdin io.Reader, args ...string) (result, error) {
	cmd := exec.CommandContext(ctx, binary, args...)
	var stdout, stderr bytes.Buffer
	cmd.Stdin, cmd.Stdout, cmd.Stderr = stdin, &stdout, &stderr
	began := time.Now()
	err := cmd.Run()
	r := result{stdout.String(), stderr.String(), cmd.ProcessState.ExitCode(), time.Since(began)}
	var exit *exec.ExitError
	if errors.As(err, &exit) {
		err = nil
	}
	return r, err
}

// must runs a command that has to succeed.
func must(t *testing.T, ctx context.Context, args ...string) result {
	t.Helper()
	r, err := atoll(ctx, nil, args...)
	if err != nil || r.code != 0 {
		t.Fatalf("atoll %s: exit code %d, %v\n%s", strings.Join(args, " "), r.code, err, r.stderr)
	}
	return r
}

// demo is a running 'atoll demo' whose shell the test types into.
type demo struct {
	t         *testing.T
	stdin     io.WriteCloser
	lines     chan string
	endpoints map[string]string
	marks     int
}

func startDemo(t *testing.T, args ...string) *demo {
	t.Helper()
	cmd := exec.Command(binary, append([]string{"demo", "--log-level", "error"}, args...)...)
	stdin, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	stdout, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	var stderr lockedBuffer
	cmd.Stderr = &stderr
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	d := &demo{t: t, stdin: stdin, lines: make(chan string, 4096), endpoints: map[string]string{}}
	go func() {
		defer close(d.lines)
		scan := bufio.NewScanner(stdout)
		for scan.Scan() {
			d.lines <- scan.Text()
		}
	}()
	t.Cleanup(func() {
		_ = stdin.Close() // ends the shell
		for range d.lines {
		}
		if err := cmd.Wait(); err != nil {
			t.Errorf("demo: %v\n%s", err, stderr.String())
		}
	})
	for len(d.endpoints) < 2 {
		line := d.next()
		if rest, ok := strings.CutPrefix(line, "region "); ok {
			name, addrs, _ := strings.Cut(rest, ": ")
			d.endpoints[name] = addrs
		}
	}
	d.do(`\heal`) // a shell that is told nothing plays the tour
	return d
}

func (d *demo) next() string {
	d.t.Helper()
	select {
	case line, ok := <-d.lines:
		if !ok {
			d.t.Fatal("the demo ended")
		}
		return line
	case <-time.After(3 * time.Minute):
		d.t.Fatal("the demo says nothing more")
	}
	return ""
}

// do types a line and returns what it printed, once it is done.
func (d *demo) do(line string) string {
	d.t.Helper()
	d.marks++
	mark := fmt.Sprintf("# done %d", d.marks)
	if _, err := fmt.Fprintf(d.stdin, "%s\n%s\n", line, mark); err != nil {
		d.t.Fatal(err)
	}
	var out []string
	for {
		got := d.next()
		if got == mark {
			return strings.Join(out, "\n")
		}
		out = append(out, got)
	}
}

// lockedBuffer is written by a process and read by the test.
type lockedBuffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (l *lockedBuffer) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(p)
}

func (l *lockedBuffer) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.String()
}
