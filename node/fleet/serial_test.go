package fleet_test

import (
	"context"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/atolldb/atoll/client"
	"github.com/atolldb/atoll/node/fleet"
	"github.com/atolldb/atoll/node/topology"
)

// Sixteen clients of two regions increment one counter at SERIAL, over the real
// transport: it is exact, and both regions read it.
func TestSerialCounterOfTwoRegions(t *testing.T) {
	f, err := fleet.New(fleet.Config{Regions: []topology.Region{"eu", "us"}, Dir: t.TempDir(), Latency: 5 * time.Millisecond, Partitions: 8})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute)
	defer cancel()
	if err := f.Start(ctx); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := f.Stop(); err != nil {
			t.Error(err)
		}
	})
	open := func(region topology.Region) *client.Client {
		c, err := client.Open(ctx, strings.Join(f.Endpoints(region), ","), client.NoSession(), client.Timeout(30*time.Second))
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { c.Close() })
		return c
	}
	eu, us := open("eu"), open("us")
	if _, err := eu.Buckets().Create(ctx, client.BucketInfo{Name: "counters", Home: "eu"}); err != nil {
		t.Fatal(err)
	}
	const clients, each = 16, 12
	add := func(cur client.Object) ([]byte, error) {
		n, _ := strconv.Atoi(string(cur.Value()))
		return []byte(strconv.Itoa(n + 1)), nil
	}
	// The other region hears of the bucket by and by.
	for {
		if _, err = us.In("counters").Update(ctx, "visits", add, client.Serial); err == nil {
			break
		}
		if ctx.Err() != nil {
			t.Fatal(err)
		}
	}
	var work sync.WaitGroup
	for i := range clients {
		c := []*client.Client{eu, us}[i%2].In("counters")
		work.Go(func() {
			for range each {
				if _, err := c.Update(ctx, "visits", add, client.Serial); err != nil {
					t.Error(err)
					return
				}
			}
		})
	}
	work.Wait()
	for _, c := range []*client.Client{eu, us} {
		if got, err := c.In("counters").Get(ctx, "visits", client.Serial); err != nil || string(got.Value()) != strconv.Itoa(1+clients*each) {
			t.Errorf("%q, %v", got.Value(), err)
		}
	}
}

// BenchmarkSerial tells, on real disks and in one run, what an uncontended write at
// LOCAL_SERIAL costs beside a plain one, and what plain writes feel of writes at
// LOCAL_SERIAL to other keys. Medians, in microseconds.
func BenchmarkSerial(b *testing.B) {
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
	c, err := client.Open(ctx, strings.Join(f.Endpoints("eu"), ","), client.NoSession())
	if err != nil {
		b.Fatal(err)
	}
	defer c.Close()
	value := make([]byte, 100)
	var last client.Version
	put := map[string]func() error{
		"plain": func() error {
			_, err := c.Put(ctx, "p", value, client.LocalQuorum, client.Overwrite())
			return err
		},
		"serial": func() (err error) {
			last, err = c.Put(ctx, "s", value, client.LocalSerial, client.IfUnchanged(last))
			return err
		},
	}
	took := map[string][]time.Duration{}
	one := func(what, as string) {
		began := time.Now()
		if err := put[what](); err != nil {
			b.Fatal(err)
		}
		took[as] = append(took[as], time.Since(began))
	}
	for began := time.Now(); time.Since(began) < time.Second; { // until new acceptors take the ballots of now
		one("serial", "warm")
	}
	n := 0
	for b.Loop() {
		if n++; n/32%2 == 0 {
			one("plain", "plain")
		} else {
			one("serial", "serial")
		}
	}
	beside, stop := context.WithCancel(ctx)
	var others sync.WaitGroup
	for i := range 4 {
		others.Go(func() {
			var v client.Version
			for beside.Err() == nil {
				v, _ = c.Put(ctx, "other"+strconv.Itoa(i), value, client.LocalSerial, client.IfUnchanged(v))
			}
		})
	}
	for range max(n/2, 100) {
		one("plain", "plain beside serial")
	}
	stop()
	others.Wait()
	beside, stop = context.WithCancel(ctx)
	for i := range 4 {
		others.Go(func() {
			for beside.Err() == nil {
				_, _ = c.Put(ctx, "other"+strconv.Itoa(i), value, client.Overwrite())
			}
		})
	}
	for range max(n/2, 100) {
		one("plain", "plain beside plain")
	}
	stop()
	others.Wait()
	median := func(as string) float64 {
		d := took[as]
		if len(d) == 0 {
			return 0
		}
		slices.Sort(d)
		return float64(d[len(d)/2].Microseconds())
	}
	b.ReportMetric(median("plain"), "plain-us")
	b.ReportMetric(median("serial"), "serial-us")
	b.ReportMetric(median("serial")/max(median("plain"), 1), "serial/plain")
	b.ReportMetric(median("plain beside serial"), "beside-serial-us")
	b.ReportMetric(median("plain beside plain"), "beside-plain-us")
}
