package client

import (
	"context"
	"sync"
	"time"

	atollv1 "github.com/atolldb/atoll/proto/atoll/v1"
)

const (
	// manyAtOnce of a GetMany or PutMany are under way; large ones, which take
	// a call of their own, one by one on manyLarge goroutines.
	manyAtOnce, manyLarge = 1024, 4
)

// Got is one result of GetMany: what Get would have returned.
type Got struct {
	Object Object
	Err    error
}

// Item is one write of PutMany.
type Item struct {
	Key   string
	Value []byte
	// After is the version that the write follows; zero for a blind one.
	After Version
}

// PutResult is one result of PutMany: what Put would have returned.
type PutResult struct {
	Version Version
	Err     error
}

// GetMany reads many keys at once; results are in the order of keys, each for
// itself.
func (c *Client) GetMany(ctx context.Context, keys []string, opts ...ReadOption) []Got {
	cfg := readConfig{resolver: c.config.resolver}
	for _, o := range opts {
		o.applyRead(&cfg)
	}
	cfg.info = nil // of which key?
	ops := make([]*op, len(keys))
	for i, k := range keys {
		ops[i] = c.getOp(k, &cfg)
	}
	out := make([]Got, len(keys))
	c.doMany(ctx, ops, func(i int, reply *atollv1.StreamReply, err *Error) {
		if err != nil {
			out[i].Err = err
			return
		}
		obj, failed := c.whole(ctx, keys[i], c.object(keys[i], reply.GetGet()), &cfg)
		if failed != nil {
			out[i].Err = failed
			return
		}
		out[i].Object, out[i].Err = c.settle(ctx, keys[i], obj, &cfg, c.config.writeBack)
	})
	return out
}

// PutMany writes many keys at once; results are in the order of items. Nothing
// is atomic, and items of the same key become siblings of each other.
func (c *Client) PutMany(ctx context.Context, items []Item, opts ...WriteOption) []PutResult {
	var cfg writeConfig
	for _, o := range opts {
		o.applyWrite(&cfg)
	}
	cfg.info, cfg.id, cfg.again = nil, RequestID{}, false
	out := make([]PutResult, len(items))
	ops := make([]*op, len(items))
	for i, it := range items {
		cfg.after = it.After
		o, err := c.putOp(it.Key, it.Value, &cfg)
		if err != nil {
			out[i].Err = c.complete(err, o, nil)
			continue
		}
		ops[i] = o
	}
	c.doMany(ctx, ops, func(i int, reply *atollv1.StreamReply, err *Error) {
		if err != nil {
			out[i].Version, out[i].Err = c.partial(err, items[i].Key, nil, 0), c.instead(err, items[i].Key)
			return
		}
		out[i].Version = Version{bucket: c.bucket, key: items[i].Key, context: string(reply.GetPut().GetContext()), omitted: reply.GetPut().GetContextOmitted()}
	})
	return out
}

// doMany carries out all ops that are not nil, in rounds: all that are due are
// sent before the first is waited for, so that they share messages and nothing
// needs a goroutine. done is called once for each op; for large ones from
// another goroutine.
func (c *Client) doMany(ctx context.Context, ops []*op, done func(int, *atollv1.StreamReply, *Error)) {
	deadline := c.config.deadline(ctx, time.Now())
	var large []int
	var small []int
	for i, o := range ops {
		switch {
		case o == nil:
		case o.alone:
			large = append(large, i)
		default:
			small = append(small, i)
		}
	}
	var wg sync.WaitGroup
	defer wg.Wait()
	c.doLarge(ctx, &wg, ops, large, done)
	for len(small) > 0 {
		n := min(len(small), manyAtOnce)
		n, err := c.enterMany(ctx, ops, small[:n])
		if err != nil {
			done(small[0], nil, c.complete(err, ops[small[0]], nil))
			small = small[1:]
			continue
		}
		c.doChunk(ctx, deadline, ops, small[:n], func(i int, reply *atollv1.StreamReply, err *Error) {
			c.leave(ops[i], reply, err)
			done(i, reply, err)
		})
		small = small[n:]
	}
}

// enterMany lets the first of the ops in, and how many more may begin with it.
func (c *Client) enterMany(ctx context.Context, ops []*op, which []int) (n int, err *Error) {
	if c.session == nil {
		return len(which), nil
	}
	if err := c.enter(ctx, ops[which[0]]); err != nil {
		return 0, err
	}
	for n = 1; n < len(which); n++ {
		if _, ok := c.session.tryEnter(ops[which[n]]); !ok {
			break
		}
	}
	return n, nil
}

func (c *Client) doLarge(
	ctx context.Context, wg *sync.WaitGroup, ops []*op, which []int, done func(int, *atollv1.StreamReply, *Error),
) {
	for w := range min(manyLarge, len(which)) {
		wg.Go(func() {
			for j := w; j < len(which); j += manyLarge {
				i := which[j]
				reply, _, err := c.do(ctx, ops[i])
				done(i, reply, err)
			}
		})
	}
}

func (c *Client) doChunk(
	ctx context.Context, deadline time.Time, ops []*op, which []int, done func(int, *atollv1.StreamReply, *Error),
) {
	runs := make([]run, len(which))
	due := make([]int, 0, len(which)) // indexes into runs
	for j, i := range which {
		if err := c.open(ctx, ops[i]); err != nil {
			done(i, nil, c.complete(ops[i].refused(err), ops[i], nil))
			continue
		}
		runs[j] = ops[i].run(deadline, c.config.hedge)
		due = append(due, j)
	}
	for len(due) > 0 {
		from := c.cluster.view.Load()
		for _, j := range due {
			if !runs[j].op.alone {
				_, runs[j].err = runs[j].start(ctx, c.cluster)
			}
		}
		var pause time.Duration
		rest := due[:0]
		for _, j := range due {
			r := &runs[j]
			var reply *atollv1.StreamReply
			err := r.err
			switch {
			case r.op.alone: // it turned out not to fit on the stream
				reply, err = r.start(ctx, c.cluster)
			case err == nil:
				reply, err = r.wait(ctx, c.cluster)
			}
			if err == nil {
				c.budget.earn()
				done(which[j], r.tell(reply), nil)
				continue
			}
			p, again := r.next(ctx, c.cluster, c.budget, err)
			if !again {
				done(which[j], nil, c.complete(r.settle(err), r.op, r))
				continue
			}
			pause = max(pause, p)
			rest = append(rest, j)
		}
		due = rest
		if len(due) > 0 && !c.cluster.sleep(ctx, pause, from) {
			for _, j := range due {
				r := &runs[j]
				done(which[j], nil, c.complete(r.settle(overdue(r.op.write, false, ctx.Err())), r.op, r))
			}
			return
		}
	}
}
