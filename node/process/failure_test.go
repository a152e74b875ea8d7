package process_test

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"testing"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"

	"github.com/atolldb/atoll/node/process"
	"github.com/atolldb/atoll/node/storage"
	atollv1 "github.com/atolldb/atoll/proto/atoll/v1"
)

// An engine that can no longer write ends the node, with the reason.
func TestEngineFailureEndsRun(t *testing.T) {
	c := single(t.TempDir())
	p, err := process.New(c, process.Hooks{Logger: logger(t)})
	if err != nil {
		t.Fatal(err)
	}
	ctx, stop := context.WithTimeout(t.Context(), waitLimit)
	defer stop()
	done := make(chan error, 1)
	go func() { done <- p.Run(ctx) }()
	<-p.Ready()
	conn, err := grpc.NewClient(p.Addrs().Client, grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	// With the directory gone, what is open stays writable; the first full
	// memtable has no place to go to.
	if err := os.RemoveAll(filepath.Join(c.DataDir, "store", "lsm")); err != nil {
		t.Fatal(err)
	}
	kv, big := atollv1.NewKVClient(conn), make([]byte, 1<<20)
	var failed error
	for i := byte(0); failed == nil && i < 64; i++ {
		_, failed = kv.Put(ctx, &atollv1.PutRequest{Key: []byte{i}, Value: big})
	}
	if failed == nil {
		t.Error("writes went on")
	}
	if err := <-done; !errors.Is(err, storage.ErrFailed) {
		t.Errorf("got %v", err)
	}
}
