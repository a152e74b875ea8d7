package client

import (
	"bytes"
	"cmp"
	"context"
	"fmt"
	"strconv"
	"time"

	"google.golang.org/grpc"

	"github.com/atolldb/atoll/hashring"
	atollv1 "github.com/atolldb/atoll/proto/atoll/v1"
)

// maxValue and mostSiblings are what no bucket allows to exceed; a bucket's own
// limits, 1 MiB by default, the node knows.
const (
	maxValue     = 8 << 20
	mostSiblings = 256
)

// Client reads and writes the keys of one bucket. It is safe for concurrent
// use.
type Client struct {
	config  config
	bucket  string
	cluster *cluster
	budget  *budget
	backs   *writeBacks
	session *sessionState // nil for none
}

// Open connects to the nodes at target: host:port of one or more, separated by
// commas, of one region or of several. It returns when one of them has told the
// topology, within ctx, or 5 s when that has no deadline. From then on the client
// finds all nodes by itself, and goes where the map of regions says: see Region,
// Fallback and Pin. Nodes of more than one region in target let it begin, too, while
// one of them is lost.
func Open(ctx context.Context, target string, opts ...Option) (*Client, error) {
	c := newClient(newConfig(opts))
	c.cluster.connect = connector(&c.config)
	if _, ok := ctx.Deadline(); !ok {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, 5*time.Second)
		defer cancel()
	}
	fail := func(e *Error) (*Client, error) {
		c.Close() // it was never used
		e.Op = "open"
		return nil, e
	}
	if err := c.cluster.addSeeds(target); err != nil {
		e := invalid("target", "host:port,host:port", strconv.Quote(target), "bad target")
		e.cause = err
		return fail(e)
	}
	err := c.cluster.refresh(ctx)
	if bad := c.cluster.placed(); bad != nil && (err == nil || bad.Reason == "INVALID") {
		return fail(bad)
	}
	if err != nil {
		e := fromStatus(err, false, false)
		e.Detail, e.cause = "no node tells the topology", err
		return fail(e)
	}
	c.cluster.wg.Go(c.cluster.sweepAll)
	c.cluster.wg.Go(c.cluster.refreshAll)
	return c, nil
}

// New uses a connection that the caller made and will close: to one node, to a
// proxy in front of many, or an in-memory one. Any node answers any key, so
// the client does not ask for the topology.
func New(cc grpc.ClientConnInterface, opts ...Option) *Client {
	c := newClient(newConfig(opts))
	c.cluster.mu.Lock()
	n := c.cluster.addNode("", cc, func() error { return nil })
	c.cluster.mu.Unlock()
	c.cluster.view.Store(&view{nodes: []*node{n}})
	c.cluster.wg.Go(c.cluster.sweepAll)
	return c
}

func newClient(cfg config) *Client {
	c := &Client{config: cfg, bucket: cfg.bucket, cluster: newCluster(), budget: newBudget()}
	c.cluster.follow = newFollower(&cfg)
	c.backs = newWriteBacks()
	if !cfg.noSession {
		c.session = newSessionState()
	}
	return c
}

// In returns a client for another bucket of the same cluster. It shares
// everything with c, its session too; closing either closes both.
func (c *Client) In(bucket string) *Client {
	other := *c
	other.bucket = bucket
	return &other
}

// Close ends all calls with ErrClosed (writes that were sent with
// ErrUnknownOutcome) and waits until everything has stopped.
func (c *Client) Close() error {
	c.cluster.close()
	return nil
}

// hash places a key: the bucket, NUL, the key.
func (c *Client) hash(key string) uint64 {
	bucket := c.bucket
	if bucket == "" {
		bucket = "default"
	}
	var stack [128]byte
	full := append(append(append(stack[:0], bucket...), 0), key...)
	return hashring.KeyHash(full)
}

func (c *Client) getOp(key string, cfg *readConfig) *op {
	return &op{
		name: "get", hash: c.hash(key), level: cfg.level, waits: leaves(cfg.level, cfg.regions), size: 32 + len(key),
		call: atollv1.StreamCall{Op: &atollv1.StreamCall_Get{Get: &atollv1.GetRequest{
			Bucket: c.bucket, Key: []byte(key), Level: atollv1.Level(cfg.level), R: cfg.r, Regions: cfg.regions,
			MaxStalenessMs: int64((cfg.staleness.bound + time.Millisecond - 1) / time.Millisecond), WaitFresh: cfg.staleness.wait, Freshness: cfg.freshness,
		}}},
	}
}

// putOp copies value when it goes by the stream: the caller may change it when
// Put returns, and after an early return the sender may be encoding still.
func (c *Client) putOp(key string, value []byte, cfg *writeConfig) (*op, *Error) {
	o := &op{
		name: "put", hash: c.hash(key), level: cfg.level, waits: leaves(cfg.level, cfg.regions), write: true,
		size: 96 + len(key) + len(value) + len(cfg.after.context),
	}
	if err := c.checkWrite(key, cfg); err != nil {
		return o, err
	}
	if len(value) > maxValue {
		return o, invalid("value", fmt.Sprintf("%d bytes", maxValue), fmt.Sprintf("%d bytes", len(value)), "value is too large")
	}
	o.identify(cfg)
	o.alone = o.size > largeCall
	if !o.alone {
		value = bytes.Clone(value)
	}
	o.call.Op = &atollv1.StreamCall_Put{Put: &atollv1.PutRequest{
		Bucket: c.bucket, Key: []byte(key), Value: value, Context: []byte(cfg.after.context),
		Level: atollv1.Level(cfg.level), W: cfg.w, Regions: cfg.regions, Overwrite: cfg.overwrite, Sloppy: cfg.sloppy,
		TtlMs:     int64((cfg.ttl + time.Millisecond - 1) / time.Millisecond),
		RequestId: o.id[:], Retry: cfg.again, TriedIn: cfg.triedIn, Condition: cfg.cond.wire(),
	}}
	return o, nil
}

func (c *Client) deleteOp(key string, cfg *writeConfig) (*op, *Error) {
	o := &op{
		name: "delete", hash: c.hash(key), level: cfg.level, waits: leaves(cfg.level, cfg.regions), write: true,
		size: 96 + len(key) + len(cfg.after.context),
	}
	if err := c.checkWrite(key, cfg); err != nil {
		return o, err
	}
	o.identify(cfg)
	o.call.Op = &atollv1.StreamCall_Delete{Delete: &atollv1.DeleteRequest{
		Bucket: c.bucket, Key: []byte(key), Context: []byte(cfg.after.context),
		Level: atollv1.Level(cfg.level), W: cfg.w, Regions: cfg.regions, Sloppy: cfg.sloppy,
		RequestId: o.id[:], Retry: cfg.again, TriedIn: cfg.triedIn, Condition: cfg.cond.wire(),
	}}
	return o, nil
}

// checkWrite refuses what the node could not know to be a mistake, or would
// take for something else.
func (c *Client) checkWrite(key string, cfg *writeConfig) *Error {
	if v := cfg.after; !v.IsZero() && (v.key != key || v.bucket != c.bucket) {
		e := invalid("after", "a version of this key", "a version of another key", "version of another key")
		e.Reason = "BAD_CONTEXT"
		return e
	}
	if cfg.after.omitted {
		return invalid("after", "8192 bytes", "more", "too much was seen of this key for its context to be handed out: read it again, and if that gives none either, write with Overwrite")
	}
	if cfg.ttl < 0 {
		return invalid("ttl", ">= 0", cfg.ttl.String(), "time to live is negative")
	}
	return cmp.Or(checkCount("w", cfg.w), checkCount("regions", cfg.regions), cfg.cond.check(cfg))
}

// Get reads a key. A key without a value is ErrNotFound; the Object then still
// has a Version, to write after. Siblings are given to the resolver, and
// without one, or when it leaves them, come as Object and ErrSiblings.
func (c *Client) Get(ctx context.Context, key string, opts ...ReadOption) (Object, error) {
	cfg := readConfig{resolver: c.config.resolver}
	for _, o := range opts {
		o.applyRead(&cfg)
	}
	obj, err := c.read(ctx, key, &cfg)
	if err != nil {
		return Object{}, err
	}
	return c.settle(ctx, key, obj, &cfg, c.config.writeBack)
}

// read returns what is there, siblings and all.
func (c *Client) read(ctx context.Context, key string, cfg *readConfig) (Object, error) {
	obj, err := c.readOnce(ctx, key, cfg)
	if err != nil {
		return Object{}, err
	}
	return c.whole(ctx, key, obj, cfg)
}

func (c *Client) readOnce(ctx context.Context, key string, cfg *readConfig) (Object, error) {
	if err := cfg.bounded(); err != nil {
		return Object{}, c.complete(err, c.getOp(key, cfg), nil)
	}
	reply, attempts, err := c.do(ctx, c.getOp(key, cfg))
	res := reply.GetGet()
	cfg.info.fill(attempts, res.GetAchieved())
	if err != nil {
		return Object{}, err
	}
	return c.object(key, res), nil
}

// Put writes a value and returns its version. With After it replaces what that
// version had seen; without it stands beside what is there, as a sibling. With a
// condition (IfAbsent, IfUnchanged, ...) it replaces what is there or fails. With
// ErrPartial, too, there is a version: the write is applied.
func (c *Client) Put(ctx context.Context, key string, value []byte, opts ...WriteOption) (Version, error) {
	var cfg writeConfig
	for _, o := range opts {
		o.applyWrite(&cfg)
	}
	return c.put(ctx, key, value, &cfg)
}

func (c *Client) put(ctx context.Context, key string, value []byte, cfg *writeConfig) (Version, error) {
	o, err := c.putOp(key, value, cfg)
	if err != nil {
		return Version{}, c.complete(err, o, nil)
	}
	reply, attempts, err := c.do(ctx, o)
	res := reply.GetPut()
	cfg.info.fill(attempts, res.GetAchieved())
	cfg.info.wrote(o.id, res.GetReplayed(), res.GetMaybeDuplicate())
	if err != nil {
		return c.partial(err, key, cfg.info, attempts), c.instead(err, key)
	}
	return Version{bucket: c.bucket, key: key, context: string(res.GetContext()), omitted: res.GetContextOmitted()}, nil
}

// Delete removes a key's value. With After it removes what that version had
// seen; without it, what a read at the same moment sees. Overwrite and TTL
// mean nothing here. The version that it returns is for a write that follows.
func (c *Client) Delete(ctx context.Context, key string, opts ...WriteOption) (Version, error) {
	var cfg writeConfig
	for _, o := range opts {
		o.applyWrite(&cfg)
	}
	o, err := c.deleteOp(key, &cfg)
	if err != nil {
		return Version{}, c.complete(err, o, nil)
	}
	reply, attempts, err := c.do(ctx, o)
	res := reply.GetDelete()
	cfg.info.fill(attempts, res.GetAchieved())
	cfg.info.wrote(o.id, res.GetReplayed(), res.GetMaybeDuplicate())
	if err != nil {
		return c.partial(err, key, cfg.info, attempts), c.instead(err, key)
	}
	return Version{bucket: c.bucket, key: key, context: string(res.GetContext()), omitted: res.GetContextOmitted()}, nil
}
