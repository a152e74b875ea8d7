// Package sessiontest checks histories for what sessions promise. It is pure, and
// knows nothing of tokens: it judges what clients saw.
//
// What is promised, key by key, to a session's operations one after the other:
//
//	read-your-writes       a read shows each of its writes before, or what
//	                       replaced it
//	monotonic reads        a read shows whatever a read of it before has shown
//	monotonic writes       whoever sees a write of it sees its writes before
//	writes-follow-reads    whoever sees a write of it sees what it had read before
//
// The last two hold for a key that is written in sessions only: who writes without
// one may follow what the owner that takes the write has not heard of.
//
// To show is to hold a version, or one that was written with knowledge of it.
package sessiontest

import (
	"fmt"
	"slices"

	"github.com/atolldb/atoll/crdt"
)

// Op is an operation that succeeded.
type Op struct {
	// Session that it belongs to, "" for none. Operations of one session are
	// given to Check in the order in which they were made, each after the one
	// before it had returned.
	Session, Key string
	// Wrote is the dot of a write, zero for a read.
	Wrote crdt.Dot
	// Shown are the dots of the versions that a read held, dead ones too, and
	// Seen is all that they cover.
	Shown []crdt.Dot
	Seen  crdt.VV
}

// Promise is one of the four.
type Promise int

// The promises.
const (
	ReadYourWrites Promise = iota
	MonotonicReads
	MonotonicWrites
	WritesFollowReads
)

func (p Promise) String() string {
	return [...]string{"read-your-writes", "monotonic reads", "monotonic writes", "writes-follow-reads"}[p]
}

// Broken is a promise that was not kept.
type Broken struct {
	Promise Promise
	// Session that it was made to, and the key.
	Session, Key string
	// Op is the number of the operation that shows it; it does not show Missing,
	// and for the last two promises shows Write, which came after that.
	Op             int
	Missing, Write crdt.Dot
}

func (b Broken) String() string {
	s := fmt.Sprintf("%v: operation %d on %s does not show %v, which session %s knew", b.Promise, b.Op, b.Key, b.Missing, b.Session)
	if !b.Write.IsZero() {
		s += fmt.Sprintf(" when it wrote %v", b.Write)
	}
	return s
}

type sessionKey struct{ session, key string }

// known is what a session has to do with a key.
type known struct{ wrote, read []crdt.Dot }

// before is what the session of a write knew when it wrote.
type before struct {
	session     string
	wrote, read []crdt.Dot
}

// Check returns the promises that were not kept, at most one of each kind for an
// operation. The last two are judged by the reads of all, sessions or not.
func Check(ops []Op) []Broken {
	var out []Broken
	sessions := map[sessionKey]*known{}
	writes := map[string]map[crdt.Dot]before{} // by key
	for i, op := range ops {
		if op.Session == "" {
			continue
		}
		at := sessionKey{op.Session, op.Key}
		k := sessions[at]
		if k == nil {
			k = &known{}
			sessions[at] = k
		}
		if !op.Wrote.IsZero() {
			if writes[op.Key] == nil {
				writes[op.Key] = map[crdt.Dot]before{}
			}
			writes[op.Key][op.Wrote] = before{op.Session, slices.Clone(k.wrote), slices.Clone(k.read)}
			k.wrote = append(k.wrote, op.Wrote)
			continue
		}
		if d, missing := lacks(op, k.wrote); missing {
			out = append(out, Broken{Promise: ReadYourWrites, Session: op.Session, Key: op.Key, Op: i, Missing: d})
		}
		if d, missing := lacks(op, k.read); missing {
			out = append(out, Broken{Promise: MonotonicReads, Session: op.Session, Key: op.Key, Op: i, Missing: d})
		}
		for _, d := range op.Shown {
			if !slices.Contains(k.read, d) {
				k.read = append(k.read, d)
			}
		}
	}
	for i, op := range ops {
		if !op.Wrote.IsZero() {
			continue
		}
		mw, wfr := false, false
		for d, b := range writes[op.Key] {
			if !op.Seen.Covers(d) {
				continue
			}
			if m, missing := lacks(op, b.wrote); missing && !mw {
				mw = true
				out = append(out, Broken{MonotonicWrites, b.session, op.Key, i, m, d})
			}
			if m, missing := lacks(op, b.read); missing && !wfr {
				wfr = true
				out = append(out, Broken{WritesFollowReads, b.session, op.Key, i, m, d})
			}
		}
	}
	return out
}

// lacks returns the first of the dots that a read does not show.
func lacks(op Op, dots []crdt.Dot) (crdt.Dot, bool) {
	for _, d := range dots {
		if !op.Seen.Covers(d) {
			return d, true
		}
	}
	return crdt.Dot{}, false
}
