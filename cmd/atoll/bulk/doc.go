// Package bulk has what an import and a restore share: both read items in order,
// write many of them at a time, try again what was not applied, and when they stop
// early say how many items from the start are done with. Pacer spreads the items over
// time, Window bounds those that are under way, and Hopeless and Transient tell errors
// apart. It neither reads nor writes, and has no goroutines.
package bulk
