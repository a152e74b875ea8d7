package program

import (
	"errors"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/atolldb/atoll/internal/pause"
)

func TestProcess(t *testing.T) {
	p := New("p", filepath.Join(t.TempDir(), "log"))
	sh := func(script string) {
		t.Helper()
		if err := p.Start(exec.Command("sh", "-c", script), nil); err != nil {
			t.Fatal(err)
		}
	}
	said := func(what string) {
		t.Helper()
		if err := pause.Until(t.Context(), time.Millisecond, func() error {
			if !strings.Contains(p.SinceStart(), what) {
				return errors.New("it says nothing")
			}
			return nil
		}); err != nil {
			t.Fatal(err)
		}
	}
	if p.Running() || p.Kill() != nil || p.Stop(time.Minute) != nil {
		t.Error("something runs before the start")
	}

	sh("echo first; exec sleep 60")
	if !p.Running() || p.Start(exec.Command("true"), nil) == nil {
		t.Error("it does not run, or twice")
	}
	if err := p.Kill(); err != nil || p.Running() || p.Failure() != nil {
		t.Errorf("it runs after a kill, or has failed: %v", err)
	}

	sh("trap 'echo bye; exit 0' INT; echo second; while :; do sleep 0.01; done")
	said("second")
	if err := p.Stop(time.Minute); err != nil || p.Running() {
		t.Errorf("stop: %v", err)
	}
	if said := p.SinceStart(); strings.Contains(said, "first") || !strings.Contains(said, "bye") {
		t.Errorf("it said %q", said)
	}

	sh("trap 'exit 3' INT; echo third; while :; do sleep 0.01; done")
	said("third")
	if err := p.Stop(time.Minute); err == nil {
		t.Error("it ended with an error, and Stop says nothing")
	}

	sh("trap '' INT; echo fourth; while :; do sleep 0.01; done")
	said("fourth")
	if err := p.Stop(time.Millisecond); err == nil || p.Running() {
		t.Errorf("it does not listen: %v", err)
	}

	sh("echo last words; exit 1")
	<-p.Exited()
	if p.Running() || p.Stop(time.Minute) != nil || p.Failure() == nil || p.Tail(1) != "last words" {
		t.Errorf("it ended by itself, and said %q", p.Tail(1))
	}
	if p.Start(exec.Command("/nowhere"), nil) == nil || p.Running() {
		t.Error("what is nowhere was started")
	}
}
