package main

import (
	"errors"
	"testing"

	"github.com/atolldb/atoll/client"
)

// What would end the next run as well is to be mended first.
func TestNextRunIsTold(t *testing.T) {
	var b bulkFlags
	for _, c := range []struct {
		err  error
		want string
	}{
		{errors.New("interrupted"), "the same command with --skip 3"},
		{&client.Error{Reason: "UNAVAILABLE"}, "the same command with --skip 3"},
		{&client.Error{Reason: "NO_BUCKET"}, "when that is mended, the same command with --skip 3"},
	} {
		if got := b.next(c.err, 3); got != c.want {
			t.Errorf("%v: %q, want %q", c.err, got, c.want)
		}
	}
}
