package recovery

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"time"

	"github.com/atolldb/atoll/client"
	"github.com/atolldb/atoll/cmd/atoll/bulk"
	"github.com/atolldb/atoll/internal/pause"
	adminv1 "github.com/atolldb/atoll/proto/atoll/admin/v1"
)

// maxPatience is well below the time for which owners remember a request.
const maxPatience = 5 * time.Minute

// one does what is to be done for a record. Not ok: the restore stops, and the
// record has to be looked at again.
func (r *Restore) one(ctx context.Context, rec *adminv1.ExportRecord) (v Verdict, err error, ok bool) { //nolint:revive // ok is about err
	k := key{r: r, ctx: context.WithoutCancel(ctx), stop: ctx, name: string(rec.Key), until: time.Now().Add(min(r.config.Patience, maxPatience))}
	info, known := r.config.Buckets[rec.Bucket]
	if !known {
		r.stop(fmt.Errorf("the deployment has no bucket %s", rec.Bucket))
		return 0, nil, false
	}
	k.info, k.c = info, r.config.Client.In(rec.Bucket)
	for {
		v, err = k.judge(rec)
		// In a bucket of kind lww somebody has written the key since it was read.
		if !errors.Is(err, client.ErrConditionFailed) || !k.again() {
			break
		}
	}
	switch {
	case err == nil:
		return v, nil, true
	case ctx.Err() != nil && !k.begun:
		return 0, nil, false // it was not applied, and will be by who resumes
	case bulk.Hopeless(err) || bulk.Transient(err):
		r.stop(err)
		if !k.begun {
			return 0, nil, false
		}
	}
	return v, err, true
}

// key is one that is worked on.
type key struct {
	r     *Restore
	ctx   context.Context //nolint:containedctx // of one call of one
	stop  context.Context //nolint:containedctx // ends attempts, not operations
	c     *client.Client
	info  client.BucketInfo
	name  string
	until time.Time
	wait  time.Duration
	// begun: something of it is written, or perhaps.
	begun bool
}

// again waits a little, and reports whether there is time for another attempt.
func (k *key) again() bool {
	if k.wait = min(max(2*k.wait, bulk.MinPause), bulk.MaxPause); time.Now().Add(k.wait).After(k.until) {
		return false
	}
	return pause.For(k.stop, k.wait/2+rand.N(k.wait/2))
}

func (k *key) judge(rec *adminv1.ExportRecord) (Verdict, error) {
	obj, err := k.read()
	if err != nil {
		return 0, err
	}
	lww := k.info.Kind == client.LWW
	n := now{deleted: !obj.Exists() && !obj.Version().IsZero()}
	for _, s := range obj.Siblings() {
		if !s.Deleted {
			n.values = append(n.values, s.Value)
		}
	}
	p := decide(rec, lww, n, k.r.config.Conflict, time.Now().UnixMilli())
	if k.r.config.Dry || len(p.puts) == 0 {
		return p.verdict, nil
	}
	after := []client.WriteOption{client.After(obj.Version())}
	switch {
	case lww:
		after = []client.WriteOption{client.IfUnchanged(obj.Version())}
	case p.verdict == Added:
		after = nil // blind
	case obj.Version().IsZero() && k.info.RequireContext && len(p.puts) > 1:
		// The second value would be refused: there is nothing that it could follow.
		v, err := k.write(func(opts ...client.WriteOption) (client.Version, error) { return k.c.Delete(k.ctx, k.name, opts...) })
		if err != nil {
			return p.verdict, err
		}
		after = []client.WriteOption{client.After(v)}
	}
	for _, put := range p.puts {
		_, err := k.write(func(opts ...client.WriteOption) (client.Version, error) {
			opts = append(opts, after...)
			if put.ttl > 0 {
				opts = append(opts, client.TTL(put.ttl))
			}
			return k.c.Put(k.ctx, k.name, put.bytes, opts...)
		})
		if err != nil {
			return p.verdict, err
		}
	}
	return p.verdict, nil
}

func (k *key) read() (client.Object, error) {
	for {
		obj, err := k.c.Get(k.ctx, k.name, k.r.config.Read...)
		switch {
		case err == nil, errors.Is(err, client.ErrNotFound), errors.Is(err, client.ErrSiblings):
			return obj, nil
		case k.r.config.Dry && errors.Is(err, client.ErrNoBucket):
			return obj, nil // it would be made, and empty
		case !bulk.Transient(err) || !k.again():
			return obj, err
		}
	}
}

// write tries until a write is applied, all attempts under one id, so that it
// happens once.
func (k *key) write(do func(...client.WriteOption) (client.Version, error)) (client.Version, error) {
	id := client.NewRequestID()
	request := client.Request(id)
	for {
		v, err := do(append(slices.Clone(k.r.config.Write), request)...)
		unknown := errors.Is(err, client.ErrUnknownOutcome)
		if err == nil || errors.Is(err, client.ErrPartial) || unknown {
			k.begun = true
		}
		switch {
		case err == nil, errors.Is(err, client.ErrPartial):
			return v, nil
		case unknown:
			request = client.Again(id)
		case !bulk.Transient(err):
			return v, err
		}
		if !k.again() {
			return v, err
		}
	}
}
