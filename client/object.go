package client

import (
	"encoding/base64"
	"fmt"
	"time"

	atollv1 "github.com/atolldb/atoll/proto/atoll/v1"
)

// Object is what a read saw of a key. Its bytes belong to the caller.
type Object struct {
	value    []byte
	siblings []Sibling
	version  Version
	exists   bool
	deleted  bool
}

// Value is the one value: the only one there is, or what the resolver made of
// the siblings. It is nil while siblings are unresolved and when there is no
// value.
func (o Object) Value() []byte { return o.value }

// Siblings are the concurrent versions that the read saw, in the order of
// their versions; one when there was no conflict. They stay here after a
// resolver ran.
func (o Object) Siblings() []Sibling { return o.siblings }

// Version covers everything that the read saw: a write with After(version)
// replaces all of it, and nothing else.
func (o Object) Version() Version { return o.version }

// Exists reports whether the key has a value, or siblings to make one of.
func (o Object) Exists() bool { return o.exists }

// DeletedConcurrently reports whether somebody deleted the key at the same
// time as others wrote what is here.
func (o Object) DeletedConcurrently() bool { return o.deleted }

// VersionID names one write.
type VersionID struct {
	Actor uint32
	N     uint64
}

// Sibling is one of the versions of a key that no other supersedes.
type Sibling struct {
	ID    VersionID
	Value []byte
	// Size of the value in bytes. Omitted: Value is not here; see OmitLarge.
	Size    int
	Omitted bool
	// Deleted is set for a delete that is concurrent with the others.
	Deleted bool
	// Stamp is the hybrid logical clock of the write: 48 bits of milliseconds
	// since 1970, 16 bits of counter. Time is its physical part.
	Stamp uint64
	Time  time.Time
	// Region where the write was made.
	Region string
	// Expires is when the value will read as deleted; zero for never.
	Expires time.Time
	// Equals are other versions, written at the same time, with the same value; this
	// one stands for them. What is written after the Object's Version replaces them
	// all. IfVersion of one holds only while no other is beside it.
	Equals []VersionID
}

// later orders siblings by stamp, then version.
func (s *Sibling) later(o *Sibling) bool {
	if s.Stamp != o.Stamp {
		return s.Stamp > o.Stamp
	}
	if s.ID.Actor != o.ID.Actor {
		return s.ID.Actor > o.ID.Actor
	}
	return s.ID.N > o.ID.N
}

// Version is what somebody has seen of one key. It is opaque and belongs to
// that key. The zero Version has seen nothing.
type Version struct {
	bucket, key string
	context     string
	// omitted: the node had a context and did not hand it out, for its size.
	omitted bool
}

// IsZero reports whether v has seen nothing.
func (v Version) IsZero() bool { return v.context == "" && !v.omitted }

// String encodes v for a cookie or a header; see ParseVersion. It is URL-safe,
// and about 40 to 80 bytes for a key that few nodes have written.
func (v Version) String() string { return base64.RawURLEncoding.EncodeToString([]byte(v.context)) }

// ParseVersion is the inverse of String, for a key of c's bucket. Whether the
// version is genuine and of this key, the node finds out when it is used.
func (c *Client) ParseVersion(key, s string) (Version, error) {
	b, err := base64.RawURLEncoding.DecodeString(s)
	if err != nil {
		return Version{}, fmt.Errorf("%w: %w", ErrBadVersion, err)
	}
	return Version{bucket: c.bucket, key: key, context: string(b)}, nil
}

func (c *Client) object(key string, r *atollv1.GetResponse) Object {
	o := Object{
		version: Version{bucket: c.bucket, key: key, context: string(r.Context), omitted: r.ContextOmitted},
		deleted: r.DeletedConcurrently,
	}
	if len(r.Siblings) > 0 {
		o.siblings = make([]Sibling, len(r.Siblings))
	}
	for i, s := range r.Siblings {
		t := sibling(s)
		o.siblings[i] = t
		o.exists = o.exists || !t.Deleted
	}
	return o
}

func sibling(s *atollv1.Sibling) Sibling {
	t := Sibling{
		ID:      VersionID{Actor: s.GetVersion().GetActor(), N: s.GetVersion().GetN()},
		Value:   s.GetValue(),
		Size:    len(s.GetValue()),
		Omitted: s.GetValueOmitted(),
		Deleted: s.GetDeleted(),
		Stamp:   s.GetStamp(),
		Time:    time.UnixMilli(int64(s.GetStamp() >> 16)),
		Region:  s.GetRegion(),
	}
	for _, e := range s.GetEquals() {
		t.Equals = append(t.Equals, VersionID{Actor: e.GetActor(), N: e.GetN()})
	}
	if t.Omitted {
		t.Size = int(s.GetValueSize())
	}
	if s.GetExpiresAt() > 0 {
		t.Expires = time.UnixMilli(s.GetExpiresAt())
	}
	if t.Value == nil && !t.Deleted && !t.Omitted {
		t.Value = []byte{} // a value of no bytes is a value
	}
	return t
}
