package replica_test

import (
	"context"
	"encoding/binary"
	"syscall"
	"testing"
	"time"

	"github.com/hashicorp/go-hclog"

	"github.com/atolldb/atoll/crdt"
	"github.com/atolldb/atoll/crdt/hlc"
	"github.com/atolldb/atoll/hashring"
	"github.com/atolldb/atoll/node/replica"
	"github.com/atolldb/atoll/node/storage"
	"github.com/atolldb/atoll/node/storage/badgerstore"
	"github.com/atolldb/atoll/node/storage/memstore"
	"github.com/atolldb/atoll/node/topology/memtopo"
	"github.com/atolldb/atoll/node/wire"
)

// running is a replica on a memory engine, outside of a bubble.
func running(b *testing.B) *replica.Replica {
	engine, err := memstore.NewDisk(memstore.Config{}).Open()
	if err != nil {
		b.Fatal(err)
	}
	return runningOn(b, engine)
}

func runningOn(b *testing.B, engine storage.Engine) *replica.Replica {
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

// What a request id costs a write on a real disk, with and without in turn: the
// trace of the request is looked for and written, and the index names it.
func BenchmarkRequest(b *testing.B) {
	for _, named := range []bool{false, true} {
		b.Run(map[bool]string{false: "without", true: "with"}[named], func(b *testing.B) {
			engine, err := badgerstore.Open(badgerstore.Config{Dir: b.TempDir()})
			if err != nil {
				b.Fatal(err)
			}
			r := runningOn(b, engine)
			const window = 256 // writes at a time, so that groups form as they do under load
			slots, failed := make(chan struct{}, window), make(chan error, 1)
			value := make([]byte, 200)
			key := []byte("bench\x00key-00000000")
			n := 0
			var before, after syscall.Rusage
			if err := syscall.Getrusage(syscall.RUSAGE_SELF, &before); err != nil {
				b.Fatal(err)
			}
			for b.Loop() {
				n++
				k := append([]byte(nil), key...)
				binary.BigEndian.PutUint64(k[len(k)-8:], uint64(n)*0x9e3779b97f4a7c15)
				m := replica.Mint{Key: k, KeyHash: hashring.KeyHash(k), Epoch: 1, Overwrite: true, Value: value,
					Done: func(_ *replica.Minted, err error) {
						if err != nil {
							select {
							case failed <- err:
							default:
							}
						}
						<-slots
					}}
				if named {
					m.ID = crdt.MakeRequestID(time.Now().UnixMilli(), [10]byte(binary.BigEndian.AppendUint64([]byte{0, 0}, uint64(n))))
				}
				slots <- struct{}{}
				r.Mint(m)
			}
			for range window {
				slots <- struct{}{}
			}
			select {
			case err := <-failed:
				b.Fatal(err)
			default:
			}
			if err := syscall.Getrusage(syscall.RUSAGE_SELF, &after); err != nil {
				b.Fatal(err)
			}
			micros := func(u *syscall.Rusage) float64 {
				return float64(u.Utime.Nano()+u.Stime.Nano()) / 1000
			}
			b.ReportMetric((micros(&after)-micros(&before))/float64(n), "cpu-us/op")
		})
	}
}

// What a record of 1 KB that another region wrote costs an owner, in batches as they
// come after a cut, several at a time.
func BenchmarkApplyBatch(b *testing.B) {
	engine, err := badgerstore.Open(badgerstore.Config{Dir: b.TempDir()})
	if err != nil {
		b.Fatal(err)
	}
	r := runningOn(b, engine)
	const size, window = 60, 16 // 64 KiB
	slots, failed := make(chan struct{}, window), make(chan error, 1)
	value := make([]byte, 1<<10)
	for i := range value {
		value[i] = byte(i * i * 31 >> 3)
	}
	next := uint64(0)
	minted := map[hashring.Partition]uint64{}
	batch := func() []wire.Entry {
		entries := make([]wire.Entry, size)
		for i := range entries {
			next++
			k := binary.BigEndian.AppendUint64([]byte("bench\x00key-"), next*0x9e3779b97f4a7c15)
			hash := hashring.KeyHash(k)
			p := r.Partition(hash)
			minted[p]++
			dot := crdt.Dot{Actor: stranger, N: minted[p]}
			entries[i] = wire.Entry{Key: k, Dots: []crdt.Dot{dot}, Record: crdt.AppendRecord(nil, hash, crdt.Record{Versions: []crdt.Version{
				{Dot: dot, Stamp: hlc.FromMillis(time.Now().UnixMilli()), Value: value},
			}})}
		}
		return entries
	}
	var spent time.Duration
	cpu := func() time.Duration {
		var u syscall.Rusage
		if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
			b.Fatal(err)
		}
		return time.Duration(u.Utime.Nano() + u.Stime.Nano())
	}
	for b.Loop() {
		batches := make([][]wire.Entry, 64)
		for i := range batches {
			batches[i] = batch()
		}
		began := cpu()
		for _, entries := range batches {
			slots <- struct{}{}
			r.Apply(entries, func(_ int, err error) {
				if err != nil {
					select {
					case failed <- err:
					default:
					}
				}
				<-slots
			})
		}
		for range window {
			slots <- struct{}{}
		}
		for range window {
			<-slots
		}
		spent += cpu() - began
	}
	select {
	case err := <-failed:
		b.Fatal(err)
	default:
	}
	b.ReportMetric(float64(spent.Microseconds())/float64(next), "cpu-us/record")
}
