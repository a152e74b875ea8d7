package topology_test

import (
	"fmt"
	"sync"
	"testing"

	"github.com/atolldb/atoll/hashring"
	"github.com/atolldb/atoll/node/topology"
)

func region(t *testing.T, name topology.Region, id topology.RegionID, epoch topology.Epoch) *topology.Topology {
	t.Helper()
	top, err := topology.Static(name, id, []topology.Member{{ID: topology.NodeID(name + "-1"), Weight: 1}}, hashring.Rules{Partitions: 4, Replicas: 1})
	if err != nil {
		t.Fatal(err)
	}
	top.Epoch = epoch
	return top
}

func TestBook(t *testing.T) {
	b := topology.NewBook(region(t, "us", 2, 5), region(t, "eu", 1, 3))
	told := func() bool {
		select {
		case <-b.Newer():
			return true
		default:
			return false
		}
	}
	if told() {
		t.Error("what it began with is told as news")
	}
	other := region(t, "us", 9, 9)
	wide, err := topology.Static("us", 2, other.Members, hashring.Rules{Partitions: 8, Replicas: 1})
	if err != nil {
		t.Fatal(err)
	}
	wide.Epoch = 9
	for name, x := range map[string]*topology.Topology{
		"older": region(t, "us", 2, 4), "the same": region(t, "us", 2, 5), "of an unknown region": region(t, "mars", 3, 9),
		"of another id": other, "of other partitions": wide,
	} {
		if b.Learn(x) || told() {
			t.Errorf("%s: learned", name)
		}
	}
	if !b.Learn(region(t, "us", 2, 6)) || !b.Learn(region(t, "us", 2, 7)) || !told() || told() {
		t.Error("two that are newer were not learned, or not told once")
	}
	if b.Get("us").Epoch != 7 || b.Get("eu").Epoch != 3 || b.Get("mars") != nil {
		t.Error("the book has something else than the newest")
	}
	all := b.All()
	if len(all) != 2 || all[0].Region != "eu" || all[1].Region != "us" || all[1].Epoch != 7 {
		t.Errorf("all: %v", all)
	}

	var none *topology.Book
	if none.Learn(other) || none.Get("us") != nil || none.All() != nil {
		t.Error("a nil book knows something")
	}
}

// Many learn at once: the newest stays, and none of another region is lost.
func TestBookTogether(t *testing.T) {
	const regions, epochs = 4, 50
	var first []*topology.Topology
	for r := range regions {
		first = append(first, region(t, topology.Region(fmt.Sprint("r", r)), topology.RegionID(r+1), 1))
	}
	b := topology.NewBook(first...)
	var wg sync.WaitGroup
	for r, f := range first {
		for e := range epochs {
			x := f.Clone()
			x.Epoch = topology.Epoch(2 + (e*7+r)%epochs)
			wg.Go(func() { b.Learn(x) })
		}
	}
	wg.Wait()
	for _, x := range b.All() {
		if x.Epoch != epochs+1 {
			t.Errorf("%s is at epoch %d", x.Region, x.Epoch)
		}
	}
}
