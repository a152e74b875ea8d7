package home

import (
	"errors"
	"strings"
	"testing"

	"pgregory.net/rapid"

	"github.com/atolldb/atoll/crdt"
)

func TestMaxEpoch(t *testing.T) {
	if MaxEpoch != crdt.BallotEpochs-1 {
		t.Errorf("%d, and ballots have %d", MaxEpoch, crdt.BallotEpochs)
	}
}

// Who may propose takes part as well, unless another epoch is known where it
// takes part; and of two homes known in one order of epochs at most the later one
// gets a majority.
func TestFences(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		of := func(e Epoch) string { return []string{"", "eu", "us"}[min(e, 1)+min(e, 1)*(e%2)] } // O1
		draw := func(name string) Home {
			e := Epoch(rapid.IntRange(0, 4).Draw(t, name))
			h := Home{Region: of(e), Epoch: e}
			if e > 0 && rapid.Bool().Draw(t, name+" closed") {
				h.Closed = "drained"
			}
			return h
		}
		proposer, owner := draw("proposer"), draw("owner")
		for _, region := range []string{"eu", "us"} {
			if proposer.Decides(region, proposer.Epoch) != nil {
				continue
			}
			if err := proposer.Takes(region, proposer.Epoch); err != nil {
				t.Fatalf("%+v proposes and does not take part: %v", proposer, err)
			}
			err := owner.Takes(region, proposer.Epoch)
			fenced := owner.Epoch > proposer.Epoch || owner.Epoch == proposer.Epoch && owner.Closed != ""
			if (err != nil) != fenced {
				t.Fatalf("%+v takes part for %+v: %v", owner, proposer, err)
			}
			var f *Fenced
			if err != nil && (!errors.As(err, &f) || f.Error() == "") {
				t.Fatalf("%v", err)
			}
		}
		if owner.Takes("eu", 0) != nil || owner.Takes("us", 0) != nil {
			t.Fatal("a region may not decide for itself")
		}
	})
}

func TestFencedSays(t *testing.T) {
	for _, c := range []struct {
		h     Home
		asked Epoch
		want  string
	}{
		{Home{}, 1, "no home region"},
		{Home{Region: "eu", Epoch: 2, Closed: "drained"}, 2, "eu decides nothing now: drained"},
		{Home{Region: "eu", Epoch: 2, Closed: ""}, 3, "not known here yet"},
		{Home{Region: "eu", Epoch: 2, Closed: ""}, 1, "is eu since epoch 2"},
		{Home{Region: "us", Epoch: 2, Closed: ""}, 2, "home is us"},
		{Home{Region: "eu", Epoch: 2, Closed: "drained"}, 1, "is eu since epoch 2"},
	} {
		if got := c.h.Decides("eu", c.asked).Error(); !strings.Contains(got, c.want) {
			t.Errorf("%+v, %d: %s", c.h, c.asked, got)
		}
	}
	if err := (Home{Region: "eu", Epoch: 1}).Decides("us", 1); err == nil {
		t.Error("another region decides")
	}
	if err := (Home{Region: "eu", Epoch: 1}).Decides("eu", 1); err != nil {
		t.Error(err)
	}
}
