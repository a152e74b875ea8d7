package badgerstore

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/atolldb/atoll/node/storage"
)

// increment is a read-modify-write of a 100-byte value and a small second
// entry, about what a record and its index entry are.
type increment struct {
	key  []byte
	done chan error
}

func (i *increment) Size() int      { return 130 }
func (i *increment) Decided()       {}
func (i *increment) Done(err error) { i.done <- err }
func (i *increment) Decide(tx storage.Txn) error {
	v, err := tx.Get(i.key)
	if errors.Is(err, storage.ErrNotFound) {
		v = make([]byte, 100)
	} else if err != nil {
		return err
	}
	n := binary.BigEndian.Uint64(v) + 1
	binary.BigEndian.PutUint64(v, n)
	if err := tx.Put(i.key, v); err != nil {
		return err
	}
	return tx.Put(binary.BigEndian.AppendUint64(append([]byte("i"), i.key...), n), nil)
}

const benchKeys = 100_000

func benchKey(n int) []byte { return binary.BigEndian.AppendUint64([]byte("k"), uint64(n)) }

// BenchmarkCommitter is what the node does: many writers, one committer.
func BenchmarkCommitter(b *testing.B) {
	for _, writers := range []int{1, 64, 256} {
		b.Run(fmt.Sprintf("writers=%d", writers), func(b *testing.B) {
			s := open(b, Config{Dir: b.TempDir()})
			c := storage.NewCommitter(s, storage.CommitterConfig{})
			ctx, cancel := context.WithCancel(b.Context())
			end := make(chan error, 1)
			go func() { end <- c.Run(ctx) }()
			spread(b, writers, func(rng *rand.Rand) func() error {
				op := &increment{done: make(chan error, 1)}
				return func() error {
					op.key = benchKey(rng.IntN(benchKeys))
					if err := c.Submit(op); err != nil {
						return err
					}
					return <-op.done
				}
			})
			st := c.Stats()
			b.ReportMetric(float64(st.Ops)/float64(st.Groups), "ops/group")
			cancel()
			if err := <-end; err != nil {
				b.Fatal(err)
			}
		})
	}
}

// BenchmarkPlainCommit is the same with a transaction for each write: the
// engine has one writer, so they take turns.
func BenchmarkPlainCommit(b *testing.B) {
	for _, writers := range []int{64} {
		b.Run(fmt.Sprintf("writers=%d", writers), func(b *testing.B) {
			s := open(b, Config{Dir: b.TempDir()})
			var turn sync.Mutex
			spread(b, writers, func(rng *rand.Rand) func() error {
				return func() error {
					turn.Lock()
					defer turn.Unlock()
					tx, err := s.Begin()
					if err != nil {
						return err
					}
					op := &increment{key: benchKey(rng.IntN(benchKeys))}
					if err := op.Decide(tx); err != nil {
						tx.Discard()
						return err
					}
					return tx.Commit()
				}
			})
		})
	}
}

// spread runs b.N operations by so many writers.
func spread(b *testing.B, writers int, writer func(*rand.Rand) func() error) {
	b.ReportAllocs()
	var left atomic.Int64
	left.Store(int64(b.N))
	var wg sync.WaitGroup
	b.ResetTimer()
	for w := range writers {
		wg.Go(func() {
			do := writer(rand.New(rand.NewPCG(uint64(w), 1)))
			for left.Add(-1) >= 0 {
				if err := do(); err != nil {
					b.Error(err)
					return
				}
			}
		})
	}
	wg.Wait()
	b.StopTimer()
	b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "ops/s")
}

func BenchmarkGet(b *testing.B) {
	s := open(b, Config{Dir: b.TempDir()})
	tx, err := s.Begin()
	if err != nil {
		b.Fatal(err)
	}
	for n := range 10_000 {
		if err := tx.Put(benchKey(n), blob(byte(n), 100)); err != nil {
			b.Fatal(err)
		}
	}
	if err := tx.Commit(); err != nil {
		b.Fatal(err)
	}
	rng := rand.New(rand.NewPCG(1, 1))
	b.ReportAllocs()
	for b.Loop() {
		if _, err := s.Get(benchKey(rng.IntN(10_000))); err != nil {
			b.Fatal(err)
		}
	}
}

// BenchmarkLarge puts large values, one in a transaction, over the same keys.
func BenchmarkLarge(b *testing.B) {
	for _, size := range []int{64 << 10, 512 << 10, 1 << 20, 8 << 20} {
		b.Run(fmt.Sprintf("KiB=%d", size>>10), func(b *testing.B) {
			s := open(b, Config{Dir: b.TempDir()})
			value := blob(1, size)
			b.SetBytes(int64(size))
			n := 0
			for b.Loop() {
				tx, err := s.Begin()
				if err != nil {
					b.Fatal(err)
				}
				if err := tx.Put(benchKey(n%64), value); err != nil {
					b.Fatal(err)
				}
				if err := tx.Commit(); err != nil {
					b.Fatal(err)
				}
				n++
			}
		})
	}
}

// BenchmarkCheckMarkers is what a start costs when the ring is full.
func BenchmarkCheckMarkers(b *testing.B) {
	s := open(b, Config{Dir: b.TempDir()})
	for n := uint64(0); n < storage.MarkerSlots; {
		tx, err := s.Begin()
		if err != nil {
			b.Fatal(err)
		}
		for range 4096 {
			n++
			key := binary.BigEndian.AppendUint32([]byte{storage.MarkerPrefix}, uint32(n%storage.MarkerSlots))
			value := binary.BigEndian.AppendUint64(binary.BigEndian.AppendUint64(nil, n), 1)
			if err := tx.Put(key, value); err != nil {
				b.Fatal(err)
			}
		}
		if err := tx.Commit(); err != nil {
			b.Fatal(err)
		}
	}
	for b.Loop() {
		r, err := storage.CheckMarkers(s)
		if err != nil || r.Highest != storage.MarkerSlots || r.Missing > 0 {
			b.Fatal(r, err)
		}
	}
}
