// Package e2e tests the real binary: processes on loopback, signals, two
// regions cut and healed, real records. Its tests have the build tag e2e; run
// them with make e2e.
//
// Tests that measure have the machine to themselves, as far as this process goes.
// Those that judge what comes out, and wait most of the time, run beside each other
// when these have ended (t.Parallel).
package e2e
