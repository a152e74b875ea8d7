// Package deployment runs real nodes of one or more regions: it writes their
// configurations, starts the binary on hosts of a machine.Network with disks of
// their own, kills, pauses and restarts them, and asks them for their status.
// It injects no fault beyond that and judges nothing.
//
// Methods of one Node are called by one goroutine at a time. A goroutine waits
// for each process; it ends with the process.
package deployment
