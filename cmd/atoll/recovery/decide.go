package recovery

import (
	"bytes"
	"cmp"
	"slices"
	"time"

	adminv1 "github.com/atolldb/atoll/proto/atoll/admin/v1"
)

// Conflict says what becomes of a key that has been written since, or by others.
type Conflict uint8

// The ways to go on.
const (
	// Keep leaves a key alone that has a value, or was deleted.
	Keep Conflict = iota
	// Sibling puts the backup's values beside those that are there. Keys that were
	// deleted stay deleted, and keys of last-writer-wins buckets, which have no
	// siblings, stay as they are.
	Sibling
	// Replace makes a key what it was, also one that was deleted.
	Replace
)

// Conflicts by name, in order.
var Conflicts = []string{"keep", "sibling", "replace"}

func (c Conflict) String() string { return Conflicts[c] }

// Verdict is what becomes of a record of the backup.
type Verdict uint8

// The verdicts.
const (
	// Written: the key has never been written.
	Written Verdict = iota
	// Present: the key has all values of the backup, and perhaps more.
	Present
	// Added: values of the backup now stand beside others, as siblings.
	Added
	// Replaced: the key had other values, or was deleted, and is as in the backup.
	Replaced
	// Left: the key has other values, and stays as it is.
	Left
	// LeftDeleted: the key was deleted since, and stays so.
	LeftDeleted
	// Dead: the backup has the key as deleted, so there is nothing to write.
	Dead
	// Expired: what the backup has of the key has expired since.
	Expired

	verdicts = iota
)

var verdictNames = [verdicts]string{"written", "present", "added", "replaced", "left", "left_deleted", "dead", "expired"}

func (v Verdict) String() string { return verdictNames[v] }

// value is one that is to be written.
type value struct {
	bytes []byte
	// ttl is how long it has left to live, 0 for ever.
	ttl time.Duration
}

// now is what a read has shown of a key.
type now struct {
	values [][]byte
	// deleted: it has no value, and has had one.
	deleted bool
}

// plan for one key: what it comes to, and the values to write for that.
type plan struct {
	verdict Verdict
	puts    []value
}

// decide says what is to be done for a record, at a time in Unix milliseconds. In a
// bucket of kind lww a record has one version that counts.
func decide(r *adminv1.ExportRecord, lww bool, n now, c Conflict, nowMs int64) plan {
	want, expired := live(r, lww, nowMs)
	switch {
	case len(want) == 0 && expired:
		return plan{verdict: Expired}
	case len(want) == 0:
		return plan{verdict: Dead}
	case len(n.values) == 0 && !n.deleted:
		return plan{Written, want}
	case n.deleted && c != Replace:
		return plan{verdict: LeftDeleted}
	case n.deleted:
		return plan{Replaced, want}
	}
	missing := slices.DeleteFunc(slices.Clone(want), func(v value) bool {
		return slices.ContainsFunc(n.values, func(b []byte) bool { return bytes.Equal(b, v.bytes) })
	})
	more := slices.ContainsFunc(n.values, func(b []byte) bool {
		return !slices.ContainsFunc(want, func(v value) bool { return bytes.Equal(b, v.bytes) })
	})
	switch {
	case len(missing) == 0 && (!more || c != Replace):
		return plan{verdict: Present}
	case c == Replace:
		return plan{Replaced, want}
	case c == Sibling && !lww:
		return plan{Added, missing}
	}
	return plan{verdict: Left}
}

// live returns the values of a record that a reader sees at a time, equal ones
// once, with the longest life that one of them has; and whether there were others
// that have expired.
func live(r *adminv1.ExportRecord, lww bool, nowMs int64) (out []value, expired bool) {
	versions := r.Versions
	if lww {
		versions = []*adminv1.ExportVersion{slices.MaxFunc(versions, func(a, b *adminv1.ExportVersion) int {
			return cmp.Or(cmp.Compare(a.Stamp, b.Stamp), cmp.Compare(a.Actor, b.Actor), cmp.Compare(a.N, b.N))
		})}
	}
	for _, v := range versions {
		if v.Deleted {
			continue
		}
		if v.ExpiresAt != 0 && v.ExpiresAt <= nowMs {
			expired = true
			continue
		}
		w := value{bytes: v.Value}
		if v.ExpiresAt != 0 {
			w.ttl = time.Duration(v.ExpiresAt-nowMs) * time.Millisecond
		}
		i := slices.IndexFunc(out, func(o value) bool { return bytes.Equal(o.bytes, w.bytes) })
		switch {
		case i < 0:
			out = append(out, w)
		case out[i].ttl != 0 && (w.ttl == 0 || w.ttl > out[i].ttl):
			out[i].ttl = w.ttl
		}
	}
	return out, expired
}
