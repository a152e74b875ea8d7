// Package hashring decides which nodes of a region own which keys.
//
// A key's 64-bit hash names one of P fixed partitions; an explicit table maps
// every partition to its owners, the primary first. Where a classic ring of
// random virtual nodes leaves the busiest node 10 to 70 % above the mean, the
// table is within one partition of a node's fair share: the partition is the
// virtual node, and a node's weight decides how many it holds.
//
// The package is arithmetic on values. It does no I/O, starts no goroutine,
// reads no clock and rolls no dice; it does not carry a plan out, knows no
// liveness and no epochs. Draining a node or losing one is planned by leaving
// it out of the members.
//
// What Plan promises for its table:
//
//  1. Every partition has min(members, Replicas) distinct owners.
//  2. No rack holds more owners of a partition than its limit. The limit is 1
//     while there are as many racks as replicas; it is the smallest that works
//     when there are fewer, and may be higher under Balanced (see ZonePolicy).
//  3. Every member owns its fair share by weight, rounded down or up. Fair is
//     what water-filling gives under rule 2: shares in proportion to weight,
//     except where a node or a rack has reached the most it may hold.
//  4. Among all tables with 1 to 3, none moves fewer copies away from the
//     current one. Rounding goes to the largest remainder, and members of
//     equal remainder are interchangeable.
//  5. Every member is primary of its owned partitions divided by the number of
//     copies, rounded down or up. Changing a primary moves no data.
//  6. The result depends on the set of members, not on their order, and is the
//     same on every machine.
//
// Within those, copies that must move go where they meet the fewest partitions
// in common, so that a lost node is rebuilt from and by many peers. That last
// one is a heuristic; the others are kept by tests against exhaustive search.
package hashring
