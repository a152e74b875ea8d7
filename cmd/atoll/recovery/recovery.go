// Package recovery writes the records of a backup through a client: it reads each
// key, decides what is to become of it, and writes what is missing, many keys at a
// time. It neither opens files nor connects nor prints.
//
// What was a version of the backup becomes a new write, with a new dot and stamp: the
// old ones are names in another deployment, or in another life of this one, and
// must never name a second thing. So pasts are not taken over either: what they
// decided is decided, in the values that were left.
//
// Invariants:
//
//	R1  With Keep no key changes that has a value or was deleted. What others write
//	    between the read and the write of a key becomes a sibling, and in a
//	    last-writer-wins bucket the key is judged again.
//	R2  Every record is counted once, or is behind Result.Resume: nothing is left out
//	    by an interruption.
//	R3  Restoring the same backup again changes nothing but what had failed.
//	R4  At most InFlight records and about 64 MiB of them are in memory, and one
//	    record more.
//
// Goroutines: Run has one for each record that is under way, and ends them.
package recovery

import (
	"context"
	"errors"
	"io"
	"sync"
	"time"

	"github.com/atolldb/atoll/client"
	"github.com/atolldb/atoll/cmd/atoll/bulk"
	adminv1 "github.com/atolldb/atoll/proto/atoll/admin/v1"
)

// Config of a restore.
type Config struct {
	// Client of the deployment; sessions are of no use to it.
	Client *client.Client
	// Buckets that are there, by name. Records of others are an error.
	Buckets  map[string]client.BucketInfo
	Conflict Conflict
	// Dry reads and decides, and writes nothing.
	Dry bool
	// Read and Write are added to each operation: a level.
	Read  []client.ReadOption
	Write []client.WriteOption
	// Skip so many records at the beginning.
	Skip int
	// InFlight records at a time, 1 or more.
	InFlight int
	// Wait is called before each record, and ends the restore with false; nil for
	// no limit.
	Wait func(context.Context) bool
	// Patience is how long what was not applied is tried again before the restore
	// stops; at most maxPatience counts.
	Patience time.Duration
	// Tell is told of every record that is not in the store as it is in the backup:
	// left, failed, or not known. Calls come one at a time.
	Tell func(n int, r *adminv1.ExportRecord, v Verdict, err error)
}

// Result of a restore, or the state of one that runs.
type Result struct {
	// Read is the number of the last record that was read, from 1.
	Read int
	// By counts records by verdict; Failed and Unknown are those of which a write
	// failed, or perhaps did.
	By              [verdicts]int
	Failed, Unknown int
	// Resume is how many records from the start are done with.
	Resume int
	// Newest stamp of all that was read.
	Newest uint64
}

// Count of a verdict.
func (r *Result) Count(v Verdict) int { return r.By[v] }

// Done counts the records that were done with, however.
func (r *Result) Done() int {
	n := r.Failed + r.Unknown
	for _, c := range r.By {
		n += c
	}
	return n
}

// Restore is one restore.
type Restore struct {
	config Config
	stop   context.CancelCauseFunc

	tell sync.Mutex

	window *bulk.Window
	result Result // changed and read in calls of window
}

// New prepares a restore.
func New(cfg Config) *Restore {
	return &Restore{config: cfg, window: bulk.NewWindow(cfg.InFlight)}
}

// Run takes records from next until that returns io.EOF or another error, or ctx
// ends; then it waits for what is under way. It returns why it stopped early, nil
// for not, however many records failed. size is about what the record takes.
func (r *Restore) Run(ctx context.Context, next func() (rec *adminv1.ExportRecord, size int, err error)) error {
	ctx, r.stop = context.WithCancelCause(ctx)
	defer r.stop(nil)
	var wg sync.WaitGroup
	err := r.readAll(ctx, &wg, next)
	wg.Wait()
	if cause := context.Cause(ctx); cause != nil {
		return cause
	}
	return err
}

func (r *Restore) readAll(ctx context.Context, wg *sync.WaitGroup, next func() (*adminv1.ExportRecord, int, error)) error {
	for n := 1; ; n++ {
		rec, size, err := next()
		switch {
		case errors.Is(err, io.EOF):
			return nil
		case err != nil:
			return err
		}
		if n <= r.config.Skip {
			r.window.Pass(n, func() { r.newest(rec) })
			continue
		}
		if r.config.Wait != nil && !r.config.Wait(ctx) || !r.window.Begin(ctx, n, size, func() { r.newest(rec) }) {
			return nil
		}
		wg.Go(func() {
			if v, err, ok := r.one(ctx, rec); ok {
				r.done(n, rec, v, err)
			}
		})
	}
}

// newest takes note of the stamps of a record that was read.
func (r *Restore) newest(rec *adminv1.ExportRecord) {
	for _, v := range rec.Versions {
		r.result.Newest = max(r.result.Newest, v.Stamp)
	}
}

// done is the end of a record, whatever became of it.
func (r *Restore) done(n int, rec *adminv1.ExportRecord, v Verdict, err error) {
	if err != nil || v == Left || v == LeftDeleted {
		r.tell.Lock()
		r.config.Tell(n, rec, v, err)
		r.tell.Unlock()
	}
	r.window.Done(n, func() {
		switch {
		case err == nil:
			r.result.By[v]++
		case errors.Is(err, client.ErrUnknownOutcome):
			r.result.Unknown++
		default:
			r.result.Failed++
		}
	})
}

// Result may be asked at any time.
func (r *Restore) Result() (res Result) {
	r.window.See(func(read, resume int) {
		res = r.result
		res.Read, res.Resume = read, resume
	})
	return res
}
