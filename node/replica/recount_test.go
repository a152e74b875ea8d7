package replica_test

import (
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/atolldb/atoll/node/storage/memstore"
	"github.com/atolldb/atoll/node/topology/memtopo"
)

// Two recounts of a partition at once: what one of them has found and corrected
// is not corrected again by the other.
func TestRecountTwiceAtOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := newPlace(t, "n1", memtopo.New(1), memstore.Config{SyncMin: time.Second, SyncMax: time.Second})
		p.start()
		p.put(key, "v")
		p.disk.LoseRecord(recordKey(key))
		part := partOf(key)
		var both sync.WaitGroup
		// Both are queued while a write is synced, and so begin at one moment.
		both.Go(func() { p.put(key+"2", "v") })
		synctest.Wait()
		var mu sync.Mutex
		found := 0
		for range 2 {
			both.Go(func() {
				differed, err := p.Recount(part)
				mu.Lock()
				defer mu.Unlock()
				if err != nil {
					t.Error(err)
				}
				if differed {
					found++
				}
			})
		}
		both.Wait()
		if d, err := p.DigestFromStore(part); err != nil || d != p.Sum(part).Digest || found != 1 {
			t.Errorf("kept digest %x, records give %x, %v; %d recounts found a difference", p.Sum(part).Digest, d, err, found)
		}
		p.stop()
	})
}
