// Package capacity calculates what a deployment takes before it is built: from
// the number of nodes and what is asked of them to partitions, disk, memory,
// processor, links and the time to rebuild a lost node.
//
// It is arithmetic on values. Sizes come from the formats (package crdt,
// node/replica, node/wire, geo, badgerstore), beats from the loops that keep
// them, and cost in processor time and memory from measurements; each has one
// place, formats.go, beats.go and measured.go. The package imports none of
// those it describes: its tests do, and compare its figures with what the real
// code writes, sends and keeps.
//
// Invariants:
//
//	Q1  What is told of "a node" is told of the busiest one: the planner's
//	    largest share, rounded up to a whole partition.
//	Q2  Keys, reads and writes spread evenly over partitions, and no record
//	    shrinks by compression or by the batching of hot keys: the figures
//	    are upper bounds there.
//	Q3  Nodes are alike (weight 1) and racks are filled in turn. For unequal
//	    ones the planner itself is the calculator.
//
// It is no model of latency.
package capacity
