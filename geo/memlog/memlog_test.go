package memlog_test

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/atolldb/atoll/geo"
	"github.com/atolldb/atoll/geo/geotest"
	"github.com/atolldb/atoll/geo/memlog"
)

type world struct{ *memlog.Cloud }

func (w world) Log() geo.Log   { return w.Cloud.Log("east") }
func (w world) Feed() geo.Feed { return w.Cloud.Feed("east", "west") }
func (w world) Cut(cut bool)   { w.Cloud.Cut("east", "west", cut) }
func (w world) Forget()        { w.Truncate("east", 0) }
func (w world) Recreate()      { w.Cloud.Recreate("east") }

func TestConformance(t *testing.T) {
	for name, faults := range map[string]memlog.Faults{
		"perfect": {},
		"slow":    {DelayMin: time.Millisecond, DelayMax: 80 * time.Millisecond},
		"bad": {
			DelayMax: 200 * time.Millisecond, Refuse: 0.1, Unsure: 0.1, Duplicate: 0.2, Mute: 0.5,
		},
	} {
		t.Run(name, func(t *testing.T) {
			for _, c := range geotest.Cases() {
				t.Run(c.Name, func(t *testing.T) {
					synctest.Test(t, func(t *testing.T) { c.Run(t, world{memlog.New(1, faults)}) })
				})
			}
		})
	}
}

// One seed, one outcome: what befalls a batch does not depend on the order in
// which goroutines happen to run.
func TestSeedDecides(t *testing.T) {
	outcome := func(seed uint64) (lines []string) {
		synctest.Test(t, func(t *testing.T) {
			began := time.Now()
			cloud := memlog.New(seed, memlog.Faults{
				DelayMin: time.Millisecond, DelayMax: 300 * time.Millisecond,
				Refuse: 0.1, Unsure: 0.1, Lose: 0.1, Duplicate: 0.2, Mute: 0.3,
			})
			var mu sync.Mutex
			note := func(format string, args ...any) {
				mu.Lock()
				defer mu.Unlock()
				lines = append(lines, fmt.Sprintf("%v ", time.Since(began))+fmt.Sprintf(format, args...))
			}
			ctx, cancel := context.WithCancel(t.Context())
			var wg sync.WaitGroup
			for _, dst := range []string{"west", "north"} {
				wg.Go(func() { _ = cloud.Feed("east", dst).Run(ctx, noter{dst, note}) })
			}
			time.Sleep(time.Millisecond)
			log := cloud.Log("east")
			for n := range uint64(30) { // fewer than a window: none waits for another
				log.Append(geo.Batch{Header: geo.Header{Origin: "east", Node: "east-1", Number: n}}, func(err error) { note("append %d: %v", n, err) })
				_ = log.Announce([]byte{byte(n)})
			}
			time.Sleep(time.Minute)
			cancel()
			wg.Wait()
		})
		slices.Sort(lines)
		return lines
	}
	first := outcome(7)
	for range 5 {
		if again := outcome(7); !slices.Equal(first, again) {
			t.Fatalf("one seed, two outcomes:\n%s\n\n%s", strings.Join(first, "\n"), strings.Join(again, "\n"))
		}
	}
	if slices.Equal(first, outcome(8)) {
		t.Fatal("the seed decides nothing")
	}
}

type noter struct {
	dst  string
	note func(string, ...any)
}

func (n noter) Batch(_ context.Context, b geo.Batch) error {
	n.note("%s batch %d", n.dst, b.Header.Number)
	return nil
}
func (n noter) Announced(data []byte) { n.note("%s heard %d", n.dst, data[0]) }
func (n noter) Gap(string)            {}
func (n noter) Link(bool)             {}
