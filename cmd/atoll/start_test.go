package main

import (
	"bufio"
	"bytes"
	"errors"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/term"

	"github.com/atolldb/atoll/client"
)

// atollProcess is this program as a process of its own; see TestMain.
type atollProcess struct {
	t      *testing.T
	cmd    *exec.Cmd
	out    *bufio.Reader // nil where the process has a terminal
	pipe   io.Closer
	stderr bytes.Buffer
}

func startAtoll(t *testing.T, env []string, args ...string) *atollProcess {
	t.Helper()
	return startAtollOn(t, nil, nil, env, args...)
}

// startAtollOn starts a process with a standard input; if that is a terminal, it
// is standard output and the controlling terminal, too. Standard error is kept,
// unless it goes to a file. Both may be nil.
func startAtollOn(t *testing.T, stdin, stderr *os.File, env []string, args ...string) *atollProcess {
	t.Helper()
	p := &atollProcess{t: t, cmd: exec.Command("atoll", args...)}
	p.cmd.Env = append(os.Environ(), "ATOLL_LISTEN_CLIENT=127.0.0.1:0", "ATOLL_LISTEN_ADMIN=127.0.0.1:0")
	p.cmd.Env = append(p.cmd.Env, env...)
	p.cmd.Stderr = &p.stderr
	if stderr != nil {
		p.cmd.Stderr = stderr
	}
	if stdin != nil {
		p.cmd.Stdin = stdin
	}
	if stdin != nil && term.IsTerminal(int(stdin.Fd())) {
		p.cmd.Stdout = stdin
		p.cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true, Setctty: true}
	} else {
		out, err := p.cmd.StdoutPipe()
		if err != nil {
			t.Fatal(err)
		}
		p.out, p.pipe = bufio.NewReader(out), out
	}
	if err := p.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = p.cmd.Process.Kill() // unless it has ended, which is as well
		_ = p.cmd.Wait()
	})
	return p
}

// line waits for a line of standard output that begins with a word, and
// returns the next word.
func (p *atollProcess) line(word string) string {
	p.t.Helper()
	for {
		line, err := p.out.ReadString('\n')
		if err != nil {
			p.t.Fatalf("no line %q: %v\n%s", word, err, p.stderr.String())
		}
		if f := strings.Fields(line); len(f) > 1 && f[0] == word {
			return f[1]
		}
	}
}

// exit waits for the end and returns the code.
func (p *atollProcess) exit() int {
	p.t.Helper()
	late := time.AfterFunc(60*time.Second, func() { _ = p.cmd.Process.Kill() })
	defer late.Stop()
	if p.out != nil {
		if _, err := io.Copy(io.Discard, p.out); err != nil && !errors.Is(err, os.ErrClosed) {
			p.t.Fatal(err)
		}
	}
	err := p.cmd.Wait()
	var failed *exec.ExitError
	if err != nil && !errors.As(err, &failed) {
		p.t.Fatal(err)
	}
	return p.cmd.ProcessState.ExitCode()
}

// closeOut stops reading what the process prints.
func (p *atollProcess) closeOut() {
	p.t.Helper()
	if err := p.pipe.Close(); err != nil {
		p.t.Fatal(err)
	}
}

func (p *atollProcess) signal(s os.Signal) {
	p.t.Helper()
	if err := p.cmd.Process.Signal(s); err != nil {
		p.t.Fatal(err)
	}
}

// A node for development serves, stops at a signal, and finds its data again.
func TestStartDev(t *testing.T) {
	dir := t.TempDir()
	for i, sig := range []os.Signal{syscall.SIGINT, syscall.SIGTERM} {
		p := startAtoll(t, nil, "start", "--dev", "--data", dir)
		addr, admin := p.line("clients"), p.line("admin")
		c, err := client.Open(t.Context(), addr)
		if err != nil {
			t.Fatal(err)
		}
		if i == 0 {
			if _, err := c.Put(t.Context(), "k", []byte("v")); err != nil {
				t.Fatal(err)
			}
		}
		if obj, err := c.Get(t.Context(), "k"); err != nil || string(obj.Value()) != "v" {
			t.Errorf("start %d: %v, %v", i, obj, err)
		}
		if err := c.Close(); err != nil {
			t.Error(err)
		}
		res, err := http.Get(admin + "/readyz")
		if err != nil || res.StatusCode != 200 {
			t.Errorf("readyz: %v, %v", res, err)
		} else {
			res.Body.Close()
		}
		p.signal(sig)
		if code := p.exit(); code != exitOK {
			t.Errorf("%v: exit code %d\n%s", sig, code, p.stderr.String())
		}
		if p.stderr.Len() > 0 {
			t.Errorf("a quiet run said: %s", p.stderr.String())
		}
	}
}

// The environment names a directory, and the flag comes before it.
func TestStartDevSaysWhereItsDataAre(t *testing.T) {
	temp, named, flagged := t.TempDir(), t.TempDir(), t.TempDir()
	env := []string{"TMPDIR=" + temp, "ATOLL_DATA_DIR=" + named}
	for _, c := range []struct {
		args []string
		want string
	}{{[]string{"start", "--dev"}, named}, {[]string{"start", "--dev", "--data", flagged}, flagged}} {
		p := startAtoll(t, env, c.args...)
		if got := p.line("data"); got != c.want {
			t.Errorf("%v: says %s, not %s", c.args, got, c.want)
		}
		if files, err := os.ReadDir(c.want); err != nil || len(files) == 0 {
			t.Errorf("%v: %s has %v, %v", c.args, c.want, files, err)
		}
		p.signal(syscall.SIGTERM)
		if code := p.exit(); code != exitOK {
			t.Errorf("%v: exit code %d\n%s", c.args, code, p.stderr.String())
		}
	}
}

// A node goes on when nobody reads its log any more.
func TestStartOutlivesTheReaderOfItsLog(t *testing.T) {
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	r.Close()
	defer w.Close()
	p := startAtollOn(t, nil, w, nil, "start", "--dev", "--log-level", "debug")
	p.line("clients")
	p.signal(syscall.SIGTERM)
	if code := p.exit(); code != exitOK {
		t.Errorf("exit code %d", code)
	}
}

// Without a directory of its own it leaves nothing behind, and it takes free
// ports if the usual ones are in use.
func TestStartDevTwice(t *testing.T) {
	temp := t.TempDir()
	a := startAtoll(t, []string{"TMPDIR=" + temp}, "start", "--dev")
	addr := a.line("clients")
	b := startAtoll(t, []string{"TMPDIR=" + temp, "ATOLL_LISTEN_CLIENT=" + addr}, "start", "--dev")
	if other := b.line("clients"); other == addr {
		t.Errorf("both listen on %s", addr)
	}
	for _, p := range []*atollProcess{a, b} {
		p.signal(syscall.SIGTERM)
		if code := p.exit(); code != exitOK {
			t.Errorf("exit code %d\n%s", code, p.stderr.String())
		}
	}
	if left, err := os.ReadDir(temp); err != nil || len(left) > 0 {
		t.Errorf("left behind: %v, %v", left, err)
	}
}

// A node that cannot stop (its service manager does not listen, say) stops at
// the second signal.
func TestSecondSignal(t *testing.T) {
	// The service manager's socket is full: telling it anything blocks.
	path := filepath.Join(t.TempDir(), "socket")
	l, err := net.ListenUnixgram("unixgram", &net.UnixAddr{Name: path, Net: "unixgram"})
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	full, err := net.Dial("unixgram", path)
	if err != nil {
		t.Fatal(err)
	}
	defer full.Close()
	if err := full.SetWriteDeadline(time.Now().Add(200 * time.Millisecond)); err != nil {
		t.Fatal(err)
	}
	for {
		if _, err := full.Write([]byte("x")); err != nil {
			break
		}
	}
	p := startAtoll(t, []string{"NOTIFY_SOCKET=" + path}, "start", "--dev")
	p.line("clients") // and now it tries to tell that it is ready
	p.signal(syscall.SIGTERM)
	ended := make(chan int, 1)
	go func() { ended <- p.exit() }()
	beat := time.NewTicker(50 * time.Millisecond)
	defer beat.Stop()
	for {
		select {
		case code := <-ended:
			if code != exitError || !strings.Contains(p.stderr.String(), "stopped at once") {
				t.Errorf("exit code %d\n%s", code, p.stderr.String())
			}
			return
		case <-beat.C:
			_ = p.cmd.Process.Signal(syscall.SIGTERM) // unless it has ended
		}
	}
}

// The service manager is told.
func TestNotify(t *testing.T) {
	path := filepath.Join(t.TempDir(), "socket")
	l, err := net.ListenUnixgram("unixgram", &net.UnixAddr{Name: path, Net: "unixgram"})
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	if err := l.SetReadDeadline(time.Now().Add(30 * time.Second)); err != nil {
		t.Fatal(err)
	}
	hears := func(want string) {
		t.Helper()
		b := make([]byte, 64)
		n, err := l.Read(b)
		if err != nil || string(b[:n]) != want {
			t.Errorf("heard %q, %v", b[:n], err)
		}
	}
	p := startAtoll(t, []string{"NOTIFY_SOCKET=" + path}, "start", "--dev")
	hears("READY=1")
	p.signal(syscall.SIGTERM)
	hears("STOPPING=1")
	if code := p.exit(); code != exitOK {
		t.Errorf("exit code %d\n%s", code, p.stderr.String())
	}
}

func TestStartRefuses(t *testing.T) {
	dir := t.TempDir()
	bad := filepath.Join(dir, "bad.yaml")
	if err := os.WriteFile(bad, []byte("nod: x\nlog: {level: loud}\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	taken, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer taken.Close()
	sample, err := filepath.Abs("../../deploy/config/single.yaml")
	if err != nil {
		t.Fatal(err)
	}
	env := []string{
		"ATOLL_DATA_DIR=" + filepath.Join(dir, "data"), "ATOLL_LISTEN_CLIENT=" + taken.Addr().String(),
		"ATOLL_LISTEN_PEER=127.0.0.1:0", "ATOLL_NATS_LISTEN=127.0.0.1:0",
	}
	for _, c := range []struct {
		args []string
		code int
		want []string
	}{
		{[]string{"start"}, exitUsage, []string{"either --config or --dev"}},
		{[]string{"start", "--dev", "--config", bad}, exitUsage, []string{"either --config or --dev"}},
		{[]string{"start", "--config", bad, "--data", dir}, exitUsage, []string{"--data goes with --dev"}},
		{[]string{"start", "--dev", "--log-level", "loud"}, exitUsage, []string{"--log-level", `"loud"`}},
		{[]string{"start", "--dev", "--nosuch"}, exitUsage, []string{"--nosuch"}},
		{[]string{"config", "show", "a", "b"}, exitUsage, nil},
		{[]string{"start", "--dev", "more"}, exitUsage, []string{"more"}},
		{[]string{"start", "--config", filepath.Join(dir, "none")}, exitError, []string{"none", "no such file"}},
		{[]string{"start", "--config", bad}, exitUsage, []string{bad, "did you mean node?", "log.level", `"loud"`, "problems"}},
		{[]string{"config", "check", bad}, exitUsage, []string{"did you mean node?"}},
		{[]string{"config", "check"}, exitUsage, nil},
		{[]string{"config", "show", bad}, exitUsage, []string{"did you mean node?"}},
		{[]string{"start", "--config", sample}, exitError, []string{"listen.client", taken.Addr().String(), "in use"}},
	} {
		p := startAtoll(t, env, c.args...)
		if code := p.exit(); code != c.code {
			t.Errorf("%v: exit code %d, not %d\n%s", c.args, code, c.code, p.stderr.String())
		}
		for _, want := range c.want {
			if !strings.Contains(p.stderr.String(), want) {
				t.Errorf("%v: no %q in\n%s", c.args, want, p.stderr.String())
			}
		}
	}
}

func TestConfigShow(t *testing.T) {
	sample, err := filepath.Abs("../../deploy/config/eu-1.yaml")
	if err != nil {
		t.Fatal(err)
	}
	p := startAtoll(t, []string{"ATOLL_LOG_LEVEL=debug"}, "config", "show", sample)
	text, err := io.ReadAll(p.out)
	if err != nil || p.exit() != exitOK {
		t.Fatalf("%v\n%s", err, p.stderr.String())
	}
	for _, want := range []string{"node: eu-1\n", "level: debug\n", "max_store: 8GiB\n", "secret_file: /etc/atoll/secret\n"} {
		if !strings.Contains(string(text), want) {
			t.Errorf("no %q in\n%s", want, text)
		}
	}
	if p := startAtoll(t, nil, "config", "check", sample); p.exit() != exitOK {
		t.Errorf("check: %s", p.stderr.String())
	}
}
