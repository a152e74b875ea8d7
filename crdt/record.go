package crdt

import (
	"slices"

	"github.com/atolldb/atoll/crdt/hlc"
)

// Version is one written value (or delete) that nothing in its record
// supersedes: a sibling, when there are several.
type Version struct {
	Dot   Dot
	Stamp hlc.Stamp
	// Dead marks a tombstone; it has no value.
	Dead bool
	// Expiry, in milliseconds since 1970, is the moment from which every owner
	// treats the version as dead. 0 is never.
	Expiry int64
	// Meta is small and opaque, up to 4 KiB.
	Meta  []byte
	Value []byte
	// Past is what the writer had seen of this key.
	Past VV
}

// DeadAt reports whether v is a tombstone at nowMs (milliseconds since 1970),
// because it was written as one or has expired.
func (v *Version) DeadAt(nowMs int64) bool {
	return v.Dead || v.Expiry != 0 && v.Expiry <= nowMs
}

// Record is everything known of one key: versions in ascending order of dot,
// none covered by the past of another. The zero Record is an absent key; it
// says nothing about any dot. Records are values: operations return new ones
// and share versions' slices, which nobody changes.
type Record struct {
	Versions []Version
}

// Find returns the version with dot d, or nil.
func (r Record) Find(d Dot) *Version {
	for i := range r.Versions {
		if r.Versions[i].Dot == d {
			return &r.Versions[i]
		}
	}
	return nil
}

// Covers reports whether r holds d or a version that has d in its past.
func (r Record) Covers(d Dot) bool {
	for i := range r.Versions {
		if r.Versions[i].Dot == d || r.Versions[i].Past.Covers(d) {
			return true
		}
	}
	return false
}

// SameDots reports whether a and b hold the same versions.
func (r Record) SameDots(o Record) bool {
	return slices.EqualFunc(r.Versions, o.Versions, func(a, b Version) bool { return a.Dot == b.Dot })
}

// Dead reports whether r is present and every version is dead at nowMs.
func (r Record) Dead(nowMs int64) bool {
	for i := range r.Versions {
		if !r.Versions[i].DeadAt(nowMs) {
			return false
		}
	}
	return len(r.Versions) > 0
}

// MaxStamp is the highest stamp in r, 0 for an absent key.
func (r Record) MaxStamp() hlc.Stamp {
	var m hlc.Stamp
	for i := range r.Versions {
		m = max(m, r.Versions[i].Stamp)
	}
	return m
}

// Context is what a reader of a record has seen: it goes back with the write
// that follows the read.
type Context struct {
	Seen  VV
	Stamp hlc.Stamp
}

// Context returns the vector maximum of all dots and pasts of r, and its
// highest stamp.
func (r Record) Context() Context {
	var c Context
	for i := range r.Versions {
		v := &r.Versions[i]
		c.Seen = c.Seen.Join(v.Past).With(v.Dot)
		c.Stamp = max(c.Stamp, v.Stamp)
	}
	return c
}

// After returns the context of the answer to a write: what its writer had seen,
// c, and its own version v, written on top of local; and nothing of this key
// besides, so that it may be used anywhere, whether or not what local holds has
// got there.
//
// Local, the minter's, knows all earlier events of v's actor on this key: as a
// version, or in a past. Above the highest of them that c has not seen all
// counters are of other keys, or seen, or were collected. So these, which
// nobody will ask about, are taken along with v, and the vector of a writer who
// had seen what is here has no holes. Below it nothing is added to c.
func (c Context) After(local Record, v *Version) Context {
	var seen Entry
	if i, ok := c.Seen.find(v.Dot.Actor); ok {
		seen = c.Seen[i]
	}
	unseen := uint64(0)
	for i := range local.Versions {
		u := &local.Versions[i]
		if d := u.Dot; d.Actor == v.Dot.Actor && d.N < v.Dot.N && !seen.covers(d.N) {
			unseen = max(unseen, d.N)
		}
		if j, ok := u.Past.find(v.Dot.Actor); ok {
			unseen = max(unseen, u.Past[j].highestBeyond(&seen, v.Dot.N))
		}
	}
	return Context{Seen: c.Seen.WithAbove(v.Dot, unseen), Stamp: v.Stamp}
}

// Settled returns c with what the versions of local had replaced, of those that
// all owners in all regions are known to have: that is replaced at all of them,
// and nobody can take away any more of it. So a context needs not leave it out.
// A writer who goes on from his own answers beside others, and never reads,
// would have to name a range for each time that somebody came between.
//
// What is added is closed under pasts: somebody might have read just that.
func (c Context) Settled(local Record, everywhere func(Dot) bool) Context {
	for i := range local.Versions {
		if u := &local.Versions[i]; everywhere(u.Dot) {
			c.Seen = c.Seen.Join(u.Past)
		}
	}
	return c
}

// Join returns the versions of a and b, less every version whose dot is in the
// past of another. If that is all of a, or all of b, the result is that one
// itself and nothing is allocated.
func Join(a, b Record) Record {
	// Within a record nothing covers anything, so only the other record's
	// pasts count; and a version of both is covered by neither.
	fromA, onlyB := 0, 0
	for i := range a.Versions {
		if !coveredBy(b.Versions, a.Versions[i].Dot) {
			fromA++
		}
	}
	both := 0
	for i := range b.Versions {
		switch d := b.Versions[i].Dot; {
		case a.Find(d) != nil:
			both++
		case !coveredBy(a.Versions, d):
			onlyB++
		}
	}
	if fromA == len(a.Versions) && onlyB == 0 {
		return a
	}
	if both+onlyB == len(b.Versions) && fromA == both {
		return b
	}
	out := make([]Version, 0, fromA+onlyB)
	i, j := 0, 0
	for i < len(a.Versions) || j < len(b.Versions) {
		c := 1
		switch {
		case j == len(b.Versions):
			c = -1
		case i < len(a.Versions):
			c = a.Versions[i].Dot.Compare(b.Versions[j].Dot)
		}
		if c <= 0 {
			if !coveredBy(b.Versions, a.Versions[i].Dot) {
				out = append(out, a.Versions[i])
			}
			i++
		} else if !coveredBy(a.Versions, b.Versions[j].Dot) {
			out = append(out, b.Versions[j])
		}
		if c >= 0 {
			j++
		}
	}
	return Record{Versions: out}
}

// coveredBy reports whether d is in the past of one of versions.
func coveredBy(versions []Version, d Dot) bool {
	for i := range versions {
		if versions[i].Past.Covers(d) {
			return true
		}
	}
	return false
}

// Write returns r joined with a new version whose past is seen. The caller
// minted v.Dot and v.Stamp for it: v.Dot was never used, and v.Stamp is above
// every stamp of r and of the context. v.Past is replaced by seen.
//
// A blind write has an empty seen and becomes a sibling of what is there. An
// overwrite (and every write to a last-writer-wins register) passes the
// minter's own r.Context().Seen.
func Write(r Record, seen VV, v Version) Record {
	v.Past = seen
	return Join(r, Record{Versions: []Version{v}})
}

// View is what a read shows of a record.
type View struct {
	// Live versions in ascending order of dot; at most one for LWW.
	Live []Version
	// Dead versions that stand beside live ones: deletes (and expiries) that
	// are concurrent with them. A reader that resolves has to know.
	Dead []Version
}

// Kind says how a bucket shows concurrent versions.
type Kind uint8

const (
	// MV, the multi-value register, shows all siblings.
	MV Kind = iota
	// LWW, the last-writer-wins register, shows the one with the highest
	// (stamp, dot).
	LWW
)

// Read returns what r shows at nowMs to a reader of a register of kind k.
func Read(r Record, k Kind, nowMs int64) View {
	if k == LWW {
		w := latest(r)
		if w == nil || w.DeadAt(nowMs) {
			return View{}
		}
		return View{Live: []Version{*w}}
	}
	dead := 0
	for i := range r.Versions {
		if r.Versions[i].DeadAt(nowMs) {
			dead++
		}
	}
	if dead == 0 {
		return View{Live: r.Versions}
	}
	if dead == len(r.Versions) {
		return View{}
	}
	v := View{Live: make([]Version, 0, len(r.Versions)-dead), Dead: make([]Version, 0, dead)}
	for i := range r.Versions {
		if r.Versions[i].DeadAt(nowMs) {
			v.Dead = append(v.Dead, r.Versions[i])
		} else {
			v.Live = append(v.Live, r.Versions[i])
		}
	}
	return v
}

// latest returns the version with the highest (stamp, dot), nil if r is absent.
func latest(r Record) *Version {
	var w *Version
	for i := range r.Versions {
		v := &r.Versions[i]
		// Versions ascend by dot, so >= breaks ties by dot.
		if w == nil || v.Stamp >= w.Stamp {
			w = v
		}
	}
	return w
}
