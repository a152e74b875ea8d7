package api

import (
	"math/rand/v2"
	"sync"
	"sync/atomic"

	"github.com/atolldb/atoll/node/coord"
	"github.com/atolldb/atoll/node/hotkey"
)

const (
	hotShards = 16
	// hotKeys are counted by each shard, reads and writes apart. With the
	// shards' total, a key with a thousandth of all requests is never missed,
	// and memory is 2 MiB and the keys at most.
	hotKeys = 64
	// A shard that is asked for more than hotBusy requests a second counts one
	// in hotSample, chosen at random, for as many: counting costs some 80 ns
	// when all keys are cold. The rate of a key with n requests in the window is
	// then off by some 2/sqrt(n).
	hotBusy   = 1000
	hotSample = 4
	hotLook   = 512 // requests after which a shard looks how busy it is
)

// hotCounter counts clients' requests by key. A key belongs to one shard, so
// that requests for different keys rarely meet at a lock.
type hotCounter struct {
	shards [hotShards]hotShard
}

type hotShard struct {
	mu            sync.Mutex
	reads, writes *hotkey.Sketch
	seen          int   // requests since looked
	looked        int64 // in milliseconds
	// every is 1, or hotSample when the shard is busy.
	every atomic.Uint32
	_     [64]byte // keeps the next one off this cache line
}

func newHotCounter() *hotCounter {
	h := &hotCounter{}
	for i := range h.shards {
		h.shards[i].every.Store(1)
		h.shards[i].reads, h.shards[i].writes = hotkey.NewSketch(hotKeys), hotkey.NewSketch(hotKeys)
	}
	return h
}

// add counts one request at a time in milliseconds; hash is hotkey.Hash.
func (h *hotCounter) add(now int64, write bool, hash uint64, bucket string, key []byte) {
	if len(key) > coord.MaxKey || len(bucket) > coord.MaxBucket {
		return // will be refused, and is too much to keep
	}
	s := &h.shards[hash>>60]
	every := s.every.Load()
	if every > 1 && rand.Uint32()%hotSample != 0 {
		return
	}
	s.mu.Lock()
	sketch := s.reads
	if write {
		sketch = s.writes
	}
	sketch.Add(now, hash, bucket, key, float64(every))
	if s.seen += int(every); s.seen >= hotLook {
		busy := int64(s.seen)*1000 > hotBusy*(now-s.looked)
		s.seen, s.looked = 0, now
		s.every.Store(1)
		if busy {
			s.every.Store(hotSample)
		}
	}
	s.mu.Unlock()
}

func (h *hotCounter) report(now int64, n int) hotkey.Report {
	var reads, writes []hotkey.Counts
	for i := range h.shards {
		s := &h.shards[i]
		s.mu.Lock()
		reads = append(reads, s.reads.Counts(now))
		writes = append(writes, s.writes.Counts(now))
		s.mu.Unlock()
	}
	return hotkey.Collect(n, reads, writes)
}

// HotKeys returns the n keys that clients ask this node for most, which it
// need not own. Requests count when they arrive, also those that are refused.
func (s *KVService) HotKeys(n int) hotkey.Report {
	return s.hot.report(s.limits.clock()/int64(1e6), n)
}
