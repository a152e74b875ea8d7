//go:build race

package nodetest

import (
	"os"
	"runtime"
	"testing"
)

// seeds is how many Worlds of a sort a test looks at by itself: fewer, where each is
// ten times as slow.
func seeds(n int) int { return (n + 1) / 2 }

// together says whether Worlds of several seeds run at a time: not on one processor.
const together = false

// The timers of a bubble share one thread of the race detector, which two processors
// use at once now and then and bring down (golang/go#78156). With one they cannot,
// and what it finds, it finds by what happens before what, not by chance.
func TestMain(m *testing.M) {
	runtime.GOMAXPROCS(1)
	os.Exit(m.Run())
}
