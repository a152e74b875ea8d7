package process

import (
	"context"
	"errors"
	"slices"
	"testing"

	"github.com/hashicorp/go-hclog"
)

func TestStackStopsFromTheTop(t *testing.T) {
	s := newStack(hclog.NewNullLogger())
	var order []string
	loop := func(name string) func(context.Context) error {
		return func(ctx context.Context) error {
			<-ctx.Done()
			order = append(order, name) // one at a time, each before the next
			return ctx.Err()
		}
	}
	s.onStop("first", func() error { order = append(order, "first"); return nil })
	s.run("second", loop("second"))
	s.onStop("third", func() error {
		if s.stopping.Err() == nil {
			t.Error("stopping is not told before the first stop")
		}
		order = append(order, "third")
		return errors.New("stuck")
	})
	s.run("fourth", loop("fourth"))
	err := s.stop()
	if !slices.Equal(order, []string{"fourth", "third", "second", "first"}) {
		t.Errorf("stopped in the order %v", order)
	}
	if err == nil || err.Error() != "stop third: stuck" {
		t.Errorf("got %v", err)
	}
}

func TestStackFailure(t *testing.T) {
	s := newStack(hclog.NewNullLogger())
	broken, after := errors.New("broken"), errors.New("cannot stop well")
	s.run("steady", func(ctx context.Context) error { <-ctx.Done(); return after })
	s.run("disk", func(context.Context) error { return broken })
	if err := <-s.failed; !errors.Is(err, broken) || err.Error() != "disk: broken" {
		t.Errorf("got %v", err)
	}
	// The failure was told; what went wrong with the stop is another matter.
	if err := s.stop(); !errors.Is(err, after) || errors.Is(err, broken) {
		t.Errorf("got %v", err)
	}
}

func TestStackGuard(t *testing.T) {
	s := newStack(hclog.NewNullLogger())
	why := errors.New("sync failed")
	burst := make(chan struct{})
	s.guard(burst, func() error { return why })
	select {
	case err := <-s.failed:
		t.Errorf("failed early: %v", err)
	default:
	}
	close(burst)
	if err := <-s.failed; !errors.Is(err, why) {
		t.Errorf("got %v", err)
	}
	if err := s.stop(); err != nil {
		t.Error(err)
	}
}
