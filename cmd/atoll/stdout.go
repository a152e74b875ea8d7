package main

import (
	"errors"
	"fmt"
	"io"
	"strings"
	"sync"
	"syscall"
)

// output is standard output. It remembers the first write that failed: tables, and the
// help, come from libraries that pass over it, and a command whose data did not get
// where they should has not done what it was asked.
type output struct {
	to io.Writer

	mu  sync.Mutex
	err error
}

func (o *output) Write(b []byte) (int, error) {
	n, err := o.to.Write(b)
	if err != nil {
		o.mu.Lock()
		if o.err == nil {
			o.err = err
		}
		o.mu.Unlock()
	}
	return n, err
}

// failed is the first write's error, unless it says that the reader has gone, who may.
func (o *output) failed() error {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.err != nil && !errors.Is(o.err, syscall.EPIPE) {
		return fmt.Errorf("the output is incomplete: %w", o.err)
	}
	return nil
}

// helpWidth is what lines of flags are broken at, on a terminal and elsewhere: help that
// depends on who looks cannot be compared.
const helpWidth = "100"

// wrapped makes the usage of a command break the lines of its flags.
func wrapped(template string) string {
	return strings.NewReplacer(
		".LocalFlags.FlagUsages", ".LocalFlags.FlagUsagesWrapped "+helpWidth,
		".InheritedFlags.FlagUsages", ".InheritedFlags.FlagUsagesWrapped "+helpWidth,
	).Replace(template)
}
