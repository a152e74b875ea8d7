package storagetest

import (
	"context"
	"errors"
	"testing"

	"github.com/atolldb/atoll/node/storage"
)

// writeOp writes one entry of so many bytes, or deletes it: that has size 0.
type writeOp struct {
	key, value []byte
	done       chan error
}

func (o *writeOp) Size() int { return len(o.value) }

func (o *writeOp) Decide(tx storage.Txn) error {
	if o.value == nil {
		return tx.Delete(o.key)
	}
	return tx.Put(o.key, o.value)
}

func (o *writeOp) Decided()       {}
func (o *writeOp) Done(err error) { o.done <- err }

// full: on a disk above the watermark (the engine's own figures are what tells)
// a Committer refuses what adds and takes what makes room, reads go on, and it
// all survives a crash; once the disk is below, writes are taken again.
func full(t *testing.T, s Store) {
	run := func(e storage.Engine, mark storage.Watermark, use func(write func(key, value []byte) error)) {
		t.Helper()
		c := storage.NewCommitter(e, storage.CommitterConfig{Watermark: mark})
		ctx, stop := context.WithCancel(context.Background())
		ended := make(chan error, 1)
		go func() { ended <- c.Run(ctx) }()
		defer func() {
			stop()
			if err := <-ended; err != nil {
				t.Errorf("the committer ended with %v", err)
			}
		}()
		use(func(key, value []byte) error {
			o := &writeOp{key: key, value: value, done: make(chan error, 1)}
			if err := c.Submit(o); err != nil {
				return err
			}
			return <-o.done
		})
	}
	roomy := storage.Watermark{Warn: 1.1, Refuse: 1.1}
	e := open(t, s)
	run(e, roomy, func(write func(key, value []byte) error) {
		for _, key := range []string{"a", "b"} {
			if err := write(b(key), b("old")); err != nil {
				t.Fatal(err)
			}
		}
	})
	u, err := e.Usage()
	if err != nil {
		t.Fatal(err)
	}
	s.Crash(e)

	e = open(t, s)
	run(e, storage.Watermark{Warn: 1.1, Refuse: 1.1, MinFree: 2*u.Free + 1<<30}, func(write func(key, value []byte) error) {
		// The first make room, so that the committer runs and has looked.
		if err := write(b("a"), nil); err != nil {
			t.Errorf("what makes room is refused: %v", err)
		}
		for _, key := range []string{"a", "b", "c"} {
			if err := write(b(key), b("new")); !errors.Is(err, storage.ErrFull) {
				t.Errorf("a write on a full disk: %v", err)
			}
		}
		want(t, e, b("a"), nil)
		want(t, e, b("b"), b("old"))
		want(t, e, b("c"), nil)
	})
	s.Crash(e)

	e = open(t, s)
	defer e.Close()
	want(t, e, b("a"), nil)
	want(t, e, b("b"), b("old"))
	run(e, roomy, func(write func(key, value []byte) error) {
		if err := write(b("c"), b("new")); err != nil {
			t.Errorf("below the watermark a write is refused: %v", err)
		}
	})
	want(t, e, b("c"), b("new"))
}
