package main

import (
	"bytes"
	"context"
	"io"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/atolldb/atoll/node/api/apitest"
)

// An interruption while nothing comes from standard input ends the import, and
// says what is done.
func TestImportIsInterrupted(t *testing.T) {
	region := apitest.NewRegion(t, 1)
	var puts atomic.Int64
	third := make(chan struct{})
	region.Nodes[0].SetFault(func(op apitest.Op) apitest.Fault {
		if op.Put != nil && puts.Add(1) == 3 {
			close(third)
		}
		return apitest.Fault{}
	})
	ctx, cancel := context.WithCancel(t.Context())
	in, feed := io.Pipe()
	defer feed.Close() //nolint:errcheck // it lets the abandoned read go
	go func() {
		io.WriteString(feed, `{"key":"a","value":1}`+"\n"+`{"key":"b","value":2}`+"\n"+`{"key":"c","value":3}`+"\n") //nolint:errcheck // the test would hang
		<-third
		cancel()
	}()
	var msg bytes.Buffer
	cmd := root()
	cmd.SetArgs([]string{"import", "-", "--endpoints", region.Nodes[0].Addr})
	cmd.SetIn(in)
	cmd.SetErr(&msg)
	err := cmd.ExecuteContext(ctx)
	if err == nil || exitCode(err) != exitError || !strings.Contains(err.Error(), "interrupted") ||
		!strings.Contains(err.Error(), "the same command with --skip 3") {
		t.Errorf("it ended with %v", err)
	}
	if !strings.Contains(msg.String(), "3 ok, 0 failed, 0 unknown") {
		t.Errorf("it said %q", msg.String())
	}
}
