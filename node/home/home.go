// Package home says in which region operations at the level serial on a bucket
// are decided, and in which epoch of it. It is pure: what a Home is, and who may
// take part in a decision.
//
// A region that is the home of a bucket decides as it does at LOCAL_SERIAL, by
// the owners of the key there. What keeps two regions from both being the home is
// the epoch, which grows with every move: whoever knows of a later one takes no
// part any more in what belongs to an earlier one. Who may give a bucket a new
// home, and when, is not decided here.
//
// Invariants:
//
//	O1  Two homes of a bucket with the same epoch are the same region.
//	O2  What a node has known of a bucket's epoch it does not forget.
//	O3  A region begins to serve an epoch only when no majority of the owners of
//	    any key in the region before serves the one before any more (they know of
//	    the new one, or hold the old one to be closed), and when what that region
//	    had decided until then is here.
//	O4  Where there are leases, what was decided is answered only while the lease still
//	    holds: so it was decided before another region can have begun.
package home

import "fmt"

// Epoch counts the homes that a bucket has had, from 1; 0 is none. The highest
// is MaxEpoch.
type Epoch uint32

// MaxEpoch is the last epoch that a version's name has room for.
const MaxEpoch Epoch = 1<<25 - 1

// Home of a bucket, as a node knows it.
type Home struct {
	// Region that decides; "" if the node knows of none.
	Region string
	Epoch  Epoch
	// Closed says why the region decides nothing now, for people: it is being
	// drained, or fenced, or its lease has run out. "" while it does.
	Closed string
	// Lapsed: time has ended that, and not what somebody knows; so another region may
	// have decided since, unheard.
	Lapsed bool
}

// Of tells the home of a bucket by what the node knows now. It is asked with
// every operation, and by every owner that takes part in one, so it must not
// block. The zero Home is that of a bucket of which nothing is known.
type Of func(bucket string) Home

// Fenced is why a node takes no part in a decision at the level serial: nothing
// of what was asked was done.
type Fenced struct {
	// Asked is the epoch that was asked for, and Known what the node knows.
	Asked Epoch
	Known Home
}

func (f *Fenced) Error() string {
	switch {
	case f.Known.Region == "":
		return "no home region of the bucket is known here"
	case f.Known.Closed != "" && f.Asked == f.Known.Epoch:
		return fmt.Sprintf("the home region %s decides nothing now: %s", f.Known.Region, f.Known.Closed)
	case f.Asked > f.Known.Epoch:
		return fmt.Sprintf("the home of epoch %d is not known here yet, only that of epoch %d, %s", f.Asked, f.Known.Epoch, f.Known.Region)
	}
	if f.Asked == f.Known.Epoch {
		return fmt.Sprintf("the bucket's home is %s", f.Known.Region)
	}
	return fmt.Sprintf("the bucket's home is %s since epoch %d, and this belongs to epoch %d", f.Known.Region, f.Known.Epoch, f.Asked)
}

// Decides returns nil if a node of region may propose, and answer, for the home
// that it knows, and asked is the epoch of it.
func (h Home) Decides(region string, asked Epoch) error {
	if h.Region != region || h.Closed != "" || asked != h.Epoch || h.Epoch == 0 {
		return &Fenced{Asked: asked, Known: h}
	}
	return nil
}

// Takes returns nil if an owner in region may take part in what is asked for: it
// knows of no later home, and of no reason against this one. An owner that has
// not heard of the epoch yet takes part, since epochs are not made up.
func (h Home) Takes(region string, asked Epoch) error {
	switch {
	case asked == 0 || asked > h.Epoch:
		return nil // of the region for itself, or ahead of what is known here
	case asked < h.Epoch || h.Closed != "" || h.Region != region:
		return &Fenced{Asked: asked, Known: h}
	}
	return nil
}
