package replica

import (
	"errors"
	"time"

	"github.com/atolldb/atoll/crdt"
	"github.com/atolldb/atoll/hashring"
	"github.com/atolldb/atoll/node/storage"
	"github.com/atolldb/atoll/node/topology"
)

// A directory with a clean-stop marker is that of a node that lost nothing, or an
// old copy of it that was put back: which of the two, only the registry knows, and
// it may not answer for long. Until it does, the node is *unproven*: in each
// partition that others have, too, it is behind (see catchup.go), with a mark that
// is in memory only. It ends
//
//	when the registry accepts the marker: in all partitions at once, without a
//	    look at anything;
//	when the registry refuses it: durable marks take its place;
//	in one partition, when it has caught up there, as after a loss: what all
//	    others who serve it have, it has by then, whatever it is a copy of;
//	or, after unprovenFor without a word of the registry, when it has all that
//	    those of them have who answer, if with itself they are a majority, and none
//	    has shown it that it once had more. So a region whose metadata are away goes
//	    on also with an owner down.
//
// The last one is not proof: a directory that was put back, while the registry
// and another owner are away, may have forgotten what only that owner still has.
// What shows is a dot of the marker's own actor that the directory does not know:
// after a clean stop there is none.

// unprovenFor is how long a node waits for the registry before it believes those
// who answer.
const unprovenFor = 5 * time.Second

// errDisproved says that somebody has shown what the directory has forgotten, after
// the registry had accepted its marker and before the actor was taken.
var errDisproved = errors.New("others have writes of this node's actor that it does not know")

// unprove begins it, at the start.
func (r *Replica) unprove(now time.Time) {
	if r.resume == nil {
		return
	}
	r.claimed.Store(uint32(r.resume.Actor))
	r.unprovenAt = now
	for _, part := range r.held {
		if part != nil && part.stand.role != topology.None && part.stand.mark == 0 && r.others(part.id) {
			part.stand.mark, part.unproven = r.newMark(), true
		}
	}
}

// prove ends it in all partitions where it has not ended, on the committer's
// goroutine; it reports whether there were any.
func (r *Replica) prove() (any bool) {
	r.claimed.Store(0)
	for _, part := range r.held {
		if part != nil && part.unproven {
			part.stand.mark, part.unproven, any = 0, false, true
		}
	}
	return any
}

// MayAnswer reports whether mark, of BehindMark, is that of a node that has waited
// long enough for the registry's word: then it may be taken for caught up with p
// when it has all that most of those have who serve it.
func (r *Replica) MayAnswer(p hashring.Partition, mark uint64) bool {
	part := r.part(p)
	return part != nil && part.provable.Load() == mark && mark != 0 && !r.disproved.Load() && time.Since(r.unprovenAt) >= unprovenFor
}

// disprove takes note of a dot of the marker's actor that the node does not know:
// it was put back to an old state, or has lost something.
func (r *Replica) disprove(d crdt.Dot) {
	if a := r.claimed.Load(); a != 0 && uint32(d.Actor) == a {
		r.disproved.Store(true)
	}
}

// shed makes the mark of an unproven partition one of its own, when it is caught
// up: what is remembered of requests may be as old as the directory.
func (p *partition) shed(tx storage.Txn) error {
	if !p.unproven {
		return nil
	}
	p.unproven = false
	return p.forgetAttempts(tx)
}
