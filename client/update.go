package client

import (
	"context"
	"errors"
	"math/rand/v2"
	"slices"
	"time"
)

// maxUpdates is how often Update reads, modifies and writes, where its writes have
// no condition.
const maxUpdates = 4

// Update reads a key, resolves siblings, lets modify make the new value of
// what there is, and writes that in place of everything that the read saw, all
// siblings included. modify gets an Object that does not exist when the key
// has no value, and may be called several times; its error ends the Update
// without a write and is returned as it is. Siblings that no resolver resolves
// end it with ErrSiblings.
//
// At LocalSerial each Update is an exact read-modify-write of the region, and at
// Serial one of all regions: it
// writes IfUnchanged, and modifies anew what others have written meanwhile, until
// its time is over; then it is ErrConditionFailed, and nothing was written.
//
// At other levels two Updates that race both succeed and become siblings; each
// then holds its own modification, and the next Update (or read) resolves them. So
// what is counted or collected there needs a resolver that merges, such as
// SetUnionLines.
//
// A write is tried again only when the one before was not applied.
func (c *Client) Update(
	ctx context.Context, key string, modify func(cur Object) ([]byte, error), opts ...UpdateOption,
) (Version, error) {
	rc := readConfig{resolver: c.config.resolver}
	var wc writeConfig
	for _, o := range opts {
		o.applyUpdate(&rc, &wc)
	}
	exact := wc.level == LocalSerial || wc.level == Serial
	if exact {
		var cancel context.CancelFunc
		ctx, cancel = context.WithDeadline(ctx, c.config.deadline(ctx, time.Now()))
		defer cancel()
	}
	var cur *Object // what the write before has found
	for i := 1; ; i++ {
		obj, err := c.readUnless(ctx, key, &rc, cur)
		if err != nil {
			return Version{}, err
		}
		// The write below is the write-back.
		obj, err = c.settle(ctx, key, obj, &rc, WriteBackNever)
		if err != nil && !errors.Is(err, ErrNotFound) {
			return Version{}, err
		}
		value, err := modify(obj)
		if err != nil {
			return Version{}, err
		}
		if wc.after = obj.version; exact {
			wc.cond = condition{is: ifContext, after: obj.version}
		}
		v, err := c.put(ctx, key, value, &wc)
		lost := exact && errors.Is(err, ErrConditionFailed)
		if err == nil || !lost && (i == maxUpdates || !again(err)) {
			return v, err
		}
		cur = current(err)
		if !c.cluster.sleep(ctx, rand.N(backoffBase<<min(i, maxUpdates)), nil) {
			return Version{}, err
		}
	}
}

// readUnless reads key unless it was shown already, with all its values.
func (c *Client) readUnless(ctx context.Context, key string, rc *readConfig, cur *Object) (Object, error) {
	if cur == nil || slices.ContainsFunc(cur.siblings, func(s Sibling) bool { return s.Omitted }) {
		return c.read(ctx, key, rc)
	}
	return *cur, nil
}

// again reports whether a new read may help a write that was not applied.
func again(err error) bool {
	var e *Error
	if !errors.As(err, &e) || e.Outcome == UnknownOutcome {
		return false
	}
	switch e.Reason {
	case "UNAVAILABLE", "STOPPING", "CLOCK_SKEW", "OVERLOADED", "TOO_MANY_SIBLINGS":
		return true
	}
	return false
}
