package natsd_test

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/hashicorp/go-hclog"
	"github.com/nats-io/nats.go/jetstream"
	"golang.org/x/sys/unix"

	"github.com/atolldb/atoll/geo/natsd"
	"github.com/atolldb/atoll/internal/pause"
)

// until repeats ok.
func until(t *testing.T, ctx context.Context, what string, ok func() error) {
	t.Helper()
	if err := pause.Until(ctx, 50*time.Millisecond, ok); err != nil {
		t.Fatalf("%s: %v", what, err)
	}
}

// published repeats a publish until a server has kept it.
func published(t *testing.T, ctx context.Context, js jetstream.JetStream, text string) {
	t.Helper()
	until(t, ctx, "publish "+text, func() error {
		one, cancel := context.WithTimeout(ctx, time.Second)
		defer cancel()
		_, err := js.Publish(one, "s", []byte(text))
		return err
	})
}

func whole(s *natsd.Server) func() error {
	return func() error {
		if !s.Whole() {
			return fmt.Errorf("%s is not whole", s.Name())
		}
		return nil
	}
}

// journal is a log that is asked what is in it.
type journal struct {
	mu   sync.Mutex
	text strings.Builder
}

func (j *journal) Write(p []byte) (int, error) {
	j.mu.Lock()
	defer j.mu.Unlock()
	return j.text.Write(p)
}

func (j *journal) count(what string) int {
	j.mu.Lock()
	defer j.mu.Unlock()
	return strings.Count(j.text.String(), what)
}

// While it keeps nothing it makes up for no other server, whatever it was before.
func TestNotWholeWhileItKeepsNothing(t *testing.T) {
	t.Parallel()
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	s, _ := runLogged(t, solo(t.TempDir()), hclog.NewNullLogger())
	if _, err := client(t, s).CreateStream(ctx, jetstream.StreamConfig{Name: "S", Subjects: []string{"s"}}); err != nil {
		t.Fatal(err)
	}
	until(t, ctx, "whole", whole(s))
	if err := s.TurnOff(); err != nil {
		t.Fatal(err)
	}
	until(t, ctx, "not whole", func() error {
		if s.Whole() {
			return errors.New("it says that it is whole")
		}
		return nil
	})
}

// The disk is full in earnest: the server says that it keeps nothing any more, and what was
// acknowledged is there when it was restarted with room.
func TestDiskFull(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	if err := unix.Mount("tmpfs", dir, "tmpfs", 0, "size=40m"); err != nil {
		t.Skip("a file system of its own needs root: ", err)
	}
	t.Cleanup(func() {
		if err := unix.Unmount(dir, unix.MNT_DETACH); err != nil {
			t.Error(err)
		}
	})
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	log := &journal{}
	s, stop := runLogged(t, solo(dir), hclog.New(&hclog.LoggerOptions{Level: hclog.Debug, Output: log}))
	js := client(t, s)
	if _, err := js.CreateStream(ctx, jetstream.StreamConfig{Name: "S", Subjects: []string{"s"}}); err != nil {
		t.Fatal(err)
	}
	published(t, ctx, js, "before")

	logs := filepath.Join(dir, "logs") // of somebody else
	err := os.WriteFile(logs, make([]byte, 40<<20), 0o600)
	if !errors.Is(err, unix.ENOSPC) {
		t.Fatalf("the disk is not full: %v", err)
	}
	kept := 1
	until(t, ctx, "run out of room", func() error {
		one, cancel := context.WithTimeout(ctx, time.Second)
		defer cancel()
		if _, err := js.Publish(one, "s", make([]byte, 64<<10)); err == nil {
			kept++
		}
		if s.Keeps() {
			return fmt.Errorf("it has kept %d messages", kept)
		}
		return nil
	})
	until(t, ctx, "say so", func() error {
		if n := log.count("keeps nothing any more"); n != 1 {
			return fmt.Errorf("told %d times", n)
		}
		return nil
	})
	if s.Servers() != 0 {
		t.Errorf("it counts %d servers", s.Servers())
	}

	if err := os.Remove(logs); err != nil {
		t.Fatal(err)
	}
	if err := stop(); err != nil {
		t.Fatal(err)
	}
	s, _ = run(t, solo(dir))
	js = client(t, s)
	published(t, ctx, js, "after")
	stream, err := js.Stream(ctx, "S")
	if err != nil {
		t.Fatal(err)
	}
	if msg, err := stream.GetMsg(ctx, 1); err != nil || string(msg.Data) != "before" {
		t.Errorf("got %v, %v", msg, err)
	}
	if n := stream.CachedInfo().State.Msgs; n < uint64(kept) {
		t.Errorf("%d messages are there, %d were acknowledged before", n, kept)
	}
}
