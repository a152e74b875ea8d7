// Package admin is the rim of a node for operators and their machines: an HTTP
// listener with metrics, health and profiles. It changes nothing.
//
//	/metrics             Prometheus; the names are this package's
//	/livez               200 as long as a restart would not help
//	/readyz[?verbose]    200 when the node takes its full part, see Check
//	/debug/pprof/        Go's profiles
//
// Invariants:
//
//	M1  Names begin with atoll_, units are seconds and bytes, counters end in
//	    _total. No label holds a key, or anything else that clients choose.
//	M2  What is counted is counted where it happens (Stats of coord, repair,
//	    storage, geo, grpcpeer); this package asks when it is asked.
//	M3  Nobody is asked who they are: the listener belongs on loopback.
//
// Goroutines are those of the HTTP server, which ends with Run.
package admin
