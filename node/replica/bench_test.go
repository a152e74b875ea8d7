package replica_test

import (
	"context"
	"testing"
	"time"

	"github.com/hashicorp/go-hclog"

	"github.com/atolldb/atoll/crdt/hlc"
	"github.com/atolldb/atoll/hashring"
	"github.com/atolldb/atoll/node/replica"
	"github.com/atolldb/atoll/node/storage/memstore"
	"github.com/atolldb/atoll/node/topology/memtopo"
)

// running is a replica on a memory engine, outside of a bubble.
func running(b *testing.B) *replica.Replica {
	engine, err := memstore.NewDisk(memstore.Config{}).Open()
	if err != nil {
		b.Fatal(err)
	}
	cfg := replica.Config{Node: "n1", DigestSeed: 7, Topology: rows(1, "n1", "n1", "n1", "n1")}
	r, err := replica.Open(cfg, engine, memtopo.New(1), hlc.New(time.Now), hclog.NewNullLogger())
	if err != nil {
		b.Fatal(err)
	}
	ctx, stop := context.WithCancel(b.Context())
	ended := make(chan error, 1)
	go func() { ended <- r.Run(ctx) }()
	b.Cleanup(func() {
		stop()
		<-ended
		engine.Close()
	})
	for r.Actor() == 0 {
		time.Sleep(time.Millisecond) // it takes its actor
	}
	return r
}

func BenchmarkRead(b *testing.B) {
	r := running(b)
	hash, k := hashring.KeyHash([]byte(key)), []byte(key)
	done := make(chan error, 1)
	r.Mint(replica.Mint{Key: k, KeyHash: hash, Value: make([]byte, 100), Done: func(_ *replica.Minted, err error) { done <- err }})
	if err := <-done; err != nil {
		b.Fatal(err)
	}
	b.ReportAllocs()
	for b.Loop() {
		if _, err := r.Read(1, hash, k); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkMint(b *testing.B) {
	r := running(b)
	hash, k := hashring.KeyHash([]byte(key)), []byte(key)
	done := make(chan error, 1)
	b.ReportAllocs()
	for b.Loop() {
		r.Mint(replica.Mint{Key: k, KeyHash: hash, Epoch: 1, Overwrite: true, Value: make([]byte, 100),
			Done: func(_ *replica.Minted, err error) { done <- err }})
		if err := <-done; err != nil {
			b.Fatal(err)
		}
	}
}
