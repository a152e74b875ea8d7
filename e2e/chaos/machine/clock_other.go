//go:build linux && !amd64

package machine

import (
	"errors"
	"time"
)

// SkewClock is there on amd64 only.
func SkewClock(int, time.Duration) error {
	return errors.New("clocks of processes are set on amd64 only")
}
