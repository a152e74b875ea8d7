package node

import (
	"testing"
	"testing/synctest"
	"time"

	"github.com/atolldb/atoll/node/yield"
)

func TestBusy(t *testing.T) {
	for backlog, want := range map[float64]float64{0: 0, .5: .25, 1: .5, 2: 1, 32: 1} {
		if got := busy(backlog); got != want {
			t.Errorf("a backlog of %v groups: %v, not %v", backlog, got, want)
		}
	}
}

// What is copied from here waits, at most so long that nobody gives up on it;
// what is small does not.
func TestWhatIsGivenKeepsTheRate(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := yield.Pacer{Governor: yield.New()}
		ask := func(bytes int) time.Duration {
			began, done := time.Now(), make(chan struct{})
			given(&p, func() uint64 { return 64 << 20 }, func([]byte, error) { close(done) })(make([]byte, bytes), nil)
			<-done
			return time.Since(began)
		}
		if took := ask(1 << 20); took < 900*time.Millisecond || took > time.Second {
			t.Errorf("1 MiB at 1 MiB/s took %v", took)
		}
		if took := ask(64 << 20); took != givesAfter {
			t.Errorf("64 MiB took %v", took)
		}
		if took := ask(100); took != 0 {
			t.Errorf("100 bytes took %v", took)
		}
	})
}
