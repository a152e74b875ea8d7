// Package traffic is what clients do while faults are injected: they add to
// sets, put, read and delete registers, all through the SDK, and record in a
// history.History what they did, were told and saw. It also has a steady load
// of operations at fixed moments, whose latencies before, during and after
// something can be compared.
//
// Run and Steady.Run block and own the goroutines they start. A rate bounds
// what they ask for, whatever the region can do.
package traffic
