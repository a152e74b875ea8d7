// Package chaos runs real processes of one or two regions under faults, with
// clients whose history is checked afterwards. Its tests have the build tag
// chaos; run them with make chaos.
//
// A scenario is one kind of fault, injected into a region that was just made;
// the random mix is many kinds, one after another or together, chosen by a
// seed. After the faults everything is healed, and then has to hold:
//
//	C1  No violation of package history: nothing acknowledged is lost, nothing
//	    deleted comes back, nothing refused is seen, every value is intact.
//	C2  The region heals by itself: within a bound all nodes answer, clocks
//	    have no gaps, clocks and data are equal on all nodes, and a scan at
//	    LOCAL_ALL finds nothing to repair. Regions export the same bytes.
//	C3  No process ends that was not killed, except where ending is what is
//	    wanted of it, and none writes of a panic.
//
//	C4  What sessions are promised is kept, at LOCAL_ONE, for clients that move
//	    between nodes and regions with their tokens (package sessiontest); the
//	    same clients without tokens are shown broken promises, and their number is
//	    told.
//
//	C5  What clients are told at LOCAL_SERIAL, and by clients of two regions at
//	    SERIAL, is linearizable, key by key (porcupine).
//
// What breaks C2 or C3 and is known is listed, with its reason, in known.go: it
// is printed as such, and a run fails as well when it no longer happens. C1 has
// no exceptions.
//
// What a machine cannot do (not root, tools missing) is reported by name and
// reason as NOT RUN.
package chaos
