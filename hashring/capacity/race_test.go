//go:build race

package capacity

import (
	"os"
	"runtime"
	"testing"
)

// The race detector does not bear the Worlds here on more than one processor; see
// package nodetest.
func TestMain(m *testing.M) {
	runtime.GOMAXPROCS(1)
	os.Exit(m.Run())
}
