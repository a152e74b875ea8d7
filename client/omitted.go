package client

import (
	"context"
	"errors"
	"sync"
	"time"

	atollv1 "github.com/atolldb/atoll/proto/atoll/v1"
)

// The answer to a read holds at most 1 MiB of siblings; the values of others are
// left out. They are fetched one by one before the caller sees any of them.

const (
	// omittedAtOnce of one key are fetched at a time.
	omittedAtOnce = 4
	// omittedTries is how often a key is read anew because a sibling was gone when
	// its value was asked for.
	omittedTries = 3
)

// OmitOption is OmitLarge's option.
type OmitOption struct{}

// OmitLarge leaves out the values that the node left out of its answer, because
// all siblings together are more than 1 MiB: Sibling.Omitted is set, Size says how
// large they are, and GetVersion has them. The call then resolves nothing.
func OmitLarge() OmitOption { return OmitOption{} }

func (OmitOption) applyRead(c *readConfig) { c.omit, c.resolver = true, nil }

// GetVersion returns one sibling of a key, as a read has shown it. It is
// ErrNoVersion when somebody has replaced it meanwhile. Without a level any owner
// that has it answers: a version never has two values.
func (c *Client) GetVersion(ctx context.Context, key string, id VersionID, opts ...ReadOption) (Sibling, error) {
	var cfg readConfig
	for _, o := range opts {
		o.applyRead(&cfg)
	}
	return c.getVersion(ctx, key, id, cfg.level)
}

func (c *Client) getVersion(ctx context.Context, key string, id VersionID, level Level) (Sibling, error) {
	res := &atollv1.GetVersionResponse{}
	o := callOp("get version", key, false, atollv1.KV_GetVersion_FullMethodName, &atollv1.GetVersionRequest{
		Bucket: c.bucket, Key: []byte(key), Level: atollv1.Level(level), Version: &atollv1.Version{Actor: id.Actor, N: id.N},
	}, res)
	o.hash, o.keyless, o.level = c.hash(key), false, level
	if err := c.ask(ctx, o); err != nil {
		return Sibling{}, err
	}
	return sibling(res.GetSibling()), nil
}

// whole fetches the values that obj lacks. If a sibling is gone it reads the key
// anew.
func (c *Client) whole(ctx context.Context, key string, obj Object, cfg *readConfig) (Object, error) {
	if cfg.omit {
		return obj, nil
	}
	var err error
	for range omittedTries {
		if err = c.fetchOmitted(ctx, key, obj.siblings); !errors.Is(err, ErrNoVersion) {
			return obj, err
		}
		if obj, err = c.readOnce(ctx, key, cfg); err != nil {
			return obj, err
		}
	}
	return obj, c.fetchOmitted(ctx, key, obj.siblings)
}

// fetchOmitted completes siblings in place.
func (c *Client) fetchOmitted(ctx context.Context, key string, siblings []Sibling) error {
	var missing []*Sibling
	for i := range siblings {
		if siblings[i].Omitted {
			missing = append(missing, &siblings[i])
		}
	}
	if len(missing) == 0 {
		return nil
	}
	ctx, cancel := context.WithDeadline(ctx, c.config.deadline(ctx, time.Now()))
	defer cancel()
	errs := make([]error, len(missing))
	var all sync.WaitGroup
	for w := range min(omittedAtOnce, len(missing)) {
		all.Go(func() {
			for i := w; i < len(missing) && ctx.Err() == nil; i += omittedAtOnce {
				s, err := c.getVersion(ctx, key, missing[i].ID, 0)
				if errs[i] = err; err != nil {
					cancel() // the others are of no use
					return
				}
				*missing[i] = s
			}
		})
	}
	all.Wait()
	var first error
	for _, err := range errs {
		if errors.Is(err, ErrNoVersion) {
			return err
		}
		if first == nil || errors.Is(first, context.Canceled) {
			first = err
		}
	}
	if first == nil && ctx.Err() != nil {
		return c.fault("get", key, 0, "DEADLINE", ctx.Err())
	}
	return first
}
