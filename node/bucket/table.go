package bucket

import (
	"bytes"
	"cmp"
	"errors"
	"slices"

	"github.com/atolldb/atoll/crdt"
	"github.com/atolldb/atoll/crdt/hlc"
)

// Table holds definitions in ascending order of name, each name at most once.
// Tables are values: methods return new ones.
type Table []Definition

// MaxTable bounds the encoding of a table that a change may leave, in bytes: some
// 800 buckets, deleted ones included. A merge may leave a little more.
const MaxTable = 48 << 10

// What a change may meet, besides a Problem.
var (
	ErrExists   = errors.New("the bucket exists")
	ErrNotFound = errors.New("no such bucket")
	// ErrRevision says that the bucket was changed since the caller looked.
	ErrRevision = errors.New("the bucket was changed meanwhile")
)

func (t Table) find(name string) (int, bool) {
	return slices.BinarySearchFunc(t, name, func(d Definition, name string) int { return cmp.Compare(d.Name, name) })
}

// Find returns the definition of a name, deleted or not.
func (t Table) Find(name string) (Definition, bool) {
	if i, ok := t.find(name); ok {
		return t[i], true
	}
	return Definition{}, false
}

// With returns t with d in the place of its name.
func (t Table) With(d Definition) Table {
	i, ok := t.find(d.Name)
	out := slices.Clone(t)
	if ok {
		out[i] = d
		return out
	}
	return slices.Insert(out, i, d)
}

// Merge returns what either knows.
func Merge(a, b Table) Table {
	out := make(Table, 0, max(len(a), len(b)))
	i, j := 0, 0
	for i < len(a) || j < len(b) {
		switch {
		case j == len(b) || i < len(a) && a[i].Name < b[j].Name:
			out = append(out, a[i])
			i++
		case i == len(a) || b[j].Name < a[i].Name:
			out = append(out, b[j])
			j++
		default:
			out = append(out, merge(a[i], b[j]))
			i, j = i+1, j+1
		}
	}
	return out
}

// merge takes the later of two definitions of one name. The kind is merged for
// itself, and so are the regions, so that the order in which three are merged does
// not matter.
func merge(a, b Definition) Definition {
	kind := min(a.Kind, b.Kind) // mv is the lower one
	a.Kind, b.Kind = kind, kind
	a.Regions = union(a.Regions, b.Regions)
	b.Regions = a.Regions
	c := cmp.Or(cmp.Compare(a.Revision, b.Revision), cmp.Compare(a.Stamp, b.Stamp))
	if c == 0 {
		c = bytes.Compare(appendDefinition(nil, &a), appendDefinition(nil, &b))
	}
	if c < 0 {
		return b
	}
	return a
}

// View is what holds: what is stored, above what the configuration says.
type View struct {
	Stored Table
	// Floor are the buckets of the configuration. Each is there as long as the
	// store says nothing of its name.
	Floor Table
}

// Find returns the bucket of a name, if it is there. The bucket DefaultName
// always is.
func (v View) Find(name string) (Definition, bool) {
	if d, ok := v.Stored.Find(name); ok {
		return d, !d.Deleted
	}
	if d, ok := v.Floor.Find(name); ok {
		return d, true
	}
	return Definition{Name: DefaultName}, name == DefaultName
}

// All buckets that are there, in order of name.
func (v View) All() Table {
	all := Table{}
	for _, t := range []Table{{{Name: DefaultName}}, v.Floor, v.Stored} {
		for _, d := range t {
			all = all.With(d)
		}
	}
	return slices.DeleteFunc(all, func(d Definition) bool { return d.Deleted })
}

// Create returns v with a new bucket, as it is stored then. Its Deleted, Revision
// and Stamp are not read.
func (v View) Create(d Definition, at hlc.Stamp) (View, Definition, error) {
	if bad := d.Check(); bad != nil {
		return v, d, bad
	}
	if _, ok := v.Find(d.Name); ok {
		return v, d, ErrExists
	}
	d.Revision, d.Deleted = 1, false
	if old, ok := v.Stored.Find(d.Name); ok {
		if old.Kind != d.Kind {
			return v, d, &Problem{"kind", KindName(old.Kind), KindName(d.Kind), "a deleted bucket of this name was of another kind, and its keys are still there"}
		}
		if old.Home != "" && old.Home != d.Home {
			return v, d, &Problem{"home_region", quote(old.Home), quote(d.Home), "a deleted bucket of this name had another home, and its keys are still there: name that one"}
		}
		if bad := d.keeps(old); bad != nil {
			return v, d, bad
		}
		d.Revision = old.Revision + 1
	}
	return v.store(d, at)
}

// Update returns v with a bucket changed to d, of whose fields Revision says what
// the change is based on. Deleted and Stamp are not read.
func (v View) Update(d Definition, at hlc.Stamp) (View, Definition, error) {
	old, ok := v.Find(d.Name)
	if !ok {
		return v, d, ErrNotFound
	}
	if bad := d.Check(); bad != nil {
		return v, d, bad
	}
	if d.Kind != old.Kind {
		return v, d, &Problem{"kind", KindName(old.Kind), KindName(d.Kind), "a bucket's kind does not change: make another bucket, and copy"}
	}
	if d.Revision != old.Revision {
		return v, old, ErrRevision
	}
	if old.Home != "" && d.Home != old.Home {
		// Two regions would decide until both know of it.
		return v, d, &Problem{"home_region", quote(old.Home), quote(d.Home), "a home does not move by a change of the bucket, but when its region is left: 'atoll dr switchover' or 'failover'"}
	}
	if bad := d.keeps(old); bad != nil {
		return v, d, bad
	}
	d.Revision, d.Deleted = d.Revision+1, false
	return v.store(d, at)
}

// Delete returns v without a bucket. Its keys stay where they are.
func (v View) Delete(name string, revision uint64, at hlc.Stamp) (View, Definition, error) {
	old, ok := v.Find(name)
	switch {
	case !ok:
		return v, old, ErrNotFound
	case name == DefaultName:
		return v, old, &Problem{"name", "a bucket other than " + DefaultName, quote(name), "this bucket is always there"}
	case revision != old.Revision:
		return v, old, ErrRevision
	}
	gone := Definition{Name: name, Kind: old.Kind, Home: old.Home, Regions: old.Regions, Deleted: true, Revision: old.Revision + 1}
	stored, d, err := v.store(gone, at)
	return stored, d, err
}

func (v View) store(d Definition, at hlc.Stamp) (View, Definition, error) {
	d.Stamp = at
	v.Stored = v.Stored.With(d)
	if n := len(AppendTable(nil, v.Stored)); n > MaxTable && !d.Deleted {
		return v, d, &Problem{"name", "buckets of 48 KiB together", "more", "there are too many buckets"}
	}
	return v, d, nil
}

// KindName is the name of a kind of bucket.
func KindName(k crdt.Kind) string {
	if k == crdt.LWW {
		return "lww"
	}
	return "mv"
}
