package traffic

import (
	"context"
	"fmt"
	"sync"
	"time"

	"github.com/atolldb/atoll/client"
	"github.com/atolldb/atoll/e2e/chaos/history"
)

// Ballast is data that is written once, so that there is something on disk,
// and read again and again.
type Ballast struct {
	h     *history.History
	regs  []*history.Register
	Tally Tally
}

// ballastWorkers at a time.
const ballastWorkers = 24

// Load writes n registers with values of size bytes, as the given client of
// the history. Those whose write failed are part of the history, but not of
// the ballast.
func Load(ctx context.Context, h *history.History, c *client.Client, as uint16, n, size int) *Ballast {
	b := &Ballast{h: h}
	var mu sync.Mutex
	each(n, func(i int) {
		if ctx.Err() != nil {
			return
		}
		r := h.Register(fmt.Sprintf("ballast/%d/%d", as, i))
		e := history.NewElement(as, uint64(i+1))
		r.BeginPut(e)
		began := time.Now()
		_, err := c.Put(ctx, r.Key(), history.Encode(history.Value{Key: r.Key(), By: e}, size))
		o := OutcomeOf(err)
		r.EndPut(e, o)
		b.Tally.write(began, o, err)
		if o == history.Acked {
			mu.Lock()
			b.regs = append(b.regs, r)
			mu.Unlock()
		}
	})
	return b
}

// Len is how many registers there are.
func (b *Ballast) Len() int { return len(b.regs) }

// Delete deletes all of it.
func (b *Ballast) Delete(ctx context.Context, c *client.Client) {
	each(len(b.regs), func(i int) {
		b.regs[i].BeginDelete()
		began := time.Now()
		_, err := c.Delete(ctx, b.regs[i].Key(), client.Overwrite())
		o := OutcomeOf(err)
		b.regs[i].EndDelete(o)
		b.Tally.write(began, o, err)
	})
}

// Scan reads all of it once and tells the history. It returns how many reads
// failed, by reason: a read that fails is honest, one that is wrong is not.
func (b *Ballast) Scan(ctx context.Context, place string, c *client.Client, level client.Level) map[string]int {
	var tally Tally
	each(len(b.regs), func(i int) {
		began := time.Now()
		obj, err := c.Get(ctx, b.regs[i].Key(), level)
		if tally.read(began, err); err == nil || there(err) {
			b.regs[i].Read(place, Values(obj))
		}
	})
	return tally.Reasons()
}

func each(n int, f func(i int)) {
	jobs := make(chan int)
	var wg sync.WaitGroup
	for range ballastWorkers {
		wg.Go(func() {
			for i := range jobs {
				f(i)
			}
		})
	}
	for i := range n {
		jobs <- i
	}
	close(jobs)
	wg.Wait()
}
