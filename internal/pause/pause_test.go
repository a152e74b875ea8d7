package pause

import (
	"context"
	"testing"
	"testing/synctest"
	"time"
)

func TestFor(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithTimeout(t.Context(), 3*time.Second)
		defer cancel()
		began := time.Now()
		for i, c := range []struct {
			d    time.Duration
			open bool
			at   time.Duration
		}{{0, true, 0}, {2 * time.Second, true, 2 * time.Second}, {time.Hour, false, 3 * time.Second}, {-1, false, 3 * time.Second}, {time.Hour, false, 3 * time.Second}} {
			if open := For(ctx, c.d); open != c.open || time.Since(began) != c.at {
				t.Errorf("%d: %v after %v", i, open, time.Since(began))
			}
		}
	})
}
