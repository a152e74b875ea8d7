package main

import (
	"os"
	"runtime"
)

// threads is how many threads run Go at once, 0 for as many as the runtime chose, by that
// and what GOMAXPROCS is set to: on one processor four. With one thread a goroutine that steps
// aside, as grpc's writers do to send more at once, goes on behind all that become ready
// after it, and the network is looked at every 10 ms only, for as long as there is
// anything else to do. A node that catches up with another region always has: its clients'
// median was 113 ms with one thread, and 1.0 and 1.4 ms with four, in single runs
// (docs/bench/2026-11-23-catching-up.md).
func threads(chosen int, set string) int {
	if chosen > 1 || set != "" {
		return 0
	}
	return 4
}

// useThreads applies threads.
func useThreads() {
	if n := threads(runtime.GOMAXPROCS(0), os.Getenv("GOMAXPROCS")); n > 0 {
		runtime.GOMAXPROCS(n)
	}
}
