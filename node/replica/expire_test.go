package replica_test

import (
	"errors"
	"testing"
	"testing/synctest"
	"time"

	"github.com/atolldb/atoll/hashring"
	"github.com/atolldb/atoll/node/replica"
	"github.com/atolldb/atoll/node/storage/memstore"
	"github.com/atolldb/atoll/node/topology/memtopo"
)

// TestExpiredWritesAreNotDecided: a write whose deadline passes in the queue,
// behind a slow disk, has no effect.
func TestExpiredWritesAreNotDecided(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := newPlace(t, "n1", memtopo.New(1), memstore.Config{SyncMin: 100 * time.Millisecond, SyncMax: 100 * time.Millisecond})
		p.start()
		first := make(chan error, 1)
		p.Mint(replica.Mint{Key: []byte("a"), KeyHash: hashring.KeyHash([]byte("a")), Done: func(_ *replica.Minted, err error) { first <- err }})
		time.Sleep(10 * time.Millisecond) // its group is syncing
		outcomes := make(chan error, 2)
		for _, left := range []time.Duration{50 * time.Millisecond, 5 * time.Second} {
			p.Mint(replica.Mint{
				Key: []byte("b"), KeyHash: hashring.KeyHash([]byte("b")), Value: []byte(left.String()), Expires: time.Now().Add(left),
				Done: func(_ *replica.Minted, err error) { outcomes <- err },
			})
		}
		if err := <-first; err != nil {
			t.Fatal(err)
		}
		if err := <-outcomes; !errors.Is(err, replica.ErrExpired) {
			t.Errorf("the write without time left: %v", err)
		}
		if err := <-outcomes; err != nil {
			t.Error(err)
		}
		if rec := p.record("b"); len(rec.Versions) != 1 || string(rec.Versions[0].Value) != "5s" {
			t.Errorf("stored: %v", rec)
		}
		p.stop()
	})
}
