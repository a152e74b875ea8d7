package fleet_test

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"

	"github.com/atolldb/atoll/client"
	"github.com/atolldb/atoll/node/fleet"
	"github.com/atolldb/atoll/node/topology"
)

// A write that one disk alone has acknowledged is lost with that disk. The client
// that made it is told that it is behind, then that it is lost; it goes on when it
// accepts that, and is not told again. A client that does not is told again.
func TestLossIsToldToClients(t *testing.T) {
	dir := t.TempDir()
	f, ctx := start(t, fleet.Config{Regions: []topology.Region{"eu"}, Dir: dir})
	at := func(i int) *client.Client {
		cc, err := grpc.NewClient("passthrough:///"+f.Endpoints("eu")[i], grpc.WithTransportCredentials(insecure.NewCredentials()))
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { cc.Close() })
		return client.New(cc, client.Timeout(2*time.Second))
	}
	witness, user := at(1), open(t, ctx, f, "eu").Session()
	if _, err := user.Put(ctx, "k", []byte("everywhere"), client.LocalAll); err != nil {
		t.Fatal(err)
	}
	for _, other := range []string{"eu-1", "eu-3"} {
		if err := f.Partition("eu-2", other); err != nil {
			t.Fatal(err)
		}
	}
	alone, err := witness.SessionFrom(user.Token())
	if err != nil {
		t.Fatal(err)
	}
	eventually(t, ctx, "a write at eu-2 alone", func() bool {
		_, err := alone.Put(ctx, "k", []byte("alone"), client.LocalOne, client.Overwrite())
		return err == nil
	})
	if err := f.Kill("eu-2"); err != nil {
		t.Fatal(err)
	}
	if err := os.RemoveAll(filepath.Join(dir, "eu-2")); err != nil {
		t.Fatal(err)
	}
	f.HealAll()
	if err := f.StartNode(ctx, "eu-2"); err != nil {
		t.Fatal(err)
	}
	if user, err = user.SessionFrom(alone.Token()); err != nil {
		t.Fatal(err)
	}
	// Nobody begins a round by itself, as who waits in vain would have it.
	for _, id := range []topology.NodeID{"eu-1", "eu-2", "eu-3"} {
		f.Process(id).Node().Collector().SetRounds(false)
	}
	short, cancel := context.WithTimeout(ctx, 5*time.Second)
	defer cancel()
	if obj, err := user.Get(short, "k", client.LocalOne); !errors.Is(err, client.ErrSessionBehind) {
		t.Fatalf("before anybody has said that it is lost: %q, %v", obj.Value(), err)
	}
	eventually(t, ctx, "a round of collection", func() bool {
		if _, err := f.Process("eu-1").Node().Operations().Collections.StartCollect(ctx, 2*time.Second); err != nil {
			t.Fatal(err)
		}
		obj, err := user.Get(ctx, "k", client.LocalOne)
		if err == nil {
			t.Fatalf("%q is answered in silence", obj.Value())
		}
		return errors.Is(err, client.ErrSessionLost)
	})
	var e *client.Error
	for range 2 {
		if _, err := user.Put(ctx, "k", []byte("x")); !errors.Is(err, client.ErrSessionLost) || !errors.As(err, &e) ||
			e.Outcome != client.NotApplied || e.Missing != 1 || len(e.MissingFrom) != 1 || e.MissingFrom[0] != "eu" {
			t.Errorf("who has not accepted is told %v (%+v)", err, e)
		}
	}
	// Who waits for other regions is told the same, and not that it is not there yet.
	waiting, err := user.SessionFrom(alone.Token())
	if err != nil {
		t.Fatal(err)
	}
	for range 2 {
		if _, err := waiting.AwaitReplication(ctx); !errors.Is(err, client.ErrSessionLost) || !errors.As(err, &e) || e.Missing != 1 {
			t.Errorf("who waits is told %v (%+v)", err, e)
		}
	}
	if n := waiting.AcceptLoss(); n != 1 {
		t.Errorf("who waits accepts losses in %d partitions", n)
	}
	if _, err := waiting.AwaitReplication(ctx); err != nil {
		t.Errorf("then the rest is waited for: %v", err)
	}
	if n := user.AcceptLoss(); n != 1 {
		t.Errorf("it accepts losses in %d partitions", n)
	}
	obj, err := user.Get(ctx, "k", client.LocalOne)
	if err != nil || string(obj.Value()) != "everywhere" {
		t.Errorf("then it reads %q, %v", obj.Value(), err)
	}
	if _, err := user.Put(ctx, "k", []byte("after"), client.After(obj.Version())); err != nil {
		t.Error(err)
	}
	if n := user.AcceptLoss(); n != 0 {
		t.Errorf("there is nothing to accept in %d partitions", n)
	}
	again, err := user.SessionFrom(user.Token())
	if err != nil {
		t.Fatal(err)
	}
	if obj, err := again.Get(ctx, "k", client.LocalOne); err != nil || string(obj.Value()) != "after" {
		t.Errorf("from its token: %q, %v", obj.Value(), err)
	}
	if other, err := user.SessionFrom(alone.Token()); err != nil {
		t.Error(err)
	} else if _, err := other.Get(ctx, "k", client.LocalOne); !errors.Is(err, client.ErrSessionLost) {
		t.Errorf("another who knows of it: %v", err)
	}
}
