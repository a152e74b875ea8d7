package main

import "errors"

// The exit codes. Codes from 3 on belong to the commands that speak to a
// server.
const (
	exitOK    = 0
	exitError = 1
	exitUsage = 2
)

// codedError is an error that chooses the exit code. One without a text ends
// the process silently: what there was to say has been said.
type codedError struct {
	code int
	error
}

// withCode makes err end the process with code.
func withCode(code int, err error) error { return codedError{code, err} }

func (e codedError) Unwrap() error { return e.error }

// exitCode of the process for err.
func exitCode(err error) int {
	var c codedError
	switch {
	case err == nil:
		return exitOK
	case errors.As(err, &c):
		return c.code
	default:
		return exitError
	}
}
