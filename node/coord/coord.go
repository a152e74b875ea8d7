package coord

import (
	"errors"
	"fmt"
	"strconv"
	"sync/atomic"
	"time"

	"github.com/atolldb/atoll/crdt"
	"github.com/atolldb/atoll/crdt/hlc"
	"github.com/atolldb/atoll/hashring"
	"github.com/atolldb/atoll/internal/planted"
	"github.com/atolldb/atoll/node/peer"
	"github.com/atolldb/atoll/node/quorum"
	"github.com/atolldb/atoll/node/replica"
	"github.com/atolldb/atoll/node/storage"
	"github.com/atolldb/atoll/node/topology"
)

// Bucket is how the keys of one bucket behave.
type Bucket struct {
	Kind crdt.Kind
	// MaxValue in bytes; 0 is DefaultMaxValue, at most 8 MiB.
	MaxValue int
}

// Config of a coordinator.
type Config struct {
	Self topology.NodeID
	// Secret authenticates contexts; the same in all regions.
	Secret crdt.Secret
	// Buckets by name. DefaultBucket is there even when it is not listed.
	Buckets map[string]Bucket
	// HedgeAfter is how long a read waits for an owner before it asks one
	// more; 0 is 25 ms.
	HedgeAfter time.Duration
}

// Deps are what a coordinator works with.
type Deps struct {
	Replica   *replica.Replica
	Transport peer.Transport
	// Topology that holds now.
	Topology func() *topology.Topology
	HLC      *hlc.Clock
	// Alive is this node's opinion of a peer.
	Alive func(topology.NodeID) bool
	// Observe gets the outcome of every request to a peer.
	Observe func(topology.NodeID, error)
}

// Coordinator runs operations.
type Coordinator struct {
	cfg Config
	Deps
	stats Stats
}

// Stats count since start.
type Stats struct {
	Gets, Puts, Forwards, ReadRepairs, Hedges atomic.Uint64
	// Siblings counts reads that showed more than one.
	Siblings atomic.Uint64
	// Missed counts applies that an owner did not confirm: anti-entropy will
	// find them.
	Missed   atomic.Uint64
	Failures atomic.Uint64
}

// New returns a coordinator.
func New(cfg Config, deps Deps) *Coordinator {
	if cfg.HedgeAfter == 0 {
		cfg.HedgeAfter = 25 * time.Millisecond
	}
	buckets := map[string]Bucket{DefaultBucket: {}}
	for name, b := range cfg.Buckets {
		buckets[name] = b
	}
	cfg.Buckets = buckets
	return &Coordinator{cfg: cfg, Deps: deps}
}

// Stats of this coordinator.
func (c *Coordinator) Stats() *Stats { return &c.stats }

// key is a validated (bucket, key).
type key struct {
	full   []byte
	hash   uint64
	part   hashring.Partition
	owners []string
	bucket Bucket
}

func (c *Coordinator) key(bucket string, k []byte) (key, *Error) {
	if bucket == "" {
		bucket = DefaultBucket
	}
	b, ok := c.cfg.Buckets[bucket]
	if !ok {
		return key{}, &Error{Code: CodeNoBucket, Detail: "no such bucket", Field: "bucket", Limit: "a configured bucket", Seen: clip(bucket)}
	}
	if len(k) == 0 || len(k) > MaxKey {
		return key{}, invalidSize("key", MaxKey, len(k))
	}
	full := FullKey(bucket, k)
	hash := hashring.KeyHash(full)
	part := hashring.PartitionOf(hash, c.Topology().Table.Partitions())
	return key{full: full, hash: hash, part: part, owners: c.Topology().Owners(part), bucket: b}, nil
}

// FullKey joins bucket and key.
func FullKey(bucket string, k []byte) []byte {
	full := make([]byte, 0, len(bucket)+1+len(k))
	full = append(full, bucket...)
	full = append(full, 0)
	return append(full, k...)
}

// SplitKey undoes FullKey.
func SplitKey(full []byte) (bucket string, k []byte) {
	for i, b := range full {
		if b == 0 {
			return string(full[:i]), full[i+1:]
		}
	}
	return "", full
}

func clip(s string) string {
	if len(s) > MaxBucket {
		return strconv.Quote(s[:MaxBucket]) + "..."
	}
	return strconv.Quote(s)
}

func (c *Coordinator) token(k *key, ctx crdt.Context) []byte {
	return crdt.AppendContext(make([]byte, 0, 64), c.cfg.Secret, k.hash, ctx)
}

func (c *Coordinator) context(k *key, token []byte) (crdt.Context, *Error) {
	ctx, err := crdt.DecodeContext(c.cfg.Secret, k.hash, token)
	if err != nil {
		return ctx, &Error{Code: CodeBadContext, Detail: err.Error(), Field: "context",
			Limit: "a context that was returned for this key", Seen: strconv.Itoa(len(token)) + " bytes"}
	}
	return ctx, nil
}

// send asks a peer, within the deadline.
func (c *Coordinator) send(to topology.NodeID, verb peer.Verb, body []byte, deadline time.Time, done peer.Done) {
	req := peer.Request{Verb: verb, Epoch: c.Topology().Epoch, Timeout: max(time.Until(deadline), time.Millisecond), Body: body}
	c.Transport.Send(to, req, func(reply []byte, err error) {
		c.Observe(to, err)
		done(reply, err)
	})
}

// noEffect reports whether err is a peer's answer or a request that never got
// there: in both cases the request had no effect.
func noEffect(err error) bool {
	if errors.Is(err, peer.ErrNotSent) {
		return true
	}
	var r *peer.Refusal
	return errors.As(err, &r) && r.Code != peer.CodeUnknown && r.Code != peer.CodeInternal
}

// localError turns what the replica says into an operation's error.
func (c *Coordinator) localError(err error) *Error {
	if s := (*replica.SiblingsError)(nil); errors.As(err, &s) {
		return c.tooManySiblings(s)
	}
	e := &Error{Code: CodeInternal, Detail: err.Error()}
	switch {
	case errors.Is(err, replica.ErrNoActor), errors.Is(err, replica.ErrAmnesia):
		e.Code, e.again = CodeUnavailable, true
	case errors.Is(err, replica.ErrClockSkew):
		e.Code, e.again = CodeClockSkew, true
	case errors.Is(err, replica.ErrBehind):
		e.Code, e.again = CodeUnavailable, true
	case errors.Is(err, replica.ErrNotOwner):
		e.Code, e.again = CodeUnavailable, true
	case errors.Is(err, replica.ErrStopping), errors.Is(err, storage.ErrClosed):
		e.Code, e.again = CodeStopping, true
	case errors.Is(err, storage.ErrFull):
		e.Code, e.again = CodeDiskFull, true
	case errors.Is(err, storage.ErrCorrupt):
		e.Code, e.again = CodeCorrupt, true
	case errors.Is(err, storage.ErrFailed):
		e.Code, e.Outcome = CodeInternal, Unknown
	case errors.Is(err, storage.ErrOverloaded):
		e.Code, e.RetryAfterMs = CodeOverloaded, 50
	case errors.Is(err, storage.ErrTooLarge):
		e.Code = CodeInvalid
	}
	return e
}

// tooManySiblings names the fix.
func (c *Coordinator) tooManySiblings(s *replica.SiblingsError) *Error {
	return &Error{
		Code: CodeTooManySiblings, Field: "siblings",
		Detail: "the key has too many siblings for one more: read it, resolve, and write with the context of the read",
		Limit:  fmt.Sprintf("%d of %d bytes together", MaxSiblings, c.Replica.MaxRecord()),
		Seen:   fmt.Sprintf("%d of %d bytes", s.Versions, s.Bytes),
	}
}

// unavailable says that too few owners took part.
func (c *Coordinator) unavailable(k *key, level quorum.Level, need, got int, outcome Outcome) *Error {
	var down []string
	for _, o := range k.owners {
		if id := topology.NodeID(o); id != c.cfg.Self && !c.Alive(id) {
			down = append(down, o)
		}
	}
	detail := fmt.Sprintf("%s needs %d of %d owners, %d answered", level, need, len(k.owners), got)
	if len(down) > 0 {
		detail += fmt.Sprintf(" (down: %v)", down)
	}
	return &Error{Code: CodeUnavailable, Outcome: outcome, Detail: detail, Needed: need, Acks: got, RetryAfterMs: 100}
}

func (c *Coordinator) alive(owner string) bool {
	id := topology.NodeID(owner)
	return id == c.cfg.Self || c.Alive(id)
}

// need returns how many owners an operation takes: an explicit count or the
// level's.
func need(k *key, level quorum.Level, explicit int, field string) (int, *Error) {
	if !level.Valid() {
		return 0, invalid("level", fmt.Sprintf("0..%d", quorum.LocalAll), strconv.Itoa(int(level)), "unknown consistency level")
	}
	if explicit != 0 {
		if explicit < 0 || explicit > len(k.owners) {
			return 0, invalid(field, fmt.Sprintf("1..%d", len(k.owners)), strconv.Itoa(explicit), field+" is not possible with this many owners")
		}
		return explicit, nil
	}
	n, err := level.Need(len(k.owners))
	if planted.Bug(planted.ShortQuorum) && n > 1 {
		n--
	}
	if err != nil {
		return 0, invalid("level", fmt.Sprintf("at most %d owners", len(k.owners)), level.String(), err.Error())
	}
	return n, nil
}
