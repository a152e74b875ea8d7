package coord

import (
	"time"

	"github.com/atolldb/atoll/crdt"
	"github.com/atolldb/atoll/node/quorum"
	"github.com/atolldb/atoll/node/topology"
)

// Bucket is how the keys of one bucket behave. The zero Bucket is that of the
// bucket DefaultBucket where nobody has said otherwise.
type Bucket struct {
	Kind crdt.Kind
	// MaxValue in bytes; 0 is DefaultMaxValue, at most MostValue.
	MaxValue int
	// Sloppy makes all writes of the bucket sloppy; see Put.
	Sloppy bool
	// Reads and Writes say at which levels they run.
	Reads, Writes quorum.Policy
	// RequireContext refuses a put without a context where a live value is.
	RequireContext bool
	// WarnSiblings and MaxSiblings of a key: from so many versions on answers say
	// that they are many; a write that would leave more than the latter is
	// refused. 0 is DefaultWarnSiblings and MaxSiblings, which is the most.
	WarnSiblings, MaxSiblings int
	// TTL of puts that ask for none; whole milliseconds, 0 for none.
	TTL time.Duration
	// Regions that have the bucket; nil is all of them.
	Regions []topology.Region
	// Home is the region in which operations at quorum.Serial are decided, "" for
	// none.
	Home topology.Region
}

// SystemBucket holds what the deployment itself keeps in the store. Its name, as
// all that begin with a dot, can be no client's; see Get.System.
const SystemBucket = ".atoll"

// Static is a Deps.Bucket of buckets that never change.
func Static(buckets map[string]Bucket) func(name string) (Bucket, bool) {
	return func(name string) (Bucket, bool) {
		b, ok := buckets[name]
		return b, ok
	}
}

// bucket finds a bucket by name.
func (c *Coordinator) bucket(name string, system bool) (Bucket, bool) {
	if system {
		return Bucket{MaxValue: MostValue}, name == SystemBucket
	}
	b, ok := c.Bucket(name)
	return b, ok || name == DefaultBucket
}

// unknownBucket is what a client hears when it cannot be told whether there is a
// bucket. Nothing was done.
func unknownBucket(name string, err error) *Error {
	return &Error{
		Code: CodeUnavailable, RetryAfterMs: 100,
		Detail: "this node does not know bucket " + clip(name) + " and cannot find out: " + err.Error(),
	}
}

// What a bucket leaves open has a default.

func (b *Bucket) maxValue() int {
	if b.MaxValue == 0 {
		return DefaultMaxValue
	}
	return b.MaxValue
}

func (b *Bucket) maxSiblings() int {
	if b.MaxSiblings == 0 {
		return MaxSiblings
	}
	return b.MaxSiblings
}

func (b *Bucket) warnSiblings() int {
	if b.WarnSiblings == 0 {
		return DefaultWarnSiblings
	}
	return b.WarnSiblings
}

// blind reports whether the bucket refuses the write where a live value is: it
// follows no read, and asks for nothing that says what is to become of it.
func (w *write) blind() bool {
	p := &w.p
	return w.k.bucket.RequireContext && len(p.Context) == 0 && !p.Delete && !p.Overwrite &&
		(p.Condition.Kind == crdt.Always || p.Condition.Kind == crdt.IfPresent)
}

// contextRequired names the fix.
func contextRequired() *Error {
	return &Error{
		Code: CodeContextRequired, Field: "context", Limit: "the context of a read", Seen: "none",
		Detail: "the bucket refuses blind writes of keys that have a value: read it, and write with the context of the read",
	}
}
