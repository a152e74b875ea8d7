package client

import (
	"bytes"
	"context"
	"fmt"
	"time"
)

// Resolver makes one value of concurrent ones. It is called only for two or
// more different values (equal ones are collapsed before), in the order of
// their versions; a concurrent delete may stand among them with Deleted set.
//
// Several clients in several regions may resolve the same siblings at the same
// time, so it must be deterministic, must not depend on the order, must not
// change a result that it is given again, and must do no I/O. It runs in a
// goroutine of its own and has one second: an error, a panic or more time than
// that leaves the siblings. (A resolver that never returns keeps its goroutine.)
type Resolver func(ctx context.Context, key string, siblings []Sibling) (Resolution, error)

// Resolution is what a Resolver decides. The zero Resolution is Leave.
type Resolution struct {
	verdict Verdict
	index   int
	value   []byte
}

// Verdict is the kind of a Resolution.
type Verdict uint8

// The verdicts.
const (
	VerdictLeft Verdict = iota
	VerdictKept
	VerdictMerged
	VerdictDeleted
)

func (v Verdict) String() string {
	return [...]string{"left", "kept", "merged", "deleted"}[v]
}

// Keep decides for the i-th sibling as it is.
func Keep(i int) Resolution { return Resolution{verdict: VerdictKept, index: i} }

// Merged decides for a value of the resolver's making.
func Merged(value []byte) Resolution {
	if value == nil {
		value = []byte{}
	}
	return Resolution{verdict: VerdictMerged, value: value}
}

// DeleteIt decides that the key shall have no value.
func DeleteIt() Resolution { return Resolution{verdict: VerdictDeleted} }

// Leave decides nothing: the siblings stay, and the caller gets ErrSiblings.
func Leave() Resolution { return Resolution{} }

// Verdict is the kind of decision.
func (r Resolution) Verdict() Verdict { return r.verdict }

// Value is the value that the decision comes to, for the siblings that it was
// made on: nil if there is none.
func (r Resolution) Value(siblings []Sibling) []byte {
	switch r.verdict {
	case VerdictKept:
		if r.index >= 0 && r.index < len(siblings) && !siblings[r.index].Deleted {
			return siblings[r.index].Value
		}
	case VerdictMerged:
		return r.value
	case VerdictLeft, VerdictDeleted:
	}
	return nil
}

// resolveWithin bounds a resolver.
const resolveWithin = time.Second

// ConflictEvent is one conflict that a read met.
type ConflictEvent struct {
	Bucket, Key string
	Siblings    []Sibling
	Verdict     Verdict
	// Err is why the resolver left the siblings, if it failed.
	Err error
	// Written says that the decision was written back, WriteErr that it could
	// not be. Neither: it was not to be written, or there was too much to
	// write already.
	Written  bool
	WriteErr error
}

// collapse returns the siblings less those whose value equals another's; of
// equals the latest stays. live counts those that are not deletes.
func collapse(all []Sibling) (distinct []Sibling, live int) {
	for i := range all {
		s := &all[i]
		dup := false
		for j := range distinct {
			d := &distinct[j]
			if d.Deleted == s.Deleted && bytes.Equal(d.Value, s.Value) {
				dup = true
				if s.later(d) {
					*d = *s
				}
				break
			}
		}
		if dup {
			continue
		}
		distinct = append(distinct, *s)
		if !s.Deleted {
			live++
		}
	}
	return distinct, live
}

// decide runs a resolver, fenced.
func decide(ctx context.Context, key string, siblings []Sibling, resolve Resolver) (Resolution, error) {
	type result struct {
		r   Resolution
		err error
	}
	ctx, cancel := context.WithTimeout(ctx, resolveWithin)
	defer cancel()
	ch := make(chan result, 1)
	given := make([]Sibling, len(siblings)) // its to change
	for i, s := range siblings {
		s.Value = bytes.Clone(s.Value)
		given[i] = s
	}
	go func() {
		var res result
		defer func() {
			if p := recover(); p != nil {
				res = result{err: fmt.Errorf("the resolver panicked: %v", p)}
			}
			ch <- res
		}()
		res.r, res.err = resolve(ctx, key, given)
	}()
	select {
	case res := <-ch:
		if res.err != nil {
			return Leave(), res.err
		}
		if res.r.verdict == VerdictKept && (res.r.index < 0 || res.r.index >= len(siblings)) {
			return Leave(), fmt.Errorf("the resolver kept sibling %d of %d", res.r.index, len(siblings))
		}
		return res.r, nil
	case <-ctx.Done():
		return Leave(), fmt.Errorf("the resolver took too long: %w", ctx.Err())
	}
}

// settle turns what was read into what the caller gets.
func (c *Client) settle(ctx context.Context, key string, obj Object, cfg *readConfig, mode WriteBack) (Object, error) {
	if cfg.omit && len(obj.siblings) > 1 {
		return obj, c.fault("get", key, cfg.level, reasonSiblings, nil)
	}
	distinct, live := collapse(obj.siblings)
	switch live {
	case 0:
		return obj, c.fault("get", key, cfg.level, reasonNotFound, nil)
	case 1:
		for _, s := range distinct {
			if !s.Deleted {
				obj.value = s.Value
			}
		}
		return obj, nil
	}
	event := ConflictEvent{Bucket: c.bucket, Key: key, Siblings: obj.siblings}
	var r Resolution
	if cfg.resolver != nil {
		r, event.Err = decide(ctx, key, distinct, cfg.resolver)
	}
	event.Verdict = r.verdict
	if r.verdict == VerdictKept && distinct[r.index].Deleted {
		r.verdict = VerdictDeleted
	}
	expires := time.Time{}
	switch r.verdict {
	case VerdictLeft:
		c.observe(event)
		return obj, c.fault("get", key, cfg.level, reasonSiblings, event.Err)
	case VerdictKept:
		obj.value, expires = distinct[r.index].Value, distinct[r.index].Expires
	case VerdictMerged:
		obj.value, expires = r.value, latestExpiry(distinct)
	case VerdictDeleted:
		obj.exists = false
	}
	obj = c.writeBack(ctx, key, obj, expires, event, mode)
	if !obj.exists {
		return obj, c.fault("get", key, cfg.level, reasonNotFound, nil)
	}
	return obj, nil
}

// latestExpiry is when a merge of siblings expires: with the last of them, and
// never if one of them never does.
func latestExpiry(siblings []Sibling) time.Time {
	var last time.Time
	for _, s := range siblings {
		if s.Deleted {
			continue
		}
		if s.Expires.IsZero() {
			return time.Time{}
		}
		if s.Expires.After(last) {
			last = s.Expires
		}
	}
	return last
}

// fault is an error that is no failure of the cluster.
func (c *Client) fault(opName, key string, level Level, reason string, cause error) error {
	e := &Error{Op: opName, KeyHash: c.hash(key), Level: level, Reason: reason, cause: cause}
	e.Code = reasonCodes[reason]
	e.Detail = sentinels[reason][0].Error()
	if v := c.cluster.view.Load(); v != nil {
		e.Region = v.region
	}
	return e
}

func (c *Client) observe(e ConflictEvent) {
	if c.config.onConflict != nil {
		c.config.onConflict(e)
	}
}
