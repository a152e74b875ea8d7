package catalog

import (
	"sync"
	"time"

	"github.com/atolldb/atoll/node/coord"
	"github.com/atolldb/atoll/node/topology"
)

// Who shows records to another region asks the catalog which regions have their
// buckets. A bucket that this node has not heard of may be one that is defined
// already: it is nobody's until a read of the store that began after the question
// knows nothing of it either. Then it is a bucket of some node's configuration,
// which every region has.

// maxStrangers bounds the names that are remembered; more stay unknown.
const maxStrangers = 1024

// strangers are buckets that were asked for and are not known, and since when.
type strangers struct {
	mu    sync.Mutex
	since map[string]time.Time
}

// Has reports whether a region has a bucket; known is false as long as nobody can
// tell. It does not block, and finds out for the next time.
func (c *Catalog) Has(region topology.Region, name []byte) (has, known bool) {
	if has, known = c.now.Load().place.Has(string(region), name); known {
		return has, known
	}
	if string(name) == coord.SystemBucket {
		return true, true
	}
	s := &c.strangers
	s.mu.Lock()
	since, asked := s.since[string(name)]
	if !asked && len(s.since) < maxStrangers {
		if s.since == nil {
			s.since = map[string]time.Time{}
		}
		s.since[string(name)] = time.Now()
	}
	s.mu.Unlock()
	switch {
	case asked && c.read.Load() >= since.UnixNano():
		return true, true
	case !asked:
		c.Refresh(time.Now().Add(readTimeout), func(error) {})
	}
	return false, false
}

// Apart is a hash of which buckets not both of two regions have, 0 for none.
func (c *Catalog) Apart(a, b topology.Region) uint64 {
	return c.now.Load().place.Apart(string(a), string(b))
}

// Hidden reports whether two regions have a bucket that a third one has not.
func (c *Catalog) Hidden(a, b, from topology.Region) bool {
	return c.now.Load().place.Hidden(string(a), string(b), string(from))
}
