package node

import (
	"context"
	"errors"
	"slices"
	"testing"
	"time"

	"github.com/atolldb/atoll/crdt"
	"github.com/atolldb/atoll/hashring"
	"github.com/atolldb/atoll/node/topology"
)

// A region has told when most owners of each partition have, or when there is nobody in
// it who could know.
func TestAskOrigins(t *testing.T) {
	members := []topology.Member{}
	for _, id := range []topology.NodeID{"b1", "b2", "b3", "b4"} {
		members = append(members, topology.Member{ID: id, Rack: string(id), Weight: 1})
	}
	other, err := topology.Static("b", 2, members, hashring.Rules{Partitions: 64, Replicas: 3})
	if err != nil {
		t.Fatal(err)
	}
	const knows, isNew, silent = 'k', 'n', 's'
	for _, c := range []struct {
		nodes string
		tells bool
	}{
		{"kkkk", true}, {"kkks", true}, {"kkss", false}, {"ksss", false}, {"ssss", false},
		{"nnnn", true}, {"nnns", false}, {"kkkn", true}, {"knnn", false}, {"kknn", false},
	} {
		o := AskOrigins(t.Context(), []*topology.Topology{other}, func(_ context.Context, id topology.NodeID) (Origin, error) {
			switch i := slices.IndexFunc(members, func(m topology.Member) bool { return m.ID == id }); c.nodes[i] {
			case knows:
				return Origin{Actor: crdt.MakeActor(uint32(7+i), 1), Epoch: topology.Epoch(9 - i)}, nil
			case isNew:
				return Origin{Actor: crdt.MakeActor(99, 1)}, ErrNew
			case silent:
			}
			return Origin{}, errors.New("no answer")
		})
		if tells := len(o.Silent) == 0; tells != c.tells {
			t.Errorf("%s: silent are %v", c.nodes, o.Silent)
		}
		if c.nodes == "kkks" && (o.Actor != crdt.MakeActor(9, 1) || o.Epoch != 9) {
			t.Errorf("they know %s and epoch %d", o.Actor, o.Epoch)
		}
	}
}

// What a region names that begins is not what anybody knows, or may know.
func TestBegin(t *testing.T) {
	now := time.Unix(1_800_000_000, 0)
	for name, c := range map[string]struct {
		o      Origin
		epochs [2]topology.Epoch
		seqs   [2]uint32
	}{
		"new":               {Origin{}, [2]topology.Epoch{3, 3}, [2]uint32{0, 0}},
		"been here":         {Origin{Actor: crdt.MakeActor(7, 1), Epoch: 5}, [2]topology.Epoch{5 + 1<<20, 5 + 1<<20}, [2]uint32{7 + 1<<16, 7 + 1<<16}},
		"wrote nothing":     {Origin{Epoch: 5}, [2]topology.Epoch{5 + 1<<20, 5 + 1<<20}, [2]uint32{1 << 16, 1 << 16}},
		"known as it is":    {Origin{Epoch: 3}, [2]topology.Epoch{3, 3}, [2]uint32{0, 0}},
		"nobody tells":      {Origin{Silent: []string{"b"}}, [2]topology.Epoch{1_800_000_000, 1_800_000_000}, [2]uint32{1 << 23, 1 << 24}},
		"some tell of it":   {Origin{Actor: crdt.MakeActor(7, 1), Silent: []string{"b"}}, [2]topology.Epoch{3 + 1<<20, 3 + 1<<20}, [2]uint32{7 + 1<<16, 7 + 1<<16}},
		"alone, then again": {Origin{Actor: crdt.MakeActor(1<<24, 1), Epoch: 1_800_000_000}, [2]topology.Epoch{1_800_000_000 + 1<<20, 1_800_000_000 + 1<<20}, [2]uint32{1<<24 + 1<<16, 1<<24 + 1<<16}},
	} {
		for _, dice := range []uint32{0, 1, 1<<23 - 1, 1 << 23, 1<<32 - 1} {
			epoch, above := c.o.Begin(1, 3, now, dice)
			if epoch < c.epochs[0] || epoch > c.epochs[1] || above.Seq() < c.seqs[0] || above.Seq() > c.seqs[1] {
				t.Errorf("%s: it begins behind %s with epoch %d", name, above, epoch)
			}
			if above != 0 && above.Region() != 1 {
				t.Errorf("%s: it begins behind %s, of another region", name, above)
			}
			if above != 0 {
				if _, err := topology.NextActor(1, 0, above); err != nil {
					t.Errorf("%s: %v", name, err)
				}
			}
		}
	}
}

// The two that pull share what all partitions lack, however few of them each stores.
func TestToPull(t *testing.T) {
	for _, c := range []struct {
		lacked                    uint64
		stored, partitions, nodes int
		want                      uint64
	}{
		{6000, 64, 64, 3, 3000}, // all of it is known
		{6000, 64, 64, 1, 6000}, // nobody else pulls
		{6000, 96, 256, 8, 8000},
		{0, 0, 64, 4, 0},                          // it stores nothing
		{1 << 44, 1 << 15, 1 << 16, 100, 1 << 44}, // 16 TiB
	} {
		if got := toPull(c.lacked, c.stored, c.partitions, c.nodes); got != c.want {
			t.Errorf("%+v: %d", c, got)
		}
	}
}
