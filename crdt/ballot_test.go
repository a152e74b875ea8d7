package crdt

import (
	"testing"

	"pgregory.net/rapid"
)

func TestBallotActors(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		region := rapid.Uint8Range(1, 63).Draw(t, "region")
		epoch := rapid.Uint32Range(0, BallotEpochs-1).Draw(t, "epoch")
		a := BallotActor(region, epoch)
		if !a.IsBallot() || a.Region() != region || a.Seq()-BallotEpochs != epoch {
			t.Fatalf("%v: region %d, seq %d", a, a.Region(), a.Seq())
		}
		seq := rapid.Uint32Range(1, BallotEpochs-1).Draw(t, "seq")
		if MakeActor(seq, region).IsBallot() {
			t.Fatalf("a node's actor %d is a ballot actor", seq)
		}
	})
}

func TestMaxBallot(t *testing.T) {
	b, other, elsewhere := BallotActor(1, 0), BallotActor(1, 1), BallotActor(2, 1)
	r := Record{Versions: []Version{
		{Dot: Dot{MakeActor(1, 1), 400}, Past: VV{{Actor: MakeActor(1, 1), N: 399}, {Actor: b, N: 70}}},
		{Dot: Dot{b, 60}, Past: VV{{Actor: b, N: 50}, {Actor: elsewhere, N: 200}}},
		{Dot: Dot{other, 90}},
	}}
	if n := r.MaxBallot(1); n != 90 {
		t.Errorf("%d", n)
	}
	if n := (Record{Versions: r.Versions[:2]}).MaxBallot(1); n != 70 {
		t.Errorf("of a past: %d", n)
	}
	if n := (Record{}).MaxBallot(1); n != 0 {
		t.Errorf("absent: %d", n)
	}
	if n := r.MaxBallot(2); n != 200 {
		t.Errorf("elsewhere: %d", n)
	}
}
