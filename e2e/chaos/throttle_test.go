//go:build chaos && linux

package chaos

import (
	"fmt"
	"os/exec"
	"path/filepath"
	"testing"
	"time"

	"github.com/atolldb/atoll/e2e/chaos/machine"
)

// A fault that does nothing proves nothing: a throttled process writes slowly.
func TestThrottleIsFelt(t *testing.T) {
	for _, a := range []machine.Ability{machine.Disks, machine.Throttling} {
		if why := shared.missing[a]; why != nil {
			t.Skipf("NOT RUN: %s: %v", a, why)
		}
	}
	parallel(t)
	d, err := shared.pool.NewDisk("throttled", 64<<20)
	if err != nil {
		t.Fatal(err)
	}
	const writes, rate = 20, 10
	// It waits for a line, so that it is throttled before it begins.
	cmd := exec.Command("sh", "-c", fmt.Sprintf("read line; dd if=/dev/zero of=%s bs=4k count=%d oflag=dsync status=none",
		filepath.Join(d.Dir, "file"), writes))
	stdin, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	undo, err := shared.run.Throttle("throttled", cmd.Process.Pid, d, rate)
	if err != nil {
		t.Fatal(err)
	}
	began := time.Now()
	fmt.Fprintln(stdin)
	if err := cmd.Wait(); err != nil {
		t.Fatal(err)
	}
	if took, least := time.Since(began), time.Second*writes/rate*3/4; took < least {
		t.Errorf("%d synced writes at %d a second took %v, less than %v", writes, rate, took, least)
	} else {
		t.Logf("%d synced writes took %v", writes, took)
	}
	if err := undo(); err != nil {
		t.Error(err)
	}
	if err := d.Remove(); err != nil {
		t.Error(err)
	}
}
