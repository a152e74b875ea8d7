package coord

import (
	"strconv"

	"github.com/atolldb/atoll/node/quorum"
)

// chosen is what an operation gets that asks for w, by a bucket's policy.
func chosen(p quorum.Policy, w want) want {
	if p == (quorum.Policy{}) {
		return w
	}
	a := p.Choose(w.ask())
	return want{level: a.Level, count: a.Owners, field: w.field, regions: a.Regions}
}

// allowed refuses what a bucket's policy does not allow.
func (c *Coordinator) allowed(k *key, p quorum.Policy, w want) *Error {
	if p.Min == quorum.Default && p.Max == quorum.Default {
		return nil
	}
	if err := p.Allow(w.ask(), len(k.row.Slots), 1+len(c.counted(&k.bucket))); err != nil {
		return &Error{
			Code: CodeLevelNotAllowed, Detail: "the level is not allowed",
			Field: "level", Limit: err.Error(), Seen: w.String(),
		}
	}
	return nil
}

// writes is what a bucket has to say of its writes' levels: an acknowledgement
// means two nodes, where there are two, unless the bucket allows less.
func (c *Coordinator) writes(k *key, system bool) quorum.Policy {
	p := k.bucket.Writes
	if c.cfg.TwoAcks && p.Min == quorum.Default && !system {
		p.Min = quorum.LocalTwo
	}
	return p
}

func (w want) ask() quorum.Ask {
	return quorum.Ask{Level: w.level, Owners: w.count, Regions: w.regions}
}

// reached is the strongest local level that so many of a key's owners fulfil.
func (k *key) reached(owners int) quorum.Level {
	return quorum.Share{Yes: owners, Owners: len(k.row.Slots)}.Reached()
}

func (w want) String() string {
	s := w.level.String()
	switch {
	case w.count != 0:
		s = w.field + "=" + strconv.Itoa(w.count)
	case w.level == quorum.Default:
		s = quorum.LocalQuorum.String()
	}
	if w.regions != 0 {
		s += " in " + strconv.Itoa(w.regions) + " regions"
	}
	return s
}
