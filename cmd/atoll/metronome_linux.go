package main

import (
	"fmt"
	"os"
	"sync"
	"time"

	"golang.org/x/sys/unix"
)

// startMetronome makes timers of this process at most every late until stop is
// called. An idle Go program waits for its next timer in epoll_wait, in whole
// milliseconds rounded up; a clock of the kernel's that fires all the time ends
// that wait, and the runtime looks at its timers. It costs some microseconds of
// CPU each time.
func startMetronome(every time.Duration) (stop func(), err error) {
	fd, err := unix.TimerfdCreate(unix.CLOCK_MONOTONIC, unix.TFD_NONBLOCK|unix.TFD_CLOEXEC)
	if err != nil {
		return nil, fmt.Errorf("create a timer: %w", err)
	}
	f := os.NewFile(uintptr(fd), "timerfd")
	spec := unix.NsecToTimespec(every.Nanoseconds())
	if err := unix.TimerfdSettime(fd, 0, &unix.ItimerSpec{Interval: spec, Value: spec}, nil); err != nil {
		f.Close() //nolint:errcheck // nothing was written
		return nil, fmt.Errorf("set a timer: %w", err)
	}
	var wg sync.WaitGroup
	wg.Go(func() {
		var expirations [8]byte
		for {
			if _, err := f.Read(expirations[:]); err != nil {
				return // closed
			}
		}
	})
	return func() {
		f.Close() //nolint:errcheck // nothing was written
		wg.Wait()
	}, nil
}
