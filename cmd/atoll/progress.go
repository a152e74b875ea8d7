package main

import (
	"fmt"
	"io"
	"os"
	"sync"
	"time"

	"golang.org/x/term"
)

const (
	// progressTTY and progressPlain are how often long work tells how far it
	// is: in place on a terminal, in a new line elsewhere.
	progressTTY, progressPlain = 200 * time.Millisecond, 10 * time.Second
)

// progress tells how far something is until its end is called.
type progress struct {
	stop chan struct{}
	wg   sync.WaitGroup
}

func startProgress(w io.Writer, line func() string) *progress {
	p := &progress{stop: make(chan struct{})}
	every, form, last := progressPlain, "%s\n", ""
	if isTerminal(w) {
		every, form, last = progressTTY, "\r%s\x1b[K", "\r\x1b[K"
	}
	p.wg.Go(func() {
		tick := time.NewTicker(every)
		defer tick.Stop()
		for {
			select {
			case <-tick.C:
				fmt.Fprintf(w, form, line())
			case <-p.stop:
				fmt.Fprint(w, last)
				return
			}
		}
	})
	return p
}

func (p *progress) end() {
	close(p.stop)
	p.wg.Wait()
}

func isTerminal(stream any) bool {
	f, ok := stream.(*os.File)
	return ok && os.Getenv("TERM") != "dumb" && term.IsTerminal(int(f.Fd()))
}
