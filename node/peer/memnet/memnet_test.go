package memnet_test

import (
	"testing"
	"testing/synctest"
	"time"

	"github.com/atolldb/atoll/node/peer"
	"github.com/atolldb/atoll/node/peer/memnet"
	"github.com/atolldb/atoll/node/peer/peertest"
	"github.com/atolldb/atoll/node/topology"
)

type net struct{ *memnet.Fabric }

func (n net) Start(id topology.NodeID, h peer.Handler) peer.Transport { return n.Node(id, h) }
func (n net) Stop(id topology.NodeID)                                 { n.Down(id) }

func TestConformance(t *testing.T) {
	for name, cfg := range map[string]memnet.Config{
		"instant": {},
		"delayed": {
			Faults:    memnet.Faults{MinDelay: time.Millisecond, MaxDelay: 5 * time.Millisecond},
			DialDelay: 3 * time.Millisecond,
		},
	} {
		t.Run(name, func(t *testing.T) {
			peertest.Run(t, synctest.Test, func(*testing.T) peertest.Net { return net{memnet.New(1, cfg)} })
		})
	}
}
