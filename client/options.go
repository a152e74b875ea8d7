package client

import (
	"context"
	"crypto/tls"
	"math"
	"time"

	"google.golang.org/grpc"

	atollv1 "github.com/atolldb/atoll/proto/atoll/v1"
)

// ReadOption, WriteOption and UpdateOption are closed sets, so that an option
// in the wrong place does not compile.
type (
	ReadOption   interface{ applyRead(*readConfig) }
	WriteOption  interface{ applyWrite(*writeConfig) }
	UpdateOption interface {
		applyUpdate(*readConfig, *writeConfig)
	}
)

type readConfig struct {
	level     Level
	r         uint32
	regions   uint32
	resolver  Resolver
	staleness StalenessOption
	freshness bool
	omit      bool
	info      *Info
}

type writeConfig struct {
	level     Level
	w         uint32
	regions   uint32
	after     Version
	overwrite bool
	sloppy    bool
	ttl       time.Duration
	info      *Info
	id        RequestID
	again     bool
	triedIn   []string
	cond      condition
}

func (l Level) applyRead(c *readConfig)                   { c.level = l }
func (l Level) applyWrite(c *writeConfig)                 { c.level = l }
func (l Level) applyUpdate(r *readConfig, w *writeConfig) { r.level, w.level = l, l }

// ReadCount is R's option.
type ReadCount uint32

// R asks for exactly n owners, 1 or more, to answer a read, whatever the level.
func R(n int) ReadCount { return ReadCount(countOf(n)) }

func (n ReadCount) applyRead(c *readConfig)                   { c.r = uint32(n) }
func (n ReadCount) applyUpdate(r *readConfig, _ *writeConfig) { r.r = uint32(n) }

// noCount is that of somebody who asked for none, or less, which is a mistake; 0 on
// the wire means that nobody asked for a number.
const noCount = math.MaxUint32

func countOf(n int) uint32 {
	if n < 1 {
		return noCount
	}
	return uint32(min(int64(n), noCount-1))
}

func checkCount(field string, n uint32) *Error {
	if n == noCount {
		return invalid(field, "1 or more", "0 or less", "not a number of owners or regions")
	}
	return nil
}

// WriteCount is W's option.
type WriteCount uint32

// W asks for exactly n owners, 1 or more, to have a write durably, whatever the level.
func W(n int) WriteCount { return WriteCount(countOf(n)) }

func (n WriteCount) applyWrite(c *writeConfig)                 { c.w = uint32(n) }
func (n WriteCount) applyUpdate(_ *readConfig, w *writeConfig) { w.w = uint32(n) }

func (v Version) applyWrite(c *writeConfig) { c.after = v }

// After makes a write replace exactly what v has seen: the version of a read
// or of an earlier write of the same key. After the zero Version is blind.
func After(v Version) WriteOption { return v }

type overwriteOption struct{}

// Overwrite makes a blind Put replace whatever the owner that takes it holds,
// siblings included. What other owners or regions hold beyond that stays, as a
// sibling.
func Overwrite() WriteOption { return overwriteOption{} }

func (overwriteOption) applyWrite(c *writeConfig) { c.overwrite = true }

// SloppyOption is Sloppy's option.
type SloppyOption struct{}

// Sloppy has healthy nodes that do not own the key stand in where too few owners
// can acknowledge a write, if one owner is up; Info.Hinted names them. Until the
// owners are back and have the write, a read at a level that otherwise meets
// every write may miss it.
func Sloppy() SloppyOption { return SloppyOption{} }

func (SloppyOption) applyWrite(c *writeConfig)                 { c.sloppy = true }
func (SloppyOption) applyUpdate(_ *readConfig, w *writeConfig) { w.sloppy = true }

// Lifetime is TTL's option.
type Lifetime time.Duration

// TTL makes a value read as deleted after d, in whole milliseconds rounded up.
func TTL(d time.Duration) Lifetime { return Lifetime(d) }

func (d Lifetime) applyWrite(c *writeConfig)                 { c.ttl = time.Duration(d) }
func (d Lifetime) applyUpdate(_ *readConfig, w *writeConfig) { w.ttl = time.Duration(d) }

// ResolveOption is WithResolver's option.
type ResolveOption struct{ r Resolver }

// WithResolver resolves this call's siblings with r in place of the client's
// resolver; nil leaves them.
func WithResolver(r Resolver) ResolveOption { return ResolveOption{r} }

func (o ResolveOption) applyRead(c *readConfig)                   { c.resolver = o.r }
func (o ResolveOption) applyUpdate(r *readConfig, _ *writeConfig) { r.resolver = o.r }

// Info tells what an answer rests on.
type Info struct {
	// Coordinator is the node that ran the operation, Replicas the owners that
	// took part (a read) or have it durably (a write), of Needed ones.
	Coordinator string
	Replicas    []string
	Needed      int
	Level       Level
	Region      string
	// Reached is the strongest level that the answer fulfils.
	Reached Level
	// Regions that were asked, the client's own one too, by levels that leave it.
	Regions []RegionInfo
	// Hinted are the nodes that stood in for owners; see Sloppy.
	Hinted []string
	// Degraded: some owners were not asked because they are down, or others
	// stood in for them.
	Degraded bool
	// Freshness of the answer in what other regions wrote; see Freshness.
	Freshness []RegionFreshness
	// ManySiblings: the key has as many versions as its bucket warns of, or more:
	// somebody writes it without After.
	ManySiblings bool
	// Attempts it took, 1 when the first succeeded.
	Attempts int
	// RequestID of a write. Replayed: an attempt before the one that was answered
	// had been applied. MaybeDuplicate: an owner that may have taken an earlier
	// attempt could not be asked, so the write may be there twice, as siblings.
	RequestID                RequestID
	Replayed, MaybeDuplicate bool
}

// ExplainOption is Explain's option.
type ExplainOption struct{ info *Info }

// Explain fills info when the call returns: all of it after success and after
// ErrPartial, Attempts after another failure. For Update it is the write that counts.
func Explain(info *Info) ExplainOption { return ExplainOption{info} }

func (o ExplainOption) applyRead(c *readConfig)                   { c.info = o.info }
func (o ExplainOption) applyWrite(c *writeConfig)                 { c.info = o.info }
func (o ExplainOption) applyUpdate(_ *readConfig, w *writeConfig) { w.info = o.info }

func (i *Info) fill(attempts int, a *atollv1.Achieved) {
	if i == nil {
		return
	}
	*i = Info{
		Coordinator: a.GetCoordinator(), Replicas: a.GetReplicas(), Needed: int(a.GetNeeded()),
		Level: Level(a.GetLevel()), Reached: Level(a.GetReached()), Regions: regionInfos(a.GetRegions()), Region: a.GetRegion(), Degraded: a.GetDegraded(), ManySiblings: a.GetManySiblings(), Hinted: a.GetHinted(), Freshness: freshness(a), Attempts: attempts,
	}
}

// WriteBack says when a resolver's decision on a Get is written.
type WriteBack uint8

// The modes. With all of them the write carries the context of the read.
const (
	// WriteBackAsync writes after Get has returned. At most 64 writes are
	// under way; further ones are left to the next reader. It is the default:
	// a read heals what it found, and does not wait for it.
	WriteBackAsync WriteBack = iota
	// WriteBackSync writes before Get returns, and Version is that write's.
	WriteBackSync
	// WriteBackNever leaves the siblings to the next write.
	WriteBackNever
)

// Option of Open and New.
type Option func(*config)

type config struct {
	bucket     string
	timeout    time.Duration
	resolver   Resolver
	onConflict func(ConflictEvent)
	writeBack  WriteBack
	hedge      time.Duration // 0 for none
	tls        *tls.Config
	noSession  bool

	// Of the region; see follow.go.
	region      string
	fallback    []string
	pin         bool
	returnAfter time.Duration
	onRegion    func(RegionChange)

	dial []grpc.DialOption
}

func newConfig(opts []Option) config {
	c := config{timeout: 2 * time.Second, returnAfter: returnAfter}
	for _, o := range opts {
		o(&c)
	}
	return c
}

// Bucket is the bucket that the client works on; without it, "default".
func Bucket(name string) Option { return func(c *config) { c.bucket = name } }

// Timeout is the deadline of calls whose context has none; 2 s without it.
func Timeout(d time.Duration) Option {
	return func(c *config) {
		if d > 0 {
			c.timeout = d
		}
	}
}

// OnSiblings resolves siblings of all calls that bring no resolver.
func OnSiblings(r Resolver) Option { return func(c *config) { c.resolver = r } }

// OnConflict is told of every conflict that a read met, once it is settled.
// It observes and decides nothing. It is called from the reading goroutine, or
// from the one that writes back, and must be quick.
func OnConflict(f func(ConflictEvent)) Option { return func(c *config) { c.onConflict = f } }

// WithWriteBack chooses when Get writes what a resolver decided; without it,
// WriteBackAsync. Update always writes what it resolved, in its own write.
func WithWriteBack(m WriteBack) Option { return func(c *config) { c.writeBack = m } }

// TLS encrypts the connections of Open; without it they are plain.
func TLS(cfg *tls.Config) Option { return func(c *config) { c.tls = cfg } }

// DialOptions are added to each connection of Open, for interceptors, tracing
// or a dialer.
func DialOptions(opts ...grpc.DialOption) Option {
	return func(c *config) { c.dial = append(c.dial, opts...) }
}

// deadline of a call.
func (c *config) deadline(ctx context.Context, now time.Time) time.Time {
	if d, ok := ctx.Deadline(); ok {
		return d
	}
	return now.Add(c.timeout)
}
