//go:build !linux

package main

import (
	"os"
	"testing"
)

func openTerminal(t *testing.T) (person, program *os.File) {
	t.Helper()
	t.Skip("pseudo-terminals are opened in another way on each system; see terminal_linux_test.go")
	return nil, nil
}
