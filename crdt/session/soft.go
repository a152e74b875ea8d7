package session

import (
	"cmp"
	"slices"

	"github.com/atolldb/atoll/crdt"
	"github.com/atolldb/atoll/crdt/hlc"
)

// Soft is a write of the session that was decided by consensus. The version is
// durable at a majority of the owners when the session is told; the event by which
// clocks know it may be lost with the node that minted it, and whoever finishes the
// decision then makes another one. So the session asks for the event or for the
// version, and for operations on other keys for neither: what it was promised is key
// by key.
type Soft struct {
	KeyHash uint64
	Version crdt.Dot
	Event   crdt.Dot
}

// MaxSoft bounds those that a Part keeps, the latest: of the others it asks for the
// event, as of any other.
const MaxSoft = 16

// compare orders the latest first: ballots are made of the time.
func (s Soft) compare(o Soft) int {
	return cmp.Or(cmp.Compare(o.Version.N, s.Version.N), cmp.Compare(s.KeyHash, o.KeyHash), s.Version.Compare(o.Version), s.Event.Compare(o.Event))
}

// SawDecided adds a write that was decided by consensus, with its event.
func (p *Part) SawDecided(keyHash uint64, version, event crdt.Dot, stamp hlc.Stamp) {
	p.Saw(event, stamp)
	p.soften([]Soft{{keyHash, version, event}})
}

func (p *Part) soften(more []Soft) {
	if len(more) == 0 {
		return
	}
	all := slices.Concat(p.Soft, more)
	slices.SortFunc(all, Soft.compare)
	all = slices.Compact(all)
	p.Soft = slices.Clip(all[:min(len(all), MaxSoft)])
}

// NeedsOf are the events that whoever answers the session about a key has to have,
// nil for none. It may show the version instead of the event of one that is in
// SoftOf.
func (p *Part) NeedsOf(keyHash uint64) *crdt.Clock {
	return p.needsBut(func(s *Soft) bool { return s.KeyHash != keyHash })
}

// Firm are the events of Needs that nothing else stands for.
func (p *Part) Firm() *crdt.Clock { return p.needsBut(func(*Soft) bool { return true }) }

func (p *Part) needsBut(leaves func(*Soft) bool) *crdt.Clock {
	needs := p.Needs()
	if needs == nil || len(p.Soft) == 0 {
		return needs
	}
	but := &crdt.Clock{}
	for i := range p.Soft {
		if leaves(&p.Soft[i]) {
			but.Add(p.Soft[i].Event)
		}
	}
	if needs = but.Beyond(needs); len(needs.Actors()) == 0 {
		return nil
	}
	return needs
}

// SoftOf are those of a key.
func (p *Part) SoftOf(keyHash uint64) (all []Soft) {
	if p == nil {
		return nil
	}
	for _, s := range p.Soft {
		if s.KeyHash == keyHash {
			all = append(all, s)
		}
	}
	return all
}
