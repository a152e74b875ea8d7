//go:build e2e && linux

package e2e

import (
	"fmt"
	"os"
	"path/filepath"
	"testing"
	"time"
)

// What is done in one phase and what in another can only be compared on a machine
// that was the same in both. So it is watched, in each of them: how much of its
// processors others had, and how long its disk took for one and the same thing.
const (
	// diskProbe is how often a page is written and synced, diskSlower how many times
	// longer that may take in the second phase, on average, and diskBrief what is no
	// matter on any disk.
	diskProbe  = 50 * time.Millisecond
	diskSlower = 2
	diskBrief  = time.Millisecond
)

// machine is what was seen of one phase.
type machine struct {
	others float64       // processors that others used, on average
	sync   time.Duration // of a page, on average
}

func (m machine) String() string {
	return fmt.Sprintf("others used %.2f processors, a page was synced in %v", m.others, m.sync.Round(10*time.Microsecond))
}

// watchMachine watches until end is called. own is the processor time of what is
// measured, until now.
func watchMachine(t *testing.T, own func() time.Duration) (end func() machine) {
	t.Helper()
	f, err := os.Create(filepath.Join(t.TempDir(), "page"))
	if err != nil {
		t.Fatal(err)
	}
	began, all, mine := time.Now(), processorsUsed(t), own()
	stop, ended := make(chan struct{}), make(chan time.Duration)
	go func() {
		defer f.Close()
		beat := time.NewTicker(diskProbe)
		defer beat.Stop()
		page, sum, n := make([]byte, 4<<10), time.Duration(0), time.Duration(0)
		for {
			at := time.Now()
			_, err := f.WriteAt(page, 0)
			if err == nil {
				err = f.Sync()
			}
			if err != nil {
				t.Errorf("sync a page: %v", err)
			}
			sum, n = sum+time.Since(at), n+1
			select {
			case <-beat.C:
			case <-stop:
				ended <- sum / n
				return
			case <-t.Context().Done(): // it ends without having asked
				return
			}
		}
	}()
	return func() machine {
		close(stop)
		sync := <-ended
		span, all, mine := time.Since(began), processorsUsed(t)-all, own()-mine
		return machine{others: max(float64(all-mine)/float64(span), 0), sync: sync}
	}
}

// unlike says why the phases of a and b, in this order, cannot be compared, "" if they can.
func unlike(a, b machine) string {
	switch {
	case max(a.others, b.others) > othersMost:
		return fmt.Sprintf("others used %.2f and %.2f processors", a.others, b.others)
	case b.sync > diskBrief && b.sync > diskSlower*a.sync:
		return fmt.Sprintf("the disk took %v for a page, and %v before", b.sync.Round(10*time.Microsecond), a.sync.Round(10*time.Microsecond))
	}
	return ""
}
