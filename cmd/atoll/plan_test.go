package main

import (
	"fmt"
	"testing"

	"google.golang.org/protobuf/proto"

	"github.com/atolldb/atoll/hashring"
	"github.com/atolldb/atoll/hashring/capacity"
	"github.com/atolldb/atoll/node/process"
	adminv1 "github.com/atolldb/atoll/proto/atoll/admin/v1"
)

// The table that clients get is as large as the plan says.
func TestPlannedTable(t *testing.T) {
	for _, c := range []struct{ nodes, partitions int }{{3, 256}, {30, 1024}, {300, 4096}} {
		in := capacity.Default()
		in.Nodes, in.Partitions, in.Racks = c.nodes, c.partitions, 3
		r, err := capacity.Plan(in)
		if err != nil {
			t.Fatal(err)
		}
		var members []hashring.Member
		m := &adminv1.GetTopologyResponse{Region: "eu-west", Epoch: 1, Partitions: uint32(c.partitions), Replicas: 3}
		index := map[string]uint32{}
		for i := range c.nodes {
			id := fmt.Sprintf("eu-west-node-%03d", i)
			index[id] = uint32(i)
			members = append(members, hashring.Member{ID: id, Rack: fmt.Sprint("rack-", i%3)})
			m.Members = append(m.Members, &adminv1.Member{
				Id: id, Rack: members[i].Rack, Weight: 1,
				ClientAddr: id + ".example.net:7400", PeerAddr: id + ".example.net:7401",
			})
		}
		plan, err := hashring.Plan(hashring.Table{}, members, hashring.Rules{Partitions: c.partitions, Replicas: 3})
		if err != nil {
			t.Fatal(err)
		}
		for _, owners := range plan.Next.All() {
			for _, o := range owners {
				m.Owners = append(m.Owners, index[o])
			}
		}
		size := float64(proto.Size(m))
		if got := r.Ring.TableBytes; got < 0.9*size || got > 1.1*size {
			t.Errorf("%d nodes, %d partitions: planned %.0f bytes, the code %.0f", c.nodes, c.partitions, got, size)
		}
	}
}

// What a plan takes for granted is what a node has by default.
func TestPlannedDefaults(t *testing.T) {
	in, node := capacity.Default(), process.Default()
	if in.BlockCache != float64(node.Memory.BlockCache) || in.Memtable != float64(node.Memory.Memtable) ||
		in.LogBytes != float64(node.NATS.MaxStore)/2 || in.Replicas != node.Replicas {
		t.Errorf("%+v, a node has %+v", in, node)
	}
	if p := capacity.RecommendPartitions(3, in.Replicas, 0); p != node.Partitions {
		t.Errorf("%d partitions recommended, a node has %d", p, node.Partitions)
	}
}
