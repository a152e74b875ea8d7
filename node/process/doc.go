// Package process is one whole real node: its configuration, its disk, its
// listeners, its links, its part in the region's NATS, and the node above
// them. The command starts one; a fleet starts many in one operating system
// process, with links that it can cut (Hooks).
//
// It decides nothing about data. What it knows is the order of things.
//
// Started in this order, stopped in the reverse one:
//
//	admin listener      so that a node that starts slowly can be looked at
//	store               the engine on disk
//	NATS server         when this member runs one
//	NATS client         the region's metadata, and its log
//	links to peers      asking other nodes
//	peer listener       being asked by them
//	(first topology)    at a node's first start only: see first.go
//	node                see package node for its own order
//	what was learned    keeping what other regions tell of themselves
//	membership          telling the region of this node's addresses
//	client listener     last to open, first to close
//
// Invariants:
//
//	P1  Clients are served as soon as the store is open and the node runs.
//	    Nothing waits for NATS, except minting, which waits for an actor, and
//	    a node's very first start: it belongs to no region yet.
//	P2  Every connection to another node, and to any NATS server but the own
//	    one, goes through Hooks.Dial. (The routes between the NATS servers of
//	    one region are those servers' own.)
//	P3  An engine that failed ends Run with an error that wraps
//	    storage.ErrFailed, and nothing is served after that.
//	P4  A start either succeeds or says what is wrong, in the words of the
//	    configuration, and leaves nothing behind that runs.
//	P5  The region knows who is in it: the configured members are what its
//	    first start begins with, when all of them say that there is none yet,
//	    and whom to ask first. What was learned since wins.
//
// Run owns every goroutine.
package process
