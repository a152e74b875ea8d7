package traffic

import (
	"context"
	"fmt"
	"strings"
	"sync"
	"time"

	"github.com/atolldb/atoll/client"
	"github.com/atolldb/atoll/e2e/chaos/history"
)

// readers of Final at a time.
const readers = 8

// Final reads every key of the history at a place, for the checks at its end.
// Reads that fail are repeated until ctx ends.
func Final(ctx context.Context, h *history.History, place string, c *client.Client, level client.Level) {
	type job struct {
		key  string
		done func(obj client.Object)
	}
	jobs := make(chan job)
	var wg sync.WaitGroup
	for range readers {
		wg.Go(func() {
			for j := range jobs {
				obj, err := PatientGet(ctx, c, j.key, level)
				if err != nil {
					h.Unread(place, j.key, err)
					continue
				}
				j.done(obj)
			}
		})
	}
	where := fmt.Sprintf("%s (%v)", place, level)
	for _, key := range h.SetKeys() {
		jobs <- job{key, func(obj client.Object) { h.Final(where, key, Elements(h.Saw(key, Values(obj)))) }}
	}
	for _, r := range h.Registers() {
		jobs <- job{r.Key(), func(obj client.Object) { r.Final(where+dots(obj), Values(obj)) }}
	}
	close(jobs)
	wg.Wait()
}

// PatientGet reads until ctx ends.
func PatientGet(ctx context.Context, c *client.Client, key string, level client.Level) (client.Object, error) {
	tick := time.NewTicker(100 * time.Millisecond)
	defer tick.Stop()
	for {
		obj, err := c.Get(ctx, key, level)
		if err == nil || there(err) {
			return obj, nil
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return obj, err
		}
	}
}

// dots names the versions of siblings, for whoever has to find out why there
// are several.
func dots(obj client.Object) string {
	if len(obj.Siblings()) < 2 {
		return ""
	}
	var b strings.Builder
	for _, s := range obj.Siblings() {
		fmt.Fprintf(&b, " %d:%d at %s", s.ID.Actor, s.ID.N, s.Time.UTC().Format("15:04:05.000"))
	}
	return b.String()
}
