//go:build linux

package machine

import (
	"os"
	"os/exec"
	"testing"

	"golang.org/x/sys/unix"
)

// A process whose threads all run stands when Stop returns, and not before.
func TestStop(t *testing.T) {
	child := exec.Command(os.Args[0])
	child.Env = append(os.Environ(), tellTime+"=1")
	out, err := child.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := child.Start(); err != nil {
		t.Fatal(err)
	}
	defer func() {
		_ = child.Process.Kill()
		_ = child.Wait()
	}()
	if _, err := out.Read(make([]byte, 1)); err != nil {
		t.Fatal(err)
	}
	go func() { // a full pipe would stop it, too
		for b := make([]byte, 1<<16); ; {
			if _, err := out.Read(b); err != nil {
				return
			}
		}
	}()
	for range 50 {
		if stands, err := Stands(child.Process.Pid); err != nil || stands {
			t.Fatal("it stands before it was stopped", err)
		}
		if err := Stop(child.Process.Pid); err != nil {
			t.Fatal(err)
		}
		if stands, err := Stands(child.Process.Pid); err != nil || !stands {
			t.Fatal("it goes on", err)
		}
		if err := unix.Kill(child.Process.Pid, unix.SIGCONT); err != nil {
			t.Fatal(err)
		}
		for stands := true; stands; {
			if stands, err = Stands(child.Process.Pid); err != nil {
				t.Fatal(err)
			}
		}
	}
}
