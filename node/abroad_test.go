package node_test

import (
	"context"
	"errors"
	"math/rand/v2"
	"testing"
	"testing/synctest"
	"time"

	"github.com/hashicorp/go-hclog"

	"github.com/atolldb/atoll/crdt"
	"github.com/atolldb/atoll/crdt/hlc"
	"github.com/atolldb/atoll/geo"
	"github.com/atolldb/atoll/geo/memlog"
	"github.com/atolldb/atoll/hashring"
	"github.com/atolldb/atoll/node"
	"github.com/atolldb/atoll/node/peer"
	"github.com/atolldb/atoll/node/peer/memnet"
	"github.com/atolldb/atoll/node/storage/memstore"
	"github.com/atolldb/atoll/node/topology"
	"github.com/atolldb/atoll/node/topology/memtopo"
)

// feed is a geo.Feed that does nothing until it ends.
type feed func(ctx context.Context) error

func (f feed) Run(ctx context.Context, _ geo.FeedHandler) error { return f(ctx) }

// A drain that cannot work ends the node, however many others work.
func TestAFailedDrainEndsTheNode(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var tops []*topology.Topology
		for i, name := range []topology.Region{"a", "b", "c"} {
			top, err := topology.Static(name, topology.RegionID(i+1), []topology.Member{{ID: topology.NodeID(name + "1"), Rack: "r", Weight: 1}}, hashring.Rules{Partitions: 4, Replicas: 1})
			if err != nil {
				t.Fatal(err)
			}
			tops = append(tops, top)
		}
		engine, err := memstore.NewDisk(memstore.Config{}).Open()
		if err != nil {
			t.Fatal(err)
		}
		broken := errors.New("no such server")
		n, err := node.New(node.Config{ID: "a1", Topology: tops[0], Keys: crdt.Keys{crdt.Secret("s")}}, node.Deps{
			Engine: engine, Registry: memtopo.New(1), Others: topology.NewBook(tops[1:]...),
			Transport: memnet.New(1, memnet.Config{}).Node("a1", func(_ topology.NodeID, _ peer.Request, reply peer.Done) {
				reply(nil, &peer.Refusal{Code: peer.CodeStopping})
			}),
			GeoLog: memlog.New(1, memlog.Faults{}).Log("a"),
			Feeds: map[topology.Region]geo.Feed{
				"b": feed(func(context.Context) error { return broken }),
				"c": feed(func(ctx context.Context) error { <-ctx.Done(); return nil }),
			},
			HLC: hlc.New(time.Now), Rand: rand.New(rand.NewPCG(1, 2)), Logger: hclog.NewNullLogger(),
		})
		if err != nil {
			t.Fatal(err)
		}
		ctx, stop := context.WithTimeout(context.Background(), time.Minute)
		defer stop()
		if err := n.Run(ctx); !errors.Is(err, broken) {
			t.Errorf("it ended with %v after a drain had failed", err)
		}
		if ctx.Err() != nil {
			t.Error("it went on until it was stopped")
		}
		if err := engine.Close(); err != nil {
			t.Error(err)
		}
	})
}
