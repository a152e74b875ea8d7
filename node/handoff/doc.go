// Package handoff moves partitions from node to node while they are read and
// written: it carries out the moves of a topology. What is right at each stage,
// and what has to be known before the next one, is decided by package topology;
// this package finds out and acts.
//
// Four parts, each of which every node runs:
//
//	Copier   fetches what this node lacks of the partitions that it is to take
//	         over, and says how far it is
//	Steward  on one node of the region at a time: asks the nodes how far they
//	         are, and has the topology's store take the next stages
//	Sweeper  deletes what this node has of partitions that it has given away
//	View     tells people how far the tasks are
//
// It does not plan (topology.PlanChange), does not keep topologies or spread
// them, serves no data (replica answers those who copy), and judges nobody's
// health beyond whether he answers.
//
// Invariants:
//
//	H1  What a Copier reports as copied is durable here, and was had by the
//	    source at a time when the source knew the stage durably: it was asked
//	    for its epoch first, and for its clock after that.
//	H2  The Steward has no state that matters. Each step is decided from what
//	    the store has and what nodes have said, and takes effect by a Swap of
//	    that revision: two stewards at once, or one that slept, do no harm.
//	H3  A node that does not answer holds up only what cannot be safe without
//	    it; a question to it holds up no other question.
//	H4  Nothing is deleted before every current server of the partition has all
//	    that this node has of it.
//	H5  All state of a copy can be lost: what was copied is found again by
//	    clocks.
//
// Run of each part owns all goroutines that the part starts. Only package time
// is used for waiting, and differences of time alone matter, not what the clock
// says. DESIGN.md tells the protocol.
package handoff
