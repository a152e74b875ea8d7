package collect

import (
	"encoding/json"
	"errors"
	"fmt"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/atolldb/atoll/node/peer"
	"github.com/atolldb/atoll/node/replica"
)

func TestGroup(t *testing.T) {
	at := time.Unix(1000, 0).UTC()
	got := group([]Stall{
		{1, at, Cause{Silent, "b", "promise: x"}},
		{2, at, Cause{Moving, "", "y"}},
		{3, at.Add(-time.Hour), Cause{Silent, "b", "settle: x"}},
		{4, at, Cause{Silent, "c", "x"}},
	})
	want := []Group{
		{2, 1, at.Add(-time.Hour), Cause{Silent, "b", "promise: x"}},
		{1, 2, at, Cause{Moving, "", "y"}},
		{1, 4, at, Cause{Silent, "c", "x"}},
	}
	if d := cmp.Diff(want, got); d != "" {
		t.Error(d)
	}
	b, err := json.Marshal(Report{Stalls: got, Now: &Current{Pass: List}})
	if err != nil {
		t.Fatal(err)
	}
	var back Report
	if err := json.Unmarshal(b, &back); err != nil || !cmp.Equal(back.Stalls, got) || back.Now.Pass != List {
		t.Errorf("%v, %+v", err, back)
	}
}

// What crosses the wire as a refusal has the same cause as here.
func TestCauseOf(t *testing.T) {
	for err, want := range map[error]Reason{
		replica.ErrBehind:                       Behind,
		fmt.Errorf("list: %w", ErrTooMany):      TooMany,
		fmt.Errorf("list: %w", ErrOtherRound):   Restarted,
		fmt.Errorf("list: %w", ErrLostListed):   Refused,
		fmt.Errorf("to x: %w", peer.ErrNotSent): Silent,
		peer.ErrTimeout:                         Silent,
		peer.ErrLinkLost:                        Silent,
		&peer.Refusal{Code: peer.CodeStopping}:  Silent,
	} {
		for _, err := range []error{err, refuse(err)} {
			if errors.Is(err, peer.ErrNotSent) || errors.Is(err, peer.ErrTimeout) || errors.Is(err, peer.ErrLinkLost) || want != Silent {
				if got := causeOf("a", err); got.Reason != want || got.Node != "a" {
					t.Errorf("%v is %v, want %v", err, got.Reason, want)
				}
			}
		}
	}
	if !(Cause{}).None() || (Cause{Node: "a"}).None() {
		t.Error("none")
	}
}
