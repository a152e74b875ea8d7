package geo

import (
	"testing"
	"time"

	"github.com/atolldb/atoll/crdt"
)

// What has come, and is lost again by an owner that begins anew, is missing since then.
func TestTallyOfWhatIsLostAgain(t *testing.T) {
	span := func(lo, hi uint64) *crdt.Clock {
		c := &crdt.Clock{}
		c.AddSpan(crdt.Dots{Actor: 3, Span: crdt.Span{Lo: lo, Hi: hi}})
		return c
	}
	var tally tally
	begin := time.Unix(1_700_000_000, 0)
	tally.count(begin, span(1, 10), &crdt.Clock{})
	tally.count(begin.Add(10*time.Second), span(1, 20), &crdt.Clock{})
	tally.count(begin.Add(20*time.Second), span(1, 20), span(1, 10))
	tally.count(begin.Add(30*time.Second), span(1, 20), &crdt.Clock{})
	now := begin.Add(40 * time.Second)
	if n := tally.count(now, span(1, 20), span(11, 20)); n != 10 || tally.age(now) != 10*time.Second {
		t.Errorf("%d are missing since %v", n, tally.age(now))
	}
}
