package pause

import (
	"context"
	"errors"
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

func TestUntil(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		errEarly, errLate := errors.New("early"), errors.New("late")
		for _, c := range []struct {
			name  string
			takes time.Duration // each call
			nil   int           // from this call on, 0 for never
			calls int
			took  time.Duration
			want  error
		}{
			{"at once", 0, 1, 1, 0, nil},
			{"the third time", 0, 3, 3, 2 * time.Second, nil},
			{"never", 0, 0, 6, 5500 * time.Millisecond, errEarly},
			{"too long", 7 * time.Second, 0, 1, 7 * time.Second, errLate},
			{"too long, and well", 7 * time.Second, 1, 1, 7 * time.Second, nil},
			{"the end's own doing", 4 * time.Second, 0, 2, 8 * time.Second, errEarly},
		} {
			ctx, cancel := context.WithTimeout(t.Context(), 5500*time.Millisecond)
			began, calls := time.Now(), 0
			err := Until(ctx, time.Second, func() error {
				calls++
				time.Sleep(c.takes)
				switch {
				case c.nil > 0 && calls >= c.nil:
					return nil
				case ctx.Err() != nil:
					return errLate
				}
				return errEarly
			})
			if took := time.Since(began); err != c.want || calls != c.calls || took != c.took {
				t.Errorf("%s: %v after %d calls and %v", c.name, err, calls, took)
			}
			cancel()
		}
	})
}
