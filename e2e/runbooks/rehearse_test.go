//go:build runbooks && linux

package runbooks

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/atolldb/atoll/client"
	"github.com/atolldb/atoll/e2e/chaos/deployment"
	"github.com/atolldb/atoll/e2e/chaos/history"
	"github.com/atolldb/atoll/e2e/chaos/machine"
	"github.com/atolldb/atoll/e2e/chaos/traffic"
	"github.com/atolldb/atoll/e2e/runbooks/book"
	"github.com/atolldb/atoll/internal/pause"
)

const (
	books     = "../../deploy/runbooks"
	workers   = 8
	rate      = 150
	startTime = 60 * time.Second
	healTime  = 60 * time.Second
	// opTime is how long an operation that began in time may take to fail.
	stepTime = 60 * time.Second
	beat     = 200 * time.Millisecond
)

// rehearsal is one deployment on which runbooks are followed.
type rehearsal struct {
	t   *testing.T
	ctx context.Context
	*deployment.Deployment
	net     machine.Network
	dir     string
	book    *book.Book
	clients map[string]*client.Client
	history *history.History
	loads   map[string]*load // by region
	began   time.Time
	calm    func()                     // ends what hammers, once there is
	saved   map[history.Element]string // what was acknowledged when a backup began, and its key
	missing missing
}

// load is the clients of one region, and the moment from which on they fail by
// intent.
type load struct {
	t    *traffic.Traffic
	stop func()
}

func read(t *testing.T, name string) *book.Book {
	t.Helper()
	text, err := os.ReadFile(filepath.Join(books, name+".md"))
	if err != nil {
		t.Fatal(err)
	}
	b, err := book.Parse(name, string(text))
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// chain is the runbook and what is followed before it, in order.
func chain(t *testing.T, b *book.Book) []*book.Book {
	out := []*book.Book{b}
	for out[0].After != "" {
		out = slices.Insert(out, 0, read(t, out[0].After))
	}
	return out
}

func begin(t *testing.T, b *book.Book) *rehearsal {
	t.Helper()
	r := &rehearsal{
		t: t, ctx: t.Context(), book: b, history: &history.History{}, began: time.Now(), calm: func() {},
		clients: map[string]*client.Client{}, loads: map[string]*load{},
	}
	var err error
	r.dir, err = os.MkdirTemp(shared.run.Dir, "runbook-")
	r.must(err)
	r.net, err = shared.run.NewNetwork(shared.missing)
	r.must(err)
	t.Cleanup(func() { r.must(r.net.Close()) })
	prefix := filepath.Base(r.dir)
	r.Deployment, err = deployment.New(deployment.Config{
		Binary: shared.binary, Dir: r.dir, Regions: b.Regions, Nodes: b.Nodes, Partitions: partitions, Network: r.net,
		Lines:   b.Config,
		NewDisk: func(node string) (*machine.Disk, error) { return r.newDisk(prefix + "-" + node) },
	})
	r.must(err)
	t.Cleanup(func() { r.must(r.Deployment.Close()) })
	t.Cleanup(func() {
		if t.Failed() {
			for _, n := range r.Nodes {
				t.Logf("%s said:\n%s", n.ID, n.Tail(12))
			}
		}
	})
	for _, n := range r.Nodes {
		r.must(n.Start())
	}
	for i, region := range b.Regions {
		r.open(region)
		r.load(region, 1+i*workers)
	}
	if b.Following != "" {
		r.follows(b.Following)
	}
	r.pause(2 * time.Second)
	return r
}

func (r *rehearsal) must(err error) {
	r.t.Helper()
	if err != nil {
		r.t.Fatal(err)
	}
}

func (r *rehearsal) say(format string, args ...any) {
	r.t.Logf("%5.1f s  %s", time.Since(r.began).Seconds(), fmt.Sprintf(format, args...))
}

func (r *rehearsal) pause(d time.Duration) {
	if !pause.For(r.ctx, d) {
		r.t.Fatal(r.ctx.Err())
	}
}

// eventually tries until ok returns nil, and returns its last error when the time
// is over.
func (r *rehearsal) eventually(within time.Duration, ok func(context.Context) error) error {
	ctx, cancel := context.WithTimeout(r.ctx, within)
	defer cancel()
	return pause.Until(ctx, beat, func() error { return ok(ctx) }) // what is done once is not done again, see step
}

// open waits until a region serves on all its nodes.
func (r *rehearsal) open(region string) {
	r.t.Helper()
	err := r.eventually(startTime, func(ctx context.Context) error {
		c := r.clients[region]
		if c == nil {
			var err error
			if c, err = r.Client(ctx, region); err != nil {
				return err
			}
			r.clients[region] = c
			r.t.Cleanup(func() { _ = c.Close() })
		}
		return r.Open(ctx, c, region)
	})
	if err != nil {
		r.t.Fatalf("region %s does not serve: %v", region, err)
	}
}

// follow injects a runbook's faults and does what it says. It returns how long the
// commands took until those of Act were done.
func (r *rehearsal) follow(b *book.Book) (acted time.Duration) {
	r.t.Helper()
	r.book = b
	for _, f := range b.Faults {
		r.say("fault: %s", f)
		if err := r.inject(f); err != nil {
			r.t.Fatalf("%s: inject %q: %v", b.Name, f, err)
		}
	}
	began := time.Now()
	if len(b.Fails) > 0 {
		r.pause(time.Second)
	}
	acts := false
	for i := range b.Steps {
		s := &b.Steps[i]
		if s.Heading == "Act" && !acts {
			acts = true
			r.fails(began, time.Now())
		}
		if s.Heading != "Verify" {
			acted = time.Since(began)
		}
		if err := r.step(s); err != nil {
			r.t.Fatalf("%s.md:%d (%s): %v", b.Name, s.Line, s.Heading, err)
		}
		if s.Heading == "Act" {
			acted = time.Since(began)
		}
	}
	return acted
}

// fails checks for which reasons operations failed that began in a span of time.
func (r *rehearsal) fails(from, to time.Time) {
	r.t.Helper()
	if len(r.book.Fails) == 0 {
		return
	}
	for _, region := range r.book.Serving {
		failed := r.loads[region].t.Tally.FailedBetween(from, to)
		r.say("clients of %s fail: %v", region, failed)
		for _, reason := range r.book.Fails {
			if failed[reason] == 0 {
				r.t.Errorf("region %s: nothing failed as %s", region, reason)
			}
			delete(failed, reason)
		}
		if len(failed) > 0 {
			r.t.Errorf("region %s: operations failed otherwise: %v", region, failed)
		}
	}
}

// step runs one command until it says what it should.
func (r *rehearsal) step(s *book.Step) error {
	began := time.Now()
	within := max(s.Within, time.Millisecond)
	said := book.Step{}
	for _, l := range s.Expect {
		said.Expect = append(said.Expect, r.expand(l))
	}
	var output string
	err := r.eventually(within, func(context.Context) error {
		ctx, cancel := context.WithTimeout(r.ctx, stepTime)
		defer cancel()
		var code int
		var err error
		output, code, err = r.run(ctx, s.Command)
		if err != nil {
			return err
		}
		missing, ok := said.Matches(output)
		switch {
		case !s.AnyExit && code != s.Exit:
			return fmt.Errorf("%s\nended with %d, not %d; it said:\n%s", s.Command, code, s.Exit, output)
		case !ok:
			return fmt.Errorf("%s\ndid not say %q; it said:\n%s", s.Command, missing, output)
		}
		return nil
	})
	r.say("%s: %s (%v)", s.Heading, strings.ReplaceAll(s.Command, "\n", "; "), time.Since(began).Round(time.Millisecond))
	switch {
	case err != nil:
	case strings.HasPrefix(s.Command, "atoll dr failover "):
		err = r.failedOver(began, output)
	case strings.HasPrefix(s.Command, "atoll dr failback "):
		err = r.failedBack(output)
	}
	return err
}

// onMachine is what 'ssh NODE sudo COMMAND' does to the node's process.
var onMachine = map[string]string{
	"systemctl start atoll": "start NODE",
	"systemctl stop atoll":  "stop NODE",
	"chronyc makestep":      "skew NODE 0s",

	"rm -r /var/lib/atoll/nats":                              "forget NODE",
	"systemctl restart atoll":                                "restart NODE",
	"tee -a /etc/atoll/atoll.yaml <<< 'geo: {others: true}'": "prepare NODE",

	"journalctl --vacuum-size=100M":                  "drain NODE",
	"ln -sfn /opt/atoll/previous /opt/atoll/current": "revert NODE",
}

// run runs a command where clients are. What is done on a node's machine is done to
// its process, line by line.
func (r *rehearsal) run(ctx context.Context, command string) (output string, code int, err error) {
	if !strings.HasPrefix(command, "ssh ") {
		return r.bash(ctx, command)
	}
	for l := range strings.SplitSeq(command, "\n") {
		said := ""
		if strings.HasPrefix(l, "ssh ") {
			err = r.onMachine(r.expand(l))
		} else {
			said, code, err = r.bash(ctx, l)
		}
		if output += said; err != nil || code != 0 {
			break
		}
	}
	return output, code, err
}

// onMachine does what is asked of a node's machine.
func (r *rehearsal) onMachine(line string) error {
	words := strings.Fields(line)
	if len(words) < 4 || words[2] != "sudo" || onMachine[strings.Join(words[3:], " ")] == "" {
		return fmt.Errorf("%q is not done here", line)
	}
	return r.inject(strings.Replace(onMachine[strings.Join(words[3:], " ")], "NODE", words[1], 1))
}

func (r *rehearsal) bash(ctx context.Context, command string) (output string, code int, err error) {
	cmd := exec.CommandContext(ctx, "bash", "-c", command)
	cmd.Env = append(os.Environ(), "PATH="+filepath.Dir(shared.binary)+":"+os.Getenv("PATH"))
	for name, value := range r.env() {
		cmd.Env = append(cmd.Env, name+"="+value)
	}
	var out bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &out
	if err := r.net.Start("clients", cmd); err != nil {
		return "", 0, err
	}
	err = cmd.Wait()
	var exit *exec.ExitError
	if errors.As(err, &exit) {
		return out.String(), exit.ExitCode(), nil
	}
	return out.String(), 0, err
}

// env are the variables of commands: each region's addresses under its name in
// capitals, and what the front matter sets.
func (r *rehearsal) env() map[string]string {
	env := map[string]string{"BACKUPS": r.dir, "SECRET": r.Secret()}
	for _, region := range r.Regions() {
		env[strings.ToUpper(region)] = r.Target(region)
		env[strings.ToUpper(region)+"_NATS"] = r.NATS(region)
	}
	for name, value := range r.book.Env {
		env[name] = value
	}
	return env
}

func (r *rehearsal) expand(s string) string {
	env := r.env()
	return os.Expand(s, func(name string) string { return env[name] })
}
