package nodetest

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/atolldb/atoll/crdt"
	"github.com/atolldb/atoll/geo"
	"github.com/atolldb/atoll/hashring"
	"github.com/atolldb/atoll/internal/pause"
	"github.com/atolldb/atoll/node/bucket"
	"github.com/atolldb/atoll/node/coord"
	"github.com/atolldb/atoll/node/quorum"
	"github.com/atolldb/atoll/node/wire"
)

// A World whose shape is Parted has buckets that are in some of the regions only:
// one of each region, and with three regions one of each two.

// partedBuckets are the definitions of those buckets.
func (w *World) partedBuckets() bucket.Table {
	if !w.shape.Parted {
		return nil
	}
	var out bucket.Table
	for r := range w.tops {
		out = out.With(bucket.Definition{Name: "in-" + w.name(r), Regions: []string{w.name(r)}})
		if next := (r + 1) % len(w.tops); len(w.tops) > 2 {
			in := []string{w.name(r), w.name(next)}
			slices.Sort(in)
			out = out.With(bucket.Definition{Name: "in-" + in[0] + in[1], Regions: in})
		}
	}
	return out
}

// tenants use buckets that not every region has.
type tenants struct {
	mu sync.Mutex
	// acked are the keys that were written at a quorum of a region of theirs and
	// not deleted, with the value; each key is written once.
	acked map[string]string // by full key
	n     int
}

// tenant is a client of one region.
func (w *World) tenant(i, region int, book *tenants) func(ctx context.Context) {
	c := w.client(i, region, nil)
	defs := w.partedBuckets()
	return func(ctx context.Context) {
		for pause.For(ctx, time.Duration(1+c.rng.IntN(150))*time.Millisecond) {
			if node := c.coordinator(); node != nil {
				c.tenancy(node, defs[c.rng.IntN(len(defs))], book)
			}
		}
	}
}

// tenancy writes one key, and now and then deletes it.
func (c *client) tenancy(node *coord.Coordinator, d bucket.Definition, book *tenants) {
	book.mu.Lock()
	book.n++
	key := fmt.Sprint("t", book.n)
	book.mu.Unlock()
	levels := []quorum.Level{quorum.LocalQuorum, quorum.LocalQuorum, quorum.LocalOne, quorum.EachQuorum}
	value := "v" + key
	if c.rng.IntN(8) == 0 {
		value += strings.Repeat(".", geo.ClaimBytes) // crosses as a claim
	}
	p := coord.Put{Bucket: d.Name, Key: []byte(key), Value: []byte(value), Level: levels[c.rng.IntN(len(levels))], Deadline: time.Now().Add(2 * time.Second)}
	res, err := c.putIn(node, p)
	here := c.w.name(c.region)
	var e *coord.Error
	switch {
	case !d.In(here) && (!errors.As(err, &e) || e.Code != coord.CodeNoBucket && e.Code != coord.CodeUnavailable && e.Code != coord.CodeDeadline):
		c.w.t.Errorf("I11: region %s answers for bucket %s: %v", here, d.Name, err)
		return
	case err != nil || p.Level == quorum.LocalOne:
		return
	}
	full := coord.FullKey(d.Name, []byte(key))
	if c.rng.IntN(4) == 0 {
		p.Delete, p.Value, p.Context, p.Level = true, nil, res.Context, quorum.LocalQuorum
		if _, err := c.putIn(node, p); !errors.As(err, &e) || e.Outcome != coord.NotApplied {
			return
		}
	}
	book.mu.Lock()
	defer book.mu.Unlock()
	book.acked[string(full)] = value
}

func (c *client) putIn(node *coord.Coordinator, p coord.Put) (coord.PutResult, error) {
	type outcome struct {
		res coord.PutResult
		err error
	}
	done := make(chan outcome, 1)
	node.Put(p, func(r coord.PutResult, err error) { done <- outcome{r, err} })
	select {
	case o := <-done:
		return o.res, o.err
	case <-time.After(30 * time.Second):
		c.w.t.Errorf("put of %s in bucket %s never answered", p.Key, p.Bucket)
		return coord.PutResult{}, errNobody
	}
}

// afar is how a node of region by asks one of region a.
func (w *World) afar(m *member, by int) wire.Afar {
	if by == m.region {
		return wire.Afar{}
	}
	a := m.running.Load().node.Replica().Afar(w.tops[by].Region)
	a.Region = w.name(by)
	return a
}

// apart checks I11: in no region is a record of a bucket that is not in it, and
// what was acknowledged is in every region of its bucket.
func (w *World) apart(book *tenants) (problems []string) {
	if !w.shape.Parted {
		return nil
	}
	defs := w.partedBuckets()
	for _, m := range w.all() {
		if m.gone.Load() {
			continue
		}
		for _, p := range m.running.Load().node.Replica().Owned() {
			err := w.scan(m, p, wire.Afar{}, func(e wire.Entry) {
				name, _, _ := bytes.Cut(e.Key, []byte{0})
				if d, ok := defs.Find(string(name)); ok && !d.In(w.name(m.region)) {
					problems = append(problems, fmt.Sprintf("I11: %s has a record of bucket %s", m.id, name))
				}
			})
			if err != nil {
				return append(problems, err.Error())
			}
		}
	}
	if w.faults.rollbacks+w.faults.wipes+w.faults.replaced > 0 {
		return problems
	}
	for full, value := range book.acked {
		name, _, _ := bytes.Cut([]byte(full), []byte{0})
		d, _ := defs.Find(string(name))
		hash := hashring.KeyHash([]byte(full))
		p := hashring.PartitionOf(hash, w.shape.Partitions)
		for _, m := range w.all() {
			if m.gone.Load() || w.lost[full] || !d.In(w.name(m.region)) {
				continue
			}
			r := m.running.Load().node.Replica()
			if !r.Owns(p) {
				continue
			}
			b, err := r.Read(0, hash, []byte(full))
			var rec crdt.Record
			if err == nil && len(b) > 0 {
				rec, err = crdt.DecodeRecord(hash, b)
			}
			if err != nil || len(rec.Versions) != 1 || string(rec.Versions[0].Value) != value {
				problems = append(problems, fmt.Sprintf("I1: %s lacks acknowledged %.20q of bucket %s: %v, %d versions", m.id, value, name, err, len(rec.Versions)))
			}
		}
	}
	return problems
}
