// Package apitest is a region in memory behind the real rim: coordinators over
// one map of crdt records, so that siblings, contexts and tombstones are what
// they are on a real node, and gRPC servers on loopback. It replicates
// nothing; faults are injected per operation.
//
// Goroutines: those of the gRPC servers, and one for each operation that a
// Fault holds. Region.Close ends the servers.
package apitest

import (
	"bytes"
	"context"
	"errors"
	"slices"
	"strconv"
	"sync"
	"time"

	"github.com/atolldb/atoll/crdt"
	"github.com/atolldb/atoll/crdt/hlc"
	"github.com/atolldb/atoll/hashring"
	"github.com/atolldb/atoll/node/api"
	"github.com/atolldb/atoll/node/coord"
	"github.com/atolldb/atoll/node/quorum"
	"github.com/atolldb/atoll/node/topology"
)

// LWWBucket is of kind LWW and there from the start, beside
// coord.DefaultBucket.
const LWWBucket = "lww"

// Store holds the records of a region.
type Store struct {
	Buckets *Buckets
	clock   *hlc.Clock
	keys    crdt.Keys

	mu      sync.Mutex
	records map[string]crdt.Record // by full key
	minted  map[crdt.Actor]uint64
	// requests that were carried out, and those that were ended.
	requests map[request]coord.PutResult
	ended    map[request]bool
}

type request struct {
	key string // full
	id  coord.RequestID
}

// NewStore returns an empty store.
func NewStore() *Store {
	clock := hlc.New(time.Now)
	return &Store{
		Buckets: newBuckets(clock),
		clock:   clock,
		keys:    crdt.Keys{crdt.Secret("apitest")},
		records: make(map[string]crdt.Record),
		minted:  make(map[crdt.Actor]uint64),

		requests: make(map[request]coord.PutResult),
		ended:    make(map[request]bool),
	}
}

func fullKey(bucket string, key []byte) string {
	if bucket == "" {
		bucket = coord.DefaultBucket
	}
	return bucket + "\x00" + string(key)
}

func (s *Store) kindOf(name string) (crdt.Kind, *coord.Error) {
	if name == "" {
		name = coord.DefaultBucket
	}
	if d, ok := s.Buckets.find(name); ok {
		return d.Kind, nil
	}
	return 0, &coord.Error{Code: coord.CodeNoBucket, Detail: "no bucket " + name}
}

// Record returns what the store holds of a key.
func (s *Store) Record(bucket, key string) crdt.Record {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.records[fullKey(bucket, []byte(key))]
}

// Blind writes a value as actor would after a partition: it has seen nothing.
func (s *Store) Blind(bucket, key string, actor crdt.Actor, value string) crdt.Dot {
	s.mu.Lock()
	defer s.mu.Unlock()
	full := fullKey(bucket, []byte(key))
	v := s.mint(actor, 0)
	v.Value = []byte(value)
	s.records[full] = crdt.Write(s.records[full], nil, v)
	return v.Dot
}

// mint is called with mu held.
func (s *Store) mint(actor crdt.Actor, after hlc.Stamp) crdt.Version {
	s.minted[actor]++
	return crdt.Version{Dot: crdt.Dot{Actor: actor, N: s.minted[actor]}, Stamp: s.clock.Next(after)}
}

func (s *Store) get(g coord.Get) (coord.GetResult, error) {
	if err := checkKey(g.Key); err != nil {
		return coord.GetResult{}, err
	}
	kind, bad := s.kindOf(g.Bucket)
	if bad != nil {
		return coord.GetResult{}, bad
	}
	full := fullKey(g.Bucket, g.Key)
	s.mu.Lock()
	rec := s.records[full]
	s.mu.Unlock()
	return s.show(full, kind, rec), nil
}

func (s *Store) show(full string, kind crdt.Kind, rec crdt.Record) coord.GetResult {
	res := coord.GetResult{View: crdt.Read(rec, kind, s.clock.Now())}
	if len(rec.Versions) > 0 {
		res.Context = crdt.AppendContext(nil, s.keys, []byte(full), rec.Context())
	}
	return res
}

func (s *Store) put(actor crdt.Actor, p coord.Put) (coord.PutResult, error) {
	if err := checkKey(p.Key); err != nil {
		return coord.PutResult{}, err
	}
	if n := len(p.Value); n > coord.DefaultMaxValue {
		return coord.PutResult{}, tooLarge("value", coord.DefaultMaxValue, n)
	}
	kind, bad := s.kindOf(p.Bucket)
	if bad != nil {
		return coord.PutResult{}, bad
	}
	full := fullKey(p.Bucket, p.Key)
	seen, err := crdt.DecodeContext(s.keys, []byte(full), p.Context)
	if err != nil {
		return coord.PutResult{}, &coord.Error{Code: coord.CodeBadContext, Detail: err.Error()}
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	asked := request{full, p.RequestID}
	if was, ok := s.requests[asked]; ok && !p.RequestID.IsZero() {
		was.Replayed = true
		return was, nil
	}
	if s.ended[asked] {
		return coord.PutResult{}, &coord.Error{Code: coord.CodeInvalid, Field: "request_id", Detail: "its outcome was asked for"}
	}
	rec := s.records[full]
	if !p.Condition.Holds(rec, seen.Seen, s.clock.Now()) {
		current := s.show(full, kind, rec)
		return coord.PutResult{}, &coord.Error{
			Code: coord.CodeConditionFailed, Detail: "the condition does not hold: " + p.Condition.String(), Current: &current,
		}
	}
	if kind == crdt.LWW || p.Condition.Kind != crdt.Always || len(p.Context) == 0 && (p.Overwrite || p.Delete) {
		seen = rec.Context()
	}
	v := s.mint(actor, max(seen.Stamp, rec.MaxStamp()))
	v.Dead, v.Value = p.Delete, bytes.Clone(p.Value)
	if p.TTL > 0 {
		v.Expiry = s.clock.Now() + p.TTL.Milliseconds()
	}
	after := seen.After(rec, &v)
	s.records[full] = crdt.Write(rec, seen.Seen, v)
	res := coord.PutResult{
		Version: v.Dot, Stamp: v.Stamp,
		Context: crdt.AppendContext(nil, s.keys, []byte(full), after),
	}
	s.requests[asked] = res
	return res, nil
}

func (s *Store) outcome(o coord.OutcomeQuery) coord.OutcomeResult {
	s.mu.Lock()
	defer s.mu.Unlock()
	asked := request{fullKey(o.Bucket, o.Key), o.RequestID}
	if was, ok := s.requests[asked]; ok {
		return coord.OutcomeResult{Outcome: coord.Applied, Version: was.Version, Stamp: was.Stamp, Asked: 1, Answered: 1}
	}
	s.ended[asked] = true
	return coord.OutcomeResult{Outcome: coord.NotApplied, Asked: 1, Answered: 1}
}

func checkKey(key []byte) error {
	if n := len(key); n == 0 || n > coord.MaxKey {
		return tooLarge("key", coord.MaxKey, n)
	}
	return nil
}

func tooLarge(field string, limit, seen int) *coord.Error {
	return &coord.Error{
		Code: coord.CodeInvalid, Detail: field + " is out of bounds", Field: field,
		Limit: strconv.Itoa(limit) + " bytes", Seen: strconv.Itoa(seen) + " bytes",
	}
}

func (s *Store) export(ctx context.Context, bucket string, yield func(api.ExportedRecord) error) error {
	s.mu.Lock()
	records := make(map[string]crdt.Record, len(s.records))
	keys := make([]string, 0, len(s.records))
	for k, r := range s.records {
		records[k] = r
		keys = append(keys, k)
	}
	s.mu.Unlock()
	slices.SortFunc(keys, func(a, b string) int {
		ha, hb := hashring.KeyHash([]byte(a)), hashring.KeyHash([]byte(b))
		if ha != hb {
			if ha < hb {
				return -1
			}
			return 1
		}
		return bytes.Compare([]byte(a), []byte(b))
	})
	for _, k := range keys {
		b, key, ok := bytes.Cut([]byte(k), []byte{0})
		if !ok {
			return errors.New("a full key without a separator")
		}
		if bucket != "" && bucket != string(b) {
			continue
		}
		if err := ctx.Err(); err != nil {
			return err
		}
		if err := yield(api.ExportedRecord{Bucket: string(b), Key: key, Record: records[k]}); err != nil {
			return err
		}
	}
	return nil
}

// achieved pretends that as many owners answered as were asked for.
func achieved(t *topology.Topology, self topology.NodeID, key string, level quorum.Level, explicit, regions int) (coord.Achieved, error) {
	if regions > 1 {
		return coord.Achieved{}, &coord.Error{
			Code: coord.CodeInvalid, Detail: "there are not so many regions", Field: "regions", Limit: "1..1", Seen: strconv.Itoa(regions),
		}
	}
	owners := t.Owners(hashring.PartitionOf(hashring.KeyHash([]byte(key)), t.Table.Partitions()))
	if level == quorum.Default {
		level = quorum.LocalQuorum
	}
	need, err := level.Need(len(owners))
	if explicit > 0 {
		need = explicit
		if need > len(owners) {
			err = errors.New("more than the partition's owners")
		}
	}
	if err != nil {
		return coord.Achieved{}, &coord.Error{
			Code: coord.CodeInvalid, Detail: err.Error(), Field: "level",
			Limit: strconv.Itoa(len(owners)), Seen: strconv.Itoa(max(explicit, int(level))),
		}
	}
	a := coord.Achieved{Level: level, Needed: need, Coordinator: self}
	for _, id := range owners[:need] {
		a.Replicas = append(a.Replicas, topology.NodeID(id))
	}
	return a, nil
}
