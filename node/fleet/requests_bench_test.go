package fleet_test

import (
	"context"
	"encoding/binary"
	"fmt"
	"slices"
	"syscall"
	"testing"
	"time"

	"github.com/atolldb/atoll/crdt"
	"github.com/atolldb/atoll/node/coord"
	"github.com/atolldb/atoll/node/fleet"
	"github.com/atolldb/atoll/node/topology"
)

// BenchmarkRequestID tells what a request id costs a put at a quorum of three real
// nodes on disks: rounds with and without take turns, so that both have the same
// machine. It reports the processor time of all nodes for a put while 64 are under
// way, as the median of the rounds and as the least, which others who use the machine
// disturb least; and the median of the time that one takes when it is alone.
func BenchmarkRequestID(b *testing.B) {
	f, err := fleet.New(fleet.Config{Regions: []topology.Region{"eu"}, Dir: b.TempDir(), Partitions: 8})
	if err != nil {
		b.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(b.Context(), 4*time.Minute)
	defer cancel()
	if err := f.Start(ctx); err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() {
		if err := f.Stop(); err != nil {
			b.Error(err)
		}
	})
	at := f.Process("eu-1").Node().Coordinator()
	value, n := make([]byte, 200), uint64(0)
	round := func(named bool, puts, window int) (cpu, took time.Duration) {
		slots, failed := make(chan struct{}, window), make(chan error, 1)
		before, began := processorTime(b), time.Now()
		for range puts {
			n++
			p := coord.Put{Key: fmt.Appendf(nil, "key-%d", n%10_000), Value: value, Overwrite: true, Deadline: time.Now().Add(time.Minute)}
			if named {
				p.RequestID = crdt.MakeRequestID(time.Now().UnixMilli(), [10]byte(binary.BigEndian.AppendUint64([]byte{0, 0}, n)))
			}
			slots <- struct{}{}
			at.Put(p, func(_ coord.PutResult, err error) {
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
		took, cpu = time.Since(began), processorTime(b)-before
		select {
		case err := <-failed:
			b.Fatal(err)
		default:
		}
		return cpu / time.Duration(puts), took / time.Duration(puts)
	}
	const rounds, many, few = 24, 2000, 50
	round(false, many, 64) // warm up
	round(true, many, 64)
	var cpu, alone [2][]time.Duration
	for b.Loop() {
		for i := range 2 * rounds {
			which := (i + 1) / 2 % 2 // without, with, with, without
			c, _ := round(which == 1, many, 64)
			cpu[which] = append(cpu[which], c)
			_, t := round(which == 1, few, 1)
			alone[which] = append(alone[which], t)
		}
	}
	for i, name := range []string{"without", "with"} {
		b.ReportMetric(median(cpu[i]), name+"-cpu-us/put")
		b.ReportMetric(float64(slices.Min(cpu[i]).Nanoseconds())/1000, name+"-least-cpu-us/put")
		b.ReportMetric(median(alone[i]), name+"-us/put-alone")
	}
}

func median(d []time.Duration) float64 {
	slices.Sort(d)
	return float64(d[len(d)/2].Nanoseconds()) / 1000
}

func processorTime(b *testing.B) time.Duration {
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
		b.Fatal(err)
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}
