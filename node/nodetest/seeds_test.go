package nodetest

import (
	"strconv"
	"sync/atomic"
	"testing"
)

// eachSeed has a World looked at of each of n seeds from first on, several at a time
// (-parallel, which is as many as there are processors) but under the race detector:
// one World alone has something to do for one processor and a little. So what they
// share needs a lock. None begins after one that failed.
func eachSeed(t *testing.T, first uint64, n int, world func(t *testing.T, seed uint64)) {
	t.Helper()
	var failed atomic.Bool
	t.Run("seed", func(t *testing.T) { // it ends when all have
		for i := range uint64(n) {
			t.Run(strconv.FormatUint(first+i, 10), func(t *testing.T) {
				if together {
					t.Parallel()
				}
				if failed.Load() {
					return
				}
				defer func() {
					if t.Failed() {
						failed.Store(true)
					}
				}()
				world(t, first+i)
			})
		}
	})
}
