package coord

import (
	"strconv"

	"github.com/atolldb/atoll/node/quorum"
)

// What requests can ask for and no coordinator answers yet is refused: an answer
// that ignores it would be taken for what it is not.

func unservedLevel(l quorum.Level, regions int) *Error {
	switch {
	case l.Consensus() && regions > 1:
		return invalid("regions", "1 at "+l.String(), strconv.Itoa(regions), "consensus is among the owners of one region")
	}
	return nil
}

func unservedGet(g *Get) *Error {
	switch {
	case g.WaitFresh && g.MaxStaleness <= 0:
		return invalid("wait_fresh", "with max_staleness_ms only", "alone", "there is nothing to wait for")
	case g.asksFresh() && g.Level.Consensus():
		return invalid("max_staleness_ms", "at a level without consensus", g.Level.String(), "what is read by consensus is not judged by its age")
	}
	return unservedLevel(g.Level, g.Regions)
}

func unservedPut(p *Put) *Error {
	return unservedLevel(p.Level, p.Regions)
}
