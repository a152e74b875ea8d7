package storage_test

import (
	"context"
	"testing"
	"testing/synctest"
	"time"

	"github.com/atolldb/atoll/node/storage"
	"github.com/atolldb/atoll/node/storage/memstore"
)

type patientOp struct {
	key     string
	patient bool
	decided func()
	done    chan error
}

func (o *patientOp) Size() int                   { return 10 }
func (o *patientOp) Patient() bool               { return o.patient }
func (o *patientOp) Decide(tx storage.Txn) error { return tx.Put([]byte(o.key), []byte("v")) }
func (o *patientOp) Done(err error)              { o.done <- err }
func (o *patientOp) Decided() {
	if o.decided != nil {
		o.decided()
	}
}

// A patient op is decided at once and synced with the op that follows it, or
// alone after a while, or at once where nobody else has come for long; nobody else
// waits.
func TestPatience(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		engine, err := memstore.NewDisk(memstore.Config{}).Open()
		if err != nil {
			t.Fatal(err)
		}
		c := storage.NewCommitter(engine, storage.CommitterConfig{})
		ctx, stop := context.WithCancel(context.Background())
		ended := make(chan error, 1)
		go func() { ended <- c.Run(ctx) }()
		op := func(key string, patient bool) *patientOp {
			return &patientOp{key: key, patient: patient, done: make(chan error, 1)}
		}
		began := time.Now()
		lonely := op("lonely", true)
		if err := c.Submit(lonely); err != nil {
			t.Fatal(err)
		}
		if err := <-lonely.done; err != nil || time.Since(began) != 0 {
			t.Errorf("where nobody comes: %v after %v", err, time.Since(began))
		}
		other := op("other", false)
		if err := c.Submit(other); err != nil {
			t.Fatal(err)
		}
		<-other.done
		began = time.Now()
		alone := op("alone", true)
		decided := make(chan time.Duration, 1)
		alone.decided = func() { decided <- time.Since(began) }
		if err := c.Submit(alone); err != nil {
			t.Fatal(err)
		}
		if d := <-decided; d != 0 {
			t.Errorf("decided after %v", d)
		}
		if err := <-alone.done; err != nil || time.Since(began) == 0 || time.Since(began) > 10*time.Millisecond {
			t.Errorf("alone: %v after %v", err, time.Since(began))
		}
		groups := c.Stats().Groups
		first, second := op("first", true), op("second", false)
		began = time.Now()
		first.decided = func() { _ = c.Submit(second) }
		if err := c.Submit(first); err != nil {
			t.Fatal(err)
		}
		for _, o := range []*patientOp{first, second} {
			if err := <-o.done; err != nil || time.Since(began) > time.Millisecond {
				t.Errorf("%s: %v after %v", o.key, err, time.Since(began))
			}
			if _, err := engine.Get([]byte(o.key)); err != nil {
				t.Errorf("%s: %v", o.key, err)
			}
		}
		if n := c.Stats().Groups - groups; n != 1 {
			t.Errorf("%d groups for two ops", n)
		}
		stop()
		if err := <-ended; err != nil {
			t.Error(err)
		}
		engine.Close()
	})
}
