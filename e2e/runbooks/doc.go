// Package runbooks follows the runbooks of deploy/runbooks on real processes, with
// the fault injected that each is for, while clients work: a runbook that does not
// work fails the build. The tests have the build tag runbooks; see make runbooks.
//
// Invariants:
//
//	A1  Every command of Decide, Act and Verify is run as it stands, and has to end
//	    and to print as the runbook says, in the time that it says.
//	A2  What clients of the regions that are to serve ask for later than the
//	    runbook's RTO after the fault does not fail.
//	A3  No acknowledged write is lost, and all that runs converges.
package runbooks
