package coord

import (
	"github.com/atolldb/atoll/crdt"
	"github.com/atolldb/atoll/node/quorum"
)

// What requests can ask for and no coordinator answers yet is refused: an answer
// that ignores it would be taken for what it is not.

func unserved(field string) *Error {
	return invalid(field, "none", "one", field+" is not served yet")
}

func unservedLevel(l quorum.Level, regions int) *Error {
	switch {
	case l.Regional(), l.Consensus():
		return invalid("level", "a local level", l.String(), "the level is not served yet")
	case regions != 0:
		return unserved("regions")
	}
	return nil
}

func unservedGet(g *Get) *Error {
	switch {
	case len(g.Session) > 0:
		return unserved("session")
	case g.MaxStaleness != 0, g.WaitFresh, g.Freshness:
		return unserved("max_staleness_ms")
	}
	return unservedLevel(g.Level, g.Regions)
}

func unservedPut(p *Put) *Error {
	switch {
	case len(p.Session) > 0:
		return unserved("session")
	case p.Condition != (crdt.Condition{}):
		return unserved("condition")
	case p.Retry:
		return unserved("retry")
	}
	return unservedLevel(p.Level, p.Regions)
}
