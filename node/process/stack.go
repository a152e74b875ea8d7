package process

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/hashicorp/go-hclog"
)

// stack is what runs, in the order in which it was started; it stops from the
// top. It is used by Run's goroutine alone.
type stack struct {
	// stopping ends when stop begins.
	stopping context.Context
	begin    context.CancelFunc
	log      hclog.Logger
	layers   []layer
	// failed has the first failure of a layer; later ones are its
	// consequences, and are told when their layer stops.
	failed chan error
}

type layer struct {
	name string
	stop func() error
}

func newStack(log hclog.Logger) *stack {
	stopping, begin := context.WithCancel(context.Background())
	return &stack{stopping: stopping, begin: begin, log: log, failed: make(chan error, 1)}
}

func (s *stack) onStop(name string, stop func() error) {
	s.layers = append(s.layers, layer{name, stop})
}

func (s *stack) fail(err error) {
	select {
	case s.failed <- err:
	default:
	}
}

// run starts a layer: a loop that returns when its context ends. If it returns
// before, with an error, that is a failure.
func (s *stack) run(name string, loop func(context.Context) error) {
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	told := false
	go func() {
		err := loop(ctx)
		if err != nil && ctx.Err() == nil {
			err = fmt.Errorf("%s: %w", name, err)
			s.fail(err)
			told = true
		}
		done <- err
	}()
	s.onStop(name, func() error {
		cancel()
		err := <-done
		if told || errors.Is(err, context.Canceled) {
			return nil // it was the failure, or is none
		}
		return err
	})
}

// watch starts a layer that cannot fail.
func (s *stack) watch(loop func(context.Context)) {
	s.run("watch", func(ctx context.Context) error { loop(ctx); return nil })
}

// guard makes a failure of what happens when c is closed.
func (s *stack) guard(c <-chan struct{}, why func() error) {
	s.run("guard", func(ctx context.Context) error {
		select {
		case <-c:
			return why()
		case <-ctx.Done():
			return nil
		}
	})
}

// stop ends the layers from the top, each one before the next, and returns
// what went wrong with that.
func (s *stack) stop() error {
	s.begin()
	var errs []error
	for i := len(s.layers) - 1; i >= 0; i-- {
		l := s.layers[i]
		began := time.Now()
		err := l.stop()
		if err != nil {
			errs = append(errs, fmt.Errorf("stop %s: %w", l.name, err))
		}
		s.log.Debug("stopped", "layer", l.name, "took", time.Since(began).Round(time.Millisecond).String())
	}
	s.layers = nil
	return errors.Join(errs...)
}
