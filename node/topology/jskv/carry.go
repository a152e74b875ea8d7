package jskv

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/atolldb/atoll/node/topology"
)

// What a bucket holds can be carried into that of other servers, as JSON:
//
//	{"format":1, "region":"east", "region_id":3,
//	 "entries":[{"key":"actors","value":"<base64>"}, ...]}
//
// The lease stays behind. Entries are in the order in which they are put in:
// the topology last, so that who sees it sees all the rest.

const carryFormat = 1

type carried struct {
	Format   int               `json:"format"`
	Region   topology.Region   `json:"region"`
	RegionID topology.RegionID `json:"region_id"`
	Entries  []carriedEntry    `json:"entries"`
}

type carriedEntry struct {
	Key   string `json:"key"`
	Value []byte `json:"value"`
}

// Export returns all that a region's bucket holds. Nobody may change it
// meanwhile, or afterwards.
func Export(ctx context.Context, cfg Config, nc *nats.Conn) ([]byte, error) {
	b, err := newBucket(cfg, nc)
	if err != nil {
		return nil, fmt.Errorf("export metadata of %s: %w", cfg.Region, err)
	}
	var c carried
	err = b.retry(ctx, func(ctx context.Context, kv jetstream.KeyValue) error {
		c = carried{Format: carryFormat, Region: cfg.Region, RegionID: cfg.RegionID}
		keys, err := kv.Keys(ctx)
		if errors.Is(err, jetstream.ErrNoKeysFound) {
			return nil
		}
		if err != nil {
			return err
		}
		slices.SortFunc(keys, lastTopology)
		for _, key := range keys {
			if key == leadKey {
				continue
			}
			entry, err := kv.Get(ctx, key)
			if err != nil {
				return fmt.Errorf("read %s: %w", key, err)
			}
			c.Entries = append(c.Entries, carriedEntry{key, entry.Value()})
		}
		return nil
	})
	if err != nil {
		return nil, fmt.Errorf("export metadata of %s: %w", cfg.Region, err)
	}
	out, err := json.MarshalIndent(c, "", " ")
	if err != nil {
		return nil, fmt.Errorf("export metadata of %s: %w", cfg.Region, err)
	}
	return out, nil
}

// lastTopology orders keys by name, the topology behind all others.
func lastTopology(a, b string) int {
	rank := func(key string) string {
		if key == topologyKey {
			return "~" // above all letters
		}
		return key
	}
	switch x, y := rank(a), rank(b); {
	case x < y:
		return -1
	case x > y:
		return 1
	}
	return 0
}

// Import puts what Export returned into the bucket of nc's servers. What the
// bucket has already wins, where it is newer: done twice, it changes nothing. It
// repeats what is not answered until ctx ends.
func Import(ctx context.Context, cfg Config, nc *nats.Conn, data []byte) error {
	fail := func(err error) error { return fmt.Errorf("import metadata of %s: %w", cfg.Region, err) }
	var c carried
	if err := json.Unmarshal(data, &c); err != nil {
		return fail(err)
	}
	switch {
	case c.Format != carryFormat:
		return fail(fmt.Errorf("format %d is not known to this version", c.Format))
	case c.Region != cfg.Region || c.RegionID != cfg.RegionID:
		return fail(fmt.Errorf("it is of region %s with id %d, this is %s with id %d", c.Region, c.RegionID, cfg.Region, cfg.RegionID))
	}
	b, err := newBucket(cfg, nc)
	if err != nil {
		return fail(err)
	}
	slices.SortStableFunc(c.Entries, func(x, y carriedEntry) int { return lastTopology(x.Key, y.Key) })
	for _, e := range c.Entries {
		err := b.retry(ctx, func(ctx context.Context, kv jetstream.KeyValue) error { return importEntry(ctx, kv, e) })
		if err != nil {
			return fail(fmt.Errorf("%s: %w", e.Key, err))
		}
	}
	return nil
}

func importEntry(ctx context.Context, kv jetstream.KeyValue, e carriedEntry) error {
	have, err := kv.Get(ctx, e.Key)
	rev := uint64(0)
	switch {
	case errors.Is(err, jetstream.ErrKeyNotFound):
	case err != nil:
		return err
	default:
		rev = have.Revision()
		newer, err := supersedes(e, have.Value())
		if err != nil {
			return final{err}
		}
		if !newer {
			return nil
		}
	}
	_, err = kv.Update(ctx, e.Key, e.Value, rev)
	return err
}

// supersedes reports whether a carried entry is newer than what there is.
func supersedes(e carriedEntry, have []byte) (bool, error) {
	switch e.Key {
	case actorsKey:
		var mine, theirs counter
		if err := errors.Join(json.Unmarshal(e.Value, &mine), json.Unmarshal(have, &theirs)); err != nil {
			return false, err
		}
		return mine.Seq > theirs.Seq, nil
	case topologyKey:
		mine, err := parseValue(e.Value)
		if err != nil {
			return false, err
		}
		theirs, err := parseValue(have)
		if err != nil {
			return false, err
		}
		return mine.Epoch > theirs.Epoch, nil
	}
	return false, nil // an identity that was handed out since, or a fact
}
