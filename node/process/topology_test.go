package process

import (
	"testing"

	"github.com/atolldb/atoll/node/topology"
)

func TestWorld(t *testing.T) {
	c, err := Load("../../deploy/config/eu-1.yaml", nil)
	if err != nil {
		t.Fatal(err)
	}
	w, err := newWorld(&c)
	if err != nil {
		t.Fatal(err)
	}
	where := func(id topology.NodeID, region topology.Region, addr string) {
		t.Helper()
		r, ok := w.regionOf(id)
		a, known := w.addrOf(id)
		if r != region || a != addr || ok != (addr != "") || known != ok {
			t.Errorf("%s is in %q at %q (%v)", id, r, a, ok)
		}
	}
	where("eu-2", "eu", "10.1.0.12:7401")
	where("us-2", "us", "10.2.0.12:7401")
	where("eu-4", "", "")

	// The own region's topology in force.
	own := w.own.Clone()
	own.Epoch = 7
	own.Member("eu-2").PeerAddr = "10.1.0.99:7401"
	own.Members = append(own.Members, topology.Member{ID: "eu-4", PeerAddr: "10.1.0.14:7401", State: topology.Joining})
	w.current = func() *topology.Topology { return own }
	where("eu-2", "eu", "10.1.0.99:7401")
	where("eu-4", "eu", "10.1.0.14:7401")

	// Another region's, whatever its epoch: the configuration knows less.
	us := w.others.All()[0].Clone()
	us.Epoch = 1
	us.Member("us-1").PeerAddr = "10.2.0.99:7401"
	if !w.others.Learn(us) || w.others.Learn(us) {
		t.Error("it was not learned once")
	}
	where("us-1", "us", "10.2.0.99:7401")
	gone := us.Clone()
	gone.Epoch = 2
	gone.Member("us-1").State = topology.Left
	if !w.others.Learn(gone) {
		t.Error("it was not learned")
	}
	if _, ok := w.regionOf("us-1"); ok {
		t.Error("us-1 has left and is let in")
	}
}
