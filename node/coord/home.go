package coord

import (
	"errors"
	"fmt"
	"slices"

	"github.com/atolldb/atoll/crdt"
	"github.com/atolldb/atoll/node/home"
	"github.com/atolldb/atoll/node/peer"
	"github.com/atolldb/atoll/node/quorum"
	"github.com/atolldb/atoll/node/topology"
)

// An operation at the level serial is decided in the bucket's home region, as one
// at LOCAL_SERIAL is there; a node of another region sends it there, see away.go.
// Who decides, and who takes part, goes by the epoch of the home (package home):
// the coordinator and the proposer each ask for it when the operation begins and
// before each attempt, and every owner before each step and each read. A version
// that was decided in an epoch is named by its ballot actor.

// HomeOf is a Deps.Home by the buckets' definitions alone: a home that never
// moves, in its first epoch.
func HomeOf(bucket func(name string) (Bucket, bool)) home.Of {
	return func(name string) home.Home {
		b, _ := bucket(name)
		if b.Home == "" {
			return home.Home{}
		}
		return home.Home{Region: string(b.Home), Epoch: 1}
	}
}

// homeOf is the home of a key's bucket.
func (c *Coordinator) homeOf(k *key) home.Home {
	bucket, _ := SplitKey(k.full)
	return c.Home(bucket)
}

// findHome gives what is asked for at the level serial its epoch, and says which
// region decides it, if that is another one.
func (c *Coordinator) findHome(k *key, w *want, away *topology.Region) *Error {
	w.home, *away = 0, ""
	if w.count != 0 || w.level != quorum.Serial {
		return nil
	}
	h := c.homeOf(k)
	switch {
	case h.Region == "" || h.Epoch == 0:
		bucket, _ := SplitKey(k.full)
		e := invalid("level", "a level that needs no home region, such as local-serial", w.level.String(),
			"the bucket has no home region to decide at this level: name one, as in 'atoll bucket set "+bucket+" --home REGION'")
		e.nowhere = true
		return e
	case h.Epoch > home.MaxEpoch:
		return &Error{Code: CodeInternal, Detail: fmt.Sprintf("the epoch %d of the bucket's home has no room in the names of versions", h.Epoch)}
	case h.Region != string(k.top.Region):
		*away = topology.Region(h.Region)
	case h.Closed != "":
		return c.fenced(&home.Fenced{Asked: h.Epoch, Known: h}, NotApplied)
	}
	w.home = h.Epoch
	return nil
}

// decides returns an error unless this region decides for the key's bucket in that
// epoch; 0 is for itself.
func (c *Coordinator) decides(k *key, epoch home.Epoch) error {
	if epoch == 0 {
		return nil
	}
	return c.homeOf(k).Decides(string(k.top.Region), epoch)
}

// notHome says that what was asked of this region as the home is none of its
// business.
func (c *Coordinator) notHome(k *key, asked home.Epoch) error {
	return &home.Fenced{Asked: asked, Known: c.homeOf(k)}
}

// ballotActor names what is decided for a home of that epoch, or for the region.
func ballotActor(k *key, epoch home.Epoch) crdt.Actor {
	return crdt.BallotActor(uint8(k.top.RegionID), uint32(epoch))
}

// isFenced reports whether err, of this node or of a peer, says that a home has
// moved or decides nothing.
func isFenced(err error) bool {
	return errors.As(err, new(*home.Fenced)) || refusal(err) == peer.CodeFenced
}

// fenced is what a client hears of that.
func (c *Coordinator) fenced(err error, out Outcome) *Error {
	c.stats.Fenced.Add(1)
	e := &Error{Code: CodeRegionFenced, Outcome: out, RetryAfterMs: 200, Detail: "serial: " + err.Error()}
	var f *home.Fenced
	if errors.As(err, &f) && f.Known.Lapsed {
		e.Lacks = LackHome
	}
	return e
}

// atHome says in which region an operation at the level serial was decided.
func (a *Achieved) atHome(region topology.Region) {
	if a.Level == quorum.Serial && !slices.ContainsFunc(a.Regions, func(g RegionAchieved) bool { return g.Region == region }) {
		a.Regions = append(a.Regions, RegionAchieved{Region: region, State: RegionReached, Replicas: len(a.Replicas), Needed: a.Needed})
	}
}
