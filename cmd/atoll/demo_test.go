package main

import (
	"bufio"
	"io"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"
)

// smallDemo starts in a tenth of a second.
var smallDemo = []string{"demo", "--nodes", "1", "--nats", "1", "--latency", "0s"}

// idleDemo is a demo that waits for a line which does not come. Its temporary
// directory has to be empty in the end.
func idleDemo(t *testing.T, args ...string) (p *atollProcess, stdin io.WriteCloser) {
	t.Helper()
	temp := t.TempDir()
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		w.Close()
		if left, err := os.ReadDir(temp); err != nil || len(left) > 0 {
			t.Errorf("left behind: %v, %v", left, err)
		}
	})
	p = startAtollOn(t, r, nil, []string{"TMPDIR=" + temp}, append(smallDemo, args...)...)
	r.Close()
	return p, w
}

// A signal ends a demo that waits for a line, and nothing is left behind.
func TestDemoEndsAtASignal(t *testing.T) {
	for _, sig := range []os.Signal{syscall.SIGINT, syscall.SIGTERM, syscall.SIGHUP} {
		p, _ := idleDemo(t)
		p.line("metrics")
		p.signal(sig)
		// One that comes before the demo waits for a line interrupts nothing.
		again := time.AfterFunc(10*time.Second, func() { _ = p.cmd.Process.Signal(sig) })
		defer again.Stop()
		if code := p.exit(); code != exitOK {
			t.Errorf("%v: exit code %d\n%s", sig, code, p.stderr.String())
		}
	}
}

// Whoever reads may go, as in "atoll demo | head".
func TestDemoWhoseReaderGoes(t *testing.T) {
	p, stdin := idleDemo(t)
	p.line("metrics")
	p.closeOut()
	if _, err := io.WriteString(stdin, "put k v\n"); err != nil {
		t.Fatal(err)
	}
	if code := p.exit(); code != exitOK {
		t.Errorf("exit code %d\n%s", code, p.stderr.String())
	}
}

// SIGPIPE comes with a write to any connection whose other end has gone. The demo ended
// at it, in silence, or the command that ran said "context canceled".
func TestDemoOutlivesConnections(t *testing.T) {
	p, stdin := idleDemo(t)
	p.line("metrics")
	p.signal(syscall.SIGPIPE)
	if _, err := io.WriteString(stdin, "bench --duration 300ms --interval 50ms --clients 1\n\\expect-exit 0\nstatus\n\\expect-exit 0\n"); err != nil {
		t.Fatal(err)
	}
	p.line("eu>") // bench runs
	p.signal(syscall.SIGPIPE)
	stdin.Close()
	out, err := io.ReadAll(p.out)
	if code := p.exit(); err != nil || code != exitOK || !strings.Contains(string(out), "UN  eu-1") {
		t.Errorf("exit code %d, %v\n%s%s", code, err, out, p.stderr.String())
	}
}

func TestDemoShell(t *testing.T) {
	script := strings.Join([]string{
		"put k v", "get k", `\expect v`, `\expect-exit 0`,
		"get k --endpoints=127.0.0.1:1", `\expect no node answers at 127.0.0.1:1`, `\expect-exit 6`,
		"get k --endpoints 127.0.0.1:1", `\expect-exit 6`,
		"put k --overwrite -- --dash", `\expect-exit 0`, "get k", `\expect --dash`,
		"put k -", `\expect no standard input`, `\expect-exit 1`,
		"demo", `\expect not for this shell`, `\expect-exit 2`,
		"start --dev", `\expect not for this shell`,
		`\use us`, "ring show", `\expect us-1`,
		`\expect something else`,
		"get never",
	}, "\n")
	file := filepath.Join(t.TempDir(), "script")
	if err := os.WriteFile(file, []byte(script), 0o600); err != nil {
		t.Fatal(err)
	}
	p, _ := idleDemo(t, "--script", file)
	out, err := io.ReadAll(p.out)
	if err != nil || p.exit() != exitError {
		t.Errorf("%v\n%s", err, out)
	}
	if want := `atoll: \expect something else: expected "something else"`; !strings.Contains(p.stderr.String(), want) {
		t.Errorf("no %q in\n%s\n%s", want, p.stderr.String(), out)
	}
	if strings.Contains(string(out), "never") {
		t.Error("the script went on after what it expected did not come")
	}
}

// The tour names regions and nodes; what cannot play it says so.
func TestDemoWithoutTheTour(t *testing.T) {
	p, stdin := idleDemo(t)
	stdin.Close()
	out, err := io.ReadAll(p.out)
	if err != nil || p.exit() != exitOK || !strings.Contains(string(out), tourNeeds) {
		t.Errorf("%v\n%s%s", err, out, p.stderr.String())
	}
}

func TestDemoRefuses(t *testing.T) {
	for _, c := range []struct{ args, want string }{
		{"--tour", tourNeeds},
		{"--tour --script x", tourNeeds},
		{"--nodes 3 --tour --script x", "--tour and --script"},
		{"--nodes 0", "field nodes"},
		{"--nodes 10", "field nodes"},
		{"--nats 2", "field nats"},
		{"--latency -1s", "field latency"},
		{"--log-level loud", "field log-level"},
		{"--script /nosuch/file", "/nosuch/file"},
	} {
		p, _ := idleDemo(t, strings.Fields(c.args)...)
		if code := p.exit(); code != exitUsage || !strings.Contains(p.stderr.String(), c.want) {
			t.Errorf("%s: exit code %d\n%s", c.args, code, p.stderr.String())
		}
	}
}

// At a terminal Ctrl-C ends the command that runs, and the shell goes on.
func TestDemoAtATerminal(t *testing.T) {
	terminal, side := openTerminal(t)
	temp := t.TempDir()
	p := startAtollOn(t, side, nil, []string{"TMPDIR=" + temp, "TERM=xterm"}, smallDemo...)
	side.Close()
	late := time.AfterFunc(30*time.Second, func() { _ = p.cmd.Process.Kill() }) // which ends reading
	defer late.Stop()
	seen := bufio.NewReader(terminal)
	var text strings.Builder
	until := func(want string) {
		t.Helper()
		for text.Reset(); !strings.HasSuffix(text.String(), want); {
			b, err := seen.ReadByte()
			if err != nil {
				t.Fatalf("no %q: %v\n%s", want, err, text.String())
			}
			text.WriteByte(b)
		}
	}
	typed := func(s string) {
		t.Helper()
		if _, err := io.WriteString(terminal, s); err != nil {
			t.Fatal(err)
		}
	}
	until("eu> ")
	typed("bench --duration 1h --interval 50ms --clients 1\r")
	until("op/s")
	typed("\x03")
	until("interrupted")
	until("eu> ")
	typed("put k v\r")
	until("eu> ")
	typed("get k\r")
	until("\nv")
	until("eu> ")
	typed("\x03") // at the prompt
	if code := p.exit(); code != exitOK {
		t.Errorf("exit code %d\n%s", code, p.stderr.String())
	}
	if left, err := os.ReadDir(temp); err != nil || len(left) > 0 {
		t.Errorf("left behind: %v, %v", left, err)
	}
}

// A backup that is restored into one of two regions, while both are there, is in both:
// siblings, deletes and values that expire, and in both regions it finds nothing to do.
func TestDemoRestoresTwoRegions(t *testing.T) {
	dir := t.TempDir()
	file := filepath.Join(dir, "all.backup")
	play := func(name string, lines ...string) {
		t.Helper()
		script := filepath.Join(dir, name)
		if err := os.WriteFile(script, []byte(strings.Join(lines, "\n")), 0o600); err != nil {
			t.Fatal(err)
		}
		p, _ := idleDemo(t, "--script", script)
		out, err := io.ReadAll(p.out)
		if code := p.exit(); err != nil || code != exitOK {
			t.Fatalf("%s: exit code %d, %v\n%s%s", name, code, err, out, p.stderr.String())
		}
	}
	ok := `\expect-exit 0`
	play("before",
		"bucket create carts --ttl 24h", ok,
		"bench --mix a --duration 300ms --clients 4 --keys 300", ok,
		"put --bucket carts short v", ok,
		"put gone v", ok, "del gone", ok,
		`\partition eu us`, "put both eu-value", ok, `\use us`, "put both us-value", ok, `\heal`, `\wait`,
		"backup "+file, ok)
	check := []string{
		"siblings both", `\expect eu-value`, `\expect us-value`,
		"get --bucket carts short", `\expect v`, ok,
		"get gone", `\expect-exit 3`,
		"restore " + file + " --dry-run", `\expect 0 written, `, `\expect 0 failed, 0 unknown`, ok,
	}
	lines := append([]string{"restore " + file, `\expect 0 failed, 0 unknown`, ok, `\wait`}, check...)
	play("after", append(append(lines, `\use us`), check...)...)
}

// A drill takes a region out of service and brings it back, and reports what that took.
func TestDemoDrill(t *testing.T) {
	script := strings.Join([]string{
		"put k before", `\expect-exit 0`,
		"dr status", `\expect-exit 0`,
		"dr drill us --confirm us", `\expect-exit 0`,
		`\expect switchover of us is done, after `, `\expect failback of us is done, after `,
		`\expect drill of us: RTO `, `\expect RPO 0 writes (0 came late)`,
		"dr wait -o json", `\expect "kind":"failback","region":"us",`, `\expect-exit 0`,
		"dr drill us --confirm us -o json", `\expect-exit 0`, `\expect {"drill":"us","rto_ms":`, `\expect "rpo_writes":0,"late_writes":0,"out_of_service_ms":`,
		"dr drill us --confirm eu", `\expect-exit 2`,
		"dr status", `\expect-exit 0`, `\use us`, "put k after --overwrite", `\expect-exit 0`,
	}, "\n")
	file := filepath.Join(t.TempDir(), "script")
	if err := os.WriteFile(file, []byte(script), 0o600); err != nil {
		t.Fatal(err)
	}
	p, _ := idleDemo(t, "--script", file)
	out, err := io.ReadAll(p.out)
	if code := p.exit(); err != nil || code != exitOK {
		t.Errorf("exit code %d, %v\n%s%s", code, err, out, p.stderr.String())
	}
}
