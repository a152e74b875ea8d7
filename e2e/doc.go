// Package e2e tests the real binary: processes on loopback, signals, two
// regions cut and healed, real records. Its tests have the build tag e2e; run
// them with make e2e.
package e2e
