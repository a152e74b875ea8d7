package jetstream

import (
	"testing"
	"time"

	"github.com/nats-io/nats.go/jetstream"
)

func TestWhoTakes(t *testing.T) {
	info := func(name string, floor, pending uint64, acks int) *jetstream.ConsumerInfo {
		return &jetstream.ConsumerInfo{Name: name, AckFloor: jetstream.SequenceInfo{Stream: floor}, NumPending: pending, NumAckPending: acks, NumWaiting: 1}
	}
	silent := func(name string, floor, pending uint64) *jetstream.ConsumerInfo {
		c := info(name, floor, pending, 0)
		c.NumWaiting = 0
		return c
	}
	var k takers
	start := time.Unix(0, 0)
	for _, c := range []struct {
		name string
		at   int // ms
		all  []*jetstream.ConsumerInfo
		want bool
	}{
		{"nobody yet", 0, nil, true},
		{"a new one with much before it", 0, []*jetstream.ConsumerInfo{info("a", 0, 1000, 0)}, true},
		{"it takes", 2000, []*jetstream.ConsumerInfo{info("a", 10, 1000, 0)}, true},
		{"it takes nothing for a while", 2900, []*jetstream.ConsumerInfo{info("a", 10, 1000, 0)}, true},
		{"it is away", 3000, []*jetstream.ConsumerInfo{info("a", 10, 990, 10)}, false},
		{"another one takes", 3500, []*jetstream.ConsumerInfo{info("a", 10, 1000, 0), info("b", 5, 1000, 0)}, true},
		{"both are away", 4500, []*jetstream.ConsumerInfo{info("a", 10, 1000, 0), info("b", 5, 1000, 0)}, false},
		{"one has little before it", 4600, []*jetstream.ConsumerInfo{info("a", 10, 1000, 0), info("b", 5, 2, 3)}, true},
		{"out of order, but it takes", 5600, []*jetstream.ConsumerInfo{info("a", 10, 900, 0)}, true},
		{"it has all", 6000, []*jetstream.ConsumerInfo{info("a", 1000, 0, 0)}, true},
		{"a batch after a long rest", 60_000, []*jetstream.ConsumerInfo{silent("a", 1000, 1)}, true},
		{"nobody asks for it", 60_300, []*jetstream.ConsumerInfo{silent("a", 1000, 2)}, false},
		{"somebody does", 60_400, []*jetstream.ConsumerInfo{info("a", 1000, 2, 0)}, true},
	} {
		if got := k.look(start.Add(time.Duration(c.at)*time.Millisecond), 0, c.all); got != c.want {
			t.Errorf("%s: wanted %v", c.name, got)
		}
	}
	// What was taken, was taken before the silence began.
	k = takers{}
	for _, c := range []struct {
		at, silent int
		all        []*jetstream.ConsumerInfo
		want       bool
	}{
		{0, 0, []*jetstream.ConsumerInfo{silent("a", 1000, 5)}, true},
		{200, 100, []*jetstream.ConsumerInfo{silent("a", 1010, 5)}, true},
		{400, 300, []*jetstream.ConsumerInfo{silent("a", 1010, 6)}, false},
	} {
		if got := k.look(start.Add(time.Duration(c.at)*time.Millisecond), time.Duration(c.silent)*time.Millisecond, c.all); got != c.want {
			t.Errorf("at %d ms: wanted %v", c.at, got)
		}
	}
}

// A log has enough when all who take have enough before them; who is away does not count.
func TestEnough(t *testing.T) {
	var k takers
	start := time.Unix(0, 0)
	region := func(name string, floor, pending uint64, asks int) *jetstream.ConsumerInfo {
		return &jetstream.ConsumerInfo{Name: name, AckFloor: jetstream.SequenceInfo{Stream: floor}, NumPending: pending, NumAckPending: 10, NumWaiting: asks}
	}
	for _, c := range []struct {
		name string
		at   int // ms
		all  []*jetstream.ConsumerInfo
		want bool
	}{
		{"nobody yet", 0, nil, false},
		{"one with little", 0, []*jetstream.ConsumerInfo{region("a", 0, 89, 1)}, false},
		{"one with enough, counting what is under way", 100, []*jetstream.ConsumerInfo{region("a", 10, 90, 1)}, true},
		{"another one takes more quickly", 200, []*jetstream.ConsumerInfo{region("a", 20, 900, 1), region("b", 500, 20, 1)}, false},
		{"it has enough as well", 300, []*jetstream.ConsumerInfo{region("a", 30, 900, 1), region("b", 600, 200, 1)}, true},
		{"it is away, and the first one has little", 5000, []*jetstream.ConsumerInfo{region("a", 900, 20, 1), region("b", 600, 2000, 0)}, false},
		{"it is away, and the first one has enough", 6000, []*jetstream.ConsumerInfo{region("a", 950, 200, 1), region("b", 600, 3000, 0)}, true},
		{"both are away", 9000, []*jetstream.ConsumerInfo{region("a", 950, 200, 0), region("b", 600, 3000, 0)}, false},
	} {
		now := start.Add(time.Duration(c.at) * time.Millisecond)
		k.look(now, 0, c.all)
		if got := k.sated(now, 100); got != c.want {
			t.Errorf("%s: enough is %v", c.name, got)
		}
	}
	for bytes, want := range map[int64]uint64{16 << 20: 128, 1 << 20: 64, 128 << 20: 1024, 4 << 30: 1024} {
		if got := enoughFor(bytes); got != want {
			t.Errorf("%d batches are enough in a log of %d bytes, not %d", got, bytes, want)
		}
	}
}
