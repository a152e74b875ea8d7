// Package machine is what a chaos run asks of the operating system: networks
// that can be cut, disks that can be filled, slowed, damaged and cloned, and
// processes whose system calls fail. It knows no node; what is done to whom is
// decided elsewhere.
//
// Most of it needs root and some Debian packages (make deps). Probe says what
// this machine can do and why not the rest, so that a run can report by name
// what it left out.
//
// Invariants:
//
//	M1  Everything made here has the run's prefix in its name or is inside the
//	    run's directory, and is gone after Close; Sweep removes what a run
//	    that was killed has left.
//	M2  Nothing of the host's own network, cgroups or mounts is changed: hosts
//	    and their switch are in network namespaces of their own, and only
//	    there do addresses outside of loopback exist.
//	M3  Processes started here die with the test process.
//
// A Network owns one locked thread for each host; Close ends them.
package machine
