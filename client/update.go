package client

import (
	"context"
	"errors"
	"math/rand/v2"
)

// maxUpdates is how often Update reads, modifies and writes.
const maxUpdates = 4

// Update reads a key, resolves siblings, lets modify make the new value of
// what there is, and writes that in place of everything that the read saw, all
// siblings included. modify gets an Object that does not exist when the key
// has no value, and may be called several times; its error ends the Update
// without a write and is returned as it is. Siblings that no resolver resolves
// end it with ErrSiblings.
//
// A write is tried again, from a new read, only when the one before was not
// applied. Without conditional writes two Updates that race both succeed and
// become siblings; each then holds its own modification, and the next Update
// (or read) resolves them. So what is counted or collected by Update needs a
// resolver that merges, such as SetUnionLines.
func (c *Client) Update(
	ctx context.Context, key string, modify func(cur Object) ([]byte, error), opts ...UpdateOption,
) (Version, error) {
	rc := readConfig{resolver: c.config.resolver}
	var wc writeConfig
	for _, o := range opts {
		o.applyUpdate(&rc, &wc)
	}
	for i := 1; ; i++ {
		obj, err := c.read(ctx, key, &rc)
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
		wc.after = obj.version
		v, err := c.put(ctx, key, value, &wc)
		if err == nil || i == maxUpdates || !again(err) {
			return v, err
		}
		if !c.cluster.sleep(ctx, rand.N(backoffBase<<i)) {
			return Version{}, err
		}
	}
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
