package bulk

import (
	"errors"
	"time"

	"github.com/atolldb/atoll/client"
)

// The pause before an item is tried again doubles from one attempt to the other.
const (
	MinPause = 50 * time.Millisecond
	MaxPause = 2 * time.Second
)

// Hopeless errors are those of the whole run: every other item would meet them, too.
func Hopeless(err error) bool {
	if errors.Is(err, client.ErrUnknownOutcome) {
		return false
	}
	for _, h := range []error{client.ErrNoBucket, client.ErrRefused, client.ErrClosed, client.ErrRegionFenced} {
		if errors.Is(err, h) {
			return true
		}
	}
	var e *client.Error
	return errors.As(err, &e) && errors.Is(err, client.ErrInvalid) && e.Field != "key" && e.Field != "value"
}

// Transient errors of what was not applied may be gone the next time.
func Transient(err error) bool {
	if errors.Is(err, client.ErrUnknownOutcome) {
		return false
	}
	for _, t := range []error{client.ErrUnavailable, client.ErrThrottled, client.ErrDeadline, client.ErrDiskFull} {
		if errors.Is(err, t) {
			return true
		}
	}
	return false
}
