package handoff

import (
	"testing"
	"testing/synctest"
	"time"

	"github.com/atolldb/atoll/node/peer"
	"github.com/atolldb/atoll/node/topology"
	"github.com/atolldb/atoll/node/wire"
)

// What a node gives of a partition that it has left keeps the pace, as what it
// receives does, whether it knows what the other lacks or gives all.
func TestLeftoversKeepThePace(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := &scripted{verbs: map[peer.Verb]func([]byte) ([]byte, error){
			peer.VerbApply: func([]byte) ([]byte, error) { return nil, nil },
		}}
		s.top = &topology.Topology{Pace: topology.Pace{BytesPerSecond: 1000}}
		w := NewSweeper(Config{Self: "n4"}, Deps{Replica: s, Transport: s})
		begun := time.Now()
		for range 10 {
			if err := w.hand(t.Context(), 5, 0, "n1", []wire.Entry{{Key: []byte("k"), Record: make([]byte, 1000)}}); err != nil {
				t.Fatal(err)
			}
		}
		if took := time.Since(begun); took < 10*time.Second || took > 11*time.Second {
			t.Errorf("10 times 1000 bytes at 1000 a second took %v", took)
		}
	})
}
